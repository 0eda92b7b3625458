"""train.py in a process of its own that kills itself with SIGKILL; test_survival.py runs it.

    python tests/helpers/killed_training.py <point> <count> <flags of train.py>

The process dies when it comes to `point` for the `count`-th time.
"""

import os
import signal
import sys

import flags

import train
from files import checkpoints
from options import network as network_options
from options import training as training_options
from training import reporter

# Where a kill hurts: function of files/checkpoints.py or training/reporter.py, and whether it still
# runs.
POINTS = {
    "step": (reporter.Reporter, "report", True),  # between two steps
    "write": (checkpoints, "_read_all", False),  # written, not looked at yet
    "rename": (os, "replace", True),  # between the two files of a checkpoint, or its state
    "state": (checkpoints, "write_state", False),  # complete, but not yet the newest
    "delete": (checkpoints, "_delete", False),  # before an old one goes
}


def kill_at(point, count):
    """Replaces the function of `point` by one that kills the process at its `count`-th call."""
    owner, name, runs_first = POINTS[point]
    function = getattr(owner, name)
    calls = 0

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls < count:
            return function(*args, **kwargs)
        if runs_first:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, counted)


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["train.py", *sys.argv[3:]]
    flags.start("__main__", network_options.define, training_options.define)
    flags.run(train.main)

"""rmc.py in a process of its own that kills itself with SIGKILL; test_rmc.py runs it.

    python -m tests.helpers.killed_rmc <point> <count> <flags of rmc.py>

The process dies when it comes to `point` for the `count`-th time. Run as a module: another rmc.py lies
beside this file.
"""

import os
import signal
import sys

import flags

import rmc
from files import attack_parts
from options import network as network_options
from options import rmc as rmc_options

# Where a kill hurts: a function, and whether it still runs.
POINTS = {
    "rename": (os, "replace", True),  # a file more is there
    "state": (attack_parts.Parts, "save_progress", True),  # between the state and the part of a point
    "part": (attack_parts.Parts, "save", False),  # a point is answered, or images crafted, for nothing
    "saved": (attack_parts.Parts, "save", True),  # between two points, or two parts
}


def kill_at(point, count):
    """Replaces the function of `point` by one that kills the process at its `count`-th call."""
    owner, name, runs_first = POINTS[point]
    function, calls = getattr(owner, name), 0

    def counted(*given, **named):
        nonlocal calls
        calls += 1
        if calls < count:
            return function(*given, **named)
        if runs_first:
            function(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, counted)


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["rmc.py", *sys.argv[3:]]
    flags.start("__main__", network_options.define, network_options.define_keras, rmc_options.define)
    flags.run(rmc.main)

"""dgn.py --mode=adv_train in a process of its own that kills itself with SIGKILL; test_dgn.py runs it.

    python -m tests.helpers.killed_dgn <step> <flags of dgn.py>

The process dies when it reports that step. Run as a module: another dgn.py lies beside this file.
"""

import os
import signal
import sys

import flags

import dgn
from options import dgn as dgn_options
from options import hardening
from options import network as network_options
from training import reporter


def kill_at(last):
    """Replaces the report of a step by one that kills the process after that of step `last`."""
    report = reporter.Reporter.report

    def counted(self, step, cost, parts):
        report(self, step, cost, parts)
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    reporter.Reporter.report = counted


if __name__ == "__main__":
    kill_at(int(sys.argv[1]))
    sys.argv = ["dgn.py", *sys.argv[2:]]
    flags.start("__main__", network_options.define, network_options.define_keras, dgn_options.define,
                hardening.define)
    flags.run(dgn.main)

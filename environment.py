"""What TensorFlow reads when it is loaded: imported before it, wherever a program starts.

What the user has set stays.
"""

import contextlib
import importlib
import os
import re
import sys
import tempfile

# oneDNN's kernels are off by default on x86 CPUs without AVX-512, where they train ResNet-32 about
# 1.7 times faster (benchmarks/train_throughput.py).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What TensorFlow prints at its start of itself and the machine: nothing that a user can act on.
_START_LINES = re.compile(
    rb"All log messages before absl::InitializeLog|oneDNN custom operations are on"
    rb"|Could not find cuda drivers|To enable the following instructions:"
    rb"|Unable to register cu\w+ (?:plug-in )?factory"
    rb"|optimized to use available CPU instructions")


def import_quietly(module: str) -> None:
    """Imports a module without the lines that TensorFlow prints to standard error at its start.

    Other lines are shown, and all of them where the import fails. No setting silences those of
    TensorFlow 2.21, whose C++ code writes them before it reads any: the file descriptor is turned away.
    """
    try:
        saved = os.dup(2)
    except OSError:  # closed: nobody would have read them
        importlib.import_module(module)
        return
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        os.dup2(caught.fileno(), 2)
        shown = None
        try:
            importlib.import_module(module)
            shown = _START_LINES
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            lines = [line for line in caught if not (shown and shown.search(line))]
            with contextlib.suppress(OSError):
                os.write(2, b"".join(lines))

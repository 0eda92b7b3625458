"""What other programs read from variables and from files in the home folder, and ours does not.

Imported before TensorFlow, Keras and Matplotlib, wherever a program starts. What the project needs it
states itself: the backend of Keras and of Matplotlib, Keras's types, three open streams.
"""

import contextlib
import importlib
import io
import logging
import os
import re
import sys
import tempfile

from errors import InputError

# oneDNN's kernels are off by default on x86 CPUs without AVX-512, where they train ResNet-32 about
# 1.7 times faster (benchmarks/train_throughput.py). What the user has set stays: it changes last bits.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Not what the user has set, which is for other programs: notebooks name a backend of Matplotlib that a
# script cannot load, and Keras imports Matplotlib.
os.environ["MPLBACKEND"] = "agg"
os.environ["KERAS_BACKEND"] = "tensorflow"
# Warnings on a cache folder or a line of a matplotlibrc are not for the user of this program.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# Variables that would change results by more than last bits → what of their value does.
_REFUSED = {"TF_XLA_FLAGS": "auto_jit", "XLA_FLAGS": "fast_math"}
# Where Keras and Matplotlib find no settings, and Keras no place to leave its own.
_NOTHING = os.devnull

# What TensorFlow prints at its start of itself and the machine: nothing that a user can act on.
_START_LINES = re.compile(
    rb"All log messages before absl::InitializeLog|oneDNN custom operations are on"
    rb"|Could not find cuda drivers|To enable the following instructions:"
    rb"|Unable to register cu\w+ (?:plug-in )?factory"
    rb"|optimized to use available CPU instructions")


def open_streams() -> None:
    """Opens what of the standard streams is closed: the next file would else get its number, and with
    it whatever a library prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 open as long as the program
    # Line by line into a file, too: the log of a run of hours is to tell how far it is.
    if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's is another
        sys.stdout.reconfigure(line_buffering=True)


def refuse_variables() -> None:
    """Raises an InputError at a variable that would change results without a word."""
    for name, part in _REFUSED.items():
        value = os.environ.get(name, "")
        if part in value:
            raise InputError(f"expected no {part} in the variable {name}, which changes results. "
                             f"Received: {name}={value!r}.")


def num_threads() -> int:
    """Threads of one TensorFlow operation; another number changes last bits."""
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_quietly(module: str) -> None:
    """Imports a module without the lines that TensorFlow prints to standard error at its start.

    Other lines are shown, and all of them where the import fails. No setting silences those of
    TensorFlow 2.21, whose C++ code writes them before it reads any: the file descriptor is turned away.
    Of TensorFlow, Keras comes with it.
    """
    try:
        caught, saved = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115 closed below
    except OSError:  # no folder for it: the lines are shown
        _import(module)
        return
    with caught:
        sys.stderr.flush()
        os.dup2(caught.fileno(), 2)
        shown = None
        try:
            _import(module)
            shown = _START_LINES
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            lines = [line for line in caught if not (shown and shown.search(line))]
            with contextlib.suppress(OSError):
                os.write(2, b"".join(lines))


def _import(module):
    # TensorFlow may import Keras or not, at once or late: here it does.
    with _without_settings():
        importlib.import_module(module)
        if module == "tensorflow":
            importlib.import_module("keras")


@contextlib.contextmanager
def _without_settings():
    """Hides the keras.json of the user, which could make other networks of the same calls, and every
    matplotlibrc, one of which may not even be text."""
    before = {name: os.environ.get(name) for name in ("KERAS_HOME", "MATPLOTLIBRC")}
    os.environ |= dict.fromkeys(before, _NOTHING)
    with contextlib.ExitStack() as stack:
        # That of the current folder comes before the variable; the folder may be gone.
        with contextlib.suppress(OSError):
            stack.enter_context(contextlib.chdir(os.sep))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value

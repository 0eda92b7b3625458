"""The exceptions that a script answers with one line and exit code 1, without a traceback."""

import re


class InputError(ValueError):
    """Bad input from outside: a flag, a path, a file, an array.

    The message is one sentence: what was expected, the allowed set where there is one, then
    ``Received: name=value``. `flags.run` prints it on standard error without a traceback and exits
    with code 1; library users catch it as a `ValueError`.
    """


class RunError(RuntimeError):
    """A run that cannot go on, though its flags are right: full disk, lost host, loss not finite.

    The message says what happened, which checkpoint is the last good one, and what to do.
    """


def first_line(error: Exception) -> str:
    """What an exception says, without the names of TensorFlow's nodes."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"{{.*?}} ?| ?\[Op:.*\]", "", line)


def named(error: Exception, length: int = 1000) -> str:
    """The class of an exception and the first sentence of what it says, if it says anything.

    Args:
      error: of a library that reads what anybody may have written.
      length: characters of the sentence that are kept.
    """
    sentence = first_line(error).split(". ")[0].rstrip(".")[:length]
    kind = type(error).__name__
    # EOFError of zipfile, for one, says nothing.
    return kind if sentence in ("", kind) else f"{kind}: {sentence}"

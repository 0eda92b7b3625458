"""One rule for the paths that users give: what a path means, and what the system makes of it.

`~` is the home folder in every flag; every other character is itself, in a pattern alone `* ? [ ]`
stand for others. What the system refuses, and what is no file and no folder, is told before any work.
"""

import os
import re
import stat
from collections.abc import Callable

from errors import InputError

# What a path may name, in words.
FILE, FOLDER, EITHER = "a file", "a folder", "a file or a folder"
_FITTING: dict[str, tuple[Callable[[int], bool], ...]] = {
    FILE: (stat.S_ISREG,), FOLDER: (stat.S_ISDIR,), EITHER: (stat.S_ISREG, stat.S_ISDIR)}
_KINDS = ((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"),
          (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
# Of a part of a path, and of all of it, in bytes: POSIX's NAME_MAX and PATH_MAX without the end.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
# Of a folder to write in, what its own path must leave for the files.
_ROOM = 255


def expanded(path: str) -> str:
    """The path with `~` and `~user` at its beginning as the home folder.

    Raises:
      InputError: there is no such user; a folder "~user" would be made, which few mean.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise InputError("a path that begins with ~ must name a home folder; ./~ is a folder of that "
                         f"name. Received: {path!r}.")
    return found


def check(name: str, path: str, kind: str) -> None:
    """Raises an InputError at what the system refuses, or what exists and is of another kind.

    Args:
      name: of the flag, for the message.
      path: as `expanded` gives it; "" is taken for none.
      kind: FILE, FOLDER or EITHER. What does not exist is of any.
    """
    mode = _mode(name, path, kind) if path else None
    if mode is not None and not any(fits(mode) for fits in _FITTING[kind]):
        raise InputError(f"{name} must be {kind}. Received: {name}={path!r}, {_word(mode)}.")


def _mode(name, path, kind):
    """The mode of what is there; None for nothing."""
    fault = _not_of_this_system(path)
    if fault:
        raise InputError(f"{name} must be {kind} of this machine. "
                         f"Received: {name}={path[:80]!r}, {fault}.")
    try:
        parts = [len(os.fsencode(part)) for part in (path, *path.split(os.sep))]
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name} must be {kind} at a path that the system takes. "
                         f"Received: {name}={path[:80]!r} ({reason}).") from None
    if parts[0] > _LONGEST_PATH or max(parts[1:]) > _LONGEST_NAME:
        raise InputError(f"{name} must be at most {_LONGEST_PATH} bytes, no part of it more than "
                         f"{_LONGEST_NAME}. Received: {name}={path[:40]!r}…, {parts[0]} bytes.")
    if mode is None and os.path.lexists(path):
        raise InputError(f"{name} must lead somewhere. Received: {name}={path!r}, a link to "
                         f"{os.readlink(path)!r}, where nothing is.")
    return mode


def _not_of_this_system(path):
    """What TensorFlow would take for something else than a path, in words; or ""."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        return "an address"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "whose bytes are not UTF-8"
    return ""


def _word(mode):
    return next((word for fits, word in _KINDS if fits(mode)), "something else")


def require_file(path: str | os.PathLike) -> None:
    """Raises an InputError unless a regular file is at `path`: a FIFO would be waited for.

    What is there is said; that nothing is, an InputError, too.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InputError(f"expected a file at {path}. Received: {error.strerror}.") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"expected a file at {path}. Received: {_word(mode)}.")


def require_folder(folder: str | os.PathLike, name: str = "") -> None:
    """Raises an InputError where no files can be written in a folder, before work is done for them.

    Args:
      folder: which is made late, with its first file.
      name: of the flag, for the message; "" where no flag names the folder.
    """
    _mode(name or "the folder", os.fspath(folder), FOLDER)
    if len(os.fsencode(folder)) + _ROOM > _LONGEST_PATH:
        raise InputError(f"{name or 'the folder'} must leave room for the names of files, at most "
                         f"{_LONGEST_PATH - _ROOM} bytes. Received: {len(os.fsencode(folder))} bytes.")
    nearest = os.path.abspath(folder)
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK):
        return
    found = ("where nothing may be written" if os.path.isdir(nearest) else
             "a file" if os.path.exists(nearest) else "a link to nothing")
    if name:
        raise InputError(f"{name} must be a folder to write in, or one that can be made. Received: "
                         f"{name}={os.fspath(folder)!r}; {nearest}, {found}.")
    raise InputError(f"expected a folder to write in, or one that can be made, at {folder}. "
                     f"Received: {nearest}, {found}.")


def same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two paths name one existing file, by whatever links."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)

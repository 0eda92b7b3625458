"""Folders as TensorFlow takes them: it reads some characters as a pattern, others as a protocol."""

import contextlib
import os
import re
from collections.abc import Iterator

from errors import InputError

_SPECIAL = re.compile(r"[\[\]*?\\]|://")
_OPEN_FILES = "/proc/self/fd"


@contextlib.contextmanager
def literal_folder(folder: str | os.PathLike) -> Iterator[str]:
    """Yields a name of `folder` in which TensorFlow finds no pattern; for use within the block.

    Args:
      folder: any that there is.

    Raises:
      InputError: the folder has such a character and the system cannot name it otherwise.
      OSError: there is no such folder.
    """
    folder = os.fspath(folder)
    special = _SPECIAL.search(folder)
    if not special:
        yield folder
        return
    if not os.path.isdir(_OPEN_FILES):
        raise InputError(f"expected a folder without {special[0]}, which TensorFlow takes for a "
                         f"pattern and this system cannot hide from it. Received: {folder!r}.")
    # Not escaped with backslashes: TensorFlow looks for the pattern, and opens what was typed.
    opened = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{_OPEN_FILES}/{opened}"
    finally:
        os.close(opened)

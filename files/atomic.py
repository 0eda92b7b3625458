"""Writing without half files: to a temporary name in the same folder, renamed when complete."""

import contextlib
import csv
import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Of files, the name that `atomic_path` gives them until they are whole; what follows, of earlier
# versions, is the final name.
_TEMPORARY = re.compile(r"\.tmp-\d+-[0-9a-f]{8}([.-].*)?")
_LONGEST_SUFFIX = 16


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it to `path` if the block succeeds.

    Args:
      path: file to write; its folder is made where missing. The temporary name keeps the suffix,
        because some writers choose the format by it.

    If the block raises, the temporary file is removed and `path` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number alone: processes of two containers, both 1, may share the folder.
    # In the same folder: a rename is atomic within a file system only, and /tmp may be another.
    # Short, as `path` may have the longest name that the system takes.
    temporary = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}{_short_suffix(path)}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # What a disk refuses in the middle of a file names none.
        if error.errno is not None:
            error.filename = error.filename or os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary folder in `folder`; if the block succeeds its contents move to `folder`.

    Args:
      folder: where the files and folders are to lie; made where missing.

    They move in the order of their names. If the block raises, `folder` is left as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as name:
        yield Path(name)
        # By name, so that a kill leaves no checkpoint without its data: .index, which makes it one,
        # sorts behind .data-*.
        for path in sorted(Path(name).iterdir()):
            os.replace(path, folder / path.name)


def _short_suffix(path):
    return path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Deletes what killed runs have left of `atomic_path` in a folder."""
    for path in Path(folder).glob(".tmp-*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def write_json(path: str | os.PathLike, obj: Any) -> None:
    """Writes `obj` as indented JSON; NumPy values as lists and numbers, NaN and ±inf as null."""
    # Python would write NaN, which is no JSON and stops other readers.
    text = json.dumps(_plain(obj), indent=1, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> Any:
    """What a file holds as JSON; None where it is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    # Nested a thousand times, JSON is one of Python's RecursionErrors.
    except (ValueError, RecursionError):
        return None


def write_npy(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes an array as .npy, whole or not at all."""
    with atomic_path(path) as temporary:
        np.save(temporary, array)


def write_csv(path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes one header line and `rows` as comma-separated values."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        # csv ends lines with \r\n by default, on Linux, too.
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _plain(obj):
    """`obj` with what JSON knows only."""
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray | np.generic):
        return _plain(obj.tolist())
    if isinstance(obj, list | tuple | set):
        return [_plain(value) for value in obj]
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if obj is None or isinstance(obj, bool | int | str):
        return obj
    return str(obj)

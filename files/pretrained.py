"""Folders of networks that come with the project: weights that nobody trains on, with their hashes.

A folder of pretrained/ is a log_root whose checkpoint holds the network alone, beside its detector.npz
and a model card; SHA256SUMS, in the format of `sha256sum`, lists all of them.
"""

import hashlib
import os
from pathlib import Path

from errors import InputError
from files import atomic

SUMS = "SHA256SUMS"
CARD = "README.md"


def is_pretrained(folder: str | os.PathLike) -> bool:
    """Whether the files of a folder are fixed by their hashes."""
    return (Path(folder) / SUMS).is_file()


def write_sums(folder: str | os.PathLike) -> None:
    """Fixes every file of a folder by its hash."""
    # Names with a dot are of files that are still being written.
    names = sorted(path.name for path in Path(folder).iterdir()
                   if path.is_file() and path.name != SUMS and not path.name.startswith("."))
    with atomic.atomic_path(Path(folder) / SUMS) as temporary:
        temporary.write_text("".join(f"{_sha256(Path(folder) / name)}  {name}\n" for name in names))


def check(path: str | os.PathLike) -> None:
    """Compares files of a pretrained folder with their hashes; says nothing of other folders.

    Args:
      path: of a file, or the prefix of a checkpoint's files.

    Raises:
      InputError: a file is missing, not the one that was shipped, or none that was.
    """
    path = Path(path)
    if not is_pretrained(path.parent):
        return
    # Also the prefix of a checkpoint: its files are .index and .data-*.
    sums = {name: digest for name, digest in _sums(path.parent).items()
            if name == path.name or name.startswith(f"{path.name}.")}
    # A checkpoint put beside what was shipped would be restored in its place.
    if not sums:
        raise InputError(f"expected only what was shipped in {path.parent}, the files of {SUMS}. "
                         f"Received: {path.name}.")
    for name, wanted in sums.items():
        file = path.with_name(name)
        found = _sha256(file) if file.is_file() else "no such file"
        if found != wanted:
            raise InputError(f"expected {file} as it was shipped, with the SHA-256 {wanted[:12]}… "
                             f"of {SUMS}. Received: {found[:12]}….")


def _sums(folder):
    """Name → SHA-256 of the files of a pretrained folder."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines if line)}


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

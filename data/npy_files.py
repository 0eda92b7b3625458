"""NumPy's files, opened with suspicion: what a header claims is compared with the file before memory is
taken, and nothing that is pickled is read."""

import math
import os
import zipfile
from typing import IO

import numpy as np
from numpy.lib import format as npy

from errors import InputError, named

# No byte of a deflated member can stand for more than this many, and what is not deflated for one.
DEFLATE_RATIO = 1032
_KINDS = "biufcSUM"
# Bytes that are read at a time.
_PIECE = 2**22


def read_npy(path: str | os.PathLike, mmap_mode: str | None = None) -> np.ndarray:
    """The array of a `.npy` file; an InputError that names the file when it is none."""
    try:
        with open(path, "rb") as file:
            array = _read(file, os.path.getsize(path), whole=mmap_mode is None)
        return array if mmap_mode is None else np.load(path, mmap_mode, allow_pickle=False)
    # Parsing what anybody may have written raises whatever Python and NumPy have.
    except Exception as error:
        raise InputError(f"expected a NumPy array in {path}. Received: {named(error)}.") from None


def read_npz(path: str | os.PathLike, names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Name → array of a `.npz` file.

    Args:
      path: of the file.
      names: of the arrays to read, as far as they are there; none: all.

    Raises:
      InputError: it is none, or an array in it is not as it claims to be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {name: _read_member(archive, info, os.path.getsize(path))
                    for name, info in members.items() if not names or name in names}
    except Exception as error:
        raise InputError(
            f"expected a readable .npz file at {path}. Received: {named(error)}.") from None


def _read_member(archive, info, size):
    if info.file_size > DEFLATE_RATIO * max(info.compress_size, 1) or info.compress_size > size:
        raise ValueError(f"{info.filename} claims {info.file_size} bytes, from {info.compress_size}")
    with archive.open(info) as member:
        try:
            return _read(member, info.file_size)
        except ValueError as error:
            raise ValueError(f"{info.filename}: {error}") from None


def _read(file: IO[bytes], size: int, *, whole: bool = True) -> np.ndarray | None:
    """The array in a stream of `size` bytes; not `whole`, a look at what its header claims alone."""
    version = npy.read_magic(file)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"format {version}, of NumPy's 1.0 and 2.0 are read")
    shape, fortran_order, dtype = reader(file)
    if dtype.hasobject or dtype.kind not in _KINDS or not dtype.itemsize:
        raise ValueError(f"values of type {dtype}, where numbers or text are read")
    # Of Python's integers: a product in 64 bits may wrap round.
    claimed, left = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or claimed != left:
        raise ValueError(f"shape {shape} of {dtype} takes {claimed} bytes, of which {left} are there")
    if not whole:
        return None
    # Filled in place: a training set is the largest array of a process, once is enough.
    values, filled = np.empty(claimed, np.uint8), 0
    while filled < claimed and (got := file.readinto(memoryview(values)[filled:filled + _PIECE])):
        filled += got
    if filled < claimed:
        raise ValueError("the file ends early")
    return values.view(dtype).reshape(shape, order="F" if fortran_order else "C")

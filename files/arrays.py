"""Tables and arrays on disk, read with checks: a sentence names the file that is at fault."""

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data import npy_files
from data.npy_files import read_npy  # noqa: F401 read here like the others
from errors import InputError, named
from files import hdf5, mat_files

# Classes are int32 where images are.
_LARGEST_CLASS = np.iinfo(np.int32).max
# Classes of Matlab's arrays that are numbers, as -v7.3 names them.
_MATLAB_NUMBERS = {"double", "single", *(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def read_text(path: Path, ndim: int) -> np.ndarray:
    """Float64 table of numpy.savetxt: [n], or [n, columns] if `ndim` is 2."""
    if not path.is_file():
        raise InputError(f"expected the file {path.name} in {path.parent}. Received: no such file.")
    with open(path, "rb") as file:
        # An empty file has no last byte to go back to.
        file.seek(-min(1, os.path.getsize(path)), os.SEEK_END)
        # A number cut short is still a number: only the missing line end tells.
        if file.read(1) != b"\n":
            raise InputError(f"expected a complete last line in {path}. Received: a file that is "
                             "empty or ends in the middle of a line.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "input contained no data"
            array = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError(f"expected rows of numbers of equal length in {path}. "
                         f"Received: {str(error).split(';')[0].rstrip('.')}.") from None
    if array.size == 0 or (ndim == 1 and array.shape[1] != 1):
        raise InputError(f"expected {'one number' if ndim == 1 else 'numbers'} per row in {path}. "
                         f"Received: shape={array.shape}.")
    return array if ndim == 2 else array[:, 0]


def check_lengths(lengths: Mapping[str, int], folder: str | os.PathLike) -> None:
    """Raises InputError naming the files whose row count is not the most frequent one."""
    counts = list(lengths.values())
    # By majority: the file that was cut is to be named, not the nine that were not.
    usual = max(counts, key=counts.count)
    odd = {name: count for name, count in lengths.items() if count != usual}
    if odd:
        names = ", ".join(f"{name}={count}" for name, count in odd.items())
        raise InputError(f"expected {usual} rows in every file of {folder}, as in "
                         f"{next(name for name in lengths if name not in odd)}. Received: {names}.")


def check_numbers(path: Path, array: np.ndarray, expected: str = "finite numbers",
                  good: np.ndarray | None = None) -> None:
    """Raises InputError naming the first number in `path` that is not what is expected.

    Args:
      path: of the table.
      array: float [n] or [n, columns].
      expected: in words.
      good: bool like `array`, which numbers are; None: those that are finite.
    """
    bad = ~(np.isfinite(array) if good is None else good)
    if bad.any():
        first = tuple(np.argwhere(bad)[0])
        raise InputError(f"expected {expected} in {path}. "
                         f"Received: row {first[0] + 1}={array[first]:g}.")


def as_labels(path: Path, array: np.ndarray) -> np.ndarray:
    """A column of class numbers as int64 [n]; InputError naming the row that holds none."""
    # numpy.savetxt writes labels as floats, the original's too.
    wrong = np.flatnonzero((array != np.round(array)) | (array < 0) | (array > _LARGEST_CLASS))
    if wrong.size:
        raise InputError(f"expected class numbers 0, 1, 2, ... in {path}. "
                         f"Received: row {wrong[0] + 1}={array[wrong[0]]:g}.")
    return array.astype(np.int64)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name → array of a `.npz` file; InputError when it is not one."""
    return npy_files.read_npz(path)


def read_mat(path: Path, name: str) -> np.ndarray:
    """The real numbers called `name` in a Matlab file, of -v7 and earlier or of -v7.3.

    Raises:
      InputError: no such file or array, or one of text, cells, structures or complex numbers.
    """
    try:
        array = _read_hdf5(path, name) if _is_hdf5(path) else _read_mat5(path, name)
    # A broken file surfaces as one of many exceptions of the readers, and of HDF5's.
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"expected a readable .mat file at {path}, as `save(..., '-v7')` writes it. "
                         f"Received: {named(error)}.") from None
    if array is None:
        raise InputError(f"expected the array {name} of real numbers in {path}. Received: something "
                         "else of this name.")
    return array


def _is_hdf5(path):
    # After Matlab's own text of 512 bytes.
    with open(path, "rb") as file:
        return file.read(1024)[512:520] == b"\x89HDF\r\n\x1a\n"


def _read_mat5(path, name):
    array, names = mat_files.read_numbers(path.read_bytes(), name)
    if name not in names:
        raise InputError(f"expected the array {name} in {path}. Received: arrays={sorted(names)}.")
    return array


def _read_hdf5(path, name):
    import h5py

    with h5py.File(path) as file:
        if name not in file:
            raise InputError(f"expected the array {name} in {path}. Received: arrays={sorted(file)}.")
        found = hdf5.own_dataset(file, name)
        if found is None or found.dtype.kind not in "fiu" or (
                found.size > npy_files.DEFLATE_RATIO * os.path.getsize(path)):
            return None
        # Text, cells and empty arrays are stored as numbers that stand for something else.
        kind = np.bytes_(found.attrs.get("MATLAB_class", b"double")).decode()
        if kind not in _MATLAB_NUMBERS or "MATLAB_empty" in found.attrs:
            return None
        # Matlab's first axis is HDF5's last.
        return np.ascontiguousarray(found[()].T)


def sha256(*arrays: np.ndarray) -> str:
    """SHA-256 of the bytes of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        # A view with strides has no buffer to hash.
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()

"""Tables and arrays on disk, read with checks: a sentence names the file that is at fault."""

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from errors import InputError


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


def read_npy(path: Path, mmap_mode: str | None = None) -> np.ndarray:
    """The array of a `.npy` file; InputError when it is not one."""
    try:
        # A pickle would run code of whoever made the file.
        return np.load(path, mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"expected a NumPy array in {path}. Received: {error}.") from None


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
    wrong = np.flatnonzero((array != np.round(array)) | (array < 0))
    if wrong.size:
        raise InputError(f"expected class numbers 0, 1, 2, ... in {path}. "
                         f"Received: row {wrong[0] + 1}={array[wrong[0]]:g}.")
    return array.astype(np.int64)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name → array of a `.npz` or `.mat` file; InputError when it is not one."""
    try:
        if path.suffix == ".mat":
            # Here, since detect.py starts with NumPy alone.
            import scipy.io

            return scipy.io.loadmat(path)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    # A broken file surfaces as one of many exceptions of zipfile, zlib and SciPy's reader.
    except Exception as error:
        raise InputError(f"expected a readable {path.suffix} file at {path}. "
                         f"Received: {type(error).__name__}: {error}.") from None


def sha256(*arrays: np.ndarray) -> str:
    """SHA-256 of the bytes of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        # A view with strides has no buffer to hash.
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()

"""Numbers out of a Matlab file of -v5 to -v7, and nothing else.

Not SciPy's reader: that of version 1.17.1 ends the process with a segmentation fault at some damaged
files, and a reader of what anybody may bring must not. Arrays of real numbers alone are read; every
length is compared with what is there. Format: "MAT-File Format", MathWorks, chapter 1.
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np

from data.formats import MOST_UNZIPPED

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Type of an element → of its values.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Classes of arrays of numbers: double, single, and whole numbers of 8 to 64 bits.
_NUMBERS = range(6, 16)
# Flags of an array.
_COMPLEX, _LOGICAL = 0x800, 0x200
_PARTS = 4


def read_numbers(raw: bytes, name: str) -> tuple[np.ndarray | None, list[str]]:
    """The array of real numbers called `name`, None where it is something else or not there, and the
    names of all.

    Raises:
      ValueError: not such a file, or a length in it is not borne out.
    """
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:_HEADER])
    if order is None:
        raise ValueError("no Matlab file of -v5 to -v7")
    found, names = None, []
    for kind, data in _elements(raw[_HEADER:], order):
        if kind == _COMPRESSED:
            ((kind, data),) = _elements(_unpacked(data), order)
        if kind != _MATRIX:
            continue
        parts = [part for _, part in zip(range(_PARTS), _elements(data, order), strict=False)]
        called = parts[2][1].decode("ascii", "replace") if len(parts) > 2 else ""
        names.append(called)
        if called == name:
            found = _numbers(parts, order)
    return found, names


def _unpacked(data):
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, MOST_UNZIPPED)
    if not unpacker.eof:
        raise ValueError("a compressed array that ends early, or is too large")
    return unpacked


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and contents of each element."""
    at = 0
    while at + 8 <= len(data):
        first, second = (int(word) for word in np.frombuffer(data, f"{order}u4", 2, at))
        # A small element has its length in the upper half of the first word, its contents behind it.
        small, length = first >> 16, second
        begin = at + (4 if small else 8)
        length = small or length
        if begin + length > len(data) or small > 4:
            raise ValueError(f"an element of {length} bytes, of which {len(data) - begin} are there")
        kind = first & 0xFFFF
        yield kind, data[begin:begin + length]
        # Compressed ones alone are not filled up to eight bytes.
        size = length if kind == _COMPRESSED else -(-length // 8) * 8
        at += 8 if small else 8 + size


def _numbers(parts, order):
    """The array of the parts flags, dimensions, name, real part; None where it is none of numbers."""
    flags = np.frombuffer(parts[0][1], f"{order}u4", 1)[0] if len(parts[0][1]) >= 4 else 0
    if len(parts) < _PARTS or flags & 0xFF not in _NUMBERS or flags & (_COMPLEX | _LOGICAL):
        return None
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    kind, data = parts[3]
    if kind not in _TYPES or min(shape, default=-1) < 0:
        return None
    dtype = np.dtype(order + _TYPES[kind])
    # Of Python's integers: a product in 64 bits may wrap round.
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"shape {tuple(shape)} of {dtype} is not {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F")

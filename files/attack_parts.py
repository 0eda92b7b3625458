"""Finished parts of a running attack on disk: a killed run goes on, several machines share one."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import environment

import numpy as np

from errors import InputError
from files import atomic
from files.arrays import read_arrays

# Beside the result files, until those are complete.
FOLDER = "parts"
_IDENTITY = "identity.json"
# Suffixes of a finished part, and of what an unfinished one has come to.
_PART, _PROGRESS = ".npz", ".progress"
# What `Piece.name` makes. No other file in the folder is ours to read, to count or to delete.
_NAME = re.compile(r"round\d{2,}_image\d{6,}")
# Array of a part: digest of its identity. Files can be copied where another identity lies.
_OWNER = "identity"
# Array of a part: threads it was made with. Other than the identity, which parts of earlier versions
# share, it was not always told.
_THREADS = "threads"


@dataclasses.dataclass(frozen=True)
class Piece:
    """Images of one round of a sweep that are crafted together and saved as one part.

    Attributes:
      round_number: from 0.
      rows: which of the images.
      shard: which of the shards makes it, from 0.
    """

    round_number: int
    rows: slice
    shard: int

    @property
    def name(self) -> str:
        """Name of the part."""
        return f"round{self.round_number:02d}_image{self.rows.start:06d}"


def cut(num_rounds: int, num_images: int, part_size: int, num_shards: int = 1) -> list[Piece]:
    """The pieces of a sweep, in order; the shards make in turn those of the same images."""
    rows = [slice(start, min(start + part_size, num_images))
            for start in range(0, num_images, part_size)]
    return [Piece(number, piece_rows, (number * len(rows) + i) % num_shards)
            for number in range(num_rounds) for i, piece_rows in enumerate(rows)]


def size_of_part(largest: int, unit: int, num_images: int, num_shards: int) -> int:
    """Images per part: small enough that every shard has some, without influence on results.

    Args:
      largest: of a run without shards.
      unit: a part is a multiple of it.
      num_images: per round.
      num_shards: at least 1.
    """
    if num_shards == 1:
        return largest
    # Rounded up twice: the last shard may have less to do, none may have more than its share. A
    # unit is the rows that share a gradient; cutting it would change last bits.
    per_shard = -(-num_images // num_shards)
    return min(-(-per_shard // unit) * unit, largest)


class Parts:
    """The folder `parts` beside an attack's result files, there only until those are complete.

    Several runs of one identity, shards, may use it at once: what one saves does not disturb others.

    Args:
      folder: folder of the result files.
      identity: whatever decides the results, as JSON values; parts of another identity are refused.
      overwrite: whether parts of another identity are deleted instead.

    Raises:
      InputError: parts of another identity; the sentence names the first difference.
    """

    def __init__(self, folder: str | os.PathLike, identity: Mapping[str, Any], *,
                 overwrite: bool = False):
        self._folder = Path(folder) / FOLDER
        self._identity = json.loads(json.dumps(identity))  # as the file gives it back
        text = json.dumps(self._identity, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()
        self._threads = environment.num_threads()
        if overwrite and (self._others_identity() is not None or self._has_other_threads()):
            self.discard()
        self._refuse_others()

    @property
    def digest(self) -> str:
        """SHA-256 of the identity: runs of the same one have the same results."""
        return self._digest

    def _refuse_others(self):
        found, identity = self._others_identity(), self._identity
        if found is None:
            self._refuse_a_file_of_nobody()
            return
        name = next(n for n in {**found, **identity} if n not in found or n not in identity
                    or found[n] != identity[n])
        raise InputError(
            f"{self._folder} holds unfinished parts of another run, with {name}="
            f"{found.get(name)!r}: finish it with its own flags, or give --overwrite=True to "
            f"start anew. Received: {name}={identity.get(name)!r}.")

    def _has_other_threads(self):
        found = set()
        for name in self.names():
            with contextlib.suppress(InputError):
                arrays = read_arrays(self._folder / f"{name}{_PART}")
                threads = arrays.get(_THREADS, np.array(self._threads))
                # Others are damaged, and made anew.
                if not threads.ndim and threads.dtype.kind in "iu":
                    found.add(int(threads))
        return bool(found - {self._threads})

    def _refuse_a_file_of_nobody(self):
        """Without parts, the file that their identity would overwrite is that of a run that was killed
        before its first, or none of ours."""
        found = self._read_identity()
        if found not in (None, self._identity) and "attack_method" not in found:
            raise InputError(f"expected no file of another program at {self._folder / _IDENTITY}, "
                             "which unfinished parts of an attack need: move it. Received: one.")

    def _others_identity(self):
        """Identity of the parts there if it is another one, else None."""
        # Names first: whoever is saving just now writes the identity before its first part.
        found = self._read_identity() if self._names(_PART) + self._names(_PROGRESS) else None
        return None if found == self._identity else found

    def _read_identity(self):
        try:
            found = atomic.read_json(self._folder / _IDENTITY)
        except FileNotFoundError:
            return None  # each part says whose it is
        return found if isinstance(found, dict) else {"identity": "unreadable"}

    def names(self) -> list[str]:
        """Names of the finished parts."""
        return self._names(_PART)

    def _names(self, suffix):
        return sorted(path.stem for path in self._folder.glob(f"*{suffix}")
                      if _NAME.fullmatch(path.stem))

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays saved as part `name`; None when it is not finished, or damaged.

        Raises:
          InputError: the part was copied here from a run of another identity.
        """
        return self._load(self._folder / f"{name}{_PART}")

    def load_progress(self, name: str) -> dict[str, np.ndarray] | None:
        """What `save_progress` kept of part `name`; as `load`."""
        return self._load(self._folder / f"{name}{_PROGRESS}")

    def _load(self, path):
        try:
            arrays = read_arrays(path) if path.is_file() else None
        except InputError:
            return None  # it is crafted and saved anew
        # Parts of earlier versions do not say whose they are.
        if arrays and (owner := str(arrays.pop(_OWNER, self._digest))) != self._digest:
            raise InputError(
                f"{path} must be a part of this run, of the same flags, weights and images: remove it. "
                f"Received: identity={owner[:12]}, of this run {self._digest[:12]}.")
        threads = arrays.pop(_THREADS, None) if arrays else None
        if threads is not None and (threads.ndim or threads.dtype.kind not in "iu"):
            return None  # as above
        threads = self._threads if threads is None else int(threads)
        if threads != self._threads:
            raise InputError(
                f"{path} was made with {threads} threads, whose last bits are others: go on with "
                f"TF_NUM_INTRAOP_THREADS={threads}, or give --overwrite=True to start anew. "
                f"Received: {self._threads} threads.")
        return arrays

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves part `name`, whole or not at all.

        Raises:
          InputError: another run has begun to save its parts here.
        """
        self._save(self._folder / f"{name}{_PART}", arrays)
        (self._folder / f"{name}{_PROGRESS}").unlink(missing_ok=True)

    def save_progress(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves how far part `name` has come, in place of what was saved of it before; as `save`."""
        self._save(self._folder / f"{name}{_PROGRESS}", arrays)

    def _save(self, path, arrays):
        self._refuse_others()
        # With the first part and not before, so that looking leaves nothing behind.
        if self._read_identity() != self._identity:
            atomic.write_json(self._folder / _IDENTITY, self._identity)
        # Whose it is stands in the part as well: identity.json says nothing of files that were
        # copied in.
        with atomic.atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays, **{_OWNER: np.array(self._digest),
                                        _THREADS: np.array(self._threads)})

    def discard(self) -> None:
        """Deletes all parts: the results are complete, or not wanted. The folder stays where it holds
        anything else."""
        for suffix in (_PART, _PROGRESS):
            for name in self._names(suffix):
                (self._folder / f"{name}{suffix}").unlink()
        atomic.remove_unfinished(self._folder)
        # The identity goes last: it says whose the parts are that a kill leaves here.
        if self._read_identity() is not None:
            (self._folder / _IDENTITY).unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

"""Finished parts of a running attack on disk, so that a killed run goes on where it was."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data import artifacts
from errors import InputError

_IDENTITY = "identity.json"


class Parts:
    """The folder `parts` beside an attack's result files, there only until those are complete.

    Args:
      folder: folder of the result files.
      identity: whatever decides the results, as JSON values; parts of another identity are refused.
      overwrite: whether parts of another identity are deleted instead.

    Raises:
      InputError: parts of another identity; the sentence names the first difference.
    """

    def __init__(self, folder: str | os.PathLike, identity: Mapping[str, Any], *,
                 overwrite: bool = False):
        self._folder = Path(folder) / "parts"
        # As JSON gives it back.
        identity = json.loads(json.dumps(identity))
        found = self._read_identity()
        if found is not None and self.names() and found != identity and not overwrite:
            name = next(n for n in {**found, **identity} if n not in found or n not in identity
                        or found[n] != identity[n])
            raise InputError(
                f"{self._folder} holds unfinished parts of another run, with {name}="
                f"{found.get(name)!r}: finish it with its own flags, or give --overwrite=True to "
                f"start anew. Received: {name}={identity.get(name)!r}.")
        if found != identity:
            self.discard()
            artifacts.write_json(self._folder / _IDENTITY, identity)

    def _read_identity(self):
        """Identity of the parts there; None where there are none."""
        try:
            found = json.loads((self._folder / _IDENTITY).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {"identity": "unreadable"}

    def names(self) -> list[str]:
        """Names of the finished parts."""
        return sorted(path.stem for path in self._folder.glob("*.npz")
                      if not path.name.startswith("."))

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays saved as part `name`; None when it is not finished, or damaged."""
        path = self._folder / f"{name}.npz"
        try:
            return artifacts.read_arrays(path) if path.is_file() else None
        except InputError:
            return None  # it is crafted and saved anew

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves part `name`, whole or not at all."""
        with artifacts.atomic_path(self._folder / f"{name}.npz") as temporary:
            np.savez(temporary, **arrays)

    def discard(self) -> None:
        """Deletes all parts: the results are complete, or not wanted."""
        # The identity goes last: parts without one would be taken for anybody's.
        for path in self._folder.glob("*.npz"):
            path.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)

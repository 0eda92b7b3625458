"""Heat maps and loss surfaces: their numbers; drawing.py has the pictures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.success import share
from files import atomic

HEATMAP_FILES = ("heatmap.npy", "heatmap.csv", "heatmap.png")
SURFACE_FILES = ("surface_0.npy", "surface.csv", "surface.png")
_SURFACE = re.compile(r"surface_\d+\.npy")


def save_heatmap(folder: str | Path, step_sizes: Sequence[float], iterations: Sequence[int],
                 right: np.ndarray) -> None:
    """Writes accuracy over step sizes and iterations: heatmap.npy float64 [step sizes, iterations] and
    heatmap.csv with 95 % intervals.

    Args:
      folder: where to.
      step_sizes: changes of a pixel, increasing.
      iterations: numbers of steps, increasing.
      right: bool [step sizes, n, iterations]: images that are still predicted rightly.
    """
    atomic.write_npy(Path(folder) / "heatmap.npy", right.mean(axis=1))
    atomic.write_csv(
        Path(folder) / "heatmap.csv", ("step_size", "iterations", "accuracy", "low", "high", "n"),
        ((size, number, *share(right[row, :, column])) for row, size in enumerate(step_sizes)
         for column, number in enumerate(iterations)))


def save_surfaces(folder: str | Path, surfaces: Mapping[str, np.ndarray], offsets: np.ndarray) -> None:
    """Writes loss surfaces: surface_<k>.npy float64 [g, g] of each network, and surface.csv; those of
    further networks of an earlier run go.

    Args:
      folder: where to.
      surfaces: name of the network → losses [g, g].
      offsets: along both sides, float [g].
    """
    folder = Path(folder)
    for number, surface in enumerate(surfaces.values()):
        atomic.write_npy(folder / f"surface_{number}.npy", surface)
    for path in folder.glob("surface_*.npy"):
        if _SURFACE.fullmatch(path.name) and int(path.stem.partition("_")[2]) >= len(surfaces):
            path.unlink()
    atomic.write_csv(
        folder / "surface.csv", ("network", "first", "second", "cross_entropy"),
        ((name, a, b, surface[i, j]) for name, surface in surfaces.items()
         for i, a in enumerate(offsets.tolist()) for j, b in enumerate(offsets.tolist())))

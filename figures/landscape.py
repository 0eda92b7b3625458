"""Heat maps and loss surfaces: their files and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.success import share
from figures import drawing
from files import atomic

HEATMAP_FILES = ("heatmap.npy", "heatmap.csv", "heatmap.png")
SURFACE_FILES = ("surface.csv", "surface.png")


def save_heatmap(folder: str | Path, step_sizes: Sequence[float], iterations: Sequence[int],
                 right: np.ndarray, title: str) -> str:
    """Writes accuracy over step sizes and iterations: heatmap.npy float64 [step sizes, iterations],
    heatmap.csv with 95 % intervals, heatmap.png.

    Args:
      folder: where to.
      step_sizes: changes of a pixel, increasing.
      iterations: numbers of steps, increasing.
      right: bool [step sizes, n, iterations]: images that are still predicted rightly.
      title: above the picture.

    Returns:
      The path of the picture.
    """
    folder = Path(folder)
    accuracy = right.mean(axis=1)
    atomic.write_npy(folder / HEATMAP_FILES[0], accuracy)
    atomic.write_csv(
        folder / HEATMAP_FILES[1], ("step_size", "iterations", "accuracy", "low", "high", "n"),
        ((size, number, *share(right[row, :, column])) for row, size in enumerate(step_sizes)
         for column, number in enumerate(iterations)))
    drawing.heatmap(folder / HEATMAP_FILES[2], step_sizes, iterations, 100 * accuracy.T, title)
    return str(folder / HEATMAP_FILES[2])


def save_surfaces(folder: str | Path, surfaces: Mapping[str, np.ndarray], offsets: np.ndarray,
                  sides: tuple[str, str], title: str) -> str:
    """Writes loss surfaces: surface_<k>.npy float64 [g, g] of each network, surface.csv, surface.png.

    Args:
      folder: where to.
      surfaces: name of the network → losses [g, g].
      offsets: along both sides, float [g].
      sides: what the two sides are called.
      title: above the picture.

    Returns:
      The path of the picture.
    """
    folder = Path(folder)
    for number, surface in enumerate(surfaces.values()):
        atomic.write_npy(folder / f"surface_{number}.npy", surface)
    atomic.write_csv(
        folder / SURFACE_FILES[0], ("network", "first", "second", "cross_entropy"),
        ((name, a, b, surface[i, j]) for name, surface in surfaces.items()
         for i, a in enumerate(offsets.tolist()) for j, b in enumerate(offsets.tolist())))
    drawing.surfaces(folder / SURFACE_FILES[1], surfaces, offsets, sides, title)
    return str(folder / SURFACE_FILES[1])

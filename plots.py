"""Pictures: ROC and other curves, image grids, t-SNE scatter plots. PNG files, written whole or not
at all.

Matplotlib is used through `Figure` objects on its Agg canvas and imported where it is needed:
without pyplot there is no global state and no window, and importing this module costs nothing.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import artifacts
from errors import InputError

# score → (name on the picture, colour, marker). The same everywhere. The colours differ in lightness by
# a fifth and the markers in form, so that pictures can be read in greyscale.
SCORE_STYLE = {
    "confidence": ("confidence", "#F0A500", "o"),
    "non_me": ("non-ME", "#000000", "s"),
    "k_density": ("K-density", "#004C8C", "^"),
    "kernel_non_me": ("kernel non-ME", "#C8F2BA", "v"),
    "j_score": ("J-score", "#C0458A", "D"),
}
OBJECTIVE_LINE = {"rce": "-", "ce": "--"}

_DPI = 110
_MAX_COLUMNS = 10
_TAB10_CLASSES = 10
_TSNE_PCA = 60
_TSNE_PERPLEXITY = 30


# Colour and marker of the k-th of other lines (attacks, values of η), in the same order everywhere.
LINE_STYLE = (("#000000", "o"), ("#E69F00", "s"), ("#0072B2", "^"), ("#009E73", "v"), ("#D55E00", "D"),
              ("#CC79A7", "P"), ("#56B4E9", "X"), ("#999999", "*"))


class Curve(NamedTuple):
    """One line of a `Panel`: x, y float [points]; how it is drawn."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    marker: str
    line: str = "-"


class Panel(NamedTuple):
    """One pair of axes, named with their units; `ylim` is (lowest, highest)."""

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    ylim: tuple[float, float] = (-3.0, 103.0)


class RocCurve(NamedTuple):
    """One line of `roc_curves`: fpr, tpr float [points] in [0, 1]; keys of the two style tables."""

    label: str
    fpr: np.ndarray
    tpr: np.ndarray
    auc: float
    score: str
    objective: str


def roc_curves(path: str | os.PathLike, curves: Sequence[RocCurve], title: str) -> None:
    """Draws ROC curves with their areas: colour by score, solid for RCE, dashed for CE.

    Args:
      path: PNG file to write.
      curves: the lines, in the order of the legend.
      title: above the picture.
    """
    figure, axes = _figure(6.4, 5.6)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":", zorder=1)
    for curve in curves:
        _, colour, marker = SCORE_STYLE[curve.score]
        axes.plot(curve.fpr, curve.tpr, color=colour, marker=marker, markersize=4.5, markevery=0.12,
                  linestyle=OBJECTIVE_LINE[curve.objective], linewidth=1.8,
                  label=f"{curve.label}, AUC {100 * curve.auc:.2f} %")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=title,
             xlabel="false positive rate (adversarial images accepted)",
             ylabel="true positive rate (normal images accepted)")
    axes.grid(color="0.9")
    axes.legend(loc="lower right", fontsize="small", handlelength=3.5)
    _save(figure, path)


def panels(path: str | os.PathLike, row: Sequence[Panel], title: str) -> None:
    """Draws panels side by side, one legend each, and writes their numbers beside the picture.

    Args:
      path: PNG file to write; the numbers go to the same name with the suffix .csv.
      row: the panels.
      title: above the picture.
    """
    figure, grid = _figure(5.6 * len(row), 4.6, 1, len(row))
    for axes, panel in zip(np.atleast_1d(grid).ravel(), row, strict=True):
        for curve in panel.curves:
            # Long lines need no marker at every point.
            axes.plot(curve.x, curve.y, color=curve.colour, marker=curve.marker, linestyle=curve.line,
                      markersize=4.5, linewidth=1.6, markevery=max(1, len(curve.x) // 10),
                      label=curve.label)
        axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, ylim=panel.ylim)
        axes.grid(color="0.9")
        axes.legend(fontsize="x-small", handlelength=3.5)
    figure.suptitle(title)
    _save(figure, path)
    artifacts.write_csv(
        Path(path).with_suffix(".csv"), ("panel", "curve", "x", "y"),
        ((panel.title, curve.label, x, y) for panel in row for curve in panel.curves
         for x, y in zip(np.asarray(curve.x).tolist(), np.asarray(curve.y).tolist(), strict=True)))


def image_grid(path: str | os.PathLike, normal: np.ndarray, adversarial: np.ndarray, *,
               column_titles: Sequence[str] = (), title: str = "") -> None:
    """Draws normal images, their adversarial twins and the magnified difference, in three rows.

    Args:
      path: PNG file to write.
      normal: float [n, height, width, channels], network inputs in [-0.5, 0.5]; 1 or 3 channels.
        The first ten are drawn.
      adversarial: as `normal`.
      column_titles: one line or two above each column, e.g. the true and the predicted labels.
      title: above the picture.

    Raises:
      InputError: the shapes differ or are not those of images.
    """
    normal, adversarial = np.asarray(normal, np.float64), np.asarray(adversarial, np.float64)
    if (normal.shape != adversarial.shape or normal.ndim != 4 or normal.shape[-1] not in (1, 3)
            or len(normal) == 0):
        raise InputError("expected normal and adversarial images [n, height, width, 1 or 3] of the "
                         f"same shape. Received: shapes={normal.shape}, {adversarial.shape}.")
    columns = min(len(normal), _MAX_COLUMNS)
    normal, adversarial = normal[:columns], adversarial[:columns]
    difference = adversarial - normal
    largest = np.abs(difference).max()
    factor = 0.5 / largest if largest > 0 else 1.0
    rows = (("normal", normal), ("adversarial", adversarial),
            (f"difference\n\u00d7 {factor:.3g}", factor * difference))
    figure, axes = _figure(1.2 + 1.05 * columns, 4.0, rows=3, columns=columns)
    for (name, images), row in zip(rows, axes, strict=True):
        for image, cell in zip(images, row, strict=True):
            _draw_image(cell, image)
        row[0].set_ylabel(name)
    for cell, text in zip(axes[0], column_titles, strict=False):
        cell.set_title(text, fontsize="small")
    figure.suptitle(title)
    _save(figure, path)


def scatter(path: str | os.PathLike, points: np.ndarray, labels: np.ndarray,
            is_adversarial: np.ndarray | None = None, title: str = "") -> None:
    """Draws points of the plane, coloured by class; crosses are adversarial images.

    Args:
      path: PNG file to write.
      points: float [n, 2], e.g. of t-SNE.
      labels: int [n], classes.
      is_adversarial: bool or 0/1 [n]; None: all normal.
      title: above the picture.
    """
    points, labels = np.asarray(points), np.asarray(labels).astype(int)
    adversarial = np.zeros(len(labels), bool)
    if is_adversarial is not None:
        adversarial = np.asarray(is_adversarial).astype(bool)
    figure, axes = _figure(7.2, 5.6)
    colours = _class_colours(labels.max(initial=0) + 1)
    for kind, marker, size in ((False, "o", 9), (True, "x", 22)):
        shown = adversarial == kind
        axes.scatter(points[shown, 0], points[shown, 1], c=colours[labels[shown]], marker=marker,
                     s=size, linewidths=0.9 if kind else 0)
    _class_legend(axes, np.unique(labels), colours, adversarial)
    axes.set(title=title, xlabel="t-SNE axis 1 (no unit)", ylabel="t-SNE axis 2 (no unit)",
             xticks=[], yticks=[])
    _save(figure, path)


def tsne(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of features, after PCA to 60 dimensions, perplexity 30, as in the original.

    Args:
      features: float [n, d], n ≥ 2.
      seed: of both.

    Returns:
      float64 [n, 2]. With 90 rows or fewer the perplexity is (n − 1)/3, the largest sensible one.

    Raises:
      InputError: fewer than two rows.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise InputError("expected features [n, d] of at least 2 images. "
                         f"Received: shape={features.shape}.")
    reduced = PCA(min(_TSNE_PCA, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(_TSNE_PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, random_state=seed).fit_transform(reduced).astype(float)


def _figure(width, height, rows=1, columns=1):
    """Figure on the Agg canvas; axes as one object, or as an array [rows, columns]."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, grid[0, 0] if rows == columns == 1 else grid


def _save(figure, path):
    with artifacts.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _draw_image(axes, image):
    """Network input [height, width, channels]: −0.5 black, 0.5 white or full colour."""
    shown = np.clip(image + 0.5, 0, 1)
    if shown.shape[-1] == 1:
        shown = np.repeat(shown, 3, axis=-1)
    axes.imshow(shown, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _class_colours(num_classes):
    """[num_classes, 4] RGBA: tab10, or a continuous map where ten colours are not enough."""
    import matplotlib

    if num_classes <= _TAB10_CLASSES:
        return matplotlib.colormaps["tab10"](np.arange(num_classes))
    return matplotlib.colormaps["turbo"](np.linspace(0, 1, num_classes))


def _class_legend(axes, classes, colours, adversarial):
    """Colour of each class (a hundred would not fit: then of about ten), then the markers."""
    from matplotlib.lines import Line2D

    shown = classes[:: -(-len(classes) // _TAB10_CLASSES)] if len(classes) else classes
    handles = [Line2D([], [], color=colours[c], marker="o", linestyle="", label=f"class {c}")
               for c in shown]
    if adversarial.any():
        handles += [Line2D([], [], color="0.3", marker=marker, linestyle="", label=label)
                    for marker, label in (("o", "normal"), ("x", "adversarial"))]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small",
                frameon=False)

"""Pictures: curves, bars, image grids, t-SNE scatter plots. PNG files, written whole or not at all.

Matplotlib is used through `Figure` objects on its Agg canvas and imported where it is needed:
without pyplot there is no global state and no window, and importing this module costs nothing.

Over 280 lines, and one trade: the only file that knows Matplotlib. Every kind of picture shares the
styles, the canvas and the way of saving, and nothing of them is seen outside.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import environment

import numpy as np

from defenses import SCORES
from errors import InputError
from files import atomic

# score → (name on the picture, colour, marker).
SCORE_STYLE = {name: (score.title, score.colour, score.marker) for name, score in SCORES.items()}
OBJECTIVE_LINE = {"rce": "-", "ce": "--"}
# objective → (colour, hatch) of its bars.
OBJECTIVE_FILL = {"ce": ("#DDDDDD", "///"), "rce": ("#666666", "")}

_DPI = 110
_MAX_COLUMNS = 10
_TAB10_CLASSES = 10
_TSNE_PCA = 60
_TSNE_PERPLEXITY = 30


# Colour and marker of the k-th of other lines (attacks, values of η), in the same order everywhere.
# Colours of Okabe and Ito, which colour-blind readers can tell apart; markers for those in grey.
LINE_STYLE = (("#000000", "o"), ("#E69F00", "s"), ("#0072B2", "^"), ("#009E73", "v"), ("#D55E00", "D"),
              ("#CC79A7", "P"), ("#56B4E9", "X"), ("#999999", "*"))
# As in the figure of Mosbach et al. 2018.
_HISTOGRAM_BINS = 22
# Of a heat map: numbers along an axis, and cells up to which each has its own.
_MOST_TICKS = 10
_MOST_NUMBERS = 60


class Curve(NamedTuple):
    """One line of a `Panel`: x, y float [points]; how it is drawn."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    marker: str
    line: str = "-"
    width: float = 1.6


class Panel(NamedTuple):
    """One pair of axes, named with their units; `ylim` is (lowest, highest), `is_roc` makes it square
    with the line of chance, `log_x` has powers of ten along x."""

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    ylim: tuple[float, float] = (-3.0, 103.0)
    is_roc: bool = False
    log_x: bool = False


def _plain(draw):
    """Draws by Matplotlib's own defaults: a user's matplotlibrc is for other pictures."""
    @functools.wraps(draw)
    def drawn(*args, **keywords):
        environment.import_quietly("matplotlib")
        from matplotlib import style

        # Names of folders stand in titles: a pair of $ in one is no formula.
        with style.context(["default", {"text.parse_math": False}], after_reset=True):
            return draw(*args, **keywords)

    return drawn


class Bar(NamedTuple):
    """One bar of `bars`: a mean over n images, with its interval; all NaN where n is 0."""

    attack: str
    objective: str
    n: int
    mean: float
    low: float
    high: float


class Cloud(NamedTuple):
    """One panel of `scatter`: points float [n, 2], e.g. of t-SNE, classes int [n], and which images
    are adversarial, bool or 0/1 [n] (None: all are normal)."""

    title: str
    points: np.ndarray
    classes: np.ndarray
    is_adversarial: np.ndarray | None = None


@_plain
def panels(path: str | os.PathLike, row: Sequence[Panel], title: str) -> None:
    """Draws panels side by side, one legend each, and writes their numbers beside the picture.

    Args:
      path: PNG file to write; the numbers go to the same name with the suffix .csv.
      row: the panels.
      title: above the picture.
    """
    figure, grid = _figure(5.6 * len(row), 6.0 if row[0].is_roc else 5.4, 1, len(row))
    for axes, panel in zip(np.atleast_1d(grid).ravel(), row, strict=True):
        if panel.is_roc:
            axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":", zorder=1)
        for curve in panel.curves:
            # Long lines need no marker at every point; those of a ROC curve lie anywhere, there the
            # distance on the picture counts.
            axes.plot(curve.x, curve.y, color=curve.colour, marker=curve.marker, linestyle=curve.line,
                      markersize=4.5, linewidth=curve.width, label=curve.label,
                      markevery=0.12 if panel.is_roc else max(1, len(curve.x) // 10))
        axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, ylim=panel.ylim,
                 **({"xlim": panel.ylim, "aspect": "equal"} if panel.is_roc else {}),
                 **({"xscale": "log"} if panel.log_x else {}))
        if panel.log_x:
            _write_numbers(axes.xaxis)
        axes.grid(color="0.9")
        # Curves may run along every side and through the middle: no place for a legend there.
        axes.legend(fontsize="x-small", handlelength=3.5, loc="upper center", ncols=2,
                    bbox_to_anchor=(0.5, -0.12))
    figure.suptitle(title)
    _save(figure, path)
    atomic.write_csv(
        Path(path).with_suffix(".csv"), ("panel", "curve", "x", "y"),
        ((panel.title, curve.label, x, y) for panel in row for curve in panel.curves
         for x, y in zip(np.asarray(curve.x).tolist(), np.asarray(curve.y).tolist(), strict=True)))


@_plain
def histogram(path: str | os.PathLike, values: np.ndarray, line: float, xlabel: str, title: str
              ) -> None:
    """Draws a histogram with counts on a logarithmic axis, and writes its bins beside the picture.

    Args:
      path: PNG file to write; the bins go to the same name with the suffix .csv.
      values: float [n].
      line: where a red line stands.
      xlabel: what the values are.
      title: above the picture.
    """
    figure, axes = _figure(6.0, 4.6)
    # The line inside, or a picture whose values all lie on one side would not show which.
    low, high = min(float(values.min()), line), max(float(values.max()), line)
    counts, edges = np.histogram(values, _HISTOGRAM_BINS, (low, high if high > low else low + 1))
    axes.stairs(counts, edges, fill=True, color="#0072B2")
    axes.axvline(line, color="#D55E00", linewidth=1.6)
    axes.set(yscale="log", xlabel=xlabel, ylabel="count", ylim=(0.7, None), title=title)
    _write_numbers(axes.yaxis)
    axes.grid(color="0.9")
    _save(figure, path)
    atomic.write_csv(Path(path).with_suffix(".csv"), ("from", "to", "count"),
                     zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))


def _write_numbers(axis):
    """Of a logarithmic axis: its own labels are formulas, which `_plain` shows as they are typed."""
    from matplotlib import ticker

    axis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


@_plain
def heatmap(path: str | os.PathLike, columns: Sequence[float], rows: Sequence[int], values: np.ndarray,
            title: str) -> None:
    """Draws accuracy by step size and number of steps.

    Args:
      path: PNG file to write.
      columns: step sizes, increasing.
      rows: numbers of steps, increasing.
      values: %, float [rows, columns]; up to a few dozen cells stand there as numbers, too.
      title: above the picture.
    """
    figure, axes = _figure(7.4, 5.2)
    mesh = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis")
    figure.colorbar(mesh, ax=axes, label="accuracy, %")
    for axis, ticks, form in ((axes.xaxis, columns, "{:.3g}"), (axes.yaxis, rows, "{}")):
        places = _spread(len(ticks))
        axis.set_ticks(places, [form.format(ticks[place]) for place in places])
    if values.size <= _MOST_NUMBERS:
        _write_cells(axes, mesh, values)
    axes.set(xlabel="step size, change of a pixel in [-0.5, 0.5]", ylabel="steps", title=title)
    _save(figure, path)


def _write_cells(axes, mesh, values):
    """The numbers on an image of them, to be read on its colours; of a NaN nothing."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize="small",
                      color="white" if mesh.norm(value) <= 0.5 else "black")


@_plain
def table(path: str | os.PathLike, columns: Sequence[str], rows: Sequence[str], values: np.ndarray,
          label: str, title: str) -> None:
    """Draws a table of per cents as a heat map, the first row on top.

    Args:
      path: PNG file to write.
      columns: their names.
      rows: theirs.
      values: %, float [rows, columns]; NaN: no cell.
      label: of what the numbers are.
      title: above the picture.
    """
    figure, axes = _figure(2.6 + 0.62 * len(columns), 2.6 + 0.45 * len(rows))
    mesh = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=100)
    figure.colorbar(mesh, ax=axes, label=label)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    _write_cells(axes, mesh, values)
    axes.set_title(title)
    _save(figure, path)


def _spread(number):
    """At most _MOST_TICKS places, evenly among so many."""
    return np.unique(np.linspace(0, number - 1, min(number, _MOST_TICKS)).round().astype(int))


@_plain
def surfaces(path: str | os.PathLike, found: Mapping[str, np.ndarray], offsets: np.ndarray,
             sides: tuple[str, str], title: str) -> None:
    """Draws a loss over a square as a surface above its contours, a panel for each network.

    Args:
      path: PNG file to write.
      found: name of the panel → losses float [g, g], rows of one first offset.
      offsets: float [g], of both sides.
      sides: names of the two sides.
      title: above the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0 * len(found), 5.4), layout="constrained")
    first, second = np.meshgrid(offsets, offsets, indexing="ij")
    for number, (name, losses) in enumerate(found.items(), 1):
        axes = figure.add_subplot(1, len(found), number, projection="3d")
        # Each panel has its own scale: of robust networks all is flat on that of the others.
        low, high = float(losses.min()), float(losses.max())
        floor = low - 0.6 * ((high - low) or 1.0)
        if high > low:
            axes.contourf(first, second, losses, zdir="z", offset=floor, levels=16, cmap="viridis")
        axes.plot_surface(first, second, losses, cmap="viridis", linewidth=0, rcount=len(offsets),
                          ccount=len(offsets))
        axes.set(xlabel=sides[0], ylabel=sides[1], zlabel="cross entropy", title=name,
                 zlim=(floor, high if high > low else low + 1))
        axes.xaxis.labelpad = axes.yaxis.labelpad = 8
        axes.set_box_aspect(None, zoom=0.85)
    figure.suptitle(title)
    _save(figure, path)


@_plain
def bars(path: str | os.PathLike, row: Sequence[Bar], ylabel: str, title: str) -> None:
    """Draws a group of bars per attack, one bar per objective, and writes their numbers beside it.

    Args:
      path: PNG file to write; the numbers go to the same name with the suffix .csv.
      row: the bars, not all of no images; n stands above each, its interval is a line.
      ylabel: what the bars measure, with its unit.
      title: above the picture.
    """
    attacks = list(dict.fromkeys(bar.attack for bar in row))
    objectives = [name for name in OBJECTIVE_FILL if any(bar.objective == name for bar in row)]
    figure, axes = _figure(2.4 + 0.95 * len(attacks), 5.0)
    width = 0.84 / len(objectives)
    for k, objective in enumerate(objectives):
        shown = [bar for bar in row if bar.objective == objective]
        colour, hatch = OBJECTIVE_FILL[objective]
        places = [attacks.index(bar.attack) + (k - (len(objectives) - 1) / 2) * width for bar in shown]
        axes.bar(places, [bar.mean for bar in shown], width, color=colour, hatch=hatch,
                 edgecolor="black", linewidth=0.8, label=objective.upper())
        for place, bar in zip(places, shown, strict=True):
            axes.plot([place, place], [bar.low, bar.high], color="black", marker="_", markersize=6)
            axes.annotate(str(bar.n), (place, bar.high if bar.n else 0), (0, 4), ha="center",
                          va="bottom", textcoords="offset points", fontsize="x-small")
    # Room for the numbers and, above them, the legend.
    axes.set(title=title, ylabel=ylabel, xlim=(-0.75, len(attacks) - 0.25),
             ylim=(0, 1.25 * max(bar.high for bar in row if bar.n)))
    axes.set_xticks(range(len(attacks)), attacks, rotation=25, ha="right", rotation_mode="anchor")
    axes.grid(color="0.9", axis="y")
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", loc="upper left", ncols=len(objectives), handlelength=3,
                title="number above a bar: images", title_fontsize="x-small")
    _save(figure, path)
    atomic.write_csv(Path(path).with_suffix(".csv"), Bar._fields, row)


@_plain
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
    # So that no change is grey, and the largest one black or white.
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


@_plain
def tiles(path: str | os.PathLike, images: np.ndarray, texts: Sequence[Sequence[str]], title: str
          ) -> None:
    """Draws images in rows and columns, a text of a few lines above each.

    Args:
      path: PNG file to write.
      images: float [rows, columns, height, width, 1 or 3], network inputs in [-0.5, 0.5].
      texts: [rows, columns].
      title: above the picture.
    """
    rows, columns = images.shape[:2]
    figure, grid = _figure(1.3 * columns, 0.9 + 1.8 * rows, rows, columns)
    for axes, image, text in zip(np.ravel(grid), images.reshape(-1, *images.shape[2:]), np.ravel(texts),
                                 strict=True):
        _draw_image(axes, image)
        axes.set_title(text, fontsize="small")
    figure.suptitle(title)
    _save(figure, path)


@_plain
def scatter(path: str | os.PathLike, row: Sequence[Cloud], title: str = "", *,
            numbers: bool = False) -> None:
    """Draws points of the plane side by side, coloured by class; crosses are adversarial images.

    Args:
      path: PNG file to write.
      row: the panels. Up to ten classes stand as numbers above the median of their normal points.
      title: above the picture.
      numbers: whether to write what is drawn to the same name with the suffix .csv, too.
    """
    row = [Cloud(cloud.title, np.asarray(cloud.points), np.asarray(cloud.classes).astype(int),
                 np.zeros(len(cloud.classes), bool) if cloud.is_adversarial is None else
                 np.asarray(cloud.is_adversarial).astype(bool)) for cloud in row]
    figure, grid = _figure(1.2 + 4.4 * len(row), 4.3, 1, len(row))
    # Over all panels, or a class would have one colour here and another there.
    classes = np.unique(np.concatenate([cloud.classes for cloud in row]))
    colours = _class_colours(classes.max(initial=0) + 1)
    for axes, cloud in zip(np.atleast_1d(grid).ravel(), row, strict=True):
        _draw_cloud(axes, cloud, colours)
    _class_legend(axes, classes, colours, any(cloud.is_adversarial.any() for cloud in row))
    figure.suptitle(title)
    _save(figure, path, palette=True)
    if numbers:
        atomic.write_csv(
            Path(path).with_suffix(".csv"), ("panel", "x", "y", "class", "is_adversarial"),
            ((cloud.title, *point, label, int(kind)) for cloud in row for point, label, kind in zip(
                cloud.points.tolist(), cloud.classes.tolist(), cloud.is_adversarial, strict=True)))


def _draw_cloud(axes, cloud, colours):
    from matplotlib import patheffects

    for kind, marker, size in ((False, "o", 9), (True, "x", 16)):
        shown = cloud.is_adversarial == kind
        axes.scatter(*cloud.points[shown].T, c=colours[cloud.classes[shown]], marker=marker, s=size,
                     linewidths=0.9 if kind else 0)
    if len(colours) <= _TAB10_CLASSES:  # colours alone do not tell classes apart in greyscale
        for label in np.unique(cloud.classes[~cloud.is_adversarial]):
            chosen = (cloud.classes == label) & ~cloud.is_adversarial
            axes.annotate(str(label), np.median(cloud.points[chosen], axis=0), (0, 4), ha="center",
                          textcoords="offset points", fontweight="bold",
                          path_effects=[patheffects.withStroke(linewidth=3, foreground="white")])
    axes.set(title=cloud.title, xlabel="t-SNE axis 1 (no unit)", ylabel="t-SNE axis 2 (no unit)",
             xticks=[], yticks=[])


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
    # Of min(): PCA has no more components than there are rows or columns.
    reduced = PCA(min(_TSNE_PCA, *features.shape), random_state=seed).fit_transform(features)
    # scikit-learn refuses a perplexity of n or more.
    perplexity = min(_TSNE_PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, random_state=seed).fit_transform(reduced).astype(float)


def _figure(width, height, rows=1, columns=1):
    """Figure on the Agg canvas; axes as one object, or as an array [rows, columns]."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, grid[0, 0] if rows == columns == 1 else grid


def _save(figure, path, *, palette=False):
    """Writes the PNG file; with `palette` in 256 colours, a third of the size of many small marks."""
    with atomic.atomic_path(path) as temporary:
        # Tight: the legend under a square panel is more than the layout has reckoned with.
        figure.savefig(temporary, format="png", dpi=_DPI, bbox_inches="tight")
        if palette:
            from PIL import Image

            with Image.open(temporary) as picture:
                # RGB first: Pillow's median cut knows no alpha.
                reduced = picture.convert("RGB").quantize(256)
            reduced.save(temporary, format="png")


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


def _class_legend(axes, classes, colours, any_adversarial):
    """Colour of each class (a hundred would not fit: then of about ten), then the markers."""
    from matplotlib.lines import Line2D

    shown = classes[:: -(-len(classes) // _TAB10_CLASSES)] if len(classes) else classes
    handles = [Line2D([], [], color=colours[c], marker="o", linestyle="", label=f"class {c}")
               for c in shown]
    if any_adversarial:
        handles += [Line2D([], [], color="0.3", marker=marker, linestyle="", label=label)
                    for marker, label in (("o", "normal"), ("x", "adversarial"))]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small",
                frameon=False)

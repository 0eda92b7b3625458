"""Pictures of runtime masking and cleansing: accuracy over a stream, and the neighbours of queries."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.success import share
from figures import drawing
from files import atomic

# More points than a picture has pixels say no more.
_MOST_POINTS = 200
MOST_QUERIES = 5
# By number of the stream in points.npz.
STREAM_TITLES = ("clean images", "attacked images")
_NEAREST = ("query", "true", "answered", "nearest", "label", "predicted", "is_clean")


class Query(NamedTuple):
    """An image that was answered, and its k nearest rows of the augmented set, the nearest first.

    `image` float [h, w, c] and `rows` float [k, h, w, c] are network inputs in [-0.5, 0.5]; `label` is
    its true class, `answered` what the defender said; of the rows int [k] are the true classes and what
    the network says, bool [k] is whether they are training images as they are, not attacked ones.
    """

    image: np.ndarray
    label: int
    answered: int
    rows: np.ndarray
    row_labels: np.ndarray
    row_predicted: np.ndarray
    row_is_clean: np.ndarray


def stream_panel(title: str, runs: Mapping[str, np.ndarray], names: Sequence[str] = ()
                 ) -> drawing.Panel:
    """Accuracy (%) of the first 1, 2, ... points of a stream.

    Args:
      title: above the panel.
      runs: name of the curve → which answers are right, bool [n] in order of the points. The first has
        its 95 % interval as thin lines, too.
      names: of all curves of a picture, whose order gives them their colours; none: those of `runs`.
    """
    drawn, names = [], list(names or runs)
    for name, right in runs.items():
        right = np.asarray(right, bool)
        points = np.linspace(1, len(right), min(len(right), _MOST_POINTS)).round().astype(int)
        accuracy = 100 * np.cumsum(right)[points - 1] / points
        colour, marker = drawing.LINE_STYLE[names.index(name) % len(drawing.LINE_STYLE)]
        drawn.append(drawing.Curve(name, points, accuracy, colour, marker))
        if len(drawn) == 1:
            bounds = np.array([share(right[:point])[1:3] for point in points]).reshape(-1, 2)
            drawn += [drawing.Curve(f"{name}, 95 % {side}", points, 100 * bound, colour, "", ":", 0.9)
                      for side, bound in zip(("from", "to"), bounds.T, strict=True)]
    return drawing.Panel(title, "points answered", "accuracy so far, %", drawn)


def draw_stream(path: str | os.PathLike, title: str,
                by_stream: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Draws `stream_panel` of streams side by side, their numbers beside the picture.

    Args:
      path: PNG file to write; the numbers go to the same name with the suffix .csv.
      title: above the picture.
      by_stream: title of the stream → `runs` of its panel.
    """
    names = list(dict.fromkeys(name for runs in by_stream.values() for name in runs))
    drawing.panels(path, [stream_panel(name, runs, names) for name, runs in by_stream.items()], title)


def draw_nearest(path: str | os.PathLike, queries: Sequence[Query], title: str) -> bool:
    """Draws queries one below the other, each left of its nearest rows, and writes their classes.

    Args:
      path: PNG file to write; the classes go to the same name with the suffix .csv.
      queries: with the same number of rows each; the first five are drawn.
      title: above the picture.

    Returns:
      Whether there was something to draw: a query, and images of 1 or 3 channels.
    """
    queries = queries[:MOST_QUERIES]
    if not queries or queries[0].image.shape[-1] not in (1, 3):
        return False
    drawing.tiles(path, np.array([[query.image, *query.rows] for query in queries]),
                  [[f"query\ntrue {query.label}\nanswered {query.answered}",
                    *(f"{'clean' if is_clean else 'attacked'}\nlabel {label}\npredicted {predicted}"
                      for label, predicted, is_clean in _rows(query))] for query in queries], title)
    atomic.write_csv(Path(path).with_suffix(".csv"), _NEAREST, (
        (number, query.label, query.answered, rank, *row) for number, query in enumerate(queries, 1)
        for rank, row in enumerate(_rows(query), 1)))
    return True


def _rows(query):
    """(label, predicted, 1 for clean or 0) of each row."""
    return zip(query.row_labels, query.row_predicted, np.asarray(query.row_is_clean, int), strict=True)

"""Accuracy against the number of restarts."""

from collections.abc import Mapping

import numpy as np

from evaluation.restart_curve import RestartCurve
from figures import drawing

# Of one eps after the other.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# More points than a picture has pixels say no more.
_MOST_POINTS = 200


def panel(curves: Mapping[str, RestartCurve]) -> drawing.Panel:
    """Worst-case accuracy (%) after 1, 2, ... restarts of each curve, its interval as thin lines."""
    drawn = []
    for number, (name, curve) in enumerate(curves.items()):
        restarts = np.unique(np.geomspace(1, curve.num_restarts, _MOST_POINTS).astype(int))
        values = 100 * np.array([curve.accuracy(r)[:3] for r in restarts])
        colour = _COLOURS[number % len(_COLOURS)]
        drawn += [drawing.Curve(f"{name}{what}", restarts, values[:, column], colour, marker, line)
                  for column, (what, marker, line) in enumerate(
                      ((" accuracy", "o", "-"), (" lower bound", "", ":"), (" upper bound", "", ":")))]
    return drawing.Panel("", "restarts", "accuracy, %", drawn, log_x=True)

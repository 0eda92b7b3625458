"""What attackers get out of a detector, against eps: those who know it beside those who do not."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from defenses import SCORES
from figures import drawing
from files.names import ALL_SCORES

# Beside all scores at once the one that decides by default.
DRAWN = ("k_density", ALL_SCORES)
# attacker → (in words, (colour, marker)).
_ATTACKERS = {"oblivious": ("knows no detector", drawing.LINE_STYLE[2]),
              "adaptive": ("knows the detector", drawing.LINE_STYLE[4])}
# Of nominal false refusal rates, the laxest first.
_LINES = ("-", "--", ":", "-.")
_XLABELS = {"linf": "eps (largest change of a pixel, range 1)", "l2": "eps (L2 norm of the change)"}


def drawings(found: Mapping[str, Sequence[Mapping[str, Any]]], networks: str
             ) -> dict[str, Callable[[Any], None]]:
    """Per norm of budgets the figure `sr_curve_<norm>`: its name → what draws it to a path.

    Args:
      found: tag of the network → rows of `evaluation.attackers.rows`.
      networks: what stands in the titles for data set and network.
    """
    norms = dict.fromkeys(row["norm"] for rows in found.values() for row in rows)
    return {f"sr_curve_{norm}": partial(
        drawing.panels, row=panels(found, norm),
        title=f"images answered wrongly, of all, under the worst attack within eps\n{networks}")
        for norm in norms}


def panels(found: Mapping[str, Sequence[Mapping[str, Any]]], norm: str) -> list[drawing.Panel]:
    """Success (%) against eps, per network and score of DRAWN: colours tell the attacker, lines T.

    Args:
      found: as of `drawings`.
      norm: of the budgets.
    """
    row = []
    for tag, score in ((tag, score) for tag in found for score in DRAWN):
        chosen = [r for r in found[tag] if (r["norm"], r["score"]) == (norm, score)]
        curves = _curves(chosen)
        if curves:
            name = SCORES[score].title if score in SCORES else "all scores at once"
            # A missing curve reads like a good one.
            known = any(r["attacker"] == "adaptive" for r in chosen)
            row.append(drawing.Panel(
                f"{tag}, {name}" + ("" if known else ": oblivious only"), _XLABELS[norm],
                "answered wrongly (%)", curves))
    return row


def _curves(rows):
    rates = sorted({row["rate"] for row in rows}, reverse=True)
    curves = []
    for attacker, (words, style) in _ATTACKERS.items():
        for number, rate in enumerate(rates):
            of = sorted((row["eps"], 100 * row["success"]["value"]) for row in rows
                        if (row["attacker"], row["rate"]) == (attacker, rate))
            if of:
                last, reached = of[-1]
                # Short of 100 % the curve ends where nobody tried on, which is no ceiling.
                ends = "" if reached == 100 else f", tried to {last:.3g}"
                curves.append(drawing.Curve(f"{words}, T {100 * rate:g} %{ends}", *np.array(of).T,
                                            *style, _LINES[number % len(_LINES)]))
    return curves

"""The best robust accuracy that is known, each with its source: what F15 compares a detector with.

A detector that leaves a share of images right and answered at eps would give, by exhaustive search, a
classifier that is right on as many at eps / 2 (Tramèr 2021, arXiv 2107.11630). A new entry is one line.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Known:
    """One published figure.

    Attributes:
      dataset: name of a data set.
      norm: "linf" or "l2".
      eps: of pixels in [0, 1].
      accuracy: under attack, a share.
      source: where it is published.
      year: when.
    """

    dataset: str
    norm: str
    eps: float
    accuracy: float
    source: str
    year: int


KNOWN = (
    Known("mnist", "linf", 0.1, 0.9777, "Gowal et al., arXiv 1810.12715, verified", 2018),
    Known("mnist", "linf", 0.3, 0.9298, "Zhang et al., arXiv 1906.06316, verified", 2019),
    Known("cifar10", "linf", 8 / 255, 0.74, "Bartoldson et al., arXiv 2404.09349, AutoAttack", 2024))


def best(dataset: str, norm: str, eps: float) -> Known | None:
    """What no classifier is known to exceed at an eps: the best at it or below; None where none is
    known."""
    below = [row for row in KNOWN if (row.dataset, row.norm) == (dataset, norm) and row.eps <= eps]
    # Of the largest eps the best: at any smaller one more may be right.
    return max(below, key=lambda row: (row.eps, row.accuracy), default=None)

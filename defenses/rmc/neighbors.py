"""Exact nearest rows of the augmented set, their split for an adaptation, and votes."""

from typing import NamedTuple

import numpy as np

# Rows whose differences from a query are held at a time: they stay in a core's cache.
_CHUNK_ROWS = 8192
# Shares of the authors' code: of the neighbours the nearest, of these and of what calibrates those that
# validate.
_TOP, _VALIDATION, _CALIBRATION_VALIDATION = 0.2, 0.25, 0.125
# Fewer neighbours have no two nearest ones that could be split.
FEWEST = 10


class Split(NamedTuple):
    """Rows of the augmented set, int [n] each: those that are fitted, those that say when to stop."""

    train: np.ndarray
    validation: np.ndarray


def nearest(features: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """The k rows of `features` nearest to `query` in L2, nearest first; of equal distances the earlier.

    Args:
      features: float32 [M, d].
      query: float32 [d].
      k: from 1 to M.

    Returns:
      int64 [k].
    """
    # Differs from the original: its argsort is not stable, so that ties fall as they may.
    squared = np.empty(len(features), np.float32)
    for start in range(0, len(features), _CHUNK_ROWS):
        # Differences first: |a|² + |b|² − 2ab in float32 would swap rows that are almost as near.
        difference = features[start:start + _CHUNK_ROWS] - query
        np.einsum("ij,ij->i", difference, difference, out=squared[start:start + _CHUNK_ROWS])
    # Float32 sums of d terms err by less than this share: no row that belongs here is left out.
    slack = 2 * (len(query) + 5) * np.finfo(np.float32).eps
    close = np.flatnonzero(squared <= np.partition(squared, k - 1)[k - 1] * (1 + slack))
    difference = features[close].astype(np.float64) - query
    return close[np.argsort((difference * difference).sum(axis=1), kind="stable")[:k]]


def num_top(k: int) -> int:
    """How many of k neighbours are the nearest ones, of which some validate."""
    return int(_TOP * k)


def split(neighbors: np.ndarray, permutation: np.ndarray) -> Split:
    """Splits neighbours for the adaptation.

    Args:
      neighbors: int [k], nearest first.
      permutation: of `num_top(k)` numbers; the first quarter of them validates.
    """
    top, rest = neighbors[:len(permutation)], neighbors[len(permutation):]
    number = int(np.ceil(_VALIDATION * len(top)))
    return Split(np.concatenate([top[permutation[number:]], rest]), top[permutation[:number]])


def split_calibration(drawn: np.ndarray, permutation: np.ndarray) -> Split:
    """Splits rows that were drawn at random, int [k], by a permutation of k numbers."""
    number = int(np.ceil(_CALIBRATION_VALIDATION * len(drawn)))
    return Split(drawn[permutation[number:]], drawn[permutation[:number]])


def vote(labels: np.ndarray, num_classes: int) -> int:
    """The class of most labels int [k], each counted alike; of equal counts the smallest."""
    return int(np.bincount(labels, minlength=num_classes).argmax())

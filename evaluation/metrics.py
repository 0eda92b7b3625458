"""How well a score tells normal from adversarial images, with bootstrap intervals.

Normal images are the positive class throughout: the true positive rate is the share of normal images
that are accepted, the false positive rate the share of adversarial ones that are. All resamples of
the bootstrap are taken at once, which scikit-learn's functions, called one by one, take minutes for.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from errors import InputError


def auc(scores_normal: np.ndarray, scores_adversarial: np.ndarray, *,
        matlab_ties: bool = False) -> float:
    """Area under the ROC curve of normal (positive) against adversarial images.

    Args:
      scores_normal: float [n], higher = more normal. NaN counts as highest, as in the original.
      scores_adversarial: float [m].
      matlab_ties: equal scores count against detection, not half: there the original's stable sort
        puts the normal image below.

    Returns:
      The share of pairs in which the normal image scores higher, equal scores counting half; NaN
      when a side is empty.

    Source: AUC.m of the original.
    """
    if not len(scores_normal) or not len(scores_adversarial):
        return math.nan
    targets, ranks = _targets_and_ranks(scores_normal, scores_adversarial)
    # Differs from the original: ties count half; there they count as its sort leaves them.
    normal, adversarial = _falling_counts(targets, 2 * ranks + ~targets if matlab_ties else ranks)
    # Twice the normal images above each adversarial one, in whole numbers.
    above = adversarial @ (2 * np.cumsum(normal) - normal)
    return float(above / (2 * len(scores_normal) * len(scores_adversarial)))


def roc(scores_normal: np.ndarray, scores_adversarial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve of normal (positive) against adversarial images.

    Args:
      scores_normal: float [n], n ≥ 1, higher = more normal. NaN counts as highest.
      scores_adversarial: float [m], m ≥ 1.

    Returns:
      fpr, tpr: float64 [points], from (0, 0) to (1, 1).
    """
    return tuple(np.concatenate([[0], np.cumsum(counts)]) / counts.sum() for counts in reversed(
        _falling_counts(*_targets_and_ranks(scores_normal, scores_adversarial))))


# By hand, and compared with scikit-learn in the tests: its import alone would take longer than all the
# rest of `detect.py --mode=auc` (benchmarks/detection.py).
def _targets_and_ranks(scores_normal, scores_adversarial):
    """True for normal and False for adversarial images; the scores' dense ranks, NaN highest."""
    scores = np.concatenate([scores_normal, scores_adversarial])
    # All NaN become one rank, the last: highest, as in the sort of Matlab.
    ranks = np.unique(scores, return_inverse=True)[1]
    return np.arange(len(scores)) < len(scores_normal), ranks


def _falling_counts(targets, ranks):
    """How many normal and how many adversarial images have each rank, the highest first."""
    size = ranks.max() + 1
    return [np.bincount(ranks[side], minlength=size)[::-1] for side in (targets, ~targets)]


# Of one score: area under ROC and precision-recall curve; adversarial images accepted where 95 % of
# the normal ones are; normal images accepted where 1 and 5 % of the adversarial ones are.
SEPARATION = ("auroc", "aupr", "fpr_at_95_tpr", "tpr_at_1_fpr", "tpr_at_5_fpr")
NUM_RESAMPLES = 1000
# Numbers of a resampled curve held at a time: 32 MB each.
_CHUNK_ELEMENTS = 4_000_000


class Estimate(NamedTuple):
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def separation(normal: np.ndarray, adversarial: np.ndarray, *, seed: int = 0,
               num_resamples: int = NUM_RESAMPLES,
               matlab_ties: bool = False) -> dict[str, Estimate]:
    """The figures of SEPARATION, whose intervals come from resampling the images.

    Args:
      normal: scores float [n], n ≥ 1, higher = more normal; NaN counts as highest.
      adversarial: float [n], of the same images attacked: an image is drawn with both its scores.
      seed: of the resampling.
      num_resamples: how many samples the intervals are taken from.
      matlab_ties: equal scores count against detection in the AUROC, as in `auc`.

    Returns:
      Name of SEPARATION → estimate; ties count half (AUROC), or as one threshold.

    Raises:
      InputError: no images, or not as many of one side as of the other.
    """
    if len(normal) != len(adversarial) or not len(normal):
        raise InputError("expected a normal and an adversarial score of each image. "
                         f"Received: {len(normal)} and {len(adversarial)} scores.")
    columns = {name: [] for name in SEPARATION}
    # Once for all resamples: drawing images again changes their weights, not their order.
    ranks = np.unique(np.concatenate([normal, adversarial]), return_inverse=True)[1]
    # Of equal scores the normal one lies below.
    unequal = 2 * ranks + (np.arange(len(ranks)) >= len(normal))
    for weights in _resamples(len(normal), num_resamples, seed, 2 * len(normal)):
        figures = _figures(weights, ranks)
        if matlab_ties:
            figures = _auroc(*_curve(weights, unequal)), *figures[1:]
        for name, values in zip(SEPARATION, figures, strict=True):
            columns[name].append(values)
    return {name: _estimate(np.concatenate(values)) for name, values in columns.items()}


def mean(values: np.ndarray, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Estimate:
    """Mean of float or bool [n], n ≥ 1, with its interval; arguments as `separation`."""
    values = np.asarray(values, np.float64)
    if not len(values):
        raise InputError("expected at least one value. Received: none.")
    return _estimate(np.concatenate([
        weights @ values / len(values)
        for weights in _resamples(len(values), num_resamples, seed, len(values))]))


def _resamples(num_images, num_resamples, seed, width) -> Iterator[np.ndarray]:
    """How often each image is drawn, float [b, num_images]: the very first row is each image once."""
    rng = np.random.default_rng(seed)
    # The figure itself and its resamples go through the same lines.
    yield np.ones((1, num_images))
    chunk = max(1, _CHUNK_ELEMENTS // max(width, num_images))
    for start in range(0, num_resamples, chunk):
        count = min(chunk, num_resamples - start)
        drawn = rng.integers(num_images, size=(count, num_images))
        # Each resample counts in a range of numbers of its own: one bincount for all of them.
        offsets = np.arange(count)[:, None] * num_images
        yield np.bincount((drawn + offsets).ravel(), minlength=count * num_images).reshape(
            count, num_images).astype(np.float64)


def _figures(weights, ranks):
    """The figures of SEPARATION [b] each; arguments as `_curve`."""
    tpr, fpr = _curve(weights, ranks)
    # As many images on one side as on the other: shares stand for counts.
    # Tiny, as a resample may draw no image above a threshold: 0/0 is to be 0 there.
    precision = tpr[:, 1:] / np.maximum(tpr[:, 1:] + fpr[:, 1:], np.finfo(float).tiny)
    # By steps, as scikit-learn's average precision: lines between the points would promise too much.
    aupr = (np.diff(tpr, axis=1) * precision).sum(axis=1)
    # Sums of whole numbers over n: a share of exactly 0.95 may fall short by rounding.
    slack = 0.1 / weights.shape[1]
    return (_auroc(tpr, fpr), aupr, np.where(tpr >= 0.95 - slack, fpr, 1.0).min(axis=1),
            *(np.where(fpr <= level + slack, tpr, 0.0).max(axis=1) for level in (0.01, 0.05)))


def _auroc(tpr, fpr):
    return (np.diff(fpr, axis=1) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(axis=1)


def _curve(weights, ranks):
    """TPR and FPR [b, points] of images weighted by rows of `weights` [b, n].

    `ranks` int [2n] are those of the normal scores, then of the adversarial ones.
    """
    num_images = weights.shape[1]
    order = np.argsort(-ranks, kind="stable")
    # A threshold lies behind the last of equal scores.
    ends = np.flatnonzero(np.diff(ranks[order], append=-1))
    tpr, fpr = (_accepted(weights[:, order % num_images] * side, ends) / num_images
                for side in (order < num_images, order >= num_images))
    return tpr, fpr


def _accepted(weights, ends):
    """Sum of weights [b, m], in falling order of score, up to each threshold; 0 in front."""
    total = np.cumsum(weights, axis=1)[:, ends]
    return np.concatenate([np.zeros((len(weights), 1)), total], axis=1)


def _estimate(values):
    """Of a figure [1 + resamples], the first row being that of the images themselves."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Estimate(float(values[0]), float(low), float(high))

"""Accept or refuse: thresholds on scores that are higher for images that look more normal.

The paper's thresholding test (arXiv 1706.00633, section 3.2): answer where the score reaches the
threshold T, else say NOT SURE.
"""

import numpy as np

from errors import InputError


def fit(scores: np.ndarray, false_refusal_rate: float) -> float:
    """The threshold that refuses this share of normal images.

    Args:
      scores: float [n] of normal images the detector has not been made from, higher = more normal.
      false_refusal_rate: share of them that may be refused, in [0, 1).

    Returns:
      T, one of the scores: at most a share `false_refusal_rate` of them lies below it, and with the
      next larger score in its place more than that would (unless scores are equal).

    Raises:
      InputError: no scores, or one that is NaN; a rate out of range.
    """
    if not 0 <= false_refusal_rate < 1:
        raise InputError("false_refusal_rate must lie in [0, 1). "
                         f"Received: false_refusal_rate={false_refusal_rate}.")
    if not len(scores) or np.isnan(scores).any():
        raise InputError("expected at least one score, and none that is NaN. Received: "
                         f"{len(scores)} scores, {int(np.isnan(scores).sum())} of them NaN.")
    # Of n scores in order, the k-th (from 0) has k below it.
    # Rounded down: at most the rate is refused.
    return float(np.sort(scores)[int(np.floor(false_refusal_rate * len(scores)))])


def accepts(scores: np.ndarray, threshold: float) -> np.ndarray:
    """bool [n]: whether each image is answered; NaN is refused.

    Args:
      scores: float [n], higher = more normal.
      threshold: T of `fit`.
    """
    return np.asarray(scores) >= threshold

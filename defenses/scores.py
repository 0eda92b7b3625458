"""The scores of the papers: formulas of NumPy arrays, higher is more normal.

Above what a row of `defenses.SCORES` names: each takes the outputs of n images and the reference of a
detector. Below the mathematics, from logits.
"""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from defenses import SCORES
from defenses.kernels import Kernels
from errors import InputError
from files.attack_results import Outputs

# Smallest σ² of the kernel non-ME: below lies the rounding of non-ME in float32, squared.
VARIANCE_FLOOR = 1e-12


@dataclasses.dataclass(frozen=True)
class Reference:
    """What images are compared with: what training images are like.

    Attributes:
      kernels: training features by class.
      non_me_variance: σ² of the kernel non-ME, of `non_me_variance`; None where it is not known.
      eta: η > 0 of the kernel non-ME.
    """

    kernels: Kernels
    non_me_variance: float | None = None
    eta: float = 1.0


def score(names: Iterable[str], outputs: Outputs, reference: Reference) -> dict[str, np.ndarray]:
    """Scores of images.

    Args:
      names: of SCORES.
      outputs: of n images.
      reference: of the network.

    Returns:
      Name → float64 [n].

    Raises:
      InputError: a class is none of the kernels', features and kernels differ in width, or a score
        needs what the reference does not hold.
    """
    # By name: the rows must be readable without NumPy, so they cannot hold the functions.
    return {name: globals()[SCORES[name].function](outputs, reference) for name in names}


def confidence_score(outputs: Outputs, reference: Reference) -> np.ndarray:
    """Largest probability."""
    return outputs.confidence


def non_me_score(outputs: Outputs, reference: Reference) -> np.ndarray:
    """Non-maximal entropy; NaN where the outputs hold it."""
    return outputs.non_me


def kernel_non_me_score(outputs: Outputs, reference: Reference) -> np.ndarray:
    """How near the non-ME is to that of perfect RCE training, in [0, 1]."""
    if reference.non_me_variance is None:
        raise InputError("expected the variance of the non-ME of training images, which `python "
                         "others.py --mode=kernel_para` tells. Received: none.")
    return kernel_non_me(outputs.non_me, reference.kernels.num_classes, reference.non_me_variance,
                         reference.eta)


def j_score_score(outputs: Outputs, reference: Reference) -> np.ndarray:
    """Confidence times kernel non-ME, in [0, 1]."""
    return j_score(outputs.confidence, kernel_non_me_score(outputs, reference))


def k_density_score(outputs: Outputs, reference: Reference) -> np.ndarray:
    """Logarithm of the K-density of the predicted class, which orders like the density but does not
    underflow."""
    return reference.kernels.log_density(outputs.features, outputs.predicted)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax.

    Args:
      logits: float [n, num_classes], finite, of any size; sign-adjusted (−Z for RCE).

    Returns:
      float64 [n, num_classes], ≤ 0, finite for finite logits.
    """
    logits = np.asarray(logits, np.float64)
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
    # The difference of two finite logits can overflow to -inf, whose probability 0 times its
    # logarithm would be NaN.
    shifted = np.maximum(shifted, np.finfo(np.float64).min / 2)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def confidence(logits: np.ndarray) -> np.ndarray:
    """Largest softmax probability.

    Args:
      logits: float [n, num_classes], finite; sign-adjusted (−Z for RCE).

    Returns:
      float64 [n] in [1/num_classes, 1].
    """
    # In float64: in float32 every margin above 17 has confidence 1, and ties decide the AUC.
    return np.exp(log_probabilities(logits).max(axis=1))


def non_me(logits: np.ndarray) -> np.ndarray:
    """Non-maximal entropy −Σ_{i≠m} p̂_i log p̂_i, p̂ the softmax without its largest element m.

    Args:
      logits: float [n, num_classes], finite, num_classes ≥ 2; sign-adjusted (−Z for RCE). Of
        several largest elements, the first is left out.

    Returns:
      float64 [n] in [0, log(num_classes − 1)], the upper end where all others are equal. After RCE
      training, higher means more normal.

    Raises:
      InputError: logits is not a matrix of at least two columns.
    """
    # Differs from the original: from the logits, so that it stays finite where a probability
    # underflows to 0; equal elsewhere.
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"expected logits of shape [n, at least 2 classes]. "
                         f"Received: shape={logits.shape}.")
    num_rows, num_classes = logits.shape
    # A mask by argmax, not by equality: of tied maxima exactly one goes, and rows keep one length.
    others = np.ones(logits.shape, bool)
    others[np.arange(num_rows), logits.argmax(axis=1)] = False
    log_p = log_probabilities(logits[others].reshape(num_rows, num_classes - 1))
    # The sum of rounded terms may leave the range by its last digit.
    return np.clip(-(np.exp(log_p) * log_p).sum(axis=1), 0, math.log(num_classes - 1))


def non_me_variance(non_me_values: np.ndarray, num_classes: int) -> float:
    """σ² of the kernel non-ME: the mean square of (non-ME − log(L − 1)) over training images.

    Args:
      non_me_values: float [n], n ≥ 1, of the training images.
      num_classes: L.

    Source: arXiv 1706.00633v1.
    """
    return float(np.mean(np.square(non_me_values - math.log(num_classes - 1))))


def kernel_non_me(non_me_values: np.ndarray, num_classes: int, variance: float,
                  eta: float = 1.0) -> np.ndarray:
    """Kernel non-ME exp(−(non-ME − μ)²/(ησ²)) with μ = log(L − 1), the value after perfect RCE.

    Args:
      non_me_values: float [n], of `non_me`.
      num_classes: L.
      variance: σ² ≥ 0, of `non_me_variance`; 0 where all training images are at μ, as of two classes.
      eta: η > 0; the larger, the less a low non-ME counts.

    Returns:
      float64 [n] in [0, 1].

    Source: arXiv 1706.00633v1.
    """
    deviation = np.asarray(non_me_values, np.float64) - math.log(num_classes - 1)
    return np.exp(-np.square(deviation) / (eta * max(variance, VARIANCE_FLOOR)))


def j_score(confidences: np.ndarray, kernel_non_me_values: np.ndarray) -> np.ndarray:
    """J-score, confidence times kernel non-ME: float64 [n] in [0, 1] (arXiv 1706.00633v1)."""
    return np.asarray(confidences, np.float64) * kernel_non_me_values

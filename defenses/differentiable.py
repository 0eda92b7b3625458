"""The scores as an attack can climb them: in TensorFlow, without the ends where a score has no slope.

Each form is a strictly increasing function of its score, so that thresholds and directions are the
same; but it has a gradient where the score itself saturates (a probability near 1), drowns in rounding
(non-ME of an RCE network) or underflows (densities). Everything computes in the type of its input.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from defenses import SCORES
from defenses.detector import Detector
from defenses.scores import VARIANCE_FLOOR
from errors import InputError

# Below this deficit an image passes any threshold on the non-ME: the logarithm need not go on.
DEFICIT_FLOOR = 1e-12
# Instead of −∞, which no difference survives.
_LOWEST = -1e30
# The largest double below 1 is this far from it: a threshold of 1 is one that only such images reach.
_HALF_ULP = 2.0**-53


def log_odds(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """log p_c − log(1 − p_c) [n] of classes c int [n], of logits [n, L]."""
    is_own, own = _own(logits, classes)
    others = tf.where(is_own, tf.constant(float("-inf"), logits.dtype), logits)
    return own - tf.reduce_logsumexp(others, axis=1)


def deficit(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """D = log(L − 1) − non-ME ≥ 0 [n], the KL divergence of the other classes' probabilities from
    uniform.

    Args:
      logits: [n, L].
      classes: int [n], those left out.
    """
    is_own, _ = _own(logits, classes)
    count = logits.shape[-1] - 1
    zero = tf.zeros([], logits.dtype)
    # The logits of the others around their mean, that of the class itself as 0: it adds nothing.
    mean = tf.reduce_sum(tf.where(is_own, zero, logits), axis=1, keepdims=True) / count
    a = tf.where(is_own, zero, logits - mean)
    q = tf.where(is_own, zero, tf.exp(a - _largest(a, is_own)))
    q /= tf.reduce_sum(q, axis=1, keepdims=True)
    # Where all are nearly equal D is a difference of nearly equal numbers: −Σ q log q has lost it below
    # 1e-6 in float32, while thresholds of RCE networks lie at 1e-5.
    near = tf.reduce_max(tf.abs(a), axis=1) < 1
    # Inside, or its gradient would be NaN where the other branch is taken.
    small = tf.where(near[:, None], a, zero)
    log_mean_near = tf.math.log1p(tf.reduce_sum(
        tf.where(is_own, zero, tf.math.expm1(small)), axis=1) / count)
    others = tf.where(is_own, tf.constant(float("-inf"), logits.dtype), a)
    log_mean_far = tf.reduce_logsumexp(others, axis=1) - math.log(count)
    return tf.maximum(tf.reduce_sum(q * a, axis=1) - tf.where(near, log_mean_near, log_mean_far), zero)


def log_j(logits: tf.Tensor, classes: tf.Tensor, variance: float, eta: float) -> tf.Tensor:
    """Logarithm of the J-score for classes int [n]: float [n] ≤ 0, of logits [n, L].

    Args:
      logits: [n, L].
      classes: int [n].
      variance: σ² of the kernel non-ME.
      eta: η of it.
    """
    return -tf.nn.softplus(-log_odds(logits, classes)) - tf.square(deficit(logits, classes)) / (
        eta * max(variance, VARIANCE_FLOOR))


def log_density(kernels: np.ndarray, bandwidth: float) -> Callable:
    """The logarithm of the K-density as a function of features [n, d] and classes int [n].

    Args:
      kernels: float [num_kernels, d, L], all that the detector has.
      bandwidth: σ².
    """
    # By class first: the kernels of one are then a block for tf.gather.
    by_class = np.ascontiguousarray(np.transpose(kernels, (2, 0, 1)))
    log_count = math.log(len(kernels))

    @tf.custom_gradient
    def density(features, own):
        # Differences, not ‖f‖² − 2fk + ‖k‖²: its terms would cancel in float32.
        exponents = -tf.reduce_sum(
            tf.math.squared_difference(features[:, None], own), axis=2) / bandwidth
        value = tf.reduce_logsumexp(exponents, axis=1) - log_count

        def gradient(upstream):
            # (2/σ²) Σ w (k − f), w the softmax: one product, where the tape would go over all
            # differences again.
            weights = tf.nn.softmax(exponents, axis=1)
            mean = tf.linalg.matvec(own, weights, transpose_a=True)
            return (upstream * 2 / bandwidth)[:, None] * (mean - features), None

        return value, gradient

    def of_classes(features, classes):
        return density(features, tf.gather(tf.constant(by_class, features.dtype), classes))

    return of_classes


def _own(logits, classes):
    """Where each row's class is, bool [n, L], and its logit [n]."""
    is_own = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return is_own, tf.reduce_sum(tf.where(is_own, logits, tf.zeros([], logits.dtype)), axis=1)


def _largest(a, is_own):
    """The largest of the others [n, 1]; without a gradient, as it cancels."""
    lowest = tf.constant(float("-inf"), a.dtype)
    return tf.stop_gradient(tf.reduce_max(tf.where(is_own, lowest, a), axis=1, keepdims=True))


# --- What rows of SCORES name: the form of a detector's score, and that of its threshold ---


def confidence_form(detector: Detector) -> Callable:
    """The log-odds, as a function of logits, features and classes."""
    return lambda logits, features, classes: log_odds(logits, classes)


def confidence_threshold(detector: Detector, threshold: float) -> float:
    """T as log-odds."""
    return math.log(threshold) - math.log(max(1 - threshold, _HALF_ULP))


def non_me_form(detector: Detector) -> Callable:
    """−log of the deficit, as `confidence_form`."""
    return lambda logits, features, classes: -tf.math.log(deficit(logits, classes) + DEFICIT_FLOOR)


def non_me_threshold(detector: Detector, threshold: float) -> float:
    """T as −log of a deficit."""
    most = math.log(detector.reference.kernels.num_classes - 1)
    return -math.log(max(most - threshold, 0.0) + DEFICIT_FLOOR)


def j_score_form(detector: Detector) -> Callable:
    """The logarithm, as `confidence_form`."""
    reference = detector.reference
    return lambda logits, features, classes: log_j(
        logits, classes, reference.non_me_variance, reference.eta)


def log_threshold(detector: Detector, threshold: float) -> float:
    """log T."""
    return math.log(threshold) if threshold > 0 else _LOWEST


def k_density_form(detector: Detector) -> Callable:
    """The log-density, as `confidence_form`."""
    kernels = detector.reference.kernels
    density = log_density(kernels.features, kernels.bandwidth)
    return lambda logits, features, classes: density(features, classes)


def same_threshold(detector: Detector, threshold: float) -> float:
    """T of a score that is its own form."""
    return threshold


def aim(detector: Detector, against: Sequence[str], false_refusal_rate: float) -> Callable:
    """By how much images pass the thresholds of some scores.

    Args:
      detector: whose scores.
      against: names of its scores. One of the same order as another aims at that one. One that accepts
        every image is left out.
      false_refusal_rate: of its rates, that of the thresholds.

    Returns:
      A function of logits [n, L], features [n, d] and classes int [n] to slacks [n, scores]: ≥ 0 where
      the image is accepted, over the weight of the score.

    Raises:
      InputError: a score or rate that the detector was not fitted with.
    """
    forms = []
    for name in aimed_at(detector, against, false_refusal_rate):
        row = SCORES[name]
        threshold = globals()[row.form_of_threshold](
            detector, detector.threshold(name, false_refusal_rate))
        forms.append((globals()[row.form](detector), threshold, row.form_weight))

    def slacks(logits, features, classes):
        # As many columns as scores also where there are none.
        columns = [(form(logits, features, classes) - threshold) / weight
                   for form, threshold, weight in forms]
        return tf.stack(columns, axis=1) if columns else tf.zeros([logits.shape[0], 0], logits.dtype)

    return slacks


def aimed_at(detector: Detector, against: Sequence[str], false_refusal_rate: float) -> list[str]:
    """Of some scores those that are climbed: each order once, none that accepts every image."""
    names = []
    for name in against:
        if name not in detector.score_names:
            raise InputError(f"against must be all or scores of the detector, "
                             f"[{', '.join(detector.score_names)}]. Received: against={name!r}.")
        name = SCORES[name].same_order_as or name
        if name in detector.score_names and name not in names and not detector.accepts_everything(
                name, false_refusal_rate):
            names.append(name)
    return names

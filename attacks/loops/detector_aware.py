"""The white-box attack: a C&W search begun at a plain C&W result, against the K-density as well."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from attacks.loops.carlini import Numbers, carlini_search
from attacks.loops.search import Search
from errors import InputError

# Keeps the original's logarithm finite, and its gradient zero far from every kernel.
DENSITY_FLOOR = 1e-30
DENSITY_FORMS = ("log", "original")


def log_density_ratio(kernels: np.ndarray, density_medians: np.ndarray, bandwidth: float,
                      density_form: str) -> Callable:
    """r = log(median density of the target's class) − log(density of the features for that class).

    Args:
      kernels: float [num_kernels, d, L].
      density_medians: float [L], > 0.
      bandwidth: σ².
      density_form: "original": the density plus 1e-30, so r's gradient is exactly zero once every
        squared distance exceeds 104 σ², 40 for RCE and 400 for CE. "log": by logsumexp, with a
        gradient everywhere.

    Returns:
      A function of features [n, d] and target int32 [n] to r float32 [n].
    """
    if density_form not in DENSITY_FORMS:
        raise InputError(f"density_form must be one of [{', '.join(DENSITY_FORMS)}]. "
                         f"Received: density_form={density_form!r}.")
    # By class first: the kernels of a target are then one block for tf.gather.
    by_class = np.ascontiguousarray(np.transpose(kernels, (2, 0, 1)), np.float32)
    # The logarithm is taken in float64: a median density may underflow in float32.
    log_median = np.log(density_medians).astype(np.float32)
    log_count = np.float32(np.log(kernels.shape[0]))

    def ratio(features, target):
        # Of the TARGET's class, as in the original: a detector looks up the class that is predicted,
        # and after success that is the target.
        own = tf.gather(tf.constant(by_class), target)
        # Differences, not ‖f‖² − 2fk + ‖k‖²: its terms would cancel in float32.
        exponents = -tf.reduce_sum(tf.square(features[:, None] - own), axis=2) / bandwidth
        if density_form == "original":
            log_density = tf.math.log(DENSITY_FLOOR + tf.reduce_mean(tf.exp(exponents), axis=1))
        else:
            # Differs from the original: no floor, so a far image still has a slope to climb.
            log_density = tf.reduce_logsumexp(exponents, axis=1) - log_count
        return tf.gather(tf.constant(log_median), target) - log_density

    return ratio


def detector_aware(logits_and_features_fn: Callable, numbers: tuple[Numbers, Numbers],
                   log_ratio_fn: Callable, *, distance_from_clean: bool = False, **common) -> Search:
    """C&W, then C&W with r from its result, or from the clean image where there is none.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      numbers: of attack 1 and of attack 2.
      log_ratio_fn: of attack 2, from `log_density_ratio`.
      distance_from_clean: of attack 2.
      **common: compact and chunk of both.

    Returns:
      A search of two stages.
    """
    first = carlini_search(logits_and_features_fn, numbers[0], **common)
    return carlini_search(logits_and_features_fn, numbers[1], first=first, log_ratio_fn=log_ratio_fn,
                          distance_from_clean=distance_from_clean, **common)

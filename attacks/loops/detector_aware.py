"""The white-box attack: a C&W search begun at a plain C&W result, against the K-density as well."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from attacks.loops.carlini import carlini_search
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
    by_class = np.ascontiguousarray(np.transpose(kernels, (2, 0, 1)), np.float32)
    log_median = np.log(density_medians).astype(np.float32)
    log_count = np.float32(np.log(kernels.shape[0]))

    def ratio(features, target):
        own = tf.gather(tf.constant(by_class), target)
        exponents = -tf.reduce_sum(tf.square(features[:, None] - own), axis=2) / bandwidth
        if density_form == "original":
            log_density = tf.math.log(DENSITY_FLOOR + tf.reduce_mean(tf.exp(exponents), axis=1))
        else:
            log_density = tf.reduce_logsumexp(exponents, axis=1) - log_count
        return tf.gather(tf.constant(log_median), target) - log_density

    return ratio


def detector_aware(logits_and_features_fn: Callable, *, kernels: np.ndarray,
                   density_medians: np.ndarray, bandwidth: float, density_form: str,
                   kappa: tuple[float, float], num_steps: tuple[int, int],
                   learning_rate: tuple[float, float], num_search_steps: tuple[int, int],
                   initial_tradeoff: tuple[float, float], **common) -> Search:
    """C&W, then C&W with r from its result, or from the clean image where there is none.

    Pairs are (attack 1, attack 2); `common` goes to both (see `carlini_search`), but
    `distance_from_clean`, which is attack 2's.
    """
    first_pair, second_pair = (
        {"kappa": kappa[i], "num_steps": num_steps[i], "learning_rate": learning_rate[i],
         "num_search_steps": num_search_steps[i], "initial_tradeoff": initial_tradeoff[i]}
        for i in range(2))
    distance_from_clean = common.pop("distance_from_clean", False)
    first = carlini_search(logits_and_features_fn, **first_pair, **common)
    return carlini_search(
        logits_and_features_fn, first=first, distance_from_clean=distance_from_clean,
        log_ratio_fn=log_density_ratio(kernels, density_medians, bandwidth, density_form),
        **second_pair, **common)

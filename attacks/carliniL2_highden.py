"""White-box attack on the K-density; original: test_adv.py and attacks/carliniL2_specific.py."""

from collections.abc import Callable

import numpy as np

from attacks.loops.detector_aware import detector_aware
from attacks.loops.search import Search


def carliniL2_highden(logits_and_features_fn: Callable, *, kernels: np.ndarray,
                      density_medians: np.ndarray, bandwidth: float, density_form: str = "log",
                      kappa: tuple[float, float] = (0.0, 0.0),
                      num_steps: tuple[int, int] = (5_000, 10_000),
                      learning_rate: tuple[float, float] = (0.01, 0.01),
                      num_search_steps: tuple[int, int] = (3, 8),
                      initial_tradeoff: tuple[float, float] = (1.0, 1.0), **common) -> Search:
    """C&W, then C&W that also lifts the K-density of the target class to its median.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      kernels: float [num_kernels, d, L], the original's 100 per class.
      density_medians: float [L].
      bandwidth: σ² of the density.
      density_form: "log" or "original", see `loops/detector_aware.py`.
      kappa: confidence of attack 1 and attack 2; so the other pairs.
      num_steps: most Adam steps per search step.
      learning_rate: of Adam.
      num_search_steps: values of the tradeoff per image.
      initial_tradeoff: the first of them.
      **common: abort_group, distance_from_clean, clip_min, clip_max, compact and chunk of
        `carlini_search`.

    Returns:
      A search of two stages that takes x float32 [n, h, w, c] and target int32 [n]; its results
      hold "log_ratio" too.

    Source: Pang et al. 2018, arXiv 1706.00633, section 4.4, "white-box".
    """
    return detector_aware(
        logits_and_features_fn, kernels=kernels, density_medians=density_medians,
        bandwidth=bandwidth, density_form=density_form, kappa=kappa, num_steps=num_steps,
        learning_rate=learning_rate, num_search_steps=num_search_steps,
        initial_tradeoff=initial_tradeoff, **common)

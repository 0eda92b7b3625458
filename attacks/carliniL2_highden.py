"""White-box attack on the K-density; original: test_adv.py and attacks/carliniL2_specific.py."""

from collections.abc import Callable

import numpy as np

from attacks.loops.carlini import Numbers
from attacks.loops.detector_aware import detector_aware, log_density_ratio
from attacks.loops.search import SEARCH_CHUNK, Search


def carliniL2_highden(logits_and_features_fn: Callable, *, kernels: np.ndarray,
                      density_medians: np.ndarray, bandwidth: float, density_form: str = "log",
                      kappa: tuple[float, float] = (0.0, 0.0),
                      num_steps: tuple[int, int] = (5_000, 10_000),
                      learning_rate: tuple[float, float] = (0.01, 0.01),
                      num_search_steps: tuple[int, int] = (3, 8),
                      initial_tradeoff: tuple[float, float] = (1.0, 1.0),
                      distance_from_clean: bool = False, compact: bool = True,
                      chunk: int = SEARCH_CHUNK, **common) -> Search:
    """C&W, then C&W that also lifts the K-density of the target class to its median.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets.

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
      distance_from_clean: attack 2 measures distance from x, not from the result of attack 1.
      compact: see `Search`.
      chunk: rows per gradient.
      **common: what else `Numbers` takes: abort_group, clip_min, clip_max.

    Returns:
      A search of two stages that takes x float32 [n, h, w, c] and target int32 [n]; its results
      hold "log_ratio" too.

    Source: Pang et al. 2018, arXiv 1706.00633, section 4.4, "white-box".
    """
    numbers = tuple(
        Numbers(*of_stage, **common) for of_stage in zip(
            kappa, num_steps, learning_rate, num_search_steps, initial_tradeoff, strict=True))
    ratio = log_density_ratio(kernels, density_medians, bandwidth, density_form)
    return detector_aware(logits_and_features_fn, numbers, ratio,
                          distance_from_clean=distance_from_clean, compact=compact, chunk=chunk)

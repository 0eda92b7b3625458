"""White-box attack with confidence; original: test_adv.py and attacks/carliniL2_specific.py."""

from collections.abc import Callable

from attacks.carliniL2_highden import carliniL2_highden
from attacks.loops.search import Search


def carliniL2_specific(logits_and_features_fn: Callable, *,
                       kappa: tuple[float, float] = (5.0, 5.0),
                       num_search_steps: tuple[int, int] = (3, 9),
                       initial_tradeoff: tuple[float, float] = (10.0, 100.0),
                       **settings) -> Search:
    """`carliniL2_highden` with confidence 5 and larger tradeoffs; its other arguments and result."""
    return carliniL2_highden(logits_and_features_fn, kappa=kappa, num_search_steps=num_search_steps,
                             initial_tradeoff=initial_tradeoff, **settings)

"""C&W L2 with high confidence; original: test_adv.py, which runs attacks/carliniL2.py for it."""

from collections.abc import Callable

from attacks.carliniL2 import carliniL2
from attacks.loops.search import Search


def carliniL2_highcon(logits_and_features_fn: Callable, *, kappa: float = 10.0,
                      num_steps: int = 10_000, **settings) -> Search:
    """`carliniL2` with confidence 10 and 10,000 steps; its other arguments and result."""
    # The original never imports its own attacks/carliniL2_highcon.py, whose loss lacks the confidence:
    # the port follows what the flag does there.
    return carliniL2(logits_and_features_fn, kappa=kappa, num_steps=num_steps, **settings)

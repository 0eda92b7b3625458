"""C&W L2 attack (Carlini and Wagner 2017, arXiv 1608.04644); original: attacks/carliniL2.py."""

from collections.abc import Callable

from attacks.loops.carlini import Numbers, carlini_search
from attacks.loops.search import SEARCH_CHUNK, Search


def carliniL2(logits_and_features_fn: Callable, *, kappa: float = 0.0, num_steps: int = 10,
              learning_rate: float = 0.01, num_search_steps: int = 9,
              initial_tradeoff: float = 1.0, abort_group: int = 1, targeted: bool = True,
              continued: bool = False, clip_min: float = -0.5, clip_max: float = 0.5,
              compact: bool = True, chunk: int = SEARCH_CHUNK) -> Search:
    """The smallest L2 perturbation that makes the target class win.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      kappa: by how much its logit must win.
      num_steps: most Adam steps per search step; the original's 10 seldom suffice.
      learning_rate: of Adam.
      num_search_steps: values of the tradeoff between distance and margin per image.
      initial_tradeoff: the first of them.
      abort_group: images that share the abort rule; the original's are 10, ours 1.
      continued: a search step goes on from the one before, see `Numbers`.
      targeted: False leaves the class given as target instead of reaching it.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      compact: see `Search`.
      chunk: rows per gradient.

    Returns:
      A search that takes x float32 [n, h, w, c] and target int32 [n]; see `loops/carlini.py`.
    """
    numbers = Numbers(kappa, num_steps, learning_rate, num_search_steps, initial_tradeoff, abort_group,
                      targeted, clip_min, clip_max, continued)
    return carlini_search(logits_and_features_fn, numbers, compact=compact, chunk=chunk)

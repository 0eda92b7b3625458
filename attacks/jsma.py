"""Jacobian saliency map attack (Papernot et al. 2016, arXiv 1511.07528); original: attacks/jsma.py."""

from collections.abc import Callable

from attacks.loops.saliency import saliency_search
from attacks.loops.search import SEARCH_CHUNK, Search


def jsma(logits_fn: Callable, *, num_steps: int = 100, pair: bool = False, clip_min: float = -0.5,
         clip_max: float = 0.5, compact: bool = True, chunk: int = SEARCH_CHUNK) -> Search:
    """Raises one pixel by eps per step, or the best pair of two, until the target is predicted.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      num_steps: most steps per image.
      pair: the two unsaturated pixels with the best pair saliency, as in the paper; the original
        takes single pixels.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      compact: see `Search`.
      chunk: rows per gradient.

    Returns:
      A search that takes x float32 [n, h, w, c], target int32 [n] (the original's: the least likely
      class) and eps.
    """
    return saliency_search(logits_fn, num_steps=num_steps, pixels_per_step=2 if pair else 1,
                           clip_min=clip_min, clip_max=clip_max, compact=compact, chunk=chunk)

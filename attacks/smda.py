"""Saliency map difference attack, JSMA with the score t − o; original: attacks/smda.py."""

from collections.abc import Callable

from attacks.loops.saliency import saliency_search
from attacks.loops.search import SEARCH_CHUNK, Search


def smda(logits_fn: Callable, *, num_steps: int = 100, clip_min: float = -0.5,
         clip_max: float = 0.5, compact: bool = True, chunk: int = SEARCH_CHUNK) -> Search:
    """Raises the pixel of the largest t − o by eps per step, until the target is predicted.

    Its score and JSMA's choose the same pixel (see `loops/saliency.py`), here as in the golden runs of
    the original.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      num_steps: most steps per image.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      compact: see `Search`.
      chunk: rows per gradient.

    Returns:
      A search that takes x float32 [n, h, w, c], target int32 [n] and eps.
    """
    return saliency_search(logits_fn, num_steps=num_steps, pixels_per_step=1, clip_min=clip_min,
                           clip_max=clip_max, compact=compact, chunk=chunk)

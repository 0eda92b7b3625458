"""Basic iterative method (Kurakin et al. 2016, arXiv 1607.02533); original: attacks/bim.py."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.ascent import GRADIENT_CHUNK, ascend_from_clean, predicted_one_hot


def bim(logits_fn: Callable, x: tf.Tensor, *, eps: float | tf.Tensor, num_steps: int = 10,
        clip_min: float = -0.5, clip_max: float = 0.5,
        chunk: int = GRADIENT_CHUNK) -> tf.Tensor:
    """`num_steps` FGSM steps of eps / num_steps; the label is the prediction on the clean image.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      x: images float32 [n, h, w, c] in [clip_min, clip_max]; n static.
      eps: length of all steps together, scalar.
      num_steps: number of steps.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      Adversarial images like x, within eps of x in every pixel.
    """
    # Clipped to the box alone, as in the original: steps of eps / num_steps cannot leave the eps-ball.
    return ascend_from_clean(
        logits_fn, x, target_from=predicted_one_hot, total=eps, num_steps=num_steps,
        clip_min=clip_min, clip_max=clip_max, chunk=chunk)

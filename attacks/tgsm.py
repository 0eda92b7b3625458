"""Iterative least-likely class method (Kurakin et al. 2016, arXiv 1607.02533); original: tgsm.py."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.ascent import GRADIENT_CHUNK, ascend_from_clean


def tgsm(logits_fn: Callable, x: tf.Tensor, *, eps: float | tf.Tensor, num_steps: int = 10,
         clip_min: float = -0.5, clip_max: float = 0.5,
         chunk: int = GRADIENT_CHUNK) -> tf.Tensor:
    """`num_steps` steps of eps / num_steps towards the class least likely on the clean image.

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
    def least_likely(logits):
        # The original's "label" has the edges of the image box as its on and off values. The fused
        # cross entropy's gradient, softmax − label, takes it as it is; a cross entropy written out
        # in log softmax has another sign there, because this label sums to −4 for ten classes.
        return tf.one_hot(tf.argmin(logits, axis=-1), logits.shape[-1], on_value=clip_max,
                          off_value=clip_min, dtype=logits.dtype)

    return ascend_from_clean(logits_fn, x, target_from=least_likely, total=-eps, num_steps=num_steps,
        clip_min=clip_min, clip_max=clip_max, chunk=chunk)

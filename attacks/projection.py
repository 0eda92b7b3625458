"""An image that a generator has made of another, brought into the ball around it: the attack of learned
data-generation networks (attacks/dgn/)."""

import tensorflow as tf

from attacks.dgn.generate import project


def projection(x: tf.Tensor, *, eps: float | tf.Tensor, generated: tf.Tensor, clip_min: float = -0.5,
               clip_max: float = 0.5) -> tf.Tensor:
    """x + clip(generated − x, −eps, eps), clipped to the box.

    Args:
      x: images float32 [n, h, w, c] in [clip_min, clip_max].
      eps: largest change of a pixel, scalar.
      generated: like x, what the generator of each image's class has made of it.
      clip_min: lower edge of the box, of width 1.
      clip_max: upper edge of the box.

    Returns:
      Images like x.
    """
    # The generators' pixels are in [0, 1].
    found = project(x - clip_min, generated - clip_min, eps) + clip_min
    return tf.clip_by_value(found, clip_min, clip_max)

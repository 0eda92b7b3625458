"""Uniform noise, the baseline that knows nothing of the network; original: attack "random"."""

import tensorflow as tf

from attacks.loops.draws import uniform_directions


def random_noise(x: tf.Tensor, *, eps: float | tf.Tensor, seed: int, image_index: tf.Tensor,
                 draw: int | tf.Tensor = 0, clip_min: float = -0.5,
                 clip_max: float = 0.5) -> tf.Tensor:
    """x + uniform(−eps, eps), clipped.

    An image's noise is a function of `seed`, its `image_index` and `draw`, not of the batch.

    Args:
      x: images float32 [n, h, w, c] in [clip_min, clip_max].
      eps: largest change of a pixel, scalar.
      seed: of the noise.
      image_index: int32 [n], which image of the data set each row is.
      draw: number of the draw, for several noises per image.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.

    Returns:
      Noisy images like x.
    """
    directions = uniform_directions(x, seed, image_index, draw)
    return tf.clip_by_value(x + tf.cast(eps, x.dtype) * directions, clip_min, clip_max)

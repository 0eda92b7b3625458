"""Uniform noise, the baseline that knows nothing of the network; original: attack "random"."""

import tensorflow as tf


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


def uniform_directions(x: tf.Tensor, seed: int | tf.Tensor, image_index: tf.Tensor,
                       draw: int | tf.Tensor) -> tf.Tensor:
    """Uniform numbers of [−1, 1) like x, of each image a function of `seed`, its index and `draw`.

    Args:
      x: images float [n, h, w, c].
      seed: of the numbers.
      image_index: int32 [n], which image of the data set each row is.
      draw: number of the draw, of all or of each [n].
    """
    # The draw stands above the 32 bits of the index.
    index_and_draw = tf.cast(image_index, tf.int64) + 2**32 * tf.cast(draw, tf.int64)

    def numbers(index):
        # Stateless: a generator's state would depend on earlier draws, and be lost with a killed run.
        return tf.random.stateless_uniform(
            x.shape[1:], [tf.cast(seed, tf.int64), index], -1.0, 1.0, x.dtype)

    # A draw per image: one for the batch would give an image other noise in another batch.
    return tf.map_fn(numbers, index_and_draw, fn_output_signature=x.dtype)

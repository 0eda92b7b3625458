"""Random numbers of an attack: of each image and draw the same, whatever the batch."""

import tensorflow as tf


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

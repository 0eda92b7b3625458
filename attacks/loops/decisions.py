"""The moves of an attack that sees answers alone: to the boundary, along it, away from it.

An oracle is a function from images [n, h, w, c] to bool [n]: whether each is what is sought. Source:
Chen, Jordan and Wainwright 2020, arXiv 1904.02144; the authors' hsja.py.
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.balls import norm_of
from attacks.loops.draws import uniform_directions

# More queries than a direction ever has: each has a draw of its own.
_DRAWS_PER_STEP = 2**16
# Keeps the normal quantile of a uniform number finite.
_ALMOST_ONE = 1 - 1e-6
_TINY = 1e-20


def size_of(norm: str, change: tf.Tensor) -> tf.Tensor:
    """L2 or L-inf norm of each image [n, h, w, c], as [n, 1, 1, 1]."""
    return norm_of(change) if norm == "l2" else tf.reduce_max(
        tf.abs(change), axis=[1, 2, 3], keepdims=True)


def bisect(oracle: Callable, norm: str, clean: tf.Tensor, images: tf.Tensor, steps: int) -> tf.Tensor:
    """The way from images that the oracle takes to the clean ones, as far as it takes them.

    Args:
      oracle: see above.
      norm: "l2": along a line; "linf": all pixels that lie far off come nearer.
      clean: images float [n, h, w, c].
      images: like them.
      steps: halvings of the way.

    Returns:
      Images that the oracle takes, if it takes those given.
    """
    whole = size_of(norm, images - clean)

    def at(share):
        if norm == "l2":
            return clean + share * (images - clean)
        return tf.clip_by_value(images, clean - share * whole, clean + share * whole)

    def halve(number, low, high):
        middle = (low + high) / 2
        taken = tf.reshape(oracle(at(middle)), [-1, 1, 1, 1])
        return number + 1, tf.where(taken, low, middle), tf.where(taken, middle, high)

    _, _, high = tf.while_loop(lambda number, *_: number < steps, halve,
                               (0, tf.zeros_like(whole), tf.ones_like(whole)), parallel_iterations=1)
    # The whole way back as it was given: rounding might leave what is taken.
    return tf.where(high < 1, at(high), images)


def direction(oracle: Callable, norm: str, images: tf.Tensor, radius: tf.Tensor,
              num_queries: tf.Tensor, *, clip_min: float, clip_max: float, seed: int,
              image_index: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """The steepest way from the boundary into what the oracle takes, of norm 1, by random queries.

    Args:
      oracle: see above.
      norm: "l2" or "linf".
      images: on the boundary, float [n, h, w, c].
      radius: how far the queries lie from them, [n, 1, 1, 1].
      num_queries: int32 scalar.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      seed: of the queries.
      image_index: int32 [n], which image of the data set each row is.
      number: of the step, int32 scalar: each has draws of its own.
    """
    def query(index, taken_sum, way_sum, both_sum):
        draw = uniform_directions(images, seed, image_index, number * _DRAWS_PER_STEP + index)
        if norm == "l2":
            draw = tf.math.erfinv(tf.clip_by_value(draw, -_ALMOST_ONE, _ALMOST_ONE))
        asked = tf.clip_by_value(images + radius * draw / norm_of(draw), clip_min, clip_max)
        way = (asked - images) / radius
        taken = tf.reshape(2 * tf.cast(oracle(asked), images.dtype) - 1, [-1, 1, 1, 1])
        return index + 1, taken_sum + taken, way_sum + way, both_sum + taken * way

    nothing = tf.zeros_like(images)
    _, taken, way, both = tf.while_loop(
        lambda index, *_: index < num_queries, query,
        (0, nothing[:, :1, :1, :1], nothing, nothing), parallel_iterations=1)
    mean = taken / tf.cast(num_queries, images.dtype)
    # All alike: then the mean of the queries is all there is to go by. Else the mean is the baseline
    # that lowers the variance.
    slope = tf.where(tf.abs(mean) == 1, mean * way, both - mean * way)
    return tf.sign(slope) if norm == "linf" else slope / (norm_of(slope) + _TINY)


def leap(oracle: Callable, images: tf.Tensor, direction: tf.Tensor, length: tf.Tensor, most: int,
         clip_min: float, clip_max: float) -> tuple[tf.Tensor, tf.Tensor]:
    """A step along a direction, halved until the oracle takes its end.

    Args:
      oracle: see above.
      images: that it takes, float [n, h, w, c].
      direction: like them.
      length: of the first try, [n, 1, 1, 1].
      most: tries.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.

    Returns:
      The ends, and where none was taken the image; the number of tries int32 [n].
    """
    def attempt(number, ends, found, tries):
        end = tf.clip_by_value(images + direction * length / 2.0 ** tf.cast(number, images.dtype),
                               clip_min, clip_max)
        taken = oracle(end) & ~found
        return (number + 1, tf.where(tf.reshape(taken, [-1, 1, 1, 1]), end, ends), found | taken,
                tries + tf.cast(~found, tf.int32))

    rows = tf.zeros(images.shape[0], tf.int32)
    _, ends, _, tries = tf.while_loop(
        lambda number, _, found, __: (number < most) & ~tf.reduce_all(found), attempt,
        (0, images, rows > 0, rows), parallel_iterations=1)
    return ends, tries

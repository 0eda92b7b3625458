"""What attacks that imitate a normal image share: which one is nearest."""

from typing import NamedTuple

import tensorflow as tf


class Accepted(NamedTuple):
    """Normal images that a network classifies rightly and a detector answers.

    Attributes:
      images: float [m, h, w, c].
      logits: sign-adjusted [m, L].
      classes: int32 [m].
    """

    images: tf.Tensor
    logits: tf.Tensor
    classes: tf.Tensor


def distances(points: tf.Tensor, by_class: tf.Tensor) -> tf.Tensor:
    """Squared distance [n, L] of each point [n, d] to the nearest of each class [L, m, d]."""
    # A class at a time: all differences at once would be n · L · m · d numbers.
    nearest = tf.map_fn(lambda own: tf.reduce_min(squared(points, own), axis=1), by_class,
                        parallel_iterations=1)
    return tf.transpose(nearest)


def nearest(points: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Of the candidates [n, m, d] of each point [n, d] the nearest, [n, d]; carries no gradient."""
    distance = tf.reduce_sum(tf.math.squared_difference(points[:, None], own), axis=2)
    return tf.stop_gradient(tf.gather(own, tf.argmin(distance, axis=1), batch_dims=1))


def others_first(distance: tf.Tensor, classes: tf.Tensor, labels: tf.Tensor
                 ) -> tuple[tf.Tensor, tf.Tensor]:
    """Which of a bank are of another class than each point, the nearest first.

    Args:
      distance: of each point to each of the bank, [n, m].
      classes: of the bank, int32 [m].
      labels: of the points, int32 [n].

    Returns:
      Rows of the bank int32 [n, m], those of the own class last; how many are of others, int32 [n].
    """
    own = classes[None] == labels[:, None]
    distance = tf.where(own, tf.constant(float("inf"), distance.dtype), distance)
    return (tf.argsort(distance, axis=1, stable=True),
            tf.reduce_sum(tf.cast(~own, tf.int32), axis=1))


def squared(points: tf.Tensor, bank: tf.Tensor) -> tf.Tensor:
    """Squared distances [n, m] of points [n, d] to those of a bank [m, d]."""
    return tf.reduce_sum(tf.math.squared_difference(points[:, None], bank[None]), axis=2)

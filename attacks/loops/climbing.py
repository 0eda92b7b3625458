"""What PGD against a detector shares: a loop that keeps the best of its points, and two gradients that
are in each other's way."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops import knowing
from attacks.loops.balls import Ball

# Share of the steps up to which a step has the length of eps times this.
# Differs from the original: its steps have one length.
STEP_SIZES = ((0.40, 1 / 10), (0.75, 1 / 25), (1.0, 1 / 80))
# Keeps the projection onto a vanishing gradient finite.
_TINY = 1e-20


def climb(look: Callable, judge: Callable, start: tf.Tensor, ball: Ball, *, num_steps: int,
          step_sizes: tuple[tuple[float, float], ...] = STEP_SIZES) -> dict[str, tf.Tensor]:
    """Steps along a gradient from a start.

    Args:
      look: from images to what `judge` says of them and the gradient to step along, like them.
      judge: from images to what `knowing.keep_best` compares, for the last point.
      start: images float [n, h, w, c] of the ball.
      ball: where they may go.
      num_steps: gradients.
      step_sizes: pairs: the share of the steps up to which a step has so many eps.

    Returns:
      `knowing.RETURNS` of each image, the best of all points.
    """
    def step(number, image, best):
        judged, gradient = look(image)
        best = knowing.keep_best(best, image, judged, number)
        best["zero_gradient_steps"] += tf.cast(
            tf.reduce_all(gradient == 0, axis=[1, 2, 3]), tf.int32)
        size = ball.eps * _step_size(number, num_steps, step_sizes, start.dtype)
        return number + 1, ball.step(image, gradient, size), best

    _, last, best = tf.while_loop(lambda number, *_: number < num_steps, step,
                                  (0, start, knowing.none_yet(ball.clean)), parallel_iterations=1)
    return knowing.keep_best(best, last, judge(last), num_steps)


def freed_of(gradient: tf.Tensor, other: tf.Tensor, *, in_conflict: bool) -> tf.Tensor:
    """A gradient without its part along another: a step along it leaves, to first order, what the other
    belongs to as it is.

    Args:
      gradient: float [n, h, w, c].
      other: like it.
      in_conflict: whether to do so only where the two are more than a right angle apart.
    """
    def product(a, b):
        return tf.reduce_sum(a * b, axis=[1, 2, 3], keepdims=True)

    along = product(gradient, other)
    share = along / (product(other, other) + _TINY)
    return gradient - other * (tf.where(along < 0, share, tf.zeros_like(share)) if in_conflict
                               else share)


def _step_size(number, num_steps, step_sizes, dtype):
    """Length of step `number`, from 0, in multiples of eps."""
    size = tf.constant(step_sizes[-1][1], dtype)
    for share, length in reversed(step_sizes[:-1]):
        size = tf.where(number < int(share * num_steps), tf.constant(length, dtype), size)
    return size

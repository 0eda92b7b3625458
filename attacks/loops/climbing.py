"""What PGD against a detector shares: a loop that keeps the best of its points, and two gradients that
are in each other's way."""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from attacks.loops import knowing
from attacks.loops.ascent import in_chunks
from attacks.loops.balls import Ball

# Share of the steps up to which a step has the length of eps times this.
# Differs from the original: its steps have one length.
STEP_SIZES = ((0.40, 1 / 10), (0.75, 1 / 25), (1.0, 1 / 80))
# Keeps the projection onto a vanishing gradient finite.
_TINY = 1e-20


def path_length(num_steps: int, eps: float) -> float:
    """Length of all steps of a start in units of eps."""
    del eps
    ends = [int(share * num_steps) for share, _ in STEP_SIZES]
    return sum((end - begin) * length for begin, end, (_, length) in zip(
        [0, *ends], ends, STEP_SIZES, strict=False))


def climb_each(look: Callable, logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor,
               image_index: tf.Tensor, restart: tf.Tensor, slack_fn: Callable,
               eps: float | tf.Tensor, seed: int, norm: str, num_steps: int, clip_min: float,
               clip_max: float, chunk: int, carry: Callable = lambda judged, labels, restart: (),
               ) -> dict[str, tf.Tensor]:
    """Climbs from a random start of each row, in fixed chunks.

    As many parameters as an attack that knows the detector has.

    Args:
      look: as of `climb`, its first argument the function from images to `knowing.Judged`.
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static.
      labels: true classes int32 [n].
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts.
      slack_fn: of the detector, see `knowing`.
      eps: radius of the ball, scalar.
      seed: of the random starts.
      norm: "linf" or "l2".
      num_steps: gradients per row.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `ascent.py`.
      carry: from the clean images as judged, their labels and restarts to what `look` carries from step
        to step.

    Returns:
      `knowing.RETURNS` of each row: of all points of its path the one with the largest merit.
    """
    def attack_chunk(clean, labels, image_index, restart):
        ball = Ball(norm, clean, tf.cast(eps, clean.dtype), clip_min, clip_max)

        def judge(image):
            return knowing.Judged(logits_and_features_fn, slack_fn, image, labels)

        return climb(partial(look, judge), judge, ball.start(seed, image_index, restart), ball,
                     num_steps=num_steps, carried=carry(judge(clean), labels, restart))

    return in_chunks(attack_chunk, x, labels, image_index, restart, chunk=chunk,
                     outputs=knowing.output_types(x.dtype))


def climb(look: Callable, judge: Callable, start: tf.Tensor, ball: Ball, *, num_steps: int,
          step_sizes: tuple[tuple[float, float], ...] = STEP_SIZES, carried=()) -> dict[str, tf.Tensor]:
    """Steps along a gradient from a start.

    Args:
      look: from images, the number of the step and what is carried to what `judge` says of them, the
        gradient to step along, like them, and what is carried on.
      judge: from images to what `knowing.keep_best` compares, for the last point.
      start: images float [n, h, w, c] of the ball.
      ball: where they may go.
      num_steps: gradients.
      step_sizes: pairs: the share of the steps up to which a step has so many eps.
      carried: tensors that `look` gets in the first step.

    Returns:
      `knowing.RETURNS` of each image, the best of all points.
    """
    def step(number, image, best, carried):
        judged, gradient, carried = look(image, number, carried)
        best = knowing.keep_best(best, image, judged, number)
        best["zero_gradient_steps"] += knowing.stands_still(gradient, judged.evaded)
        size = ball.eps * _step_size(number, num_steps, step_sizes, start.dtype)
        return number + 1, ball.step(image, gradient, size), best, carried

    _, last, best, _ = tf.while_loop(
        lambda number, *_: number < num_steps, step,
        (0, start, knowing.none_yet(ball.clean), carried), parallel_iterations=1)
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

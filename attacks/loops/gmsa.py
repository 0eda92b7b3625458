"""The ascent of the Greedy Model Space Attack: one image against several weight sets of a network.

Source: Chen et al., ICLR 2022, arXiv 2110.14735, GMSA-AVG and GMSA-MIN, and its Fixed Point Attack.
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.balls import Ball
from attacks.loops.search import keep_rows


def _summed(losses, gradients):
    return tf.reduce_sum(losses, axis=0), tf.reduce_sum(gradients, axis=0)


def _least(losses, gradients):
    # Of equal losses the first model's: argmin promises nothing about ties, a stable sort does.
    model = tf.argsort(losses, axis=0, stable=True)[0]
    at = tf.stack([model, tf.range(tf.size(model))], axis=1)
    return tf.gather_nd(losses, at), tf.gather_nd(gradients, at)


# Name → from losses [m, n] and gradients [m, n, h, w, c] of m models to those [n] and [n, h, w, c] of
# what is ascended.
REDUCTIONS = {"sum": _summed, "min": _least}


def gmsa(gradients_fn: Callable, x: tf.Tensor, *, start: tf.Tensor, eps: float | tf.Tensor,
         step_size: float | tf.Tensor, num_steps: int | tf.Tensor, reduce: str,
         clip_min: float = -0.5, clip_max: float = 0.5) -> dict[str, tf.Tensor]:
    """Sign steps in the L-inf ball of eps, up a loss over models; the point of largest loss is kept.

    With one model, both reductions are PGD that keeps its best point: the paper's Fixed Point Attack,
    where that is the newest.

    Args:
      gradients_fn: from images to losses float [m, n], the cross entropy of each image under each of
        m models, and their input gradients float [m, n, h, w, c]; both in the type of x. m ≥ 1 may be
        unknown while tracing. Traced once, called num_steps + 2 times.
      x: images float [n, h, w, c] in [clip_min, clip_max].
      start: where the steps begin, like x; projected on ball and box.
      eps: largest change of a pixel, scalar.
      step_size: change of a pixel per step, scalar.
      num_steps: steps, int scalar. As many are done of "min" as of "sum": the paper does m times as
        many of it, which is for the caller to multiply.
      reduce: of REDUCTIONS: "sum" ascends the sum of the models' losses (GMSA-AVG), "min" each
        image's least one (GMSA-MIN).
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.

    Returns:
      "adversarial" like x: of the clean image, the start and all steps, in this order, the first of
      the largest reduced loss; "loss" [n], that loss.
    """
    ball = Ball("linf", x, tf.cast(eps, x.dtype), clip_min, clip_max)
    start, step_size = ball.project(start), tf.cast(step_size, x.dtype)
    num_looks = tf.cast(num_steps, tf.int32) + 2

    # The clean image and the start take their turn in the loop: outside of it, each would have all
    # models and their gradients once more in the graph.
    def look(number, image, best):
        loss, gradient = REDUCTIONS[reduce](*gradients_fn(image))
        # A loop's state keeps its static shape, which an unknown m, or a gather, may lose.
        loss, gradient = tf.ensure_shape(loss, x.shape[:1]), tf.ensure_shape(gradient, x.shape)
        is_clean = number == 0
        better = is_clean | (loss > best["loss"])
        best = {"adversarial": keep_rows(better, image, best["adversarial"]),
                "loss": tf.where(better, loss, best["loss"])}
        following = tf.where(is_clean, start, ball.step(image, gradient, step_size))
        return number + 1, following, best

    best = {"adversarial": x, "loss": tf.zeros_like(x[:, 0, 0, 0])}
    return tf.while_loop(lambda number, *_: number < num_looks, look, (0, x, best),
                         parallel_iterations=1)[-1]

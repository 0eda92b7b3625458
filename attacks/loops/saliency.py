"""Attacks that raise one pixel, or two, at a time by saliency: JSMA and SMDA."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.search import SEARCH_CHUNK, Search, keep_rows


def saliency_search(logits_fn: Callable, *, num_steps: int, pixels_per_step: int, clip_min: float,
                    clip_max: float, compact: bool = True, chunk: int = SEARCH_CHUNK) -> Search:
    """Raises the most salient unsaturated pixels by eps until the target class is predicted.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      num_steps: most steps per image.
      pixels_per_step: 1, or 2 for the best pair, which ends an image when no pair helps.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box; a pixel there is saturated.
      compact: see `Search`.
      chunk: rows per gradient.

    Returns:
      A search that takes x, target int32 [n] and eps, the change of a pixel, scalar ≥ 0.
    """
    def start(x, target, valid, eps):
        rows = x.shape[0]
        return {"x": x, "target": target, "active": valid,
                "eps": tf.fill([rows], tf.cast(eps, x.dtype)),
                "iterations": tf.zeros([rows], tf.int32), "success": tf.zeros([rows], bool)}

    def step(state):
        x = state["x"]
        predicted, slope = _prediction_and_slope(logits_fn, x, state["target"])
        # The two scores of the original need o = ∂Σp/∂x − t, t = ∂p_target/∂x. The probabilities
        # sum to 1, so ∂Σp/∂x is zero by construction and o = −t: one backward pass is enough.
        # JSMA's score, t·|o| = t² where t ≥ 0 and else t − o = 2t, and SMDA's, t − o = 2t, both
        # rise with t and so choose the same pixel: the largest t of those not saturated.
        # Differs from the original: there ∂Σp/∂x is rounding noise, which decides between close
        # scores.
        flat_slope = tf.reshape(tf.where(x < clip_max, slope, -tf.constant(float("inf"))),
                                [x.shape[0], -1])
        # Of equal slopes top_k takes the first pixel: no chance in it.
        best, pixel = tf.math.top_k(flat_slope, k=pixels_per_step)
        # Judged by the forward pass that the gradient needs anyway; the last move is judged by one more
        # step, which moves nothing.
        reached = tf.equal(predicted, state["target"])
        helps = tf.reduce_min(best, axis=1) > -float("inf")
        if pixels_per_step == 2:
            # Pairs with Σt > 0 and Σo < 0; o = −t makes it one condition, and the best pair of
            # |Σt·Σo| = (Σt)² the two largest t. Equation 10 of the JSMA paper.
            helps = tf.logical_and(helps, tf.reduce_sum(best, axis=1) > 0)
        moves = helps & ~reached & (state["iterations"] < num_steps)
        chosen = tf.reduce_sum(tf.one_hot(pixel, flat_slope.shape[1], dtype=x.dtype), axis=1)
        raised = x + state["eps"][:, None, None, None] * tf.reshape(chosen, x.shape)
        return {"x": keep_rows(moves, tf.clip_by_value(raised, clip_min, clip_max), x),
                "iterations": state["iterations"] + tf.cast(moves, tf.int32),
                "success": reached, "active": moves}

    def finish(state):
        return {"adversarial": state["x"], "success": state["success"],
                "iterations": state["iterations"]}

    return Search(start, step, ("x", "iterations", "success", "active"), finish, compact=compact,
                  chunk=chunk)


def _prediction_and_slope(logits_fn, x, target):
    """Predicted class int32 [n] and ∂ log p_target/∂x, which orders pixels as ∂p_target/∂x does."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = logits_fn(x)
        # Differs from the original: of the logarithm, so that no slope underflows to 0 where the
        # target's probability does; a positive factor per image, the order of pixels stays.
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)
    return tf.argmax(logits, axis=-1, output_type=tf.int32), -tape.gradient(loss, x)

"""Square: windows of an image moved at random, those kept that help; no gradient is asked for.

Source: Andriushchenko et al. 2020, arXiv 1912.00049, its L-inf attack; AutoAttack's square.py.
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops import knowing, squares
from attacks.loops.ascent import GRADIENT_CHUNK, in_chunks
from attacks.loops.balls import Ball
from attacks.loops.search import keep_rows

_CHANGED = ("adversarial", "wrong", "merit", "evaded")


def square(logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor, seed: int,
           image_index: tf.Tensor, restart: tf.Tensor, eps: float | tf.Tensor,
           slack_fn: Callable | None = None, num_steps: int = 1000, clip_min: float = -0.5,
           clip_max: float = 0.5, chunk: int = GRADIENT_CHUNK) -> dict[str, tf.Tensor]:
    """Moves one window per query until the image is misclassified and, with a detector, accepted.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets. A proposal is
    kept that lowers the margin of the label or, of a wrong image, raises the smallest slack.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static. The attack computes in its type.
      labels: true classes int32 [n].
      seed: of the moves.
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts.
      eps: largest change of a pixel, scalar.
      slack_fn: of the detector, see `loops/knowing.py`; None: a wrong image is a success.
      num_steps: queries after the first, per image and restart.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a forward pass, see `loops/ascent.py`.

    Returns:
      Of each row "adversarial", "wrong", "merit" and "evaded" as `knowing.RETURNS`, of the last
      proposal that was kept; "queries" int32 [n], the first among them.
    """
    def attack_chunk(clean, labels, image_index, restart):
        ball = Ball("linf", clean, tf.cast(eps, clean.dtype), clip_min, clip_max)
        sides = squares.sides(clean.shape[1], clean.shape[2], num_steps)
        moves = squares.draw_moves(clean, sides, seed, image_index, restart)

        def query(image):
            judged = knowing.Judged(logits_and_features_fn, slack_fn or _no_score, image, labels)
            # Without a score the margin is all there is to tell by.
            merit = judged.merit if slack_fn else judged.margin
            return {"adversarial": image, "wrong": judged.wrong, "merit": merit,
                    "evaded": judged.evaded}

        def step(number, state):
            at = {name: tf.gather(moves[name], number, axis=1) for name in ("row", "column", "signs")}
            new = query(squares.moved(ball, state["adversarial"], side=tf.gather(
                tf.constant(sides), number), **at))
            active = ~state["evaded"]
            better = tf.logical_or(new["wrong"] & ~state["wrong"], tf.logical_and(
                new["wrong"] == state["wrong"], new["merit"] > state["merit"]))
            kept = active & (better | new["evaded"])
            return number + 1, {"queries": state["queries"] + tf.cast(active, tf.int32)} | {
                name: keep_rows(kept, new[name], state[name]) for name in _CHANGED}

        state = query(squares.striped(ball, moves["stripes"])) | {"queries": tf.ones_like(labels)}
        return tf.while_loop(
            lambda number, state: tf.logical_and(number < num_steps, ~tf.reduce_all(state["evaded"])),
            step, (0, state), parallel_iterations=1)[1]

    types = knowing.output_types(x.dtype)
    return in_chunks(attack_chunk, x, labels, image_index, restart, chunk=chunk,
                     outputs={name: types[name] for name in _CHANGED} | {"queries": tf.int32})


def _no_score(logits, features, classes):
    return tf.zeros([logits.shape[0], 0], logits.dtype)

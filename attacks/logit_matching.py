"""PGD that pulls an image's logits to those of a normal image of another class that is accepted.

Where the logits are equal, every score that is made of them is (Tramèr et al. 2020, arXiv 2002.08347).
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops import matching
from attacks.loops.ascent import GRADIENT_CHUNK
from attacks.loops.climbing import climb_each


def logit_matching(logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor,
                   slack_fn: Callable, accepted: matching.Accepted, eps: float | tf.Tensor, seed: int,
                   image_index: tf.Tensor, restart: tf.Tensor, norm: str = "linf",
                   num_steps: int = 200, clip_min: float = -0.5, clip_max: float = 0.5,
                   chunk: int = GRADIENT_CHUNK) -> dict[str, tf.Tensor]:
    """Goes down the squared distance of the logits to those of an accepted image.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static. The attack computes in its type.
      labels: true classes int32 [n].
      slack_fn: of the detector, see `loops/knowing.py`.
      accepted: normal images that the detector answers, of at least two classes.
      eps: radius of the ball, scalar.
      seed: of the random starts.
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts; start r goes to the r-th nearest of the accepted images
        of other classes, after the last one to the nearest again.
      norm: "linf" or "l2".
      num_steps: gradients per image and restart.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      `knowing.RETURNS` of each row: of all points of its path the one with the largest merit.
    """
    bank = tf.cast(accepted.logits, x.dtype)

    def carry(judged, labels, restart):
        order, count = matching.others_first(
            matching.squared(judged.logits, bank), accepted.classes, labels)
        # Of a row that only fills up the chunk there may be none.
        chosen = tf.gather(order, restart % tf.maximum(count, 1), batch_dims=1)
        return tf.gather(bank, chosen)

    def look(judge, image, number, carried):
        del number
        with tf.GradientTape() as tape:
            tape.watch(image)
            judged = judge(image)
            closeness = -tf.reduce_sum(tf.math.squared_difference(judged.logits, carried), axis=1)
        return judged, tape.gradient(closeness, image), carried

    return climb_each(
        look, logits_and_features_fn, x, labels=labels, image_index=image_index, restart=restart,
        slack_fn=slack_fn, eps=eps, seed=seed, norm=norm, num_steps=num_steps, clip_min=clip_min,
        clip_max=clip_max, chunk=chunk, carry=carry)

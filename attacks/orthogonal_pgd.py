"""PGD against network and detector, each one's gradient freed of what hurts the other.

Source: orthogonal PGD of Bryniarski et al. 2021, arXiv 2106.15023.
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops import climbing, knowing
from attacks.loops.ascent import GRADIENT_CHUNK


def orthogonal_pgd(logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor,
                   slack_fn: Callable, eps: float | tf.Tensor, seed: int, image_index: tf.Tensor,
                   restart: tf.Tensor, norm: str = "linf", project: str = "conflict",
                   num_steps: int = 200, clip_min: float = -0.5, clip_max: float = 0.5,
                   chunk: int = GRADIENT_CHUNK) -> dict[str, tf.Tensor]:
    """`selective_pgd`, but what is climbed does not take back what the other one has gained.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets. Two backward
    passes per step.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static. The attack computes in its type.
      labels: true classes int32 [n].
      slack_fn: of the detector, see `loops/knowing.py`.
      eps: radius of the ball, scalar.
      seed: of the random starts.
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts.
      norm: "linf" or "l2".
      project: "conflict": where the two gradients are more than a right angle apart; "always": as
        published.
      num_steps: pairs of gradients per image and restart.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      `knowing.RETURNS` of each row: of all points of its path the one with the largest merit.
    """
    # Differs from the original: there always. Both gradients lead to the wrong class, and one without
    # the other has lost just what is wanted.
    in_conflict = project == "conflict"

    def look(judge, image, number, carried):
        del number
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(image)
            judged = judge(image)
            accepted = knowing.hinge(judged.slacks)
        to_class, to_normal = (tape.gradient(loss, image) for loss in (judged.margin, accepted))
        across = knowing.is_across(judged.margin, judged.logits)[:, None, None, None]
        return judged, tf.where(
            across, climbing.freed_of(to_normal, to_class, in_conflict=in_conflict),
            climbing.freed_of(to_class, to_normal, in_conflict=in_conflict)), carried

    return climbing.climb_each(
        look, logits_and_features_fn, x, labels=labels, image_index=image_index, restart=restart,
        slack_fn=slack_fn, eps=eps, seed=seed, norm=norm, num_steps=num_steps, clip_min=clip_min,
        clip_max=clip_max, chunk=chunk)

"""APGD against network and detector: across the boundary first, then up the detector's scores."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops import knowing
from attacks.loops.apgd import Seen, apgd

# More than any margin or slack: an image that is across ranks above one that is not.
_APART = 1e9


def apgd_detector(logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor,
                  slack_fn: Callable, num_steps: int = 200, **settings) -> dict[str, tf.Tensor]:
    """`selective_pgd` with the steps of APGD (Croce and Hein 2020, arXiv 2003.01690).

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in the box; n static.
      labels: true classes int32 [n].
      slack_fn: of the detector, see `loops/knowing.py`.
      num_steps: steps per image and restart.
      **settings: what else `loops.apgd.apgd` takes.

    Returns:
      `knowing.RETURNS` of each row.
    """
    def seen_at(images, labels):
        judged = knowing.Judged(logits_and_features_fn, slack_fn, images, labels)
        across = knowing.is_across(judged.margin, judged.logits)
        climbed = tf.where(across, knowing.hinge(judged.slacks), judged.margin)
        # Losses are compared from step to step: a jump down at the boundary would pass for a fall. In
        # float64, where the distance between the two takes no digits from either.
        loss = tf.cast(climbed, tf.float64)
        return Seen(climbed, tf.where(across, loss, loss - _APART), judged.wrong, judged.merit,
                    judged.evaded)

    # No number of the rule's is one that such losses could be compared with before the first step.
    return apgd(seen_at, x, labels=labels, num_steps=num_steps, loss_before=None, **settings)

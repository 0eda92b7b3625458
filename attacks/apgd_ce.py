"""APGD up the cross entropy (Croce and Hein 2020, arXiv 2003.01690)."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.apgd import apgd, of_classifier


def apgd_ce(logits_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor, num_steps: int = 100,
            **settings) -> dict[str, tf.Tensor]:
    """Steps that set their own length, up the cross entropy of the true class.

    Args:
      logits_fn: from images to sign-adjusted logits [n, L].
      x: images float [n, h, w, c] in the box; n static.
      labels: true classes int32 [n].
      num_steps: steps per image and restart.
      **settings: what else `loops.apgd.apgd` takes.

    Returns:
      `knowing.RETURNS` of each row.
    """
    def seen_at(images, labels):
        logits = logits_fn(images)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return of_classifier(loss, logits, labels)

    return apgd(seen_at, x, labels=labels, num_steps=num_steps, **settings)

"""APGD up the difference-of-logits ratio (Croce and Hein 2020, arXiv 2003.01690)."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.apgd import apgd, of_classifier

# Keeps the ratio of equal logits finite.
_TINY = 1e-12


def apgd_dlr(logits_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor, num_steps: int = 100,
             **settings) -> dict[str, tf.Tensor]:
    """Steps that set their own length, up −(z_y − max z_i) / (z_(1) − z_(3)), which no scale of the
    logits changes.

    On RCE networks, whose other logits are all but equal, it is flat: there it says little.

    Args:
      logits_fn: from images to sign-adjusted logits [n, L], L ≥ 3.
      x: images float [n, h, w, c] in the box; n static.
      labels: true classes int32 [n].
      num_steps: steps per image and restart.
      **settings: what else `loops.apgd.apgd` takes.

    Returns:
      `knowing.RETURNS` of each row.
    """
    def seen_at(images, labels):
        logits = logits_fn(images)
        return of_classifier(_ratio(logits, labels), logits, labels)

    return apgd(seen_at, x, labels=labels, num_steps=num_steps, **settings)


def _ratio(logits, labels):
    top, classes = tf.math.top_k(logits, 3)
    own = tf.gather(logits, labels, axis=1, batch_dims=1)
    other = tf.where(classes[:, 0] == tf.cast(labels, classes.dtype), top[:, 1], top[:, 0])
    return -(own - other) / (top[:, 0] - top[:, 2] + _TINY)

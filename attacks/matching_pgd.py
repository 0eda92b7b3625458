"""PGD that pulls an image's features to those of a normal image that the detector keeps.

A density that is flat far from its kernels gives no slope to climb; the distance to one of them does
(Sabour et al. 2016, arXiv 1511.05122; Tramèr et al. 2020, arXiv 2002.08347).
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops import matching
from attacks.loops.ascent import GRADIENT_CHUNK
from attacks.loops.climbing import climb_each

# Steps for which an image is pulled to the same kernel.
STEPS_PER_KERNEL = 10


def matching_pgd(logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor,
                 slack_fn: Callable, kernels: tf.Tensor, eps: float | tf.Tensor, seed: int,
                 image_index: tf.Tensor, restart: tf.Tensor, num_targets: int, norm: str = "linf",
                 num_steps: int = 200, clip_min: float = -0.5, clip_max: float = 0.5,
                 chunk: int = GRADIENT_CHUNK) -> dict[str, tf.Tensor]:
    """Goes down the squared distance of the features to the nearest kernel of a wrong class.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static. The attack computes in its type.
      labels: true classes int32 [n].
      slack_fn: of the detector, see `loops/knowing.py`.
      kernels: of the detector, float [num_kernels, d, L], by class.
      eps: radius of the ball, scalar.
      seed: of the random starts.
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts; start r goes to the wrong class that is the
        (r mod num_targets)-th nearest to the clean image.
      num_targets: classes that the starts of an image take turns at, at least 1.
      norm: "linf" or "l2".
      num_steps: gradients per image and restart; the kernel is chosen anew every STEPS_PER_KERNEL.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      `knowing.RETURNS` of each row: of all points of its path the one with the largest merit.
    """
    # By class first: the kernels of one are then a block for tf.gather.
    by_class = tf.transpose(tf.cast(kernels, x.dtype), [2, 0, 1])

    def carry(judged, labels, restart):
        nearest, _ = matching.others_first(
            matching.distances(judged.features, by_class), tf.range(len(by_class)), labels)
        return {"target": tf.gather(nearest, restart % num_targets, batch_dims=1),
                "kernel": tf.zeros_like(judged.features)}

    def look(judge, image, number, carried):
        with tf.GradientTape() as tape:
            tape.watch(image)
            judged = judge(image)
            kernel = tf.cond(
                number % STEPS_PER_KERNEL == 0,
                lambda: matching.nearest(judged.features, tf.gather(by_class, carried["target"])),
                lambda: carried["kernel"])
            closeness = -tf.reduce_sum(tf.math.squared_difference(judged.features, kernel), axis=1)
        return judged, tape.gradient(closeness, image), carried | {"kernel": kernel}

    return climb_each(
        look, logits_and_features_fn, x, labels=labels, image_index=image_index, restart=restart,
        slack_fn=slack_fn, eps=eps, seed=seed, norm=norm, num_steps=num_steps, clip_min=clip_min,
        clip_max=clip_max, chunk=chunk, carry=carry)

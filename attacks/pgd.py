"""Projected gradient descent with restarts (Madry et al. 2018, arXiv 1706.06083)."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.ascent import (
    GRADIENT_CHUNK,
    in_chunks,
    own_and_other,
    predicted_one_hot,
    sign_ascent,
)
from attacks.random_noise import random_noise

# Length of all steps together, in multiples of eps: a step is 2.5·eps / num_steps, as in the paper.
TRAVEL = 2.5


def pgd(logits_fn: Callable, x: tf.Tensor, *, eps: float | tf.Tensor, seed: int,
        image_index: tf.Tensor, num_steps: int = 40, num_restarts: int | tf.Tensor = 1,
        first_restart: int | tf.Tensor = 0, with_margin: bool = False, clip_min: float = -0.5,
        clip_max: float = 0.5, chunk: int = GRADIENT_CHUNK) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """Sign steps from random starts within eps; per image the worst of all restarts is kept.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets.

    Not in the original. Worst is the largest margin of a wrong class over the label. The label is the
    prediction on the clean image, as for FGSM and BIM.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      x: images float32 [n, h, w, c] in [clip_min, clip_max]; n static.
      eps: largest change of a pixel, scalar.
      seed: of the random starts.
      image_index: int32 [n], which image of the data set each row is; with `seed` and the number of
        the restart it determines the start.
      num_steps: steps per restart.
      num_restarts: random starts, at least 1.
      first_restart: number of the first of them: the worst of restarts 0 to 9 is the worse of the
        worst of 0 to 4 and that of 5 to 9.
      with_margin: also returns by how much each image is wrong, to compare restarts of several calls.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      Adversarial images like x, within eps of x in every pixel; and, if asked for, the margin float32
      [n]: the largest wrong logit minus the label's.
    """
    # Rounded to float32 once, at the end, as in loops/ascent.py.
    step_size = tf.cast(TRAVEL * tf.cast(eps, tf.float64) / num_steps, x.dtype)
    radius = tf.cast(eps, x.dtype)

    def attack_chunk(clean, index):
        label = tf.stop_gradient(predicted_one_hot(logits_fn(clean)))
        # Box and eps-ball together are an interval per pixel: one clip is the projection onto both.
        low = tf.maximum(clean - radius, clip_min)
        high = tf.minimum(clean + radius, clip_max)

        def loss_fn(images):
            return tf.nn.softmax_cross_entropy_with_logits(label, logits_fn(images))

        def restart(number, worst, worst_margin):
            # By the restart's own number, whichever call makes it: parts of the restarts, crafted
            # apart, are those of one run.
            image = random_noise(clean, eps=eps, seed=seed, image_index=index, draw=number,
                                 clip_min=clip_min, clip_max=clip_max)
            image = sign_ascent(
                loss_fn, image, num_steps=num_steps, step_size=step_size, low=low, high=high)
            # Unlike the cross entropy, the margin does not saturate.
            own, other = own_and_other(logits_fn(image), tf.argmax(label, axis=-1))
            margin = other - own
            # Of equal margins the earlier restart stays, as in evaluation.crafter.worse.
            worse = margin > worst_margin
            return (number + 1, tf.where(worse[:, None, None, None], image, worst),
                    tf.where(worse, margin, worst_margin))

        # Below any margin: the first restart is always taken, successful or not.
        none_yet = tf.fill([clean.shape[0]], -tf.constant(float("inf")))
        # A loop of the graph over tensors: one trace for parts of any number of restarts.
        return tf.while_loop(lambda number, *_: number < end, restart,
                             (begin, clean, none_yet), parallel_iterations=1)[1:]

    begin = tf.convert_to_tensor(first_restart)
    end = begin + num_restarts
    images, margin = in_chunks(
        attack_chunk, x, image_index, chunk=chunk, outputs=(x.dtype, x.dtype))
    return (images, margin) if with_margin else images

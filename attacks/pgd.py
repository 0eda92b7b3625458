"""Projected gradient descent with restarts (Madry et al. 2018, arXiv 1706.06083)."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.ascent import (
    GRADIENT_CHUNK,
    TRAVEL,
    ascend_from,
    in_chunks,
    own_and_other,
    predicted_one_hot,
)
from attacks.loops.balls import Ball
from attacks.random_noise import random_noise


def pgd(logits_fn: Callable, x: tf.Tensor, *, eps: float | tf.Tensor, seed: int,
        image_index: tf.Tensor, restart: tf.Tensor, target: tf.Tensor | None = None,
        num_steps: int = 40, step_size: float | None = None, random_start: bool = True,
        clip_min: float = -0.5, clip_max: float = 0.5, chunk: int = GRADIENT_CHUNK
        ) -> dict[str, tf.Tensor]:
    """Sign steps from a random start within eps; the last point counts.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets. One restart is
    one row; of several of an image evaluation/restarts.py keeps the worst.

    Not in the original. The label is the prediction on the clean image, as for FGSM and BIM.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      x: images float32 [n, h, w, c] in [clip_min, clip_max]; n static.
      eps: largest change of a pixel, scalar.
      seed: of the random starts.
      image_index: int32 [n], which image of the data set each row is; with `seed` and `restart` it
        determines the start.
      restart: int32 [n], number of the start.
      target: int32 [n], class whose cross entropy is descended; None: that of the label is ascended.
      num_steps: gradients per row.
      step_size: change of a pixel per step, which may exceed eps; None: 2.5·eps / num_steps.
      random_start: whether it starts within eps of the image, or at it.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      "adversarial" like x, within eps of x in every pixel; "wrong" bool [n], whether another class is
      predicted there; "merit" float [n], the largest other logit minus the label's; "cross_entropy"
      float [n] of the label there.
    """
    # Rounded to float32 once, at the end, as in loops/ascent.py.
    step_size = tf.cast(TRAVEL * tf.cast(eps, tf.float64) / num_steps if step_size is None
                        else step_size, x.dtype)

    if target is not None:
        step_size = -step_size

    def attack_chunk(clean, index, restart, *target):
        label = tf.stop_gradient(predicted_one_hot(logits_fn(clean)))
        climbed = tf.one_hot(target[0], label.shape[-1], dtype=label.dtype) if target else label
        ball = Ball("linf", clean, tf.cast(eps, clean.dtype), clip_min, clip_max)
        start = random_noise(clean, eps=eps, seed=seed, image_index=index, draw=restart,
                             clip_min=clip_min, clip_max=clip_max) if random_start else clean
        image = ascend_from(logits_fn, start, climbed, ball, num_steps=num_steps, step_size=step_size)
        # Unlike the cross entropy, the margin does not saturate.
        logits = logits_fn(image)
        own, other = own_and_other(logits, tf.argmax(label, axis=-1))
        # NaN is no robustness.
        return {"adversarial": image, "wrong": ~(own >= other), "merit": other - own,
                "cross_entropy": tf.reduce_logsumexp(logits, axis=1) - own}

    rows = (x, image_index, restart) if target is None else (x, image_index, restart, target)
    return in_chunks(attack_chunk, *rows, chunk=chunk, outputs={
        "adversarial": x.dtype, "wrong": tf.bool, "merit": x.dtype, "cross_entropy": x.dtype})

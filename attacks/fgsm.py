"""Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572); original: attacks/fgsm.py."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.ascent import GRADIENT_CHUNK, ascend_from_clean, predicted_one_hot


def fgsm(logits_fn: Callable, x: tf.Tensor, *, eps: float | tf.Tensor, clip_min: float = -0.5,
         clip_max: float = 0.5, reverse_cost: bool = False, head_sign: float = 1.0,
         chunk: int = GRADIENT_CHUNK) -> tf.Tensor:
    """One step of eps along the sign of the gradient of the cross entropy.

    The label is the model's own prediction on x, so no true label leaks into the image.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      x: images float32 [n, h, w, c] in [clip_min, clip_max]; n static.
      eps: size of the step, scalar.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      reverse_cost: ascends the reverse cross entropy −(1/(L−1)) Σ_{i≠t} log softmax(Z)_i of the raw
        logits Z instead, t the predicted class (arXiv 1706.00633v1, figure 4).
      head_sign: Z is head_sign · logits: −1 for a network with a reversed head.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      Adversarial images like x, within eps of x in every pixel.
    """
    if not reverse_cost:
        return ascend_from_clean(logits_fn, x, target_from=predicted_one_hot, total=eps, num_steps=1,
                          clip_min=clip_min, clip_max=clip_max, chunk=chunk)

    def reverse_label(raw_logits):
        # The prediction is of the probabilities, the cost of the raw logits: two signs for RCE.
        wrong = 1.0 - predicted_one_hot(head_sign * raw_logits)
        return wrong / (raw_logits.shape[-1] - 1.0)

    # ±1 is its own inverse: the product takes the sign of the head off again.
    return ascend_from_clean(lambda images: head_sign * logits_fn(images), x, target_from=reverse_label,
                      total=eps, num_steps=1, clip_min=clip_min, clip_max=clip_max, chunk=chunk)

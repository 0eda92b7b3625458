"""The attack inside a training step: PGD from a start that is given, on the true label.

Source: Mosbach et al. 2018, arXiv 1810.12042; train.py of their code, which trains on CleverHans' PGD.
"""

import keras
import tensorflow as tf

from attacks.loops.ascent import ascend_from
from attacks.loops.balls import Ball
from networks.heads import Head
from training import TrainingAttack

CLIP_MIN, CLIP_MAX = -0.5, 0.5


def craft(model: keras.Model, head: Head, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor,
          attack: TrainingAttack) -> tf.Tensor:
    """Images of a training step, attacked.

    Args:
      model: which is trained, from images to (raw logits, features); run with training=False.
      head: of the model, whose sign its logits are attacked with.
      images: float32 [n, h, w, c] in [-0.5, 0.5].
      labels: int32 [n].
      start: images like those, within `attack.eps` of them.
      attack: its numbers.

    Returns:
      Images like those, the last of the sign steps up the cross entropy of the label; a constant to the
      gradient.
    """
    def logits(x):
        return head.attack_logits(model(x, training=False)[0])

    ball = Ball("linf", images, tf.constant(attack.eps, images.dtype), CLIP_MIN, CLIP_MAX)
    label = tf.one_hot(labels, model.outputs[0].shape[-1], dtype=images.dtype)
    return tf.stop_gradient(ascend_from(
        logits, start, label, ball, num_steps=attack.iterations,
        step_size=tf.constant(attack.step_size, images.dtype)))

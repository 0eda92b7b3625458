"""CE or RCE: the only place that knows which loss and which sign of the logits a network has.

After training everything (prediction, confidence, attacks, detection) works on the sign-adjusted
logits: Z for CE, −Z for RCE, whose softmax are the class probabilities. The original branches on
--RCE_train for this in five places. What a training minimises with a head is training/'s.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from errors import InputError
from resnet_model import RCELoss, reversed_logits


@dataclasses.dataclass(frozen=True)
class Head:
    """A network's head: it belongs to it for ever.

    Attributes:
      name: "ce" or "rce".
      loss: labels int [n] and raw logits float32 [n, L] to the loss per example, float32 [n].
      sign: 1.0 or -1.0, by which raw logits are the logits whose softmax are the class probabilities.
    """

    name: str
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    sign: float

    def attack_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """sign · Z of raw logits Z [n, L]: the softmax are the class probabilities."""
        return reversed_logits(logits) if self.sign < 0 else tf.identity(logits)

    def predict_classes(self, logits: tf.Tensor) -> tf.Tensor:
        """Predicted class int32 [n] of raw logits [n, L]: argmax Z (CE), argmin Z (RCE)."""
        return tf.argmax(self.attack_logits(logits), axis=-1, output_type=tf.int32)


HEADS = {
    # Not reduced: training divides the sum of a replica by the GLOBAL batch, which only it knows.
    "ce": Head("ce", keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="none"), 1.0),
    "rce": Head("rce", RCELoss(reduction="none"), -1.0),
}


def name_of(rce_train: bool) -> str:
    """The head that the flag --RCE_train stands for."""
    return "rce" if rce_train else "ce"


def get(name: str) -> Head:
    """The head called `name`, or an InputError that lists what there is."""
    if name not in HEADS:
        raise InputError(
            f"objective must be one of [{', '.join(HEADS)}]. Received: objective={name!r}.")
    return HEADS[name]

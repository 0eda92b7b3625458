"""CE or RCE: the only place that knows which loss and which sign of the logits a network has.

After training everything (prediction, confidence, attacks, detection) works on the sign-adjusted
logits: Z for CE, −Z for RCE, whose softmax are the class probabilities. The original branches on
--RCE_train for this in five places.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from errors import InputError
from resnet_model import RCELoss, reversed_logits


@dataclasses.dataclass(frozen=True)
class Head:
    """A training objective and the head that goes with it.

    Attributes:
      name: "ce" or "rce".
      loss: labels int [n] and raw logits float32 [n, L] to the loss per example, float32 [n].
      attack_logits: raw logits Z [n, L] to the logits whose softmax are the class probabilities.
    """

    name: str
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    attack_logits: Callable[[tf.Tensor], tf.Tensor]

    def predict_classes(self, logits: tf.Tensor) -> tf.Tensor:
        """Predicted class int32 [n] of raw logits [n, L]: argmax Z (CE), argmin Z (RCE)."""
        return tf.argmax(self.attack_logits(logits), axis=-1, output_type=tf.int32)


HEADS = {
    "ce": Head("ce", keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="none"), tf.identity),
    "rce": Head("rce", RCELoss(reduction="none"), reversed_logits),
}


def name_of(rce_train: bool) -> str:
    """The objective that the flag --RCE_train stands for."""
    return "rce" if rce_train else "ce"


def get(name: str) -> Head:
    """The objective called `name`, or an InputError that lists what there is."""
    if name not in HEADS:
        raise InputError(
            f"objective must be one of [{', '.join(HEADS)}]. Received: objective={name!r}.")
    return HEADS[name]

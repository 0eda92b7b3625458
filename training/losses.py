"""The terms that a training objective weighs, and their sum."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from networks.heads import Head


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a term sees of the images of one replica in a training step.

    Attributes:
      images: float32 [n, h, w, c] in [-0.5, 0.5].
      labels: int32 [n].
      logits: raw, float32 [n, L], of the images with training=True.
      features: float32 [n, d] likewise.
      model: which is trained, from images to (raw logits, features).
      head: its loss per example and the sign of its logits.
      adversarial: images as `images`, of an objective that crafts; else None.
    """

    images: tf.Tensor
    labels: tf.Tensor
    logits: tf.Tensor
    features: tf.Tensor
    model: keras.Model
    head: Head
    adversarial: tf.Tensor | None = None


def head_loss(batch: Batch) -> tf.Tensor:
    """CE or RCE of each image, float32 [n]."""
    return batch.head.loss(batch.labels, batch.logits)


# Name in the rows of OBJECTIVES → term, from a Batch to float32 [n], one number an image.
TERMS: dict[str, Callable[[Batch], tf.Tensor]] = {"head_loss": head_loss}


def total(weights: tuple[tuple[str, float], ...], batch: Batch) -> tf.Tensor:
    """The weighted sum of terms, per image.

    Args:
      weights: (name in TERMS, weight) each, at least one.
      batch: of one replica.

    Returns:
      float32 [n]; its sum over all replicas, divided by their images, is what a step minimises.
    """
    terms = [_weighted(weight, TERMS[name](batch)) for name, weight in weights]
    # Plain training stays the graph of the head's loss alone, and with it its bytes.
    return terms[0] if len(terms) == 1 else tf.add_n(terms)


def _weighted(weight, term):
    return term if weight == 1.0 else weight * term  # without an op that changes nothing

"""The terms that a training objective weighs, and their sum.

Source: Mosbach et al. 2018, arXiv 1810.12042, section 2, and train.py of their code (`get_at_loss`,
`get_alp_loss`, `get_clp_loss`, `get_lsq_loss`). All are of the raw logits, so that a head only decides
which loss tells the classes apart.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from networks.heads import Head

# Under the root: at logits of 0 its slope would be NaN.
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a term sees of the images of one replica in a training step.

    Attributes:
      images: float32 [n, h, w, c] in [-0.5, 0.5].
      labels: int32 [n].
      logits: raw, float32 [n, L], of the images with training=True; None where no term asks.
      features: float32 [n, d] likewise.
      model: which is trained, from images to (raw logits, features).
      head: its loss per example and the sign of its logits.
      adversarial_logits: as `logits`, of attacked images; None where no term asks.
    """

    images: tf.Tensor
    labels: tf.Tensor
    logits: tf.Tensor | None
    features: tf.Tensor | None
    model: keras.Model
    head: Head
    adversarial_logits: tf.Tensor | None = None


def head_loss(batch: Batch) -> tf.Tensor:
    """CE or RCE of each image, float32 [n]."""
    return batch.head.loss(batch.labels, batch.logits)


def adversarial_loss(batch: Batch) -> tf.Tensor:
    """CE or RCE of each attacked image, float32 [n]."""
    return batch.head.loss(batch.labels, batch.adversarial_logits)


def alp(batch: Batch) -> tf.Tensor:
    """Adversarial logit pairing, float32 [n]: mean squared difference of the logits of an image and of
    itself attacked."""
    return tf.reduce_mean(
        tf.math.squared_difference(batch.logits, batch.adversarial_logits), axis=1)


def clp(batch: Batch) -> tf.Tensor:
    """Clean logit pairing, float32 [n]: mean squared difference of the logits of neighbours, rows 2i
    and 2i + 1, each of which bears it.

    Differs from the original: it pairs the halves of a batch; a replica's part of it keeps neighbours
    together, so that any number of replicas minimises one loss.
    """
    pairs = tf.reshape(batch.logits, [-1, 2, batch.logits.shape[1]])
    return tf.repeat(tf.reduce_mean(tf.math.squared_difference(pairs[:, 0], pairs[:, 1]), axis=1), 2)


def lsq(batch: Batch) -> tf.Tensor:
    """Logit squeezing, float32 [n]: the L2 norm of the logits."""
    # Differs from the original: there the slope at logits of 0 is NaN.
    return tf.sqrt(tf.reduce_sum(tf.square(batch.logits), axis=1) + _TINY)


# Name in the rows of OBJECTIVES → term, from a Batch to float32 [n], one number an image.
TERMS: dict[str, Callable[[Batch], tf.Tensor]] = {
    "head_loss": head_loss, "adversarial_loss": adversarial_loss, "alp": alp, "clp": clp, "lsq": lsq}


def parts(weights: tuple[tuple[str, float], ...], batch: Batch) -> list[tf.Tensor]:
    """The terms as they are, float32 [n] each, in the order of the weights."""
    return [TERMS[name](batch) for name, _ in weights]


def total(weights: tuple[tuple[str, float], ...], terms: list[tf.Tensor]) -> tf.Tensor:
    """The weighted sum of terms, per image.

    Args:
      weights: (name in TERMS, weight) each, at least one.
      terms: as `parts`.

    Returns:
      float32 [n]; its sum over all replicas, divided by their images, is what a step minimises.
    """
    weighted = [_weighted(weight, term) for (_, weight), term in zip(weights, terms, strict=True)]
    # Plain training stays the graph of the head's loss alone, and with it its bytes.
    return weighted[0] if len(weighted) == 1 else tf.add_n(weighted)


def _weighted(weight, term):
    return term if weight == 1.0 else weight * term  # without an op that changes nothing

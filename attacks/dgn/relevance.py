"""Which pixels speak for a class: layer-wise relevance propagation by the epsilon rule.

Source: Bach et al. 2015, PLoS ONE 10(7) e0130140, with the constant of the LRP toolbox's demo. The
original's own script was not published; with this rule its published lists come out exactly.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from attacks.dgn.target import Steps
from errors import InputError
from networks.network import Network
from networks.running import CHUNK_SIZE, padded_chunks
from networks.v1 import Dropout
from resnet_model import FusedBatchNorm

# Added to a pre-activation, away from 0, before it divides.
STABILISER = 0.01


class Relevance(NamedTuple):
    """Of the images of each class together.

    Attributes:
      scores: float64 [L, D], signed; D pixels by row, column, channel.
      num_images: int64 [L].
      num_below_zero: how many images of all classes started below 0: their signs are turned round.
    """

    scores: np.ndarray
    num_images: np.ndarray
    num_below_zero: int


def relevance(network: Network, x: np.ndarray, labels: np.ndarray, *, stabiliser: float = STABILISER,
              start_at_label: bool = False, batch_size: int = CHUNK_SIZE) -> Relevance:
    """Relevance of each pixel, summed over the images of each class, right and wrong ones.

    It starts at the predicted class with its sign-adjusted logit, of whatever sign. A layer
    z_j = Σ_i h_i w_ij + b_j, and a sum of layers, hands back R_i = h_i Σ_j w_ij R_j / (z_j ± s),
    s the stabiliser with the sign of z_j, + at 0; pooling by the maximum hands R to the winner;
    activations, and shifts and scales of whole images, pass it unchanged.

    Args:
      network: of the layers that the project's networks have; no ensemble.
      x: network inputs float32 [n, h, w, c] in [-0.5, 0.5], n ≥ 1.
      labels: their classes, int [n].
      stabiliser: above 0.
      start_at_label: starts at the class of the image in place of the predicted one.
      batch_size: images per call of the network.

    Returns:
      A `Relevance`.

    Raises:
      InputError: an ensemble, a layer without a rule, or a relevance that is not finite.
    """
    walk = _Walk(network, stabiliser, start_at_label)
    step, sums, below_zero = tf.function(walk.sums), 0.0, 0
    for number, (images, valid) in enumerate(padded_chunks(x, batch_size)):
        # Of no class where the images are padding.
        classes = np.full(batch_size, -1)
        classes[:valid] = labels[number * batch_size:][:valid]
        of_batch, below = step(images, classes)
        sums, below_zero = sums + of_batch.numpy(), below_zero + int(below)
    if not np.isfinite(sums).all():
        raise InputError(f"expected a finite relevance of {network.source}. Received: NaN or infinity "
                         f"in {np.count_nonzero(~np.isfinite(sums))} of {sums.size} sums.")
    return Relevance(sums, np.bincount(labels, minlength=len(sums)), below_zero)


def most_relevant(scores: np.ndarray, k: int) -> np.ndarray:
    """The k most relevant pixels of each class.

    Args:
      scores: [L, D].
      k: at least 1 and below D: the loss needs others, too.

    Returns:
      int32 [L, k], the highest score first, of equals the lowest pixel.

    Raises:
      InputError: another k.
    """
    most = scores.shape[1] - 1
    if not 1 <= k <= most:
        raise InputError(f"k must lie in [1, {most}]. Received: {k=}.")
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)


class _Walk:
    """Forwards through a network, each step with a tape of its own, and back by the rules."""

    def __init__(self, network, stabiliser, start_at_label):
        self._network, self._stabiliser = network, stabiliser
        self._start_at_label = start_at_label
        self._steps = Steps(network)
        self._rules = self._rules_on_the_way()

    def _rules_on_the_way(self):
        """Step → (rule, inputs that it hands relevance to), of those that any comes to."""
        rules, reached = {}, {id(self._steps.logits)}
        for step in reversed(self._steps):
            if reached.isdisjoint(map(id, keras.tree.flatten(step.call.output))):
                continue
            receivers = _receivers(step)
            rules[step] = _rule_of(step, receivers), receivers
            if rules[step][0] is None:
                raise _refused(self._network, step)
            reached.update(map(id, receivers))
        return rules

    def sums(self, x, labels):
        """Relevance summed by class, float64 [L, D]; how many images of a class started below 0.

        x: network inputs float32 [n, h, w, c]; labels: int64 [n], -1 of no class.
        """
        values, tapes = self._forward(x)
        logits = self._network.head.attack_logits(values[id(self._steps.logits)])
        start_at = labels if self._start_at_label else tf.argmax(logits, axis=1)
        start = logits * tf.one_hot(start_at, logits.shape[1])
        pixels = tf.reshape(self._backward(start, values, tapes), [-1, math.prod(x.shape[1:])])
        # In float64, or the sum over many images would round.
        by_class = tf.one_hot(labels, logits.shape[1], dtype=tf.float64)
        sums = tf.matmul(by_class, tf.cast(pixels, tf.float64), transpose_a=True)
        below_zero = (tf.reduce_min(start, axis=1) < 0.0) & (labels >= 0)
        return sums, tf.math.count_nonzero(below_zero)

    def _forward(self, x):
        """Values by symbolic tensor; (tape, pre-activation) of each step with a rule."""
        values, tapes = {id(self._steps.images): x}, {}
        for step in self._steps:
            _, receivers = self._rules.get(step, (None, ()))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([values[id(tensor)] for tensor in receivers])
                before = step.pre_activation(values)
            tapes[step] = tape, before
            step.run(before, values)
        return values, tapes

    def _backward(self, start, values, tapes):
        arrived = {id(self._steps.logits): start}
        for step, (rule, receivers) in self._rules.items():
            tape, before = tapes[step]
            inputs = [values[id(tensor)] for tensor in receivers]
            handed = rule(tape, inputs, before, arrived[id(step.call.output)], self._stabiliser)
            for tensor, part in zip(receivers, handed, strict=True):
                # An input of several layers collects what each of them says of it.
                arrived[id(tensor)] = arrived.get(id(tensor), 0.0) + part
        return arrived[id(self._steps.images)]


def _receivers(step):
    """The inputs, each once; of an operation between images and numbers of them, the images."""
    inputs = list({id(tensor): tensor for tensor in step.call.inputs}.values())
    if isinstance(step.layer, layers.Layer) or _type_of(step) not in _BY_NUMBERS:
        return inputs
    return [tensor for tensor in inputs if tensor.shape == step.call.output.shape]


# --- Rules: from the tape over a layer, its inputs, its pre-activation and the relevance that arrived
# at its output to the relevance of each input ---

def _weighed(tape, inputs, before, arrived, stabiliser):
    # R / (z ± stabiliser) as the gradient that comes back: J^T of it is Σ_j w_ij of it, of any layer
    # that is linear.
    signed = tf.where(before >= 0.0, stabiliser, -stabiliser)
    gradients = tape.gradient(before, inputs, arrived / (before + signed))
    return [x * gradient for x, gradient in zip(inputs, gradients, strict=True)]


def _moved(tape, inputs, before, arrived, stabiliser):
    # Each output is one of the inputs; padding takes none along.
    del stabiliser
    return tape.gradient(before, inputs, arrived)


def _passed(tape, inputs, before, arrived, stabiliser):
    del tape, inputs, before, stabiliser
    return [arrived]


_RULES = dict.fromkeys((layers.Dense, layers.Conv2D, layers.BatchNormalization, FusedBatchNorm,
                        layers.AveragePooling2D, layers.GlobalAveragePooling2D, layers.Add), _weighed)
_RULES |= dict.fromkeys((layers.MaxPooling2D, layers.Flatten, layers.Reshape), _moved)
_RULES |= dict.fromkeys((layers.Activation, layers.ReLU, layers.LeakyReLU, layers.Dropout, Dropout,
                         layers.Identity, layers.Rescaling), _passed)
# Of each value alone: none of them mixes units, as softmax does.
_ELEMENTWISE = (keras.activations.relu, keras.activations.leaky_relu, keras.activations.sigmoid)
# keras.ops, which are no layers, go by name: Keras does not show their types. These may take an image
# and numbers of it, as standardisation does.
_BY_NUMBERS = ("Add", "Subtract", "Multiply")


def _rule_of(step, receivers):
    """The rule of a step; None where there is none."""
    kind = _type_of(step)
    if isinstance(step.layer, layers.Layer):
        known = step.activation in (None, step.layer, *_ELEMENTWISE)
        return _RULES.get(type(step.layer)) if known else None
    if kind in _BY_NUMBERS and len(receivers) == 1:
        return _passed
    return {("Pad", 1): _moved, ("Add", 2): _weighed}.get((kind, len(receivers)))


def _refused(network, step):
    name = getattr(network.expected, "model", network.model.name)
    # Of a type that is known, it is the activation.
    activation = f" with {step.activation.__name__}" if type(step.layer) in _RULES else ""
    return InputError(f"relevance knows no rule for layer {step.call.name!r} of type {_type_of(step)}"
                      f"{activation}. Received: model={name!r}.")


def _type_of(step):
    return type(step.layer).__name__

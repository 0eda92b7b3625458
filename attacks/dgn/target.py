"""A target layer by layer: what relevance and Suspiciousness see of a network.

A layer of Keras is cut before its activation: relevance divides by pre-activations, and the loss moves
them.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from attacks.dgn.suspicion import hit_spectrum
from errors import InputError
from networks import graph
from networks.network import Network
from networks.running import CHUNK_SIZE, padded_chunks

# Layer → what it makes of its input before bias and activation. By exact type, here and below: a
# subclass may compute anything.
_KERNELS = {
    layers.Dense: lambda layer, x: keras.ops.matmul(x, layer.kernel),
    layers.Conv2D: lambda layer, x: layer.convolution_op(x, layer.kernel),
}
_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer in a network, cut before its activation.

    Values are tensors by the id of the symbolic tensor of the graph that stands for them.

    Attributes:
      call: in the graph.
      layer: the layer or operation itself, also where it stands under another name.
    """

    call: graph.Call
    layer: object

    @property
    def activation(self):
        """What `run` takes of the pre-activation; None of a step that has nothing to cut."""
        if type(self.layer) not in (*_KERNELS, *_ACTIVATIONS):
            return None
        function = getattr(self.layer, "activation", self.layer)
        return None if function is keras.activations.linear else function

    def pre_activation(self, values: dict[int, tf.Tensor]) -> tf.Tensor:
        """float32: what the activation is taken of; without one, the output.

        Args:
          values: of all inputs of the call.
        """
        kind, (x, *_) = type(self.layer), self.call.inputs
        if kind in _KERNELS:
            found = _KERNELS[kind](self.layer, values[id(x)])
            return found + self.layer.bias if self.layer.use_bias else found
        if kind in _ACTIVATIONS:
            return values[id(x)]
        arguments, keywords = keras.tree.map_structure(
            lambda value: values.get(id(value), value), self.call.arguments)
        return _float32(self.layer(*arguments, **keywords))

    def run(self, pre_activation: tf.Tensor, values: dict[int, tf.Tensor]) -> None:
        """Takes the activation and adds what the call gives to `values`."""
        output = pre_activation if self.activation is None else self.activation(pre_activation)
        pairs = zip(keras.tree.flatten(self.call.output), keras.tree.flatten(output), strict=True)
        values |= {id(symbol): _float32(value) for symbol, value in pairs}


def _float32(values):
    # Of a network that computes in half precision, too.
    return keras.tree.map_structure(lambda value: tf.cast(value, tf.float32), values)


class Steps:
    """The steps of one network, in order.

    Args:
      network: no ensemble.

    Attributes:
      images: the symbolic tensor at the start.
      logits: the symbolic tensor of the raw logits.

    Raises:
      InputError: an ensemble.
    """

    def __init__(self, network: Network):
        if network.members:
            raise InputError("LRP and Suspiciousness look into the layers of one network, and only NCE "
                             f"takes several. Received: {network.source}.")
        self.images = keras.Input(network.model.input_shape[1:], name="images")
        found = graph.Graph(network.model, self.images, self.images)
        self.logits, _ = found.output
        self._steps = [Step(call, _own(call.layer)) for call in found.calls]

    def __iter__(self):
        return iter(self._steps)

    def __reversed__(self):
        return reversed(self._steps)


def _own(layer):
    # A layer whose name another one has stands in the graph inside a layer of that module.
    return layer.layer if type(layer).__module__ == graph.__name__ else layer


@dataclasses.dataclass(frozen=True)
class Site:
    """Where units are looked at: one activation of the network.

    Attributes:
      name: of the layer.
      shape: (units,), or (height, width, maps) of a convolutional one.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def is_convolutional(self) -> bool:
        """Whether its units lie in feature maps."""
        return len(self.shape) > 1


class Target:
    """The units of a network: each place where it takes an activation, in order.

    Of a plain network these are its dense and convolutional layers but the last; of a ResNet, or behind
    batch norm, the activation layers. Source: DenseLayer and CNNLayer of the original.

    Args:
      network: no ensemble.

    Attributes:
      sites: each `Site`.

    Raises:
      InputError: an ensemble, or a network without such places.
    """

    def __init__(self, network: Network):
        self._network, self._steps = network, Steps(network)
        self._cut = [step for step in self._steps
                     if step.activation and step.call.output is not self._steps.logits]
        if not self._cut:
            raise InputError("Suspiciousness needs dense or convolutional layers with activations. "
                             f"Received: {network.source}, which has none that it knows.")
        self.sites = tuple(Site(step.call.name, tuple(step.call.output.shape[1:]))
                           for step in self._cut)

    def pre_activations(self, x: tf.Tensor) -> list[tf.Tensor]:
        """z of each site, float32 [n, *site.shape], of network inputs [n, h, w, c] in [-0.5, 0.5]."""
        before, _ = self._run(x)
        return [before[step] for step in self._cut]

    def activity(self, x: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Sign-adjusted logits [n, L] and the outputs of each site, of inputs as above."""
        _, values = self._run(x)
        logits = self._network.head.attack_logits(values[id(self._steps.logits)])
        return logits, [values[id(step.call.output)] for step in self._cut]

    def hits(self, x: np.ndarray, labels: np.ndarray, *, threshold: float = 0.0,
             batch_size: int = CHUNK_SIZE) -> list[np.ndarray]:
        """Hit spectra of the sites.

        Args:
          x: network inputs float32 [n, h, w, c] in [-0.5, 0.5], n ≥ 1.
          labels: their classes, int [n].
          threshold: a unit is active above it.
          batch_size: images per call of the network.

        Returns:
          A `suspicion.hit_spectrum` of each site, int32 [L, 4, *site.shape].
        """
        def active(images):
            logits, outputs = self.activity(images)
            return tf.argmax(logits, axis=1), [output > threshold for output in outputs]

        compiled, num_classes = tf.function(active), self._steps.logits.shape[-1]
        totals = [np.zeros((num_classes, 4, *site.shape), np.int32) for site in self.sites]
        for number, (images, valid) in enumerate(padded_chunks(x, batch_size)):
            true = labels[number * batch_size:][:valid]
            predicted, units = compiled(images)
            success = predicted.numpy()[:valid] == true
            for total, of_site in zip(totals, units, strict=True):
                total += hit_spectrum(of_site.numpy()[:valid], true, success, num_classes)
        return totals

    def _run(self, x):
        before, values = {}, {id(self._steps.images): x}
        for step in self._steps:
            before[step] = step.pre_activation(values)
            step.run(before[step], values)
        return before, values

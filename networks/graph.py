"""What a Keras model computes: its graph run once on a symbolic tensor, each call of a layer noted."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import keras
from keras import layers

from errors import InputError

# Of a layer's settings those that neither say what it computes nor survive a file unchanged.
_UNTOLD = {"name", "trainable", "seed", "dtype", "build_config", "shared_object_id", "batch_shape"}
_UNTOLD_ENDS = ("_initializer", "_regularizer", "_constraint")


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or operation: its arguments and what it gave, symbolic tensors."""

    layer: Any
    arguments: tuple
    output: Any

    @property
    def name(self) -> str:
        """Name of the layer, as the model has it."""
        return self.layer.name

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The tensors among the arguments."""
        return [value for value in keras.tree.flatten(self.arguments)
                if isinstance(value, keras.KerasTensor)]


class _Alias(layers.Layer):
    """A layer under another name: in one model no two may share theirs."""

    def __init__(self, layer, name):
        # The layer inside casts by a policy of its own.
        super().__init__(name=name, autocast=False)
        self.layer = layer

    def call(self, *args, **kwargs):
        return self.layer(*args, **kwargs)


class Graph:
    """All calls of a model's layers, in order, with those of nested models in their place.

    Args:
      model: Sequential, functional, or subclassed with a `call` of layers and operations.
      images: the symbolic tensor at the start.
      x: what is made of it for the model.

    Raises:
      InputError: a model whose graph cannot be seen.
    """

    def __init__(self, model: keras.Model, images: keras.KerasTensor, x: keras.KerasTensor):
        self.images, self.calls = images, []
        self._callables, self._names = {}, {images.name, "logits", "features"}
        self.output = self._run(model, x)

    def _run(self, layer, *args, **kwargs):
        # Inference mode always, whatever a call within a model asks for.
        kwargs.pop("training", None)
        if isinstance(layer, keras.Sequential):
            return functools.reduce(lambda x, inner: self._run(inner, x), layer.layers, args[0])
        if isinstance(layer, keras.Model):
            # Keras has no public way to run a graph with every call seen.
            return _functional(layer, args[0])._run_through_graph(args[0], call_fn=self._run)
        output = self._callable(layer)(*args, **kwargs)
        self.calls.append(Call(layer, (args, kwargs), output))
        return output

    def _callable(self, layer):
        """The layer, or an alias where another one has its name."""
        if id(layer) not in self._callables:
            name = self.unused_name(layer.name)
            self._callables[id(layer)] = layer if name == layer.name else _Alias(layer, name)
        return self._callables[id(layer)]

    def unused_name(self, name: str) -> str:
        """`name`, or with a number that no layer of the graph has."""
        number, found = 0, name
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def producer(self, tensor: keras.KerasTensor) -> Call | None:
        """The call whose output `tensor` is; None of the images."""
        return next((call for call in self.calls if call.output is tensor), None)

    def named(self, name: str, flag: str) -> Call:
        """The last call of the layer called `name`; an InputError that lists what there is."""
        found = [call for call in self.calls if call.name == name]
        if not found:
            names = ", ".join(dict.fromkeys(call.name for call in self.calls[-8:]))
            raise InputError(f"{flag} must be the name of a layer of the model, of which the last are "
                             f"{names}. Received: {flag}={name!r}.")
        return found[-1]

    def sha256(self, opened: str, *ends: keras.KerasTensor) -> str:
        """SHA-256 of what the layers compute, how they are connected and how the model was opened."""
        numbers = {id(call.output): number for number, call in enumerate(self.calls)}
        told = [[_told(call, numbers) for call in self.calls], opened,
                [numbers.get(id(end), -1) for end in ends]]
        # Calls by their number, not their names, which Keras counts up over a whole process.
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _told(call, numbers):
    try:
        config = keras.saving.serialize_keras_object(call.layer.get_config())
    except (NotImplementedError, TypeError, ValueError):
        config = {}  # an operation, or a layer that nobody could save either
    policy = getattr(call.layer, "dtype_policy", None)
    arguments = [f"tensor {numbers.get(id(value), -1)}" if isinstance(value, keras.KerasTensor)
                 else str(value) for value in keras.tree.flatten(call.arguments)]
    return [type(call.layer).__name__, getattr(policy, "name", ""), arguments, _plain(config)]


def _plain(config):
    """Settings without names and without what is not set: a later Keras may know more of those."""
    if isinstance(config, dict):
        return {key: _plain(value) for key, value in config.items()
                if key not in _UNTOLD and not key.endswith(_UNTOLD_ENDS) and value not in (None, False)}
    return [_plain(value) for value in config] if isinstance(config, list | tuple) else config


def _functional(model, x):
    """A functional model as it is; of a subclassed one the graph that its `call` lays."""
    if hasattr(model, "operations"):
        return model
    images = keras.Input(x.shape[1:], dtype=x.dtype)
    try:
        return keras.Model(images, model.call(images))
    except Exception as error:  # whatever the code of another hand raises
        raise InputError(
            f"expected a model of Keras layers and operations, whose graph can be seen: write it as "
            f"keras.Model(inputs, outputs). Received: {model.name}, a {type(model).__name__}, whose "
            f"call takes no symbolic tensor ({type(error).__name__}).") from error

"""Weights that Keras saved elsewhere, layer by layer into a network of ours."""

import os

import keras
import numpy as np

from errors import InputError
from files import keras_weights
from networks import portable


def load_weights(model: keras.Model, path: str) -> None:
    """Gives the layers of a network the weights of a file's layers, in order.

    Args:
      model: whose layers with weights are as many and of the same shapes.
      path: an HDF5 file of Keras 2, weights alone or a model, or a `.keras`.

    Raises:
      InputError: no such file, one of something else, or a layer that does not fit.
    """
    if not os.path.isfile(path):
        raise InputError("weights must be a file that Keras wrote. "
                         f"Received: weights={path!r}, no such file.")
    found = _of_model(path) if path.endswith(".keras") else keras_weights.read(path)
    own = [layer for layer in model.layers if layer.weights]
    if len(found) != len(own):
        raise InputError(f"expected {len(own)} layers with weights in {path}, as {model.name} has. "
                         f"Received: {len(found)}.")
    for layer, (name, arrays) in zip(own, found, strict=True):
        shapes, wanted = ([tuple(value.shape) for value in values]
                          for values in (arrays, layer.weights))
        if shapes != wanted:
            raise InputError(f"expected weights of shapes {wanted} for {layer.name} in {path}. "
                             f"Received: {name} of {shapes}.")
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"expected finite weights in {path}. Received: NaN or infinity in {name}.")
    # All fit: none is set before.
    for layer, (_, arrays) in zip(own, found, strict=True):
        layer.set_weights(arrays)


def _of_model(path):
    return [keras_weights.LayerWeights(layer.name, layer.get_weights())
            for layer in portable.load_model(path).layers if layer.weights]

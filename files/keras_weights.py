"""Weights in the HDF5 files of Keras 2, weights alone or whole models: read, never run."""

import os
from typing import NamedTuple

import h5py
import numpy as np

from errors import InputError, named
from files import hdf5

# Of a whole model, the group of what else would be the root.
_WEIGHTS_OF_MODEL = "model_weights"


class LayerWeights(NamedTuple):
    """A layer's name in the file and its arrays, in the order in which Keras lists them."""

    name: str
    arrays: list[np.ndarray]


def read(path: str | os.PathLike) -> list[LayerWeights]:
    """The layers that have weights, in order; an InputError when `path` is no such file."""
    try:
        with h5py.File(path) as file:
            root = file.get(_WEIGHTS_OF_MODEL, file)
            layers = [LayerWeights(name, [_array(root, f"{name}/{weight}") for weight in _names(
                root[name], "weight_names")]) for name in _names(root, "layer_names")]
    # HDF5 raises whatever it has for what anybody may have written.
    except Exception as error:
        raise InputError("expected weights as Keras 2 saves them in HDF5, with the names of layers. "
                         f"Received: {os.fspath(path)!r} ({named(error)}).") from None
    return [layer for layer in layers if layer.arrays]


def _names(group, attribute):
    return [name.decode() if isinstance(name, bytes) else str(name)
            for name in group.attrs[attribute]]


def _array(group, path):
    found = hdf5.own_dataset(group, path)
    if found is None or found.dtype.kind != "f":
        raise ValueError(f"{path} is no hard link to an array of numbers in this file")
    return found[()].astype(np.float32)

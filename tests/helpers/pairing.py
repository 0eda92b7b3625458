"""Numbers of the logit pairing goldens that are made again instead of stored (golden/README_LP.md)."""

import math
import zlib

import numpy as np

from tests.helpers.golden import golden

SEED = 11
# Layers of ours → of the original.
_LAYERS = {"conv1": "conv1_vars", "conv2": "conv2_vars", "hidden": "fc1_vars", "logit": "fc2_vars"}


def uniform(name, shape, bound):
    """float32 in [−bound, bound), the same on every platform."""
    rng = np.random.RandomState(zlib.crc32(f"{SEED}/{name}".encode()))
    words = np.frombuffer(rng.bytes(2 * math.prod(shape)), "<u2").astype(np.int64) - 32768
    return ((words.astype(np.float32) / np.float32(32768)) * np.float32(bound)).reshape(shape)


def assign_lenet(model, stored=None):
    """Gives a LeNet the goldens' seeded weights; those that are stored instead, under their names."""
    for variable in model.trainable_variables:
        layer, leaf = variable.path.split("/")[-2:]
        name = f"{_LAYERS[layer]}/{'weights' if leaf == 'kernel' else 'biases'}"
        if stored is not None and name in stored:
            variable.assign(stored[name])
            continue
        shape = tuple(variable.shape)
        bound = math.sqrt(6 / math.prod(shape[:-1])) if leaf == "kernel" else 0.125
        variable.assign(uniform(name, shape, bound))


def clp_lenet():
    """The LeNet that the authors' code trained with CLP for 160 steps, as a Keras model."""
    from networks.lenet import build_lenet

    model = build_lenet((28, 28, 1), 10)
    assign_lenet(model, golden("lp_lenet_clp_weights"))
    return model


def images_of(arrays):
    """`images_uint8` as our networks take them."""
    return arrays["images_uint8"].astype(np.float32) / np.float32(255) - np.float32(0.5)

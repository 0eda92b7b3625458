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


def variable(name, shape):
    """The seeded value of a variable of the original (README_LP.md)."""
    if name.endswith("/weights"):
        return uniform(name, shape, math.sqrt(6 / math.prod(shape[:-1])))
    if name.endswith("/gamma"):
        return np.float32(1) + uniform(name, shape, 0.25)
    if name.endswith("/moving_variance"):
        return np.float32(1) + uniform(name, shape, 0.5)
    return uniform(name, shape, 0.125)


def original_name(path):
    """What the original calls a variable of our LeNet or resnet20_wide."""
    layer, leaf = path.split("/")[-2:]
    if layer.startswith("bn"):
        return f"batch-norm-conv{layer[2:]}/{leaf}"
    known = _LAYERS | {"logit": "fc1_vars" if "resnet" in path else "fc2_vars"}
    layer = known.get(layer, f"{layer}_vars")
    return f"{layer}/{'weights' if leaf == 'kernel' else 'biases'}"


def assign_resnet(model):
    """Gives a resnet20_wide the goldens' seeded weights."""
    for one in model.variables:
        layer, leaf = one.path.split("/")[-2:]
        name = f"fc1_vars/{'weights' if leaf == 'kernel' else 'biases'}" if layer == "logit" else (
            original_name(one.path))
        one.assign(variable(name, tuple(one.shape)))


def images_of_bytes(name, shape):
    """float32 in [−0.5, 0.5] of the bytes that the goldens name."""
    rng = np.random.RandomState(zlib.crc32(f"{SEED}/{name}".encode()))
    stored = np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape)
    return stored.astype(np.float32) / np.float32(255) - np.float32(0.5)


def normal_like(name, shape, sigma):
    """float32 sums of twelve uniform numbers, of deviation sigma."""
    size = math.prod(shape)
    rng = np.random.RandomState(zlib.crc32(f"{SEED}/{name}".encode()))
    words = np.frombuffer(rng.bytes(24 * size), "<u2").astype(np.int64).reshape(12, size)
    return ((words.sum(0) - 6 * 65535).astype(np.float64) / 65536.0 * sigma).astype(np.float32).reshape(
        shape)


def noisy(x, name, sigma):
    """Images in [−0.5, 0.5] plus noise, in the box: the original's arithmetic is in [0, 1]."""
    return np.clip(x + np.float32(0.5) + normal_like(name, x.shape, sigma), 0, 1) - np.float32(0.5)


def nudged(x, name, bound):
    """The same with uniform numbers."""
    return np.clip(x + np.float32(0.5) + uniform(name, x.shape, bound), 0, 1) - np.float32(0.5)


def clp_lenet():
    """The LeNet that the authors' code trained with CLP for 160 steps, as a Keras model."""
    from networks.lenet import build_lenet

    model = build_lenet((28, 28, 1), 10)
    assign_lenet(model, golden("lp_lenet_clp_weights"))
    return model


def images_of(arrays):
    """`images_uint8` as our networks take them."""
    return arrays["images_uint8"].astype(np.float32) / np.float32(255) - np.float32(0.5)

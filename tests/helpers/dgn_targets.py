"""The targets of the goldens of the data-generation networks as networks of ours."""

import numpy as np

from networks import heads
from networks.cifar_cnn import build_cifar_cnn
from networks.mnist_5x30 import build_mnist_5x30
from networks.network import Network
from tests.helpers import dgn

# Name → (builder, shape of its images).
_BUILDERS = {"mnist_5x30": (build_mnist_5x30, (28, 28, 1)), "cifar_cnn": (build_cifar_cnn, (32, 32, 3))}


def target(name: str) -> Network:
    """The network of dgn_targets_public.npz called "mnist_5x30" or "cifar_cnn"."""
    build, shape = _BUILDERS[name]
    weights = dgn.weights(name)
    model = build(shape, len(weights[-1][1]))
    model.set_weights([array for pair in weights for array in pair])
    return Network(model, heads.get("ce"))


def inputs(stored: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w] or [n, h, w, c] as networks take them."""
    images = dgn.pixels(stored) - np.float32(0.5)
    return images if images.ndim == 4 else images[..., np.newaxis]

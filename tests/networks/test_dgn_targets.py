"""The targets of the data-generation networks: parameters, outputs, initial weights, refusals."""

import numpy as np
import pytest

from errors import InputError
from networks.cifar_cnn import build_cifar_cnn
from networks.mnist_5x30 import build_mnist_5x30


def test_parameters_and_features_are_the_originals():
    mnist, cifar = build_mnist_5x30((28, 28, 1), 10), build_cifar_cnn((32, 32, 3), 10)
    assert (mnist.count_params(), cifar.count_params()) == (27580, 122570)
    assert [model.outputs[1].shape[-1] for model in (mnist, cifar)] == [30, 64]


def test_the_outputs_are_those_of_a_naive_network():
    model = build_mnist_5x30((4, 4, 1), 3, seed=2)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 4, 4, 1)).astype(np.float32)
    hidden = x.reshape(5, -1) + np.float32(0.5)
    weights = model.get_weights()
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        hidden = np.maximum(hidden @ kernel + bias, 0)
    logits, features = model(x)
    np.testing.assert_allclose(features, hidden, atol=1e-6)
    np.testing.assert_allclose(logits, hidden @ weights[-2] + weights[-1], atol=1e-6)


@pytest.mark.parametrize(("build", "shape"), [(build_mnist_5x30, (28, 28, 1)),
                                              (build_cifar_cnn, (32, 32, 3))])
def test_initial_weights_are_glorots_and_by_seed(build, shape):
    first, again, other = (build(shape, 10, seed=seed).get_weights() for seed in (5, 5, 6))
    for kernel, same, another in zip(first[::2], again[::2], other[::2], strict=True):
        np.testing.assert_array_equal(kernel, same)
        assert np.any(kernel != another)
        field = np.prod(kernel.shape[:-2])
        limit = np.sqrt(6 / (field * (kernel.shape[-2] + kernel.shape[-1])))
        assert 0.9 * limit < np.abs(kernel).max() <= limit
    assert not any(bias.any() for bias in first[1::2])


def test_images_of_which_nothing_would_be_left_are_refused():
    with pytest.raises(InputError, match=r"at least 20 by 20 pixels\. Received: image_shape=\(16, 32"):
        build_cifar_cnn((16, 32, 3), 10)

"""LeNet: the original's outputs, its initial weights, what it refuses."""

import numpy as np
import pytest

from errors import InputError
from networks.lenet import build_lenet
from tests.helpers import pairing
from tests.helpers.golden import golden


def test_logits_and_features_are_the_originals():
    arrays = golden("lp_forward")
    model = build_lenet((28, 28, 1), 10)
    pairing.assign_lenet(model)
    images = arrays["lenet/images_uint8"].astype(np.float32) / np.float32(255) - np.float32(0.5)
    logits, features = model(images)
    np.testing.assert_allclose(logits, arrays["lenet/logits"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(features, arrays["lenet/features"], rtol=0, atol=5e-6)
    assert model.count_params() == arrays["lenet/num_parameters"] == 3241354


def test_initial_weights_are_hes_and_by_seed():
    first, again, other = (build_lenet((8, 8, 1), 10, seed=seed).get_weights() for seed in (5, 5, 6))
    for kernel, same, another in zip(first[::2], again[::2], other[::2], strict=True):
        np.testing.assert_array_equal(kernel, same)
        assert np.any(kernel != another)
        fan_in = np.prod(kernel.shape[:-1])
        # Of the smallest kernel, 288 numbers, the deviation is known to 4 %.
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.2)
    assert not any(bias.any() for bias in first[1::2])


def test_sizes_that_do_not_halve_twice_are_refused():
    with pytest.raises(InputError, match=r"divisible by 4\. Received: image_shape=\(10, 8, 1\)"):
        build_lenet((10, 8, 1), 10)

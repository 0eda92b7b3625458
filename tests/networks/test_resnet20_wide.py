"""The wide ResNet-20 of the logit pairing paper against the authors' own forward passes."""

import numpy as np
import pytest

from networks.resnet20_wide import build_resnet20_wide
from tests.helpers import pairing
from tests.helpers.golden import golden


@pytest.fixture(scope="module")
def wide():
    model = build_resnet20_wide((32, 32, 3), 10)
    pairing.assign_resnet(model)
    return model


@pytest.mark.parametrize(("mode", "tolerance"), [("eval", 5e-5), ("train", 1e-5)])
def test_outputs_are_the_originals(wide, mode, tolerance):
    arrays = golden("lp_forward")
    before = wide.get_weights()
    logits, features = wide(pairing.images_of_bytes("forward/images", (4, 32, 32, 3)),
                            training=mode == "train")
    wide.set_weights(before)  # its moving averages have moved
    np.testing.assert_allclose(logits, arrays[f"resnet20_wide/{mode}/logits"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(features, arrays[f"resnet20_wide/{mode}/features"], rtol=0,
                               atol=tolerance)


def test_parameters(wide):
    arrays = golden("lp_forward")
    assert wide.count_params() == arrays["resnet20_wide/num_all"]
    trainable = sum(int(np.prod(v.shape)) for v in wide.trainable_variables)
    assert trainable == arrays["resnet20_wide/num_trainable"] == 4330570


def test_its_averages_forget_slowly():
    model = build_resnet20_wide((8, 8, 3), 10, width=2)
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 8, 8, 3)).astype(np.float32)
    model(images, training=True)
    moved = next(v.numpy() for v in model.variables if v.path.endswith("bn2/moving_variance"))
    # 0.999 of the ones that it began with.
    assert np.all(np.abs(moved - 0.999) < 1e-2) and np.any(moved != 1)

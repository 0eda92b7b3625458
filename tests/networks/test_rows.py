"""The networks, a row each: what a row says against what its builder does; a toy one as one row."""

import inspect

import keras
import numpy as np
import pytest

from data import inputs
from errors import InputError
from networks import (
    BATCH_NORM,
    CONVOLUTIONS,
    DROPOUT,
    NETWORKS,
    Architecture,
    Variant,
    get_network,
    restoring,
    title_of,
)
from networks.network import count_correct
from networks.recipes import Recipe
from networks.spec import NetworkSpec
from resnet_model import FusedBatchNorm
from tests.helpers.script_runner import refused, succeeded

ROWS = [pytest.param(row, channels, id=f"{row.name}-{channels}")
        for row in NETWORKS.values() for channels in (1, 3) if {channels, None} & set(row.variants)]


# Of images: that of the others is 8.
SIZES = {"cifar_cnn": 20}


def shape_for(row, channels):
    return (*[SIZES.get(row.name, 8)] * 2, channels)


def built(row, channels, **layers):
    return restoring.build_model(
        NetworkSpec("npz", shape_for(row, channels), 4, 1, "ce", row.name), **layers)


@pytest.mark.parametrize(("row", "channels"), ROWS)
def test_a_network_has_the_layers_that_its_row_says(row, channels):
    kinds = [type(layer).__name__ for layer in built(row, channels).layers]
    assert {BATCH_NORM: "FusedBatchNorm" in kinds, DROPOUT: "Dropout" in kinds,
            CONVOLUTIONS: "Conv2D" in kinds} == {
        layer: layer in row.variant(channels).layers for layer in (BATCH_NORM, DROPOUT, CONVOLUTIONS)}


@pytest.mark.parametrize(("row", "channels"), ROWS)
def test_a_network_gives_logits_and_features(row, channels):
    logits, features = built(row, channels)(np.zeros((3, *shape_for(row, channels)), np.float32))
    assert logits.shape == (3, 4) and features.shape[0] == 3 and len(features.shape) == 2


@pytest.mark.parametrize(("row", "channels"), ROWS)
def test_a_builder_takes_what_its_row_says(row, channels):
    signature = inspect.signature(row.load_builder())
    units = {"blocks_per_stage": 1} if row.has_residual_units else {}
    signature.bind((8, 8, channels), 4, seed=0, **units,
                   **dict.fromkeys(row.keywords(channels)))


@pytest.mark.parametrize(("row", "channels"), ROWS)
def test_layers_that_a_network_lacks_do_nothing(row, channels):
    model = built(row, channels, batch_norm=FusedBatchNorm, mixed_precision="bfloat16",
                  dropout=lambda seed, name: keras.layers.Identity(name=name))
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers) == (
        CONVOLUTIONS in row.variant(channels).layers)


def test_titles():
    assert [title_of("resnet", n) for n in (5, 9, 18)] == ["ResNet-32", "ResNet-56", "ResNet-110"]
    assert title_of("mlp", 0) == "mlp" and title_of("of_another_hand", 0) == "of_another_hand"


def test_an_unknown_network_is_refused_with_the_rows():
    with pytest.raises(InputError, match=r"\[resnet, .*lenet.*\]\. Received: model='alexnet'"):
        get_network("alexnet")


def test_a_network_refuses_channels_that_it_has_no_variant_for():
    with pytest.raises(InputError, match=r"lenet expected images of one channel\..*: channels=3"):
        built(NETWORKS["lenet"], 3)


def build_toy(image_shape, num_classes, *, seed=0):
    """One dense layer; its input are the features."""
    images = keras.Input(image_shape, name="images")
    features = keras.layers.Flatten()(images)
    initializer = keras.initializers.GlorotUniform(seed)
    logits = keras.layers.Dense(num_classes, kernel_initializer=initializer, name="logit")(features)
    return keras.Model(images, (logits, features), name="toy")


@pytest.fixture
def toy(monkeypatch):
    """A network is one builder and one row."""
    monkeypatch.setitem(NETWORKS, "toy", Architecture(
        "toy", f"{__name__}:build_toy",
        {None: Variant((), Recipe("mom", 0.5, 1.0, 0.0, batch_size=50, epochs=2, falls=()))}))


def test_a_toy_network_from_the_command_line(toy, cpu, tmp_path):
    network = ("--dataset=digits", "--model=toy", "--log_root=m")
    succeeded("train", *network, cwd=tmp_path)
    result = succeeded("test_nor", *network, "--mode=eval", "--eval_once", cwd=tmp_path)
    restored = restoring.restore(
        cpu, str(tmp_path / "m"), NetworkSpec("digits", (8, 8, 1), 10, 0, "ce", "toy"))
    correct = count_correct(restored.forward_stored(cpu), inputs.load("digits", "", "test"), 360)
    assert correct > 180 and f"precision: {correct / 360:.5f}" in result.out
    refused("train", *network, "--mixed_precision=bfloat16", cwd=tmp_path,
            words=["expected a network with convolutions", "model='toy'"])

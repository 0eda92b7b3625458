"""Weights of Keras files in our networks: HDF5 of Keras 2, .keras, and what does not fit."""

import h5py
import numpy as np
import pytest

from errors import InputError
from networks.importing import load_weights
from networks.mnist_5x30 import build_mnist_5x30
from tests.helpers.script_runner import refused, succeeded


def save_as_keras_2(path, model, *, group="", arrays=None):
    """As Keras 2.2 saves weights: layers by name, weights by name, both listed in attributes."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        layers = [layer for layer in model.layers if layer.weights]
        # One without weights is listed, too.
        names = ["flatten_1", *(f"dense_{number}" for number in range(1, len(layers) + 1))]
        root.attrs["layer_names"] = [name.encode() for name in names]
        root.create_group("flatten_1").attrs["weight_names"] = []
        for name, layer in zip(names[1:], layers, strict=True):
            weights = [f"{name}/{leaf}:0" for leaf in ("kernel", "bias")]
            own = root.create_group(name)
            own.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, layer.get_weights(), strict=True):
                own[weight] = array if arrays is None else arrays(array)


@pytest.mark.parametrize("group", ["", "model_weights"])
def test_weights_of_keras_2(tmp_path, group):
    source, target = (build_mnist_5x30((4, 4, 1), 10, seed=seed) for seed in (1, 2))
    save_as_keras_2(tmp_path / "w.h5", source, group=group)
    load_weights(target, str(tmp_path / "w.h5"))
    for found, expected in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_weights_of_a_keras_file(tmp_path):
    source, target = (build_mnist_5x30((4, 4, 1), 10, seed=seed) for seed in (1, 2))
    source.save(tmp_path / "m.keras")
    load_weights(target, str(tmp_path / "m.keras"))
    for found, expected in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def refusal(model, path):
    before = model.get_weights()
    with pytest.raises(InputError) as error:
        load_weights(model, str(path))
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    return str(error.value)


def test_what_does_not_fit_names_layer_and_shapes(tmp_path):
    model = build_mnist_5x30((4, 4, 1), 10)
    path = tmp_path / "w.h5"
    save_as_keras_2(path, build_mnist_5x30((8, 8, 1), 10))
    assert refusal(model, path) == (
        f"expected weights of shapes [(16, 30), (30,)] for hidden1 in {path}. "
        "Received: dense_1 of [(64, 30), (30,)].")
    save_as_keras_2(path, model, arrays=lambda array: np.full_like(array, np.nan))
    assert "NaN or infinity in dense_1" in refusal(model, path)
    assert "no such file" in refusal(model, tmp_path / "none.h5")
    path.write_bytes(b"no HDF5")
    assert "expected weights as Keras 2 saves them in HDF5" in refusal(model, path)


def test_links_into_other_files_are_not_followed(tmp_path):
    model = build_mnist_5x30((4, 4, 1), 10)
    save_as_keras_2(tmp_path / "there.h5", model)
    save_as_keras_2(tmp_path / "w.h5", model)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["dense_1/dense_1"]
        file["dense_1/dense_1"] = h5py.ExternalLink("there.h5", "/dense_1/dense_1")
    assert "no hard link" in refusal(model, tmp_path / "w.h5")


def test_the_script_makes_a_checkpoint(tmp_path):
    save_as_keras_2(tmp_path / "w.h5", build_mnist_5x30((8, 8, 1), 10, seed=3))
    network = ("--dataset=digits", "--model=mnist_5x30", "--log_root=m")
    result = succeeded("others", *network, "--mode=import_keras", "--weights=w.h5", cwd=tmp_path)
    assert "Imported w.h5 as m/model.ckpt-0: mnist_5x30 for digits" in result.out
    assert "precision" in succeeded("test_nor", *network, "--mode=eval", cwd=tmp_path).out
    refused("others", *network, "--mode=import_keras", "--weights=w.h5", cwd=tmp_path,
            words=["log_root must not hold a checkpoint yet", "model.ckpt-0"])

"""model.keras and SavedModel: equal outputs, and nothing of this project needed to load them."""

import importlib
import os
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from data import inputs
from data.pixels import to_network_input
from errors import InputError
from files import provenance, tf1_checkpoints
from networks import foreign, portable, restoring
from networks.spec import NetworkSpec, Opening
from resnet_model import named_variables
from tests.helpers import script_runner
from tests.helpers.golden import GOLDEN, golden
from tests.helpers.script_runner import NETWORK, run, succeeded

TF1_PATH = str(GOLDEN / "tf1_checkpoint_mnist_u1_rce" / "model.ckpt-1501")
# Run outside of the project, without its folder on the path.
LOAD = """
import sys
import keras
import numpy as np

model = keras.models.load_model(sys.argv[1])
outputs = model.predict(np.load(sys.argv[2]), verbose=0)
np.savez(sys.argv[3], **outputs)
print(model.inputs[0].name, sorted({"networks", "resnet_model", "files"} & set(sys.modules)))
"""


def assert_outputs(found, network, images):
    """The dict of outputs equals what the network gives."""
    logits, features = network.logits_and_features(images)
    expected = {"logits": logits, "features": features, "probabilities": tf.nn.softmax(logits)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6 * scale, err_msg=name)


def load_elsewhere(path, images, folder):
    """Outputs of model.keras in a fresh process."""
    np.save(folder / "images.npy", images)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), "images.npy", "out.npz"], cwd=folder, timeout=300,
        env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "images []\n"), done.stderr
    return dict(np.load(folder / "out.npz"))


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory, cpu):
    """(folder of the exported files, the tiny run's network, test images as network inputs)."""
    tiny = script_runner.tiny_run(tmp_path_factory)
    folder = tmp_path_factory.mktemp("export")
    succeeded("others", "--mode=export_model", *NETWORK, f"--log_root={tiny}/models/tiny",
              "--output_dir=out", cwd=folder)
    network = restoring.restore(
        cpu, f"{tiny}/models/tiny", NetworkSpec("digits", (8, 8, 1), 10, 1, "rce"))
    images = to_network_input(inputs.load("digits", "", "test").images[:7])
    return folder / "out", network, images


def test_the_files(tiny_export):
    folder, _, _ = tiny_export
    assert {path.name for path in folder.iterdir()} == {
        "model.keras", "saved_model", "export_model_run.json"}
    assert provenance.read(folder, "export_model")["metrics"]["step"] == script_runner.STEPS


def test_keras_loads_it_without_this_project(tiny_export, tmp_path):
    folder, network, images = tiny_export
    assert_outputs(load_elsewhere(folder / "model.keras", images, tmp_path), network, images)


@pytest.mark.parametrize("count", [1, 7])
def test_the_saved_model_takes_any_number_of_images(tiny_export, count):
    folder, network, images = tiny_export
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    assert_outputs(loaded.serve(tf.constant(images[:count])), network, images[:count])
    named = loaded.signatures["serving_default"](images=tf.constant(images[:count]))
    assert_outputs(named, network, images[:count])


@pytest.mark.parametrize("objective", ["rce", pytest.param("ce", marks=pytest.mark.slow)])
def test_a_checkpoint_of_the_original_as_a_model(cpu, tmp_path, objective):
    network = restoring.build_network(
        cpu, NetworkSpec("mnist", (28, 28, 1), 10, 1, objective))
    tf1_checkpoints.restore_network(TF1_PATH, named_variables(network.model))
    model = portable.portable_model(network)
    images = golden("forward_mnist_u1_rce")["images"]
    assert_outputs(model(images), network, images)
    if objective == "rce":
        portable.save_model(model, str(tmp_path))
        found = load_elsewhere(tmp_path / "model.keras", images, tmp_path)
        assert_outputs(found, network, images)
        forward = golden("forward_mnist_u1_rce")
        np.testing.assert_allclose(found["logits"], -forward["eval_logits"], rtol=0, atol=1e-5)


def test_a_failed_export_leaves_nothing(cpu, tmp_path, monkeypatch):
    network = restoring.build_network(cpu, NetworkSpec("digits", (8, 8, 1), 10, 1, "ce"))
    model = portable.portable_model(network)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(type(model), "export", fail)
    with pytest.raises(OSError, match="disk full"):
        portable.save_model(model, str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "words"), [
    ("--RCE_train=False", "--RCE_train contradicts the checkpoint"),
    ("--num_residual_units=2", "--num_residual_units contradicts the checkpoint"),
    ("--dataset=mnist", "--dataset contradicts the checkpoint"),
    ("--output_dir=", "--output_dir must be given"),
    ("--log_root=none", "a checkpoint written by train.py"),
])
def test_export_model_refuses(tmp_path, tmp_path_factory, change, words):
    tiny = script_runner.tiny_run(tmp_path_factory)
    result = run("others", "--mode=export_model", *NETWORK, f"--log_root={tiny}/models/tiny",
                 "--output_dir=out", change, cwd=tmp_path)
    assert (result.code, result.out) == (1, "")
    assert words in result.err and "Received: " in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_earlier_model_is_kept(tiny_export, tmp_path_factory):
    folder, _, _ = tiny_export
    tiny = script_runner.tiny_run(tmp_path_factory)
    result = run("others", "--mode=export_model", *NETWORK, f"--log_root={tiny}/models/tiny",
                 f"--output_dir={folder}", cwd=folder)
    assert result.code == 1
    assert "earlier model.keras" in result.err


# Files of other hands.


def _small(*last):
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255),
                             keras.layers.Flatten(), *last, keras.layers.Dense(3)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_gives_the_network_of_its_model(cpu, tmp_path, suffix):
    model = _small()
    model.compile("adam", loss=lambda y, p: tf.reduce_sum(p))  # a loss that no file can hold
    model.save(tmp_path / f"mine{suffix}")
    told = []
    found = portable.open_model(cpu, tmp_path / f"mine{suffix}", Opening(), dataset="npz",
                                note=told.append)
    assert found.digests() == foreign.from_keras(model).digests()
    assert found.expected.model == "mine"
    assert told[0].startswith(f"{tmp_path}/mine{suffix}: images (8, 8, 1)")


def test_a_class_beside_the_file_is_run_only_where_trusted(tmp_path, monkeypatch):
    (tmp_path / "their_layers.py").write_text(
        "import keras\nclass Twice(keras.layers.Layer):\n    def call(self, x): return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = _small(importlib.import_module("their_layers").Twice())
    model.save(tmp_path / "mine.keras")
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "their_layers")
    with pytest.raises(InputError, match=r"trust_model=True.*Received: the class Twice, which is not"):
        portable.load_model(tmp_path / "mine.keras")
    images = np.ones((2, 8, 8, 1), np.float32)
    loaded = portable.load_model(tmp_path / "mine.keras", trust_model=True)
    np.testing.assert_array_equal(loaded(images), model(images))
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(("make", "words"), [
    (lambda path: _small().save_weights(path), "a whole Keras model at .*No model config"),
    (lambda path: path.write_bytes(b"text"), "a whole Keras model at ")])
def test_an_h5_without_a_model(tmp_path, make, words):
    make(tmp_path / "mine.weights.h5")
    with pytest.raises(InputError, match=words) as refusal:
        portable.load_model(tmp_path / "mine.weights.h5")
    assert "Received: " in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_whose_weights_end_early(tmp_path):
    path = tmp_path / "mine.keras"
    _small().save(path)
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\1\2", 0, data.rfind(b"model.weights.h5"))
    data[entry + 20:entry + 28] = struct.pack("<2I", 2**20, 2**20)  # both of its sizes, as claimed
    path.write_bytes(data)
    # zipfile's exception says nothing: its name is all that can be told.
    with pytest.raises(InputError, match=f"a whole Keras model at {path}.* Received: EOFError.$"):
        portable.load_model(path)

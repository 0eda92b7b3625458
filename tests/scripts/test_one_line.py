"""A refusal is one line on standard error, whichever script, flag or file is at fault."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from files import checkpoints
from networks import from_keras, heads
from networks.network import Network
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, ROOT, SCRIPTS, run

# Members of each type of flag, as people mistype them.
MISTYPED = [
    ("train", "--batch_size=abc", "a whole number. Received: batch_size='abc'"),
    ("train", "--batch_size=1.5", "a whole number. Received: batch_size='1.5'"),
    ("train", "--batch_size=", "a whole number. Received: batch_size=''"),
    ("train", "--batch_size=1e3", "a whole number"), ("train", "--total_steps=1:2", "'1:2'"),
    ("train", "--learning_rate=fast", "a number. Received: learning_rate='fast'"),
    ("train", "--learning_rate=0,1", "a number"), ("train", "--RCE_train=maybe", "True or False"),
    ("train", "--total_steps=1000000000000000000000000000000", "at most 2147483647"),
    ("train", "--seed=-1", "seed must lie in"), ("train", "--seed=abc", "a whole number"),
    ("test_nor", "--eval_timeout=soon", "a whole number"), ("test_adv", "--eps=small", "a number"),
    ("test_adv", "--overwrite=2", "True or False"), ("others", "--num_images=few", "a whole number"),
    ("detect", "--eta=one", "a number"), ("detect", "--matlab_ties=perhaps", "True or False"),
    ("detect", "--log_root=~nobody_here/x", "must name a home folder"),
    ("test_adv", "--num_restarts", "Missing value"),
    ("train", "--bath_size=3", "the nearest is --batch_size"),
]


@pytest.mark.parametrize(("script", "flag", "words"), MISTYPED)
def test_a_mistyped_flag_in_process(script, flag, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    import flags

    script_runner.define(script)
    code = flags.guarded(lambda: flags.check_command_line(flags._parsed([f"{script}.py", flag])))
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1 and error.startswith("error: ")
    assert words in error and "Received: " in error


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("flag", ["--seed=abc", "--nosuchflag=1", "--seed=-1", "positional"])
def test_a_mistyped_flag_of_a_real_process(script, flag, tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / f"{script}.py"), flag], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("script", "arguments"), [
    ("train", ["--train_data_path=none.npz", "--dataset=npz", "--log_root=x"]),
    ("test_nor", ["--dataset=digits", "--log_root=none", "--eval_once=True", "--mode=eval"]),
    ("test_adv", ["--dataset=digits", "--log_root=none", "--mode=attack"]),
    ("others", ["--dataset=digits", "--log_root=none", "--mode=info"]),
    ("detect", ["--dataset=digits", "--mode=apply", "--objective_tag=RCE", "--images=none"])])
def test_a_refusal_behind_the_import_of_tensorflow(script, arguments, tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / f"{script}.py"), *arguments], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


# --- Networks that are no use ---

def _saved_with(source, folder, change):
    """The checkpoint of `source` in `folder`, its tensors changed."""
    found = tf.train.latest_checkpoint(source)
    reader = tf.train.load_checkpoint(found)
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    kernel = next(name for name in sorted(tensors)
                  if name.startswith("network") and "kernel" in name and tensors[name].ndim == 4)
    change(tensors, kernel)
    folder.mkdir()
    path = str(folder / found.rsplit("/", 1)[1])
    tf.raw_ops.SaveV2(prefix=path, tensor_names=list(tensors), shape_and_slices=[""] * len(tensors),
                      tensors=[tf.constant(value) for value in tensors.values()])
    checkpoints.write_state(str(folder), [path])
    return folder


def _nan(tensors, kernel):
    tensors[kernel].flat[3] = np.nan


def _infinite(tensors, kernel):
    tensors[kernel].flat[0] = np.inf


def _missing(tensors, kernel):
    del tensors[kernel]


def _misshapen(tensors, kernel):
    tensors[kernel] = tensors[kernel][..., :3]


JOBS = {"test_nor": ("--mode=eval", "--eval_once=True"),
        "test_adv": ("--mode=attack", "--eps=0.1", "--eval_batch_count=1"),
        "others": ("--mode=kernel_para", "--eval_batch_count=1")}


@pytest.mark.parametrize(("change", "words"), [
    (_nan, "NaN or infinity in"), (_infinite, "NaN or infinity in"),
    (_missing, "not found in checkpoint"), (_misshapen, "shape")])
@pytest.mark.parametrize("script", JOBS)
def test_a_checkpoint_that_is_no_use(script, change, words, tmp_path, tmp_path_factory):
    tiny = script_runner.tiny_run(tmp_path_factory)
    folder = _saved_with(tiny / "models/tiny", tmp_path / "bad", change)
    before = sorted(tmp_path.rglob("*"))
    result = run(script, *NETWORK, f"--log_root={folder}", *JOBS[script], cwd=tmp_path)
    assert result.code == 1 and result.err.count("\n") == 1, result.err
    assert words in result.err and str(folder) in result.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_keras_network_that_is_no_use(value):
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten(),
                              keras.layers.Dense(3, name="last")])
    kernel, bias = model.get_weights()
    bias[1] = value
    model.set_weights([kernel, bias])
    with pytest.raises(InputError, match=r"finite weights of the model .* in .*last/bias\."):
        from_keras(model, model_input="0..1")


def test_outputs_that_are_not_finite_are_refused(cpu):
    images = keras.Input((2, 2, 1))
    features = keras.layers.Flatten()(images)
    logits = keras.ops.log(features[:, :2])  # of a black pixel −∞
    network = Network(keras.Model(images, (logits, features)), heads.get("ce"), source="mine.keras")
    stored = np.array([0, 255, 0, 255], np.uint8).reshape(1, 2, 2, 1)
    with pytest.raises(InputError, match=r"of mine\.keras\. .* in the logits of 1 of 1 images"):
        network.forward_stored(cpu)(stored)

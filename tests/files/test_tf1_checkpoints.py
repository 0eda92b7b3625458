"""Checkpoints of the original: a real one read, ours written, and what is refused."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data import inputs
from errors import InputError
from files import checkpoints, tf1_checkpoints
from files.images import save_bin
from networks import restoring
from networks.network import count_correct
from networks.spec import NetworkSpec
from resnet_model import ResNetConfig, build_resnet, named_variables
from tests.data.test_inputs import SHARED, real  # noqa: F401 a fixture
from tests.helpers import script_runner
from tests.helpers.golden import GOLDEN, golden
from tests.helpers.script_runner import run, succeeded
from training import optimizers

LOG_ROOT = GOLDEN / "tf1_checkpoint_mnist_u1_rce"
PATH = str(LOG_ROOT / "model.ckpt-1501")
MNIST = ResNetConfig((28, 28, 1), 10, 1)
IMPORT = ("--mode=import_checkpoint", "--dataset=mnist", "--RCE_train=True")
SLOT_KINDS = {"sgd": (), "mom": ("Momentum",), "adam": ("Adam", "Adam_1"),
              "rmsprop": ("RMSProp", "RMSProp_1")}


def arrays_of(path):
    reader = tf.train.load_checkpoint(path)
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def ours(variables):
    return {name: variable.numpy() for name, variable in variables.items()}


def make_optimizer(name, model):
    optimizer = optimizers.make_optimizer(name, optimizers.learning_rate_schedule((3,)))
    optimizer.build(model.trainable_variables)
    return named_variables(optimizer)


def write_changed(folder, changes):
    """The golden checkpoint with other variables (None: without) as one of `folder`; its path."""
    variables = {n: v for n, v in (arrays_of(PATH) | changes).items() if v is not None}
    os.makedirs(folder, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=f"{folder}/model.ckpt-1501", tensor_names=list(variables),
        shape_and_slices=[""] * len(variables), tensors=list(variables.values()))
    shutil.copy(LOG_ROOT / "checkpoint", folder)
    return f"{folder}/model.ckpt-1501"


@pytest.fixture(scope="module")
def network(cpu):
    """The network of the golden checkpoint."""
    network = restoring.build_network(cpu, NetworkSpec("mnist", (28, 28, 1), 10, 1, "rce"))
    assert tf1_checkpoints.restore_network(PATH, named_variables(network.model)) == 1501
    return network


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Folder with the golden checkpoint imported into models/mnist, and what was printed."""
    folder = tmp_path_factory.mktemp("imported")
    result = succeeded("others", *IMPORT, f"--log_root={LOG_ROOT}", "--output_dir=models/mnist",
                       cwd=folder)
    return folder, result.out


# --- Reading ---


def test_the_golden_logits(network):
    forward = golden("forward_mnist_u1_rce")
    logits, features = network.model(forward["images"], training=False)
    np.testing.assert_allclose(logits, forward["eval_logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(features, forward["eval_features"], rtol=0, atol=1e-5)


def test_the_precision_of_the_original_on_mnist(network, cpu, real):  # noqa: F811
    tool, folder = real
    if not (folder / "mnist_idx").exists():
        tool.mnist_idx(folder)
    test_set = inputs.load("mnist", str(folder / "mnist_idx"), "test")
    assert count_correct(network.forward_stored(cpu), test_set, 10_000) == 9786


@pytest.mark.parametrize(("name", "expected"), [
    ("init/init_conv/kernel", "init/init_conv/DW"), ("logit/kernel", "logit/DW"),
    ("logit/bias", "logit/biases"), ("unit_last/final_bn/beta", "unit_last/final_bn/beta"),
    ("unit_1_0/sub2/bn2/moving_mean", "unit_1_0/sub2/bn2/moving_mean")])
def test_tf1_name(name, expected):
    assert tf1_checkpoints.tf1_name(name) == expected


def test_names_of_bottleneck_networks():
    """ORIGINAL.md section 3; models_info.json, mnist_u1_bottleneck_random: 55 variables."""
    expected = {"init/init_conv/DW", "logit/DW", "logit/biases"}
    batch_norms = ["unit_last/final_bn"]
    for unit, scope in (("unit_1_0", "common_bn_relu"), ("unit_2_0", "residual_bn_relu"),
                        ("unit_3_0", "residual_bn_relu")):
        batch_norms += [f"{unit}/{scope}/init_bn", f"{unit}/sub2/bn2", f"{unit}/sub3/bn3"]
        expected |= {f"{unit}/{conv}/DW" for conv in (
            "sub1/conv1", "sub2/conv2", "sub3/conv3", "sub_add/project")}
    expected |= {f"{scope}/{leaf}" for scope in batch_norms
                 for leaf in ("beta", "gamma", "moving_mean", "moving_variance")}
    model = build_resnet(dataclasses.replace(MNIST, use_bottleneck=True))
    assert {tf1_checkpoints.tf1_name(name) for name in named_variables(model)} == expected
    assert len(expected) == 55
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == 126458


def test_describe():
    assert tf1_checkpoints.describe(PATH) == tf1_checkpoints.Structure(
        channels=1, num_classes=10, blocks_per_stage=1, use_bottleneck=False, optimizer="mom",
        step=1501)


def test_is_tf1(tmp_path):
    variable = tf.Variable([1.0])
    path = tf.train.Checkpoint(network=variable).save(str(tmp_path / "model.ckpt"))
    assert tf1_checkpoints.is_tf1(PATH)
    assert not tf1_checkpoints.is_tf1(path)
    assert not tf1_checkpoints.is_tf1(str(tmp_path / "none"))
    (tmp_path / "noise.index").write_bytes(b"no checkpoint at all" * 50)
    assert not tf1_checkpoints.is_tf1(str(tmp_path / "noise"))


@pytest.mark.parametrize(("optimizer_name", "step"), [
    ("sgd", 3), ("mom", 4), ("adam", 5), ("rmsprop", 6)])
def test_every_optimizer_comes_back(tmp_path, optimizer_name, step):
    model = build_resnet(MNIST)
    network = named_variables(model)
    rng = np.random.default_rng(0)
    slots = make_optimizer(optimizer_name, model)
    for variable in slots.values():
        variable.assign(np.full(variable.shape, step) if variable.dtype == tf.int64
                        else rng.normal(size=variable.shape))
    path = tf1_checkpoints.save(
        str(tmp_path), ours(network),
        tf1_checkpoints.optimizer_slots(network, slots, optimizer_name), step)
    restored = make_optimizer(optimizer_name, model)
    tf1_checkpoints.restore_optimizer(path, network, restored, optimizer_name)
    assert ours(restored).keys() == ours(slots).keys()
    for name, value in ours(slots).items():
        np.testing.assert_array_equal(restored[name], value, err_msg=name)
    stored = arrays_of(path)
    assert {f"logit/biases/{kind}" for kind in SLOT_KINDS[optimizer_name]} == {
        name for name in stored if name.startswith("logit/biases/")}
    found = tf1_checkpoints.describe(path)
    assert (found.optimizer, found.step) == (optimizer_name if SLOT_KINDS[optimizer_name] else None,
                                             step)
    if optimizer_name == "adam":
        np.testing.assert_allclose(stored["beta1_power"], 0.9**6, rtol=1e-6)
        np.testing.assert_allclose(stored["beta2_power"], 0.999**6, rtol=1e-6)


def test_rmsprop_slots_are_not_exchanged(tmp_path):
    """TF1 makes the slot of the mean squares first."""
    model = build_resnet(MNIST)
    slots = tf1_checkpoints.optimizer_slots(
        named_variables(model), make_optimizer("rmsprop", model), "rmsprop")
    np.testing.assert_array_equal(slots["logit/biases/RMSProp"], np.ones(10))
    np.testing.assert_array_equal(slots["logit/biases/RMSProp_1"], np.zeros(10))


# --- What is refused ---


def refused_by_network(path, config, *words):
    """Nothing is assigned, and the one sentence has all the words."""
    variables = named_variables(build_resnet(config))
    before = ours(variables)
    with pytest.raises(InputError) as error:
        tf1_checkpoints.restore_network(path, variables)
    for word in (*words, "expected", "Received: ", path):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable, before[name], err_msg=name)


@pytest.mark.parametrize(("changes", "words"), [
    ({"blocks_per_stage": 2}, (
        "first missing variable=unit_1_1/residual_only_activation/init_bn/",
        "first unexpected variable=none.")),
    ({"use_bottleneck": True}, (
        "first missing variable=unit_1_0/common_bn_relu/init_bn/",
        "first unexpected variable=unit_1_0/shared_activation/init_bn/beta.")),
    ({"image_shape": (32, 32, 3)}, ("expected init/init_conv/DW of shape (3, 3, 3, 16)",
                                    "shape=(3, 3, 1, 16).")),
    ({"num_classes": 100}, ("expected logit/DW of shape (64, 100)", "shape=(64, 10).")),
])
def test_another_network_is_refused(changes, words):
    refused_by_network(PATH, dataclasses.replace(MNIST, **changes), *words)


def test_a_deeper_checkpoint_names_its_first_variable_too_many(tmp_path):
    path = write_changed(tmp_path, {"unit_1_1/sub1/conv1/DW": np.zeros((3, 3, 16, 16), np.float32)})
    refused_by_network(path, MNIST, "missing variable=none",
                       "first unexpected variable=unit_1_1/sub1/conv1/DW.")


def test_a_checkpoint_without_step_is_refused(tmp_path):
    path = write_changed(tmp_path, {"global_step": None})
    refused_by_network(path, MNIST, "global_step")
    with pytest.raises(InputError, match="variable global_step"):
        tf1_checkpoints.describe(path)


def flip_byte(path, position):
    data = bytearray(Path(path).read_bytes())
    data[position] ^= 255
    Path(path).write_bytes(data)


@pytest.mark.parametrize("damage", [
    lambda path: os.truncate(f"{path}.data-00000-of-00001", 300_000),
    lambda path: flip_byte(f"{path}.data-00000-of-00001", 2000),
    lambda path: os.truncate(f"{path}.index", 20),
    lambda path: os.remove(f"{path}.index"),
    lambda path: os.remove(f"{path}.data-00000-of-00001"),
], ids=["cut data", "changed data", "cut index", "no index", "no data"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = write_changed(tmp_path, {})
    damage(path)
    refused_by_network(path, MNIST, "whole checkpoint of the original")


def test_describe_refuses_ours(tmp_path):
    path = tf.train.Checkpoint(network=tf.Variable([1.0])).save(str(tmp_path / "model.ckpt"))
    with pytest.raises(InputError, match=r"original TensorFlow 1 code.*Received: "):
        tf1_checkpoints.describe(path)


@pytest.mark.parametrize(("optimizer_name", "first"), [
    ("adam", "init/init_conv/DW/Adam"), ("rmsprop", "init/init_conv/DW/RMSProp")])
def test_a_missing_slot_is_named(optimizer_name, first):
    model = build_resnet(MNIST)
    slots = make_optimizer(optimizer_name, model)
    with pytest.raises(InputError, match=f"--Optimizer={optimizer_name} .*none called {first}[.]"):
        tf1_checkpoints.restore_optimizer(PATH, named_variables(model), slots, optimizer_name)
    assert slots[f"{optimizer_name}/iteration"].numpy() == 0


def test_a_missing_momentum_is_named(tmp_path):
    path = write_changed(tmp_path, {"unit_2_0/sub1/conv1/DW/Momentum": None})
    model = build_resnet(MNIST)
    with pytest.raises(InputError, match="none called unit_2_0/sub1/conv1/DW/Momentum"):
        tf1_checkpoints.restore_optimizer(
            path, named_variables(model), make_optimizer("mom", model), "mom")


# --- others.py: import and export ---


def test_the_imported_run(imported):
    folder, out = imported
    path = checkpoints.require_whole(f"{folder}/models/mnist", print)
    assert path.endswith("model.ckpt-1501")
    assert checkpoints.read_record(path) == (checkpoints.TrainingRun(
        dataset="mnist", image_shape=(28, 28, 1), num_classes=10, blocks_per_stage=1,
        objective="rce", optimizer="mom", batch_size=128, lr_boundaries=(10000, 15000, 20000),
        total_steps=1501, seed=0), 1501)
    assert "ResNet-8" in out and "step 1501" in out
    assert (folder / "models/mnist/import_checkpoint_run.json").is_file()


def test_train_resumes_from_the_imported_checkpoint(imported, cpu):
    folder, _ = imported
    record, _ = checkpoints.read_record(checkpoints.require_whole(f"{folder}/models/mnist", print))
    model = restoring.build_network(cpu, record).model
    slots = make_optimizer("mom", model)
    store = checkpoints.Checkpoints(f"{folder}/models/mnist", record, named_variables(model), slots)
    assert store.resume().step == 1501
    stored = arrays_of(PATH)
    assert slots["mom/iteration"].numpy() == 1501
    compared = [name for name in stored if name.endswith("/DW/Momentum")]
    assert len(compared) == 8
    for name in compared:
        slot = slots[f"mom/{name.removesuffix('/DW/Momentum')}_kernel_momentum"]
        np.testing.assert_array_equal(slot, stored[name], err_msg=name)
    np.testing.assert_array_equal(
        named_variables(model)["logit/kernel"], stored["logit/DW"])


def test_training_goes_on_behind_the_imported_step(imported, tmp_path):
    folder, _ = imported
    shutil.copytree(folder / "models", tmp_path / "models")
    rng = np.random.default_rng(0)
    for split, count in (("train", 256), ("test", 8)):
        save_bin(str(tmp_path / f"data_{split}.bin"), inputs.ImageSet(
            rng.integers(0, 256, (count, 28, 28, 1), np.uint8),
            (np.arange(count) % 10).astype(np.int32), 10, "made up", True), "mnist")
    result = succeeded("train", "--dataset=mnist", "--log_root=models/mnist", "--RCE_train=True",
                       "--num_residual_units=1", "--total_steps=1503",
                       "--train_data_path=data_train.bin", cwd=tmp_path)
    assert "Resuming at step 1501" in result.out
    assert (tmp_path / "models/mnist/model.ckpt-1503.index").is_file()


def test_import_and_export_give_the_checkpoint_back(imported):
    folder, _ = imported
    succeeded("others", "--mode=export_checkpoint", "--log_root=models/mnist",
              "--output_dir=back", cwd=folder)
    path = checkpoints.require_whole(f"{folder}/back", print)
    assert path.endswith("model.ckpt-1501")
    assert not list((folder / "back").glob(".tmp*"))
    back, expected = arrays_of(path), arrays_of(PATH)
    assert {n: (v.dtype, v.shape) for n, v in back.items()} == {
        n: (v.dtype, v.shape) for n, v in expected.items()}
    for name, value in expected.items():
        # The shadows are computed anew from the averages.
        tolerance = 1e-6 if name.endswith("/biased") else 0
        np.testing.assert_allclose(back[name], value, rtol=tolerance, err_msg=name)


def test_the_saver_of_tensorflow_1_restores_an_export(tmp_path, tmp_path_factory):
    tiny = script_runner.tiny_run(tmp_path_factory)
    succeeded("others", "--mode=export_checkpoint", f"--log_root={tiny}/models/tiny",
              "--output_dir=out", cwd=tmp_path)
    folder = str(tmp_path / "out")
    like = arrays_of(PATH)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        variables = {name: v1.Variable(tf.zeros(value.shape, value.dtype), name=name,
                                       use_resource=False) for name, value in like.items()}
        assert all(variables[name].op.name == name for name in like)
        saver = v1.train.Saver()
        saver.restore(session, v1.train.get_checkpoint_state(folder).model_checkpoint_path)
        values = session.run(variables)
    newest = checkpoints.require_whole(f"{tiny}/models/tiny", print)
    reader = tf.train.load_checkpoint(newest)
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert values["global_step"] == checkpoints.step_of(newest)
    for ours, theirs in (
            ("network/logit/bias", "logit/biases"),
            ("network/unit_1_0/sub1/conv1/kernel", "unit_1_0/sub1/conv1/DW"),
            ("optimizer/mom/unit_1_0/sub2/bn2_gamma_momentum", "unit_1_0/sub2/bn2/gamma/Momentum")):
        np.testing.assert_array_equal(values[theirs], reader.get_tensor(ours + suffix), theirs)
    scope = "unit_last/final_bn"
    step = values[f"{scope}/{scope}/moving_mean/local_step"]
    np.testing.assert_allclose(values[f"{scope}/{scope}/moving_mean/biased"] / (1 - 0.9**step),
                               values[f"{scope}/moving_mean"], rtol=1e-6)


def refused(*arguments, cwd, words):
    """others.py ends with one sentence, and leaves no output folder behind."""
    result = run("others", *arguments, cwd=cwd)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    for word in (*words, "Received: "):
        assert word in result.err, result.err
    assert not (cwd / "out").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (("--dataset=cifar10", "--output_dir=out"), ("3 channels", "cifar10", "channels=1")),
    (("--dataset=cifar100", "--output_dir=out"), ("100 classes", "num_classes=10")),
    (("--dataset=npz", "--output_dir=out"), ("image shape is fixed", "dataset='npz'")),
    (("--dataset=", "--output_dir=out"), ("dataset must be one of",)),
    (("--dataset=mnist",), ("--output_dir must be given",)),
    (("--dataset=mnist", f"--output_dir={LOG_ROOT}/../{LOG_ROOT.name}"), ("another folder",)),
])
def test_import_refuses(tmp_path, arguments, words):
    refused("--mode=import_checkpoint", f"--log_root={LOG_ROOT}", *arguments, cwd=tmp_path,
            words=words)


def test_import_refuses_a_folder_with_a_checkpoint(imported):
    folder, _ = imported
    refused(*IMPORT, f"--log_root={LOG_ROOT}", "--output_dir=models/mnist", cwd=folder,
            words=("earlier checkpoint", "output_dir='models/mnist'"))


def test_import_refuses_a_checkpoint_of_ours(imported):
    folder, _ = imported
    refused(*IMPORT, "--log_root=models/mnist", "--output_dir=out", cwd=folder,
            words=("original TensorFlow 1 code",))


def test_export_refuses_a_checkpoint_of_the_original(tmp_path):
    refused("--mode=export_checkpoint", f"--log_root={LOG_ROOT}", "--output_dir=out", cwd=tmp_path,
            words=("written by train.py",))


@pytest.mark.parametrize("folder", ["file", "file/out"])
def test_import_refuses_a_file_as_folder(tmp_path, folder):
    (tmp_path / "file").touch()
    refused(*IMPORT, f"--log_root={LOG_ROOT}", f"--output_dir={folder}", cwd=tmp_path,
            words=("must be a folder", f"output_dir='{folder}'"))


def test_import_needs_the_slots_of_the_optimizer(tmp_path):
    names = [name for name in arrays_of(PATH) if name.endswith("/Momentum")]
    write_changed(tmp_path / "log", dict.fromkeys(names))
    refused(*IMPORT, "--log_root=log", "--output_dir=out", cwd=tmp_path,
            words=("--Optimizer=mom", "init/init_conv/DW/Momentum"))
    succeeded("others", *IMPORT, "--log_root=log", "--output_dir=out", "--Optimizer=sgd",
              cwd=tmp_path)


def test_import_refuses_bottlenecks(tmp_path):
    write_changed(tmp_path / "log", {"unit_1_0/sub3/conv3/DW": np.zeros((1, 1, 4, 16), np.float32)})
    refused(*IMPORT, "--log_root=log", "--output_dir=out", cwd=tmp_path, words=("bottlenecks",))

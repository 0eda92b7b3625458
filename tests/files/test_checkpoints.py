"""Checkpoints: their keys, what they refuse, and that nothing depends on the order of layers."""

import dataclasses
import glob
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from files import checkpoints
from networks import restoring
from networks.spec import NetworkSpec
from resnet_model import named_variables

RUN = checkpoints.TrainingRun(
    dataset="digits", image_shape=(8, 8, 1), num_classes=10, blocks_per_stage=1, objective="rce",
    optimizer="mom", batch_size=16, lr_boundaries=(4, 5), total_steps=6, seed=0)
# A contradiction of every field that is checked.
OTHER = {"objective": "ce", "dataset": "mnist", "blocks_per_stage": 5, "image_shape": (12, 8, 1),
         "num_classes": 7, "optimizer": "adam", "batch_size": 32, "seed": 1,
         "sync_batch_norm": True, "mixed_precision": "bfloat16", "model": "mlp",
         "learning_rate": 0.001, "adam_epsilon": 1e-8, "weight_decay": 0.0, "lr_schedule": "cosine",
         "training_objective": "at50", "objective_weights": (("head_loss", 0.5),),
         "noise_std": 0.5, "attack_eps": 0.3, "attack_step_size": 0.01, "attack_iterations": 40,
         "augment": False}
EXPECTED = NetworkSpec(
    *(getattr(RUN, field.name) for field in dataclasses.fields(NetworkSpec)))


def toy_variables(start=0.0):
    """Variables by name, each with values of its own."""
    names = ("init/init_conv/kernel", "unit_1_0/sub1/conv1/kernel", "unit_1_0/sub2/bn2/beta",
             "logit/bias")
    return {name: tf.Variable(np.arange(3, dtype=np.float32) + start + 10 * k)
            for k, name in enumerate(names)}


def save_toy(log_root, record=RUN, step=3, start=0.0, **options):
    store = checkpoints.Checkpoints(log_root, record, toy_variables(start),
                        {"mom/logit_bias_momentum": tf.Variable([start])}, **options)
    return store.save(step)


def resume_toy(log_root, record=RUN):
    network, optimizer = toy_variables(-100.0), {"mom/logit_bias_momentum": tf.Variable([-100.0])}
    store = checkpoints.Checkpoints(log_root, record, network, optimizer)
    return store.resume().step, network, optimizer


def assert_equal_variables(ours, expected):
    assert ours.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)


@pytest.fixture(scope="module")
def saved_network(cpu, tmp_path_factory):
    """A network with odd values, and the folder it is saved in."""
    network = restoring.build_network(cpu, RUN, seed=9)
    rng = np.random.default_rng(0)
    for variable in named_variables(network.model).values():
        variable.assign(rng.uniform(0.2, 0.8, variable.shape))
    log_root = str(tmp_path_factory.mktemp("saved") / "log")
    checkpoints.Checkpoints(log_root, RUN, named_variables(network.model), {}).save(6)
    return network, log_root


def test_the_keys_are_the_variables_own_names(saved_network):
    network, log_root = saved_network
    keys = {key for key, _ in tf.train.list_variables(checkpoints.latest(log_root))}
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert f"network/unit_1_0/sub1/conv1/kernel{suffix}" in keys
    assert f"network/unit_1_0/shared_activation/init_bn/moving_variance{suffix}" in keys
    stored = {key for key in keys if key.startswith("network/")}
    assert stored == {f"network/{name}{suffix}" for name in named_variables(network.model)}


def test_a_restored_network_gives_equal_logits(saved_network, cpu):
    network, log_root = saved_network
    restored = restoring.restore(cpu, log_root, EXPECTED)
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (5, 8, 8, 1)).astype(np.float32)
    for ours, expected in zip(restored.logits_and_features(x), network.logits_and_features(x),
                              strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert restored.head.name == "rce"
    assert_equal_variables(named_variables(restored.model), named_variables(network.model))


def test_restoring_does_not_depend_on_the_order_of_the_variables(saved_network, tmp_path):
    network, _ = saved_network
    expected = named_variables(network.model)
    checkpoints.Checkpoints(str(tmp_path), RUN, dict(reversed(expected.items())), {}).save(1)
    ours = {name: tf.Variable(tf.zeros_like(v)) for name, v in sorted(expected.items())}
    checkpoints.restore_network(checkpoints.latest(str(tmp_path)), ours)
    assert_equal_variables(ours, expected)


def test_resume_restores_network_optimizer_and_step(tmp_path):
    save_toy(str(tmp_path), step=3)
    save_toy(str(tmp_path), step=12, start=0.5)
    step, network, optimizer = resume_toy(str(tmp_path))
    assert step == 12
    assert_equal_variables(network, toy_variables(0.5))
    assert optimizer["mom/logit_bias_momentum"].numpy() == [0.5]


def test_resume_without_a_checkpoint_starts_at_0(tmp_path):
    step, network, _ = resume_toy(str(tmp_path / "new"))
    assert step == 0
    assert_equal_variables(network, toy_variables(-100.0))


def test_a_missing_variable_is_not_restored_silently(tmp_path):
    path = save_toy(str(tmp_path))
    with pytest.raises(InputError, match="not bound"):
        checkpoints.restore_network(path, toy_variables() | {"unit_9/kernel": tf.Variable([0.0])})


@pytest.mark.parametrize("field", checkpoints.RESUME_FIELDS)
def test_resuming_another_run_names_both_values_and_restores_nothing(tmp_path, field):
    path = save_toy(str(tmp_path))
    network = toy_variables(-100.0)
    store = checkpoints.Checkpoints(
        str(tmp_path), dataclasses.replace(RUN, **{field: OTHER[field]}), network, {})
    with pytest.raises(InputError) as error:
        store.resume()
    message = str(error.value)
    assert f"expected {field}={getattr(RUN, field)!r}" in message
    assert f"Received: {field}={OTHER[field]!r}." in message
    assert path in message
    assert_equal_variables(network, toy_variables(-100.0))


@pytest.mark.parametrize("field", checkpoints.NETWORK_FIELDS)
def test_evaluating_another_network_names_both_values(saved_network, cpu, field):
    _, log_root = saved_network
    expected = dataclasses.replace(EXPECTED, **{field: OTHER[field]})
    with pytest.raises(InputError) as error:
        restoring.restore(cpu, log_root, expected)
    assert f"expected {field}={getattr(RUN, field)!r}" in str(error.value)
    assert f"Received: {field}={OTHER[field]!r}." in str(error.value)


def test_the_message_names_the_flag(saved_network, cpu):
    _, log_root = saved_network
    with pytest.raises(InputError, match="--RCE_train contradicts the checkpoint"):
        restoring.restore(cpu, log_root, dataclasses.replace(EXPECTED, objective="ce"))


def test_every_field_of_a_network_is_checked():
    assert set(checkpoints.NETWORK_FIELDS) == {
        field.name for field in dataclasses.fields(NetworkSpec)}
    assert set(checkpoints.NETWORK_FIELDS) <= set(checkpoints.RESUME_FIELDS) == set(OTHER)


def test_a_run_may_be_given_more_steps_and_other_boundaries(tmp_path):
    save_toy(str(tmp_path), step=6)
    longer = dataclasses.replace(RUN, total_steps=20, lr_boundaries=(10,))
    assert resume_toy(str(tmp_path), longer)[0] == 6
    # The new numbers are what the next checkpoint holds.
    store = checkpoints.Checkpoints(str(tmp_path), longer, toy_variables(), {
        "mom/logit_bias_momentum": tf.Variable([0.0])})
    store.resume()
    assert checkpoints.read_record(store.save(8)) == (longer, 8)


def test_the_record_comes_back_as_it_was(tmp_path):
    assert checkpoints.read_record(save_toy(str(tmp_path), step=4)) == (RUN, 4)


@pytest.mark.parametrize("fields", [
    {}, {"training_objective": "at50",
         "objective_weights": (("head_loss", 0.5), ("adversarial", 0.5))}])
def test_the_record_names_an_objective_that_is_not_plain(tmp_path, fields):
    path = save_toy(str(tmp_path), dataclasses.replace(RUN, **fields), step=4)
    stored = json.loads(tf.train.load_checkpoint(path).get_tensor(checkpoints._RECORD))["run"]
    assert stored.keys() & {"training_objective", "objective_weights"} == fields.keys()
    assert checkpoints.read_record(path)[0] == dataclasses.replace(RUN, **fields)


def test_the_newest_are_kept(tmp_path):
    store = checkpoints.Checkpoints(str(tmp_path), RUN, toy_variables(), {}, keep=2)
    paths = [store.save(step) for step in (9, 10, 11, 12)]
    kept = {path for path in paths if os.path.exists(f"{path}.index")}
    assert kept == set(paths[2:])
    assert checkpoints.latest(str(tmp_path)) == paths[3]
    assert checkpoints.step_of(paths[3]) == 12


@pytest.mark.parametrize("exists", [False, True])
def test_a_log_root_without_checkpoint_is_refused(tmp_path, exists):
    log_root = str(tmp_path / "log")
    if exists:
        os.mkdir(log_root)
    assert checkpoints.latest(log_root) is None
    with pytest.raises(InputError, match=f"Received: log_root='{log_root}'"):
        checkpoints.require_whole(log_root, print)


def truncate(pattern, size):
    path, = glob.glob(pattern)
    os.truncate(path, size)


@pytest.mark.parametrize("damage", [
    lambda path: truncate(f"{path}.index", 20),
    lambda path: truncate(f"{path}.index", 0),
    lambda path: truncate(f"{path}.data-*", 0),
    lambda path: os.remove(f"{path}.index"),
    lambda path: open(f"{path}.index", "wb").write(b"no checkpoint at all" * 50),  # noqa: SIM115
], ids=["cut index", "empty index", "empty data", "no index", "noise"])
def test_an_unreadable_checkpoint_is_refused(tmp_path, damage):
    path = save_toy(str(tmp_path))
    damage(path)
    with pytest.raises(InputError, match=r"whole checkpoint.*Received: ") as error:
        checkpoints.read_record(path)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("restore", ["weights", "resume"])
def test_a_checkpoint_cut_behind_its_record_is_refused(tmp_path, restore):
    store = checkpoints.Checkpoints(str(tmp_path), RUN, {"z": tf.Variable(tf.ones([1000]))}, {})
    path = store.save(3)
    data, = glob.glob(f"{path}.data-*")
    os.truncate(data, os.path.getsize(data) - 3000)
    with pytest.raises(InputError, match=r"whole checkpoint.*Received: "):
        if restore == "resume":
            store.resume()
        else:
            checkpoints.restore_network(path, {"z": tf.Variable(tf.zeros([1000]))})


def test_a_checkpoint_without_record_is_refused(tmp_path):
    path = tf.train.Checkpoint(network=tf.Variable(1.0)).save(str(tmp_path / "model.ckpt"))
    with pytest.raises(InputError, match=r"written by train\.py"):
        checkpoints.read_record(path)


def test_a_record_with_other_fields_is_refused(tmp_path, monkeypatch):
    """As a later or earlier version of the project may have written it."""
    state = checkpoints._RecordState(RUN)
    monkeypatch.setattr(state, "serialize", lambda: '{"step": 1, "run": {"image_shape": [8, 8, 1], '
                        '"lr_boundaries": [], "colour": "red"}}')
    path = tf.train.Checkpoint(record=state).save(str(tmp_path / "model.ckpt"))
    with pytest.raises(InputError, match=r"written by train\.py"):
        checkpoints.read_record(path)

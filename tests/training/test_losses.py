"""Training objectives: rows and terms, one toy objective from command line to restored network."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from files import checkpoints
from files.names import tag_of
from networks import heads, restoring
from networks.spec import spec_of
from resnet_model import weight_decay_loss
from tests.helpers.script_runner import refused, succeeded
from training import OBJECTIVES, Objective, get_objective, losses
from training import loop as training_loop

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(8, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, 8).astype(np.int32)
IMAGES = RNG.uniform(-0.5, 0.5, (8, 4)).astype(np.float32)
NETWORK = ("--dataset=digits", "--model=mlp", "--RCE_train=True")
# CE or RCE + 0.1 · ‖z‖².
TOY = Objective("toy", (("head_loss", 1.0), ("squared_logits", 0.1)))


def squared_logits(batch):
    """‖z‖² of each image."""
    return tf.reduce_sum(tf.square(batch.logits), axis=-1)


@pytest.fixture
def toy(monkeypatch):
    """A new objective is one row and one term."""
    monkeypatch.setitem(OBJECTIVES, "toy", TOY)
    monkeypatch.setitem(losses.TERMS, "squared_logits", squared_logits)


def batch_of(head, **fields):
    return losses.Batch(tf.constant(IMAGES), tf.constant(LABELS), tf.constant(LOGITS), None, None,
                        heads.get(head), **fields)


def dense_network(strategy):
    """A dense network with fixed weights."""
    with strategy.scope():
        images = keras.Input((4,))
        features = keras.layers.Dense(5, activation="tanh", name="hidden",
                                      kernel_initializer=keras.initializers.GlorotNormal(1))(images)
        logits = keras.layers.Dense(3, name="logit",
                                    kernel_initializer=keras.initializers.GlorotNormal(2))(features)
        return keras.Model(images, (logits, features))


class Recorder:
    """Stands in for an optimizer: adds up the gradients of the replicas, as they do."""

    def __init__(self, strategy, variables):
        with strategy.scope():
            self.gradients = [tf.Variable(tf.zeros(v.shape)) for v in variables]

    def scale_loss(self, loss):
        return loss

    def apply(self, gradients, variables):
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        for kept, gradient in zip(self.gradients, summed, strict=True):
            kept.assign(gradient)


def one_step(strategy, objective, head="rce"):
    """Cost, gradients and the model of one step over the eight images."""
    model = dense_network(strategy)
    recorder = Recorder(strategy, model.trainable_variables)
    loop = training_loop.make_train_loop(
        strategy, model, recorder, heads.get(head), 8, objective=objective)
    replicas = strategy.num_replicas_in_sync
    parts = (part.reshape(replicas, 8 // replicas, *part.shape[1:]) for part in (IMAGES, LABELS))
    cost, _ = loop(iter(strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices(tuple(parts)))), tf.constant(1))
    return float(cost), [gradient.numpy() for gradient in recorder.gradients], model


@pytest.mark.parametrize("row", OBJECTIVES.values())
def test_rows_are_whole(row):
    assert OBJECTIVES[row.name] is row
    assert row.weights and {name for name, _ in row.weights} <= set(losses.TERMS)


def test_an_absent_objective_is_the_plain_row():
    run = checkpoints.TrainingRun("digits", (8, 8, 1), 10, 1, "ce", "mom", 16, (), 6, 0)
    assert get_objective(run.training_objective).weights == run.objective_weights


@pytest.mark.parametrize("head", list(heads.HEADS))
def test_plain_is_the_loss_of_the_head(head):
    total = losses.total(OBJECTIVES["plain"].weights, batch_of(head))
    np.testing.assert_array_equal(total, heads.get(head).loss(LABELS, LOGITS))


@pytest.mark.parametrize("head", list(heads.HEADS))
def test_terms_are_weighed_and_summed_per_image(toy, head):
    total = losses.total(TOY.weights, batch_of(head))
    expected = heads.get(head).loss(LABELS, LOGITS) + 0.1 * np.square(LOGITS).sum(-1)
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_a_step_minimises_mean_terms_and_decay(cpu, toy):
    cost, gradients, model = one_step(cpu, TOY)
    with tf.GradientTape() as tape:
        logits, _ = model(IMAGES)
        loss = heads.get("rce").loss(LABELS, logits) + 0.1 * tf.reduce_sum(logits**2, -1)
        expected = tf.reduce_mean(loss) + weight_decay_loss(model)
    np.testing.assert_allclose(cost, expected, rtol=1e-6)
    for ours, naive in zip(gradients, tape.gradient(expected, model.trainable_variables), strict=True):
        np.testing.assert_allclose(ours, naive, atol=1e-6)


def test_two_replicas_are_one(cpu, two_cpus, toy):
    one, two = one_step(cpu, TOY), one_step(two_cpus, TOY)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-6)
    for ours, theirs in zip(two[1], one[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def brightened(model, head, images, labels):
    """Stands for an attack: what terms see as adversarial images."""
    assert head.name == "rce" and model(images)[0].shape == (*labels.shape, 3)
    return images + 0.25


def test_terms_see_what_an_objective_crafts_and_the_network(cpu, monkeypatch):
    monkeypatch.setitem(losses.TERMS, "adversarial_loss", lambda batch: batch.head.loss(
        batch.labels, batch.model(batch.adversarial, training=True)[0]))
    objective = Objective("at", (("adversarial_loss", 1.0),), craft=f"{__name__}:brightened")
    cost, _, model = one_step(cpu, objective)
    expected = heads.get("rce").loss(LABELS, model(IMAGES + 0.25)[0])
    np.testing.assert_allclose(cost, np.mean(expected) + weight_decay_loss(model), rtol=1e-6)


@pytest.mark.parametrize("name", ["ce", "rce", "at", "none", ""])
def test_an_unknown_objective_is_refused_with_the_rows(tmp_path, name):
    with pytest.raises(InputError, match=r"^objective must be one of \[plain\]; RCE is chosen by "
                                         rf"--RCE_train\. Received: objective='{name}'\.$"):
        get_objective(name)
    refused("train", *NETWORK, "--log_root=m", f"--objective={name}", cwd=tmp_path,
            words=[r"objective must be one of \[plain\]", f"'{name}'"])


def test_the_toy_objective_from_the_command_line_to_the_network(cpu, toy, tmp_path, monkeypatch):
    command = (*NETWORK, "--log_root=m", "--batch_size=16", "--checkpoint_every=1")
    succeeded("train", *command, "--total_steps=2", "--objective=toy", cwd=tmp_path)
    path = checkpoints.latest(str(tmp_path / "m"))
    run, step = checkpoints.read_record(path)
    assert (step, run.objective, run.training_objective, run.objective_weights) == (
        2, "rce", "toy", TOY.weights)
    assert json.loads((tmp_path / "m/train/train_run.json").read_text())["flags"]["objective"] == "toy"
    # What was minimised may not change on the way; nothing after training has to be told.
    refused("train", *command, "--total_steps=3", cwd=tmp_path, words=[
        "--objective contradicts the checkpoint", "expected training_objective='toy'",
        "Received: training_objective='plain'"])
    network = restoring.restore(cpu, str(tmp_path / "m"), spec_of(run))
    assert tag_of(network.objective.name, network.training_objective) == "RCE_toy"
    succeeded("test_nor", *NETWORK, "--log_root=m", "--mode=eval", "--eval_once", cwd=tmp_path)
    succeeded("train", *command, "--total_steps=3", "--objective=toy", cwd=tmp_path)
    monkeypatch.setitem(OBJECTIVES, "toy", Objective("toy", TOY.weights[:1]))
    refused("train", *command, "--total_steps=4", "--objective=toy", cwd=tmp_path,
            words=["the weights of --objective contradicts the checkpoint"])


def test_an_ensemble_is_of_one_training_objective(cpu, toy, tmp_path):
    command = (*NETWORK, "--batch_size=16", "--total_steps=1")
    succeeded("train", *command, "--log_root=a", "--objective=toy", cwd=tmp_path)
    succeeded("train", *command, "--log_root=b", cwd=tmp_path)
    run, _ = checkpoints.read_record(checkpoints.latest(str(tmp_path / "a")))
    both = restoring.restore(cpu, f"{tmp_path}/a,{tmp_path}/a", spec_of(run))
    assert both.training_objective == "toy"
    with pytest.raises(InputError, match=r"one training objective.*Received: \['plain', 'toy'\]"):
        restoring.restore(cpu, f"{tmp_path}/a,{tmp_path}/b", spec_of(run))

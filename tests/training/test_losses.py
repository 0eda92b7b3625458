"""Training objectives: rows and terms, one toy objective from command line to restored network."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from files import checkpoints
from networks import heads, restoring
from networks.spec import spec_of
from resnet_model import weight_decay_loss
from tests.helpers.script_runner import refused, succeeded
from training import OBJECTIVES, Objective, adversarial, get_objective, is_attacked, losses, weighed
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


def total_of(weights, batch):
    return losses.total(weights, losses.parts(weights, batch))


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
        strategy, model, recorder, heads.get(head), 8, weights=objective.weights)
    replicas = strategy.num_replicas_in_sync
    arrays = (IMAGES, LABELS, IMAGES + 0.25) if is_attacked(objective.weights) else (IMAGES, LABELS)
    parts = (part.reshape(replicas, 8 // replicas, *part.shape[1:]) for part in arrays)
    cost, *_ = loop(iter(strategy.distribute_datasets_from_function(
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
    total = total_of(OBJECTIVES["plain"].weights, batch_of(head))
    np.testing.assert_array_equal(total, heads.get(head).loss(LABELS, LOGITS))


@pytest.mark.parametrize("head", list(heads.HEADS))
def test_terms_are_weighed_and_summed_per_image(toy, head):
    total = total_of(TOY.weights, batch_of(head))
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


@pytest.fixture
def given(monkeypatch):
    """The attack of a step gives its start; the list of what it was asked."""
    asked = []

    def craft(model, head, images, labels, start, attack):
        asked.append((head.name, images.shape, start.shape))
        return start

    monkeypatch.setattr(adversarial, "craft", craft)
    return asked


@pytest.mark.parametrize("row", OBJECTIVES.values(), ids=list(OBJECTIVES))
@pytest.mark.parametrize("head", list(heads.HEADS))
def test_each_objective_is_the_mean_of_its_terms(cpu, given, row, head):
    cost, _, model = one_step(cpu, row, head)
    z, za = model(IMAGES)[0].numpy(), model(IMAGES + 0.25)[0].numpy()
    loss = heads.get(head).loss
    terms = {"head_loss": np.mean(loss(LABELS, z)), "adversarial_loss": np.mean(loss(LABELS, za)),
             "alp": np.mean((z - za)**2), "clp": np.mean((z[::2] - z[1::2])**2),
             "lsq": np.mean(np.linalg.norm(z, axis=1))}
    expected = sum(weight * terms[name] for name, weight in row.weights)
    np.testing.assert_allclose(cost, expected + weight_decay_loss(model), rtol=1e-5)
    # One attack a trace, however many terms look at it; none for the others.
    assert len(given) == is_attacked(row.weights) and all(name == head for name, *_ in given)


@pytest.mark.parametrize("row", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_two_replicas_minimise_what_one_does(cpu, two_cpus, given, row):
    one, two = one_step(cpu, row), one_step(two_cpus, row)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-6)
    for ours, theirs in zip(two[1], one[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_terms_of_a_step_are_told(cpu, given):
    model = dense_network(cpu)
    recorder = Recorder(cpu, model.trainable_variables)
    loop = training_loop.make_train_loop(cpu, model, recorder, heads.get("ce"), 8, weight_decay=0.0,
                                         weights=OBJECTIVES["at50_alp"].weights)
    cost, _, parts = loop(iter(tf.data.Dataset.from_tensors((IMAGES, LABELS, IMAGES + 0.25))),
                          tf.constant(1))
    np.testing.assert_allclose(cost, np.dot([0.5, 0.5, 1.0], parts), rtol=1e-6)


def test_pairing_terms_do_not_see_the_head():
    for term in (losses.alp, losses.clp, losses.lsq):
        ce, rce = (term(dataclasses.replace(batch_of(head, adversarial_logits=LOGITS + 1), logits=sign
                                            * LOGITS)) if term is not losses.alp else term(
            batch_of(head, adversarial_logits=tf.constant(LOGITS + 1)))
            for head, sign in (("ce", 1), ("rce", -1)))
        np.testing.assert_array_equal(ce, rce)


def test_squeezing_has_a_slope_at_logits_of_zero():
    zero = tf.zeros((2, 3))
    with tf.GradientTape() as tape:
        tape.watch(zero)
        norm = losses.lsq(dataclasses.replace(batch_of("ce"), logits=zero))
    assert np.isfinite(tape.gradient(norm, zero)).all()


@pytest.mark.parametrize(("given", "words"), [
    ({"clp_lambda": -1.0}, "clp_lambda must be at least 0. Received: clp_lambda=-1.0"),
    ({"ct_lambda": 0.0}, "ct_lambda and at_lambda must not both be 0"),
    ({"lsq_lambda": float("nan")}, "lsq_lambda must be at least 0")])
def test_weights_that_say_nothing_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        weighed(OBJECTIVES["clp"], given)


def test_given_weights_replace_those_of_the_row():
    assert weighed(OBJECTIVES["clp"], {"clp_lambda": 0.1, "at_lambda": 0.2}) == (
        ("head_loss", 1.0), ("adversarial_loss", 0.2), ("clp", 0.1))
    assert weighed(OBJECTIVES["clp"], {"clp_lambda": 0.0}) == (("head_loss", 1.0),)
    with pytest.raises(InputError, match=r"clp_lambda weighs a term of an --objective"):
        weighed(OBJECTIVES["plain"], {"clp_lambda": 0.5})


@pytest.mark.parametrize("name", ["ce", "rce", "at", "none", ""])
def test_an_unknown_objective_is_refused_with_the_rows(tmp_path, name):
    with pytest.raises(InputError, match=r"^objective must be one of \[plain, .*\]; RCE is chosen by "
                                         rf"--RCE_train\. Received: objective='{name}'\.$"):
        get_objective(name)
    refused("train", *NETWORK, "--log_root=m", f"--objective={name}", cwd=tmp_path,
            words=[r"objective must be one of \[plain, clp", f"'{name}'"])


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
    assert network.tag == "RCE_toy" and network.identity()["training_objective"] == "toy"
    succeeded("test_nor", *NETWORK, "--log_root=m", "--mode=eval", "--eval_once", cwd=tmp_path)
    succeeded("others", *NETWORK, "--log_root=m", "--mode=kernel_para", "--eval_batch_count=1",
              cwd=tmp_path)
    assert (tmp_path / "kernel_para_digits/training_logits_RCE_toy").is_file()
    succeeded("train", *command, "--total_steps=3", "--objective=toy", cwd=tmp_path)
    monkeypatch.setitem(OBJECTIVES, "toy", Objective("toy", TOY.weights[:1]))
    refused("train", *command, "--total_steps=4", "--objective=toy", cwd=tmp_path,
            words=["the weights of --objective contradicts the checkpoint"])


LENET = ("--dataset=digits", "--model=lenet", "--batch_size=16")


@pytest.mark.parametrize(("flags", "words"), [
    (["--objective=clp", "--clp_lambda=-1"], r"clp_lambda must be at least 0\. Received: clp_lambda"),
    (["--objective=alp", "--ct_lambda=0"], "ct_lambda and at_lambda must not both be 0"),
    (["--clp_lambda=0.5"], "clp_lambda weighs a term of an --objective"),
    (["--objective=lsq", "--noise_std=11"], r"noise_std must be in \[0, 10\]\. Received: noise_std=11"),
    (["--objective=clp", "--train_attack_eps=0.1"], "train_attack_eps does nothing without attacked"),
    (["--objective=at50", "--train_attack_eps=0"], "train_attack_eps must be above 0 and at most 1"),
    (["--objective=at50", "--train_attack_eps=1.5"], "train_attack_eps must be above 0 and at most 1"),
    (["--objective=at50", "--train_attack_step_size=-1"], "train_attack_step_size must be above 0"),
    (["--objective=at50", "--train_attack_iterations=0"], "train_attack_iterations must be above 0"),
    (["--objective=clp", "--batch_size=15"], "clp pairs images: batch_size must be a multiple of 2"),
    (["--augment=True"], "augment must not be true of digits"),
    (["--objective=at50", "--mixed_precision=float16"], "mixed_precision must not be float16 where")])
def test_numbers_of_an_objective_that_cannot_be(tmp_path, flags, words):
    refused("train", *LENET, "--log_root=m", *flags, cwd=tmp_path, words=[words])
    assert not (tmp_path / "m").exists()


def test_the_record_tells_noise_attack_and_weights(tmp_path):
    succeeded("train", *LENET, "--log_root=m", "--total_steps=1", "--objective=at50",
              "--lsq_lambda=0.1", "--noise_std=0.2", "--train_attack_iterations=2", cwd=tmp_path)
    run, _ = checkpoints.read_record(checkpoints.latest(str(tmp_path / "m")))
    assert run.objective_weights == (
        ("head_loss", 0.5), ("adversarial_loss", 0.5), ("lsq", 0.1))
    # Of one channel.
    assert (run.noise_std, run.attack_eps, run.attack_step_size, run.attack_iterations) == (
        0.2, 0.3, 0.01, 2)
    refused("train", *LENET, "--log_root=m", "--total_steps=2", "--objective=at50", "--lsq_lambda=0.1",
            "--noise_std=0.3", "--train_attack_iterations=2", cwd=tmp_path, words=[
                "--noise_std contradicts the checkpoint"])


@pytest.mark.parametrize("objective", ["clp", "at50_alp"])
def test_a_run_in_two_goes_ends_in_the_same_bytes(tmp_path, objective):
    command = (*LENET, f"--objective={objective}", "--train_dir=")
    command += ("--train_attack_iterations=2",) if objective != "clp" else ()
    succeeded("train", *command, "--log_root=whole", "--total_steps=4", cwd=tmp_path)
    for steps in (2, 4):
        succeeded("train", *command, "--log_root=parts", f"--total_steps={steps}", cwd=tmp_path)
    ends = []
    for folder in ("whole", "parts"):
        path = checkpoints.latest(str(tmp_path / folder))
        reader = tf.train.load_checkpoint(path)
        ends.append({name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
                     if name.startswith("network")})
    assert ends[0] and ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name])
    rows = [(tmp_path / folder / "train/training.csv").read_text() for folder in ("whole", "parts")]
    assert rows[0].splitlines()[0].endswith("head_loss,clp" if objective == "clp" else ",alp")


def test_an_ensemble_is_of_one_training_objective(cpu, toy, tmp_path):
    command = (*NETWORK, "--batch_size=16", "--total_steps=1")
    succeeded("train", *command, "--log_root=a", "--objective=toy", cwd=tmp_path)
    succeeded("train", *command, "--log_root=b", cwd=tmp_path)
    run, _ = checkpoints.read_record(checkpoints.latest(str(tmp_path / "a")))
    both = restoring.restore(cpu, f"{tmp_path}/a,{tmp_path}/a", spec_of(run))
    assert both.training_objective == "toy"
    with pytest.raises(InputError, match=r"one training objective.*Received: \['plain', 'toy'\]"):
        restoring.restore(cpu, f"{tmp_path}/a,{tmp_path}/b", spec_of(run))

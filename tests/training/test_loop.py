"""Training: golden steps, optimizers by their formulas, and what a run leaves behind."""

import csv
import dataclasses
import glob
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from data import inputs
from data.pixels import to_network_input
from errors import InputError
from files import checkpoints
from files.training_log import TrainingLog
from networks import heads, restoring
from networks.network import Network, count_correct
from resnet_model import named_variables, weight_decay_loss
from tests.helpers.golden import golden
from training import OPTIMIZERS, optimizers, reporter
from training import loop as training_loop

RNG = np.random.default_rng(0)
TAGS = [f"{objective}_{optimizer}_lr{rate}" for objective in heads.HEADS
        for optimizer in OPTIMIZERS for rate in (0.1, 0.01)]


# Golden steps, with oneDNN off and on.


def made_by_golden_steps(folder, extents):
    """What golden_steps.py makes with oneDNN "off" or "on", to such extents, side by side."""
    root = Path(__file__).resolve().parents[2]
    processes = {}
    for name, extent in extents.items():
        environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(name == "on")),
                       "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "-1"}
        if name == "off":
            # As the golden runs had.
            environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        # With oneDNN on the threads stay as a user has them: the error depends on their number.
        processes[name] = subprocess.Popen(
            [sys.executable, str(root / "tests" / "helpers" / "golden_steps.py"),
             str(folder / f"{name}.npz"), extent],
            env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for process in processes.values():
        output, _ = process.communicate()
        assert process.returncode == 0, output.decode()
    return {name: dict(np.load(folder / f"{name}.npz")) for name in processes}


@pytest.fixture(scope="module")
def golden_steps(tmp_path_factory):
    """All with oneDNN off; three steps of momentum with it on."""
    return made_by_golden_steps(tmp_path_factory.mktemp("golden"), {"off": "full", "on": "mom"})


@pytest.fixture(scope="module")
def golden_steps_with_onednn(tmp_path_factory):
    """Three steps of every optimizer with oneDNN on."""
    return made_by_golden_steps(tmp_path_factory.mktemp("onednn"), {"on": "short"})["on"]


@pytest.fixture(scope="module")
def expected_steps():
    return golden("train_steps_mnist_u1")


def debiased(name, value, initial, step):
    """Our plain moving average as the original's zero-debiased one; other variables as they are."""
    if "/moving_" not in name:
        return value
    return (value - 0.9**step * initial) / (1.0 - 0.9**step)


# Largest error seen with oneDNN on: 1.4e-2 with 1 thread (beyond the bound), 9.1e-3 with 2, 2.6e-3
# with 4, 3.1e-3 with 8.
@pytest.mark.parametrize(("onednn", "tolerance"), [("off", 5e-5), ("on", 1e-2)])
@pytest.mark.parametrize("objective", list(heads.HEADS))
def test_golden_gradient_norms(golden_steps, expected_steps, onednn, tolerance, objective):
    names = [n for n in expected_steps.files if n.startswith(f"{objective}/step0_gradnorm/")]
    assert len(names) == 23
    for name in names:
        np.testing.assert_allclose(
            golden_steps[onednn][name], expected_steps[name], rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("tag", TAGS)
def test_golden_weights_after_one_step(golden_steps, expected_steps, tag):
    norms = expected_steps[f"{tag}/l2norm_per_step"][0]
    for name, expected in zip(expected_steps["variable_names"], norms, strict=True):
        value = golden_steps["off"][f"{tag}/after1/{name}"].astype(np.float64)
        value = debiased(name, value, expected_steps[f"init/{name}"], step=1)
        np.testing.assert_allclose(np.linalg.norm(value), expected, rtol=5e-5, err_msg=name)


def assert_costs(ours, expected_steps, tag, tolerance):
    np.testing.assert_allclose(ours[f"{tag}/cost"][:3], expected_steps[f"{tag}/cost"][:3], rtol=0,
                               atol=tolerance)


@pytest.mark.parametrize("tag", TAGS)
def test_golden_costs_of_three_steps(golden_steps, expected_steps, tag):
    assert_costs(golden_steps["off"], expected_steps, tag, 1e-5)
    if "_mom_" in tag:
        assert_costs(golden_steps["on"], expected_steps, tag, 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("tag", TAGS)
def test_golden_costs_with_onednn(golden_steps_with_onednn, expected_steps, tag):
    assert_costs(golden_steps_with_onednn, expected_steps, tag, 5e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_golden_costs_to_the_end(golden_steps, expected_steps, optimizer):
    ours = golden_steps["off"][f"rce_{optimizer}_lr0.01/cost"]
    assert len(ours) == 20
    np.testing.assert_allclose(
        ours, expected_steps[f"rce_{optimizer}_lr0.01/cost"], rtol=0, atol=1e-5)


def test_golden_weights_after_two_steps(golden_steps, expected_steps):
    tag = "rce_mom_lr0.1"
    for name in expected_steps["variable_names"]:
        value = golden_steps["off"][f"{tag}/after2/{name}"].astype(np.float64)
        value = debiased(name, value, expected_steps[f"init/{name}"], step=2)
        expected = expected_steps[f"{tag}/after2/{name}"]
        # The original's own two runs differ by 2.1e-4 here, in the norm alone (golden README).
        assert np.linalg.norm(value - expected) <= 1e-3 * np.linalg.norm(expected), name


# Learning rate.


@pytest.mark.parametrize(("dataset", "total_steps", "rates"), [
    ("mnist", 20000, {0: 0.1, 9999: 0.1, 10000: 0.01, 14999: 0.01, 15000: 1e-3, 19999: 1e-3,
                      20000: 1e-4, 50000: 1e-4}),
    ("cifar10", 90000, {0: 0.1, 39999: 0.1, 40000: 0.01, 59999: 0.01, 60000: 1e-3, 79999: 1e-3,
                        80000: 1e-4}),
    ("cifar100", 90000, {39999: 0.1, 40000: 0.01}),
    ("digits", 1000, {0: 0.1, 499: 0.1, 500: 0.01, 749: 0.01, 750: 1e-3, 999: 1e-3}),
    ("npz", 10, {4: 0.1, 5: 0.01, 6: 0.01, 7: 1e-3, 9: 1e-3}),
])
def test_learning_rate_of_a_step(dataset, total_steps, rates):
    schedule = optimizers.learning_rate_schedule(optimizers.default_boundaries(dataset, total_steps))
    for step, rate in rates.items():
        np.testing.assert_allclose(schedule(tf.constant(step)), rate, rtol=1e-6, err_msg=str(step))


def test_default_boundaries():
    assert optimizers.default_boundaries("digits", 1001) == (500, 750, 1001)
    assert optimizers.default_boundaries("mnist", 77) == (10000, 15000, 20000)


def test_one_boundary():
    schedule = optimizers.learning_rate_schedule((3,))
    np.testing.assert_allclose([schedule(s) for s in range(5)], [0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


# Optimizers against TF1's formulas, written down once more.


def tf1_steps(name, w, gradients, rates):
    """The weights after each step."""
    slot, square, after = np.zeros_like(w), np.ones_like(w), []
    first, second = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        if name == "sgd":
            w = w - rate * g
        elif name == "mom":
            slot = 0.9 * slot + g
            w = w - rate * slot
        elif name == "rmsprop":
            square = 0.9 * square + 0.1 * g**2
            slot = 0.9 * slot + rate * g / np.sqrt(square + 1.0)
            w = w - slot
        else:
            first = 0.9 * first + 0.1 * g
            second = 0.999 * second + 0.001 * g**2
            w = w - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * first / (np.sqrt(second) + 1.0)
        after.append(w)
    return after


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_tf1_semantics_across_a_drop_of_the_rate(name):
    start = [RNG.normal(size=(2, 3)), RNG.normal(size=4)]
    gradients = [[3.0 * RNG.normal(size=w.shape) for _ in range(4)] for w in start]
    optimizer = optimizers.make_optimizer(name, optimizers.learning_rate_schedule((2, 3)))
    variables = [tf.Variable(w, dtype=tf.float32) for w in start]
    keras_variables = [keras.Variable(v) for v in variables]
    optimizer.build(keras_variables)
    expected = [tf1_steps(name, w, g, (0.1, 0.1, 0.01, 0.001))
                for w, g in zip(start, gradients, strict=True)]
    for step in range(4):
        optimizer.apply([tf.constant(g[step], tf.float32) for g in gradients], keras_variables)
        for variable, steps in zip(keras_variables, expected, strict=True):
            np.testing.assert_allclose(variable.value, steps[step], rtol=2e-6, atol=1e-6)


TF1_OPTIMIZERS = {
    "sgd": lambda v1: v1.GradientDescentOptimizer(0.1),
    "mom": lambda v1: v1.MomentumOptimizer(0.1, 0.9),
    "adam": lambda v1: v1.AdamOptimizer(0.1, epsilon=1e-8),
    "rmsprop": lambda v1: v1.RMSPropOptimizer(0.1, decay=0.9, momentum=0.9, epsilon=1.0)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_the_bits_of_tf1s(name):
    start, gradients = RNG.normal(size=50), RNG.normal(size=(200, 50)).astype(np.float32)
    ours, theirs = (tf.Variable(start, dtype=tf.float32) for _ in range(2))
    optimizer = optimizers.make_optimizer(name, 0.1, adam_epsilon=1e-8)
    weights = keras.Variable(ours)
    optimizer.build([weights])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weights]))
    twin = TF1_OPTIMIZERS[name](tf.compat.v1.train)
    for gradient in gradients:
        step(gradient)
        twin.apply_gradients([(tf.constant(gradient), theirs)])
        np.testing.assert_array_equal(ours, theirs)


def test_the_powers_of_a_beta_end_in_nothing():
    powers = [optimizers._power(0.999, tf.constant(step, tf.int64)) for step in (17400, 10**6)]
    assert np.all(np.float32(1.0) - powers == np.float32(1.0)) and powers[0] == powers[1]


# Schedules over the whole run.


def scheduled(name, optimizer="mom", total_steps=200, learning_rate=0.4):
    return dataclasses.replace(RUN, lr_schedule=name, optimizer=optimizer, total_steps=total_steps,
                               learning_rate=learning_rate, lr_boundaries=())


@pytest.mark.parametrize(("name", "rates"), [
    ("cosine", {0: 0.4, 50: 0.2 * (1 + np.sqrt(0.5)), 100: 0.2, 200: 0.0, 300: 0.0}),
    ("one_cycle", {0: 0.04, 45: 0.22, 90: 0.4, 135: 0.22, 180: 0.04, 190: 0.0202, 200: 0.0004,
                   300: 0.0004})])
def test_rate_of_a_schedule(name, rates):
    schedule = optimizers.rate_of(scheduled(name))
    for step, rate in rates.items():
        np.testing.assert_allclose(schedule(tf.constant(step)), rate, rtol=1e-5, atol=1e-7)


def test_momentum_goes_against_the_rate():
    momentum = optimizers.momentum_of(scheduled("one_cycle"))
    by_step = {0: 0.95, 45: 0.9, 90: 0.85, 135: 0.9, 180: 0.95, 190: 0.95, 200: 0.95}
    for step, expected in by_step.items():
        np.testing.assert_allclose(momentum(tf.constant(step)), expected, rtol=1e-6)
    assert optimizers.momentum_of(scheduled("cosine")) is optimizers.momentum_of(RUN) is None


def cycled_steps(name, w, gradients):
    """The weights after each of ten steps of one_cycle with peak 0.1, by the formulas."""
    knots = (0.0, 4.5, 9.0, 10.0)
    slot, first, second = (np.zeros_like(w) for _ in range(3))
    after = []
    for t, g in enumerate(gradients):
        rate = np.interp(t, knots, (0.01, 0.1, 0.01, 1e-4))
        momentum = np.interp(t, knots, (0.95, 0.85, 0.95, 0.95))
        if name == "adam":
            first = momentum * first + (1 - momentum) * g
            second = 0.999 * second + 0.001 * g**2
            w = w - (rate * np.sqrt(1 - 0.999**(t + 1)) / (1 - momentum**(t + 1)) * first
                     / (np.sqrt(second) + 1.0))
        else:
            slot = momentum * slot + g
            w = w - rate * (slot if name == "mom" else g)
        after.append(w)
    return after


@pytest.mark.parametrize("name", ["mom", "adam", "sgd"])
def test_one_cycle_by_its_formulas(name):
    start, gradients = RNG.normal(size=5), RNG.normal(size=(10, 5))
    run = scheduled("one_cycle", name, total_steps=10, learning_rate=0.1)
    optimizer = optimizers.make_optimizer(name, optimizers.rate_of(run),
                                          momentum=optimizers.momentum_of(run))
    weights = keras.Variable(tf.Variable(start, dtype=tf.float32))
    optimizer.build([weights])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weights]))
    for gradient, expected in zip(gradients, cycled_steps(name, start, gradients), strict=True):
        step(tf.constant(gradient, tf.float32))
        np.testing.assert_allclose(weights.value, expected, rtol=2e-5, atol=1e-6)


# The train loop on a network without batch norm, where replicas change nothing.


@pytest.fixture(scope="module")
def toy_batches():
    return (RNG.uniform(-0.5, 0.5, (6, 8, 4)).astype(np.float32),
            RNG.integers(0, 3, (6, 8)).astype(np.int32))


def toy_training(strategy, objective, optimizer_name="mom", rate=0.1):
    """(model, loop) of a dense network with fixed weights."""
    with strategy.scope():
        images = keras.Input((4,))
        features = keras.layers.Dense(5, activation="tanh", name="hidden",
                                      kernel_initializer=keras.initializers.GlorotNormal(1))(images)
        logits = keras.layers.Dense(3, name="logit",
                                    kernel_initializer=keras.initializers.GlorotNormal(2))(features)
        model = keras.Model(images, (logits, features))
        optimizer = optimizers.make_optimizer(optimizer_name, rate)
        optimizer.build(model.trainable_variables)
    return model, training_loop.make_train_loop(strategy, model, optimizer, objective, batch_size=8)


def toy_iterator(strategy, batches):
    """One element per step and replica, as inputs.train_dataset gives them."""
    replicas = strategy.num_replicas_in_sync
    images, labels = (part.reshape(6 * replicas, 8 // replicas, *part.shape[2:]) for part in batches)
    return iter(strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices((images, labels))))


def weights_of(model):
    return {name: variable.numpy() for name, variable in named_variables(model).items()}


@pytest.mark.parametrize("objective", list(heads.HEADS))
def test_cost_is_mean_loss_plus_decay_before_the_update(cpu, toy_batches, objective):
    objective = heads.get(objective)
    model, loop = toy_training(cpu, objective)
    images, labels = (part[0] for part in toy_batches)
    expected = np.mean(objective.loss(labels, model(images)[0])) + weight_decay_loss(model)
    cost, *_ = loop(toy_iterator(cpu, toy_batches), tf.constant(1))
    np.testing.assert_allclose(cost, expected, rtol=1e-6)


def test_the_loop_is_traced_once_and_its_length_has_no_influence(cpu, toy_batches):
    results = []
    for lengths in ((6,), (1,) * 6, (4, 2)):
        model, loop = toy_training(cpu, heads.get("rce"))
        iterator = toy_iterator(cpu, toy_batches)
        costs = [loop(iterator, tf.constant(n))[0].numpy() for n in lengths]
        assert loop.experimental_get_tracing_count() == 1
        results.append((costs[-1], weights_of(model)))
    for cost, weights in results[1:]:
        assert cost == results[0][0]
        for name, value in weights.items():
            np.testing.assert_array_equal(value, results[0][1][name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_replicas_train_as_one(cpu, two_cpus, toy_batches, optimizer):
    results = []
    for strategy in (cpu, two_cpus):
        model, loop = toy_training(strategy, heads.get("rce"), optimizer)
        iterator = toy_iterator(strategy, toy_batches)
        costs = [float(loop(iterator, tf.constant(n))[0]) for n in (1, 1, 4)]
        results.append((costs, weights_of(model)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
    for name, value in results[0][1].items():
        np.testing.assert_allclose(results[1][1][name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("strategy", ["cpu", "two_cpus"])
def test_weight_decay_counts_once_whatever_the_replicas(request, strategy, toy_batches):
    strategy = request.getfixturevalue(strategy)
    no_loss = heads.Head("none", lambda labels, z: 0.0 * tf.reduce_sum(z, -1), 1.0)
    model, loop = toy_training(strategy, no_loss, "sgd", rate=100.0)
    before, decay = weights_of(model), float(weight_decay_loss(model))
    cost, *_ = loop(toy_iterator(strategy, toy_batches), tf.constant(1))
    np.testing.assert_allclose(cost, decay, rtol=1e-6)
    for name, value in weights_of(model).items():
        shrunk = 1.0 - 100.0 * 0.0002 if name.endswith("kernel") else 1.0
        np.testing.assert_allclose(value, shrunk * before[name], rtol=1e-6, err_msg=name)


# Whole runs on 64 digits.

RUN = checkpoints.TrainingRun(
    dataset="digits", image_shape=(8, 8, 1), num_classes=10, blocks_per_stage=1, objective="rce",
    optimizer="mom", batch_size=16, lr_boundaries=(4, 5), total_steps=6, seed=1)


@pytest.fixture(scope="module")
def digits():
    image_set = inputs.load("digits", "", "train")
    return dataclasses.replace(image_set, images=image_set.images[:64], labels=image_set.labels[:64])


@dataclasses.dataclass
class Outcome:
    """What one call of train() did."""

    exit_code: int
    figures: dict
    reported: list
    log_root: str
    network: Network

    def rows(self):
        with open(f"{self.log_root}/train/training.csv", newline="") as file:
            return list(csv.DictReader(file))

    def weights(self):
        return weights_of(self.network.model)


def run_training(strategy, log_root, image_set, run=RUN, *, stop_at=None, stop_with=signal.SIGTERM,
                 test_set=None, **options):
    """Calls train() in log_root; with `stop_at` it gets a signal when it reports that step."""
    reported, networks = [], []
    report, build = reporter.Reporter.report, restoring.build_network

    def report_and_stop(self, step, cost, parts):
        reported.append((step, float(cost)))
        report(self, step, cost, parts)
        if step == stop_at:
            os.kill(os.getpid(), stop_with)

    def remember(*args, **kwargs):
        networks.append(build(*args, **kwargs))
        return networks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporter.Reporter, "report", report_and_stop)
        patch.setattr(restoring, "build_network", remember)
        exit_code, figures = training_loop.train(
            run, strategy, image_set, test_set, training_loop.Options(
                str(log_root), f"{log_root}/train", note=print, **options))
    return Outcome(exit_code, figures, reported, str(log_root), networks[0])


def assert_equal_weights(ours, expected):
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.fixture(scope="module")
def straight(cpu, tmp_path_factory, digits):
    """Six steps in one go."""
    return run_training(cpu, tmp_path_factory.mktemp("straight"), digits,
                        checkpoint_every=2, keep_checkpoints=2)


def test_a_run_ends_with_code_0_and_its_figures(straight):
    assert straight.exit_code == 0
    assert [step for step, _ in straight.reported] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(cost) for _, cost in straight.reported)
    assert straight.figures["step"] == 6
    assert straight.figures["cost"] == straight.reported[-1][1]


def test_a_run_writes_its_csv(straight):
    rows = straight.rows()
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(
        [float(row["cost"]) for row in rows], [cost for _, cost in straight.reported])
    # Boundaries 4 and 5 count steps from 0; rows from 1.
    np.testing.assert_allclose([float(row["learning_rate"]) for row in rows],
                               [0.1, 0.1, 0.1, 0.1, 0.01, 0.001], rtol=1e-6)
    assert {row["test_precision"] for row in rows} == {""}


def test_a_run_writes_the_same_to_tensorboard(straight):
    path, = glob.glob(f"{straight.log_root}/train/events.out.tfevents.*")
    events = [event_pb2.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    costs = {event.step: tf.make_ndarray(value.tensor).item() for event in events
             for value in event.summary.value if value.tag == "cost"}
    assert costs == pytest.approx(dict(straight.reported))
    assert {value.tag for event in events for value in event.summary.value} == {
        "cost", "learning_rate"}


def test_a_run_keeps_its_newest_checkpoints(straight):
    indices = sorted(os.path.basename(p) for p in glob.glob(f"{straight.log_root}/*.index"))
    assert indices == ["model.ckpt-4.index", "model.ckpt-6.index"]
    assert checkpoints.read_record(checkpoints.latest(straight.log_root)) == (RUN, 6)


def test_training_moves_every_trainable_weight_and_average(straight, cpu):
    fresh = weights_of(restoring.build_network(cpu, RUN, seed=RUN.seed).model)
    for name, value in straight.weights().items():
        assert np.any(value != fresh[name]), name


def test_the_checkpoint_restores_into_equal_logits(straight, cpu, digits):
    restored = restoring.build_network(cpu, RUN)
    restoring.load_weights(restored, checkpoints.latest(straight.log_root), RUN)
    x = to_network_input(digits.images)
    for ours, expected in zip(restored.logits_and_features(x),
                              straight.network.logits_and_features(x), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_the_state_of_the_optimizer_is_saved(straight):
    reader = tf.train.load_checkpoint(checkpoints.latest(straight.log_root))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("optimizer/")]
    assert sum("momentum" in name for name in names) == 23
    iterations, = (name for name in names if "iteration" in name)
    assert reader.get_tensor(iterations) == 6


@pytest.fixture(scope="module")
def resumed(cpu, tmp_path_factory, digits):
    """Stopped by SIGTERM after three steps, killed somewhere later, then run again: to the end."""
    log_root = tmp_path_factory.mktemp("resumed")
    stopped = run_training(cpu, log_root, digits, stop_at=3)
    saved = checkpoints.read_record(checkpoints.latest(str(log_root)))
    # Rows after the checkpoint, the last one cut in the middle, as a killed run leaves them.
    with open(log_root / "train" / "training.csv", "a") as file:
        file.write("4,111.0,0.1,\r\n5,222.0,0.1,\r\n6,33")
    return stopped, saved, run_training(cpu, log_root, digits, test_set=digits)


def test_a_signal_saves_and_sets_the_exit_code(resumed):
    stopped, saved, _ = resumed
    assert stopped.exit_code == 128 + signal.SIGTERM == 143
    assert [step for step, _ in stopped.reported] == [1, 2, 3]
    assert saved == (RUN, 3)


def test_a_signal_is_left_to_others_after_the_run(tmp_path, cpu, digits):
    mine = {number: lambda *_: None for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: signal.signal(number, handler) for number, handler in mine.items()}
    try:
        run_training(cpu, tmp_path, digits, dataclasses.replace(RUN, total_steps=1))
        assert {number: signal.getsignal(number) for number in mine} == mine
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_resumed_run_ends_with_the_same_bytes(resumed, straight):
    _, _, finished = resumed
    assert [step for step, _ in finished.reported] == [4, 5, 6]
    assert finished.reported == straight.reported[3:]
    assert_equal_weights(finished.weights(), straight.weights())


def test_rows_beyond_the_restored_step_are_cut(resumed, straight):
    _, _, finished = resumed
    rows = finished.rows()
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["cost"] for row in rows] == [row["cost"] for row in straight.rows()]


def test_test_precision_at_the_end_of_a_run(resumed, cpu, digits):
    _, _, finished = resumed
    forward = finished.network.forward_stored(cpu)
    precision = count_correct(forward, digits, 64) / 64
    assert finished.figures["test_precision"] == precision
    assert [row["test_precision"] for row in finished.rows()] == [""] * 5 + [str(precision)]


def test_a_finished_run_says_so(resumed, cpu, digits, capsys):
    _, _, finished = resumed
    before = finished.rows()
    again = run_training(cpu, finished.log_root, digits)
    assert (again.exit_code, again.figures, again.reported) == (
        0, {"step": 6, "found_finished": True}, [])
    assert "checkpoint at step 6: nothing left of the 6 steps" in capsys.readouterr().out
    assert again.rows() == before


def test_resuming_with_another_seed_is_refused(straight, cpu, digits):
    with pytest.raises(InputError, match=r"--seed contradicts.*seed=1.*Received: seed=2"):
        run_training(cpu, straight.log_root, digits, dataclasses.replace(RUN, seed=2))


def test_a_schedule_over_the_run_goes_on_where_it_was(cpu, tmp_path, digits):
    run = dataclasses.replace(RUN, lr_schedule="one_cycle", lr_boundaries=(), learning_rate=0.2)
    whole = run_training(cpu, tmp_path / "whole", digits, run)
    run_training(cpu, tmp_path / "parts", digits, run, stop_at=3)
    parts = run_training(cpu, tmp_path / "parts", digits, run)
    assert_equal_weights(parts.weights(), whole.weights())
    np.testing.assert_allclose(
        [float(row["learning_rate"]) for row in whole.rows()],
        np.interp(range(6), (0.0, 2.7, 5.4, 6.0), (0.02, 0.2, 0.02, 0.0002)), rtol=1e-5)
    # Its rates are those of so many steps: more of them would be another run.
    with pytest.raises(InputError, match=r"--total_steps contradicts.*Received: total_steps=9"):
        run_training(cpu, tmp_path / "parts", digits, dataclasses.replace(run, total_steps=9))
    with pytest.raises(InputError, match=r"--lr_schedule contradicts.*Received: lr_schedule='cosine'"):
        run_training(cpu, tmp_path / "parts", digits, dataclasses.replace(run, lr_schedule="cosine"))


def test_steps_per_loop_has_no_influence_and_sigint_exits_with_130(cpu, tmp_path, digits, capsys):
    run = dataclasses.replace(RUN, total_steps=1000, objective="ce")
    short, long = (run_training(cpu, tmp_path / str(n), digits, run, stop_at=10,
                                stop_with=signal.SIGINT, steps_per_loop=n) for n in (2, 20))
    # With 1000 steps a row is written every five.
    assert [step for step, _ in short.reported] == [2, 4, 5, 7, 9, 10]
    assert [step for step, _ in long.reported] == [5, 10]
    assert short.exit_code == long.exit_code == 130
    assert short.rows() == long.rows()
    assert_equal_weights(short.weights(), long.weights())
    assert "Stopped by SIGINT at step 10" in capsys.readouterr().out


def test_test_precision_is_printed(cpu, tmp_path, digits, capsys):
    run = dataclasses.replace(RUN, total_steps=1)
    outcome = run_training(cpu, tmp_path, digits, run, test_set=digits)
    assert f"Step: 1 Test precision: {outcome.figures['test_precision']:.5f}" in capsys.readouterr().out


def test_two_replicas_train_save_and_restore_into_one(cpu, two_cpus, tmp_path, digits):
    run = dataclasses.replace(RUN, total_steps=2)
    outcome = run_training(two_cpus, tmp_path, digits, run)
    assert outcome.exit_code == 0
    assert len(outcome.reported) == 2
    assert all(np.isfinite(cost) for _, cost in outcome.reported)
    for name, variable in named_variables(outcome.network.model).items():
        first, second = (v.numpy() for v in two_cpus.experimental_local_results(variable))
        if "/moving_" not in name:
            np.testing.assert_array_equal(first, second, err_msg=name)
    restored = restoring.build_network(cpu, run)
    restoring.load_weights(restored, checkpoints.latest(str(tmp_path)), run)
    ours, _ = restored.forward_stored(cpu)(digits.images)
    expected, _ = outcome.network.forward_stored(two_cpus)(digits.images)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


# The log by itself.


def test_the_log_keeps_rows_up_to_the_step_it_resumes_at(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = TrainingLog(str(tmp_path), start, str(tmp_path.parent))
        for step in steps:
            log.write(step, cost=float(step + start), learning_rate=0.1)
        log.close()
    with open(tmp_path / "training.csv", newline="") as file:
        assert [(row["step"], row["cost"]) for row in csv.DictReader(file)] == [
            ("1", "1.0"), ("2", "2.0"), ("3", "5.0"), ("4", "6.0")]


def test_a_new_run_starts_an_empty_csv(tmp_path):
    for _ in range(2):
        TrainingLog(str(tmp_path), 0, str(tmp_path.parent)).close()
    assert (tmp_path / "training.csv").read_text().split() == ["step,cost,learning_rate,test_precision"]

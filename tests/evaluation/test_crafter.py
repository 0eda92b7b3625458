"""Attacks over arrays of any length: batches, replicas, several targets, progress."""

import types

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import pytest
import tensorflow as tf

import attacks
from evaluation.crafter import Crafter, default_chunk, input_gradients
from evaluation.listener import Listener
from networks import restoring
from networks.network import Network
from networks.spec import NetworkSpec

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-0.5, 0.5, (45, 8, 8, 1)).astype(np.float32)
LABELS = RNG.integers(0, 10, 45)
INDEX = np.arange(100, 145)
SETTINGS = {"jsma": {"num_steps": 6},
            "carliniL2": {"num_steps": 10, "num_search_steps": 2, "learning_rate": 0.1},
            "carliniL2_highden": {
                "kernels": RNG.normal(size=(20, 64, 10)), "density_medians": np.full(10, 0.1),
                "bandwidth": 1.0, "num_steps": (5, 5), "num_search_steps": (2, 2),
                "learning_rate": (0.1, 0.1)}}


@pytest.fixture(scope="module")
def networks(cpu, two_cpus):
    """One network on one and on two replicas."""
    run = NetworkSpec("digits", (8, 8, 1), 10, 1, "rce")
    return {strategy: restoring.build_network(strategy, run, seed=4) for strategy in (cpu, two_cpus)}


def craft(networks, strategy, name, x=IMAGES, batch_size=0, targets=None, listener=None, **more):
    attack = attacks.get(name)
    crafter = Crafter(networks[strategy], strategy, attack, seed=0,
                               settings=SETTINGS.get(name, {}) | more, batch_size=batch_size)
    given = {"eps": 0.3} if attack.uses_eps else {}
    if attack.stages:
        given["targets"] = [(LABELS[:len(x)] + 1) % 10] if targets is None else targets
    return crafter(x, INDEX[:len(x)], listener=listener or Listener(), **given)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize("name", [
    "random", "jsma", "carliniL2", *(pytest.param(name, marks=pytest.mark.slow)
                                     for name in ("pgd", "carliniL2_highden"))])
def test_replicas_and_batches_have_no_influence(networks, cpu, two_cpus, name):
    one = craft(networks, cpu, name)
    assert all(len(array) == 45 for array in one.values())
    assert_same(craft(networks, two_cpus, name), one)
    assert_same(craft(networks, cpu, name, batch_size=7), one)


def test_the_batch_abort_rule_does_not_depend_on_the_batch_either(networks, cpu, two_cpus):
    together = craft(networks, cpu, "carliniL2", abort_group=10)
    assert_same(craft(networks, cpu, "carliniL2", abort_group=10, batch_size=60), together)
    assert_same(craft(networks, two_cpus, "carliniL2", abort_group=10), together)
    alone = craft(networks, cpu, "carliniL2")
    assert np.any(alone["iterations"] != together["iterations"])
    for start in range(0, 45, 10):
        assert len(set(together["iterations"][start:start + 10])) == 1


def test_two_stages_tell_of_the_first(networks, cpu):
    told = []
    result = craft(networks, cpu, "carliniL2_highden", listener=Listener(
        stage_done=lambda stage, success: told.append((stage, success))))
    assert [stage for stage, _ in told] == [1, 2]
    np.testing.assert_array_equal(told[0][1], result["first_success"])
    np.testing.assert_array_equal(told[1][1], result["success"])
    # 5 steps of each of 2 search steps in each of 2 stages, where none is aborted.
    assert 10 < result["iterations"].max() <= 20
    # An image that the first stage does not move is as in plain C&W.
    settings = {name: value[0] if isinstance(value, tuple) else value
                for name, value in SETTINGS["carliniL2_highden"].items()
                if name in ("num_steps", "num_search_steps", "learning_rate")}
    plain = Crafter(networks[cpu], cpu, attacks.get("carliniL2"), seed=0, settings=settings)(
        IMAGES, INDEX, targets=[(LABELS + 1) % 10])
    np.testing.assert_array_equal(plain["success"], result["first_success"])


@pytest.mark.parametrize("name", ["bim", "jsma", "carliniL2_highden"])
def test_progress_counts_every_image_once(networks, cpu, name):
    told = []
    result = craft(networks, cpu, name, batch_size=16, listener=Listener(
        rows_done=lambda rows, successes: told.append((rows, successes))))
    assert sum(rows for rows, _ in told) == 45
    if "success" in result:
        assert sum(successes for _, successes in told) == result["success"].sum()


def test_a_sweep_over_kappa_keeps_the_smallest_success_of_each(networks, cpu):
    x, kappas = IMAGES[:16], (0.0, 3.0)
    numbers = {"distance_from_clean": True, "num_steps": (20, 20),
               "density_medians": np.full(10, 1e-99)}
    targets = [(LABELS[:16] + step) % 10 for step in (1, 2)]
    counted = []
    best = craft(networks, cpu, "carliniL2_highden", x=x, targets=targets, kappa_sweep=kappas,
                 listener=Listener(rows_done=lambda rows, _: counted.append(rows)), **numbers)
    each = [craft(networks, cpu, "carliniL2_highden", x=x, targets=targets, kappa=(0.0, kappa),
                  **numbers) for kappa in kappas]
    distance = np.stack([
        np.where(result["success"], np.square(result["adversarial"] - x).sum((1, 2, 3)), np.inf)
        for result in each])
    first = np.argmin(distance, axis=0)
    chosen = np.isfinite(distance.min(axis=0))
    np.testing.assert_array_equal(best["success"], chosen)
    assert chosen.any() and sum(counted) == 16
    np.testing.assert_array_equal(best["kappa"][chosen], np.take(kappas, first)[chosen])
    for row in np.flatnonzero(chosen):
        np.testing.assert_array_equal(best["adversarial"][row], each[first[row]]["adversarial"][row])


def test_of_several_targets_the_smallest_success_is_kept(networks, cpu):
    targets = [(LABELS + step) % 10 for step in range(1, 10)]
    best = craft(networks, cpu, "jsma", targets=targets)
    each = [craft(networks, cpu, "jsma", targets=[target]) for target in targets]
    success = np.stack([result["success"] for result in each])
    distance = np.stack([np.square(result["adversarial"] - IMAGES).sum((1, 2, 3)) for result in each])
    np.testing.assert_array_equal(best["success"], success.any(axis=0))
    assert best["success"].sum() > 0
    found = np.square(best["adversarial"] - IMAGES).sum((1, 2, 3))
    smallest = np.where(success, distance, np.inf).min(axis=0)
    np.testing.assert_allclose(found[best["success"]], smallest[best["success"]], rtol=1e-6)
    assert np.all(best["target"][best["success"], None] ==
                  np.stack(targets)[:, best["success"]].T, axis=1).sum() == 0
    np.testing.assert_array_equal(best["iterations"], sum(result["iterations"] for result in each))


@pytest.mark.parametrize(("name", "settings", "expected"), [
    ("random", {}, 0), ("fgsm", {}, 1), ("bim", {}, 10), ("bim", {"num_steps": 3}, 3),
    ("pgd", {}, 40), ("pgd", {"num_steps": 5, "num_restarts": 3}, 15)])
def test_iterations_of_attacks_of_one_call(networks, cpu, name, settings, expected):
    crafter = Crafter(networks[cpu], cpu, attacks.get(name), seed=0, settings=settings)
    result = crafter(IMAGES[:2], INDEX[:2], eps=0.01)
    np.testing.assert_array_equal(result["iterations"], [expected, expected])


# --- Rows per gradient, and XLA ---


class OnDevices:
    """What `device_kind` looks at of a strategy."""

    def __init__(self, device):
        self.extended = types.SimpleNamespace(worker_devices=(device,))


@pytest.mark.parametrize(("device", "call", "search"), [
    ("/job:localhost/replica:0/task:0/device:CPU:0", 100, 16), ("/cpu:0", 100, 16),
    ("/job:localhost/replica:0/task:0/device:GPU:1", 1024, 512)])
def test_rows_per_gradient_are_the_devices(device, call, search):
    strategy = OnDevices(device)
    assert default_chunk(attacks.get("bim"), strategy) == call
    assert default_chunk(attacks.get("carliniL2"), strategy) == search


@pytest.mark.parametrize("name", ["bim", "carliniL2"])
def test_another_chunk_or_xla_changes_last_bits_at_most(cpu, name):
    network = restoring.build_network(cpu, NetworkSpec("digits", (8, 8, 1), 10, 0, "ce", "mlp"))
    results = []
    for options in ({}, {"chunk": 40}, {"jit_compile": True}):
        crafter = Crafter(network, cpu, attacks.get(name), seed=0, settings=SETTINGS.get(name),
                          **options)
        assert crafter.chunk == options.get("chunk", 100 if name == "bim" else 16)
        given = {"eps": 0.1} if name == "bim" else {"targets": [(LABELS + 1) % 10]}
        results.append(crafter(IMAGES, INDEX, **given)["adversarial"])
    for other in results[1:]:
        # A gradient that is zero but for rounding may have another sign.
        assert np.mean(np.abs(other - results[0]) > 1e-5) < 0.01


def test_pgd_with_a_target_climbs_towards_it(networks, cpu):
    network = networks[cpu]
    targets = (LABELS + 1) % 10

    def crafted(**more):
        given = {} if not more else {"targets": [targets]}
        return Crafter(network, cpu, attacks.get("pgd"), seed=0, settings={"num_steps": 5, **more})(
            IMAGES, INDEX, eps=0.3, **given)

    aimed, free = crafted(targeted=True), crafted()
    np.testing.assert_array_equal(aimed["target"], targets)
    assert "target" not in free and np.abs(aimed["adversarial"] - IMAGES).max() <= 0.3 + 1e-6

    def target_loss(images):
        logits = network.forward(cpu)(images)[0]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits).numpy()

    assert np.all(target_loss(aimed["adversarial"]) < target_loss(IMAGES))
    assert target_loss(aimed["adversarial"]).mean() < target_loss(free["adversarial"]).mean()


# --- The gradient before the attack ---


@pytest.mark.parametrize("cross_entropy", [True, False])
def test_input_gradients_vanish_where_the_loss_does(networks, cpu, cross_entropy):
    network = networks[cpu]
    gradients = input_gradients(network, IMAGES, cross_entropy=cross_entropy)
    assert gradients.shape == IMAGES.shape
    assert np.all(np.abs(gradients).max(axis=(1, 2, 3)) > 0)
    saturated = Network(network.model, type("Far", (), {
        "attack_logits": staticmethod(lambda z: 1e4 * z)}))
    vanished = ~input_gradients(saturated, IMAGES, cross_entropy=cross_entropy).any(
        axis=(1, 2, 3))
    # The cross entropy's vanishes with the probability of the other classes, the margin's does not.
    assert vanished.mean() > 0.5 if cross_entropy else not vanished.any()
    assert tf.reduce_all(tf.math.is_finite(gradients))

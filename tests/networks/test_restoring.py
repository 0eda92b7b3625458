"""Running a network over arrays of any length."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data import inputs
from data.pixels import to_network_input
from networks import heads, restoring
from networks.network import Network, count_correct, ensemble
from networks.running import ChunkedFunction
from networks.spec import NetworkSpec
from tests.helpers import script_runner

RNG = np.random.default_rng(0)
CHUNK = 4
RUN = NetworkSpec("digits", (8, 8, 1), 10, 1, "rce")


def rows(n, width=3):
    return RNG.normal(size=(n, width)).astype(np.float32)


def counted(strategy, **options):
    """A chunked a·b + c with the sum of each row, and the list of its traces."""
    traces = []

    def fn(a, b, c):
        traces.append(a.shape)
        y = a * b + c
        return y, tf.reduce_sum(y, axis=-1)

    return ChunkedFunction(strategy, fn, chunk_size=CHUNK, **options), traces


def test_any_number_of_rows_in_one_trace(cpu):
    function, traces = counted(cpu)
    for n in (1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 2):
        a, b = rows(n), rows(n)
        y, total = function(a, b, constants=(tf.constant(float(n)),))
        assert y.shape == (n, 3)
        assert total.shape == (n,)
        np.testing.assert_allclose(y, a * b + n, rtol=1e-6)
        np.testing.assert_allclose(total, (a * b + n).sum(-1), rtol=1e-5)
    assert traces == [(CHUNK, 3)]


@pytest.mark.parametrize("n", [1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK])
def test_two_replicas_give_what_one_gives(cpu, two_cpus, n):
    a, b = rows(n), rows(n)
    constants = (tf.constant(0.5),)
    one, two = (counted(s)[0](a, b, constants=constants) for s in (cpu, two_cpus))
    for ours, theirs in zip(two, one, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_replicas_work_on_different_chunks(two_cpus):
    """Not only the same result: a call takes two chunks."""
    function, _ = counted(two_cpus)
    done = []
    function(rows(3 * CHUNK + 1), rows(3 * CHUNK + 1), constants=(tf.constant(0.0),),
             on_rows_done=done.append)
    assert done == [2 * CHUNK, CHUNK + 1]


def test_progress_counts_rows_without_padding(cpu):
    function, _ = counted(cpu)
    done = []
    function(rows(2 * CHUNK + 3), rows(2 * CHUNK + 3), constants=(tf.constant(0.0),),
             on_rows_done=done.append)
    assert done == [CHUNK, CHUNK, 3]


def test_arrays_of_different_length_are_an_error(cpu):
    with pytest.raises(ValueError):
        counted(cpu)[0](rows(9), rows(4), constants=(tf.constant(0.0),))


def test_prepare_is_applied_to_the_first_array_alone(cpu):
    function, _ = counted(cpu, prepare=lambda chunk: chunk.astype(np.float32) / 2)
    a, b = RNG.integers(0, 256, (6, 3), dtype=np.uint8), rows(6)
    y, _ = function(a, b, constants=(tf.constant(0.0),))
    np.testing.assert_allclose(y, a / np.float32(2) * b, rtol=1e-6)


@pytest.fixture(scope="module")
def network(cpu):
    return restoring.build_network(cpu, RUN, seed=4)


@pytest.fixture(scope="module")
def stored():
    return RNG.integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)


def test_stored_images_are_scaled_to_network_inputs(cpu, network, stored):
    x = to_network_input(stored)
    expected, features = network.forward(cpu)(x)
    for images in (stored, stored.astype(np.float32) / np.float32(255)):
        logits, stored_features = network.forward_stored(cpu)(images)
        np.testing.assert_allclose(logits, expected, atol=1e-6)
        np.testing.assert_allclose(stored_features, features, atol=1e-6)


@pytest.mark.parametrize(("name", "sign"), [("ce", 1.0), ("rce", -1.0)])
def test_logits_of_a_network_are_sign_adjusted(cpu, network, stored, name, sign):
    x = tf.constant(to_network_input(stored))
    raw, raw_features = network.model(x, training=False)
    signed = Network(network.model, heads.get(name))
    np.testing.assert_array_equal(signed.logits(x), sign * raw.numpy())
    logits, features = signed.logits_and_features(x)
    np.testing.assert_array_equal(logits, sign * raw.numpy())
    np.testing.assert_array_equal(features, raw_features)


def test_the_network_of_a_run_has_its_shape_seed_and_objective(cpu, network):
    again = restoring.build_network(cpu, RUN, seed=4)
    other = restoring.build_network(cpu, RUN, seed=5)
    assert network.head is heads.get("rce")
    assert network.model.input_shape == (None, 8, 8, 1)
    for ours, same, different in zip(*(n.model.get_weights() for n in (network, again, other)),
                                     strict=True):
        np.testing.assert_array_equal(ours, same)
        assert ours.ndim < 2 or np.any(ours != different)


@pytest.mark.parametrize("name", ["ce", "rce"])
@pytest.mark.parametrize("num_images", [1, 5, 7])
def test_correct_predictions_are_counted(cpu, network, stored, name, num_images):
    signed = Network(network.model, heads.get(name))
    raw, _ = network.model(to_network_input(stored), training=False)
    predicted = (np.argmin if name == "rce" else np.argmax)(raw, axis=-1).astype(np.int32)
    labels = predicted.copy()
    labels[[1, 4]] = (labels[[1, 4]] + 1) % 10
    image_set = inputs.ImageSet(stored, labels, 10, "made up", False)
    correct = np.sum((predicted == labels)[:num_images])
    assert count_correct(signed.forward_stored(cpu), image_set, num_images) == correct


# Ensembles.


@pytest.mark.parametrize("objective", ["ce", "rce"])
def test_an_ensemble_gives_the_mean_of_its_members_probabilities(cpu, objective):
    run = dataclasses.replace(RUN, objective=objective)
    members = [restoring.build_network(cpu, run, seed=seed) for seed in (1, 2, 3)]
    images = to_network_input(inputs.load("digits", "", "test").images[:6])
    logits, features = ensemble(cpu, members).logits_and_features(images)
    theirs = [member.logits_and_features(images) for member in members]
    expected = np.mean([tf.nn.softmax(member_logits) for member_logits, _ in theirs], axis=0)
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, rtol=1e-5)
    np.testing.assert_array_equal(features, np.concatenate([f for _, f in theirs], axis=1))


def test_which_ensemble_it_is(cpu):
    a, b = (restoring.build_network(cpu, RUN, seed=seed) for seed in (1, 2))
    found = {ensemble(cpu, members).weights_sha256() for members in ([a, b], [b, a], [a, a])}
    assert len(found | {a.weights_sha256(), b.weights_sha256()}) == 5


def test_folders_with_commas_between_them_are_an_ensemble(cpu, tmp_path_factory):
    folder = f"{script_runner.tiny_run(tmp_path_factory)}/models/tiny"
    run = dataclasses.replace(RUN, objective="rce")
    one, twice = (restoring.restore(cpu, log_root, run) for log_root in (folder, f"{folder},{folder}"))
    images = to_network_input(inputs.load("digits", "", "test").images[:6])
    np.testing.assert_allclose(tf.nn.softmax(twice.logits(images)), tf.nn.softmax(one.logits(images)),
                               rtol=1e-5)
    assert len(twice.members) == 2

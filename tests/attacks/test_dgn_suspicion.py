"""Suspicion and the places it looks at: the goldens, hand numbers, plain loops, networks of ours."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from attacks.dgn.suspicion import (
    hit_spectrum,
    map_scores,
    most_suspicious,
    most_suspicious_of_layer,
    tarantula,
)
from attacks.dgn.target import Site, Target
from errors import InputError
from networks import NETWORKS, heads
from networks.network import Network, ensemble
from networks.spec import NetworkSpec
from resnet_model import LEAKY_SLOPE
from tests.helpers import dgn
from tests.helpers.dgn_targets import inputs, target
from tests.helpers.golden import golden

ARRAYS = golden("dgn_analysis_public")
RNG = np.random.default_rng(21)


def images(*shape):
    return RNG.uniform(-0.5, 0.5, shape).astype(np.float32)


def built(name, *shape, head="ce", **options):
    return Network(NETWORKS[name].load_builder()(shape, 4, **options), heads.get(head))


# --- The goldens ---

@pytest.fixture(scope="module")
def spectra():
    """Of the five hidden layers of the MNIST target, over the subset."""
    x, labels = inputs(ARRAYS["mnist/subset/images_uint8"]), ARRAYS["mnist/subset/labels"]
    assert len(x) % 128
    return Target(target("mnist_5x30")).hits(x, labels, batch_size=128)


def test_mnist_counts_and_scores_are_the_originals(spectra):
    spectrum, expected = np.concatenate(spectra, axis=-1), ARRAYS["mnist/subset/tarantula"]
    assert spectrum.dtype == np.int32
    np.testing.assert_array_equal(spectrum, ARRAYS["mnist/subset/counts_as_af_ns_nf"])
    np.testing.assert_allclose(tarantula(spectrum), expected, rtol=0, atol=1e-12)
    # Where a class has errors; in the original, all units of one without have a score, 0.
    never = (spectrum[:, 0] + spectrum[:, 1] == 0) & (spectrum[:, 1] + spectrum[:, 3] > 0)
    np.testing.assert_array_equal(never, ARRAYS["mnist/subset/never_active"])


def test_mnist_lists_are_the_originals_in_order(spectra):
    scores, expected = [tarantula(spectrum) for spectrum in spectra], ARRAYS["mnist/subset/suspicious"]
    found = [most_suspicious([of_layer[label] for of_layer in scores], expected.shape[1])
             for label in range(len(expected))]
    assert all(len({*row}) == expected.shape[1] for row in found)
    # Where the original crashed, it has none.
    has_list = expected[:, 0] >= 0
    assert 0 < np.count_nonzero(~has_list) < np.count_nonzero(has_list)
    np.testing.assert_array_equal(np.stack(found)[has_list], expected[has_list])


def test_cifar_maps_and_units_are_the_originals():
    stored = {key.removeprefix("cifar/class5_40/"): ARRAYS[key] for key in ARRAYS.files
              if key.startswith("cifar/class5_40/")}
    x, network = inputs(stored["images_uint8"]), target("cifar_cnn")
    predicted = network.logits(tf.constant(x)).numpy().argmax(axis=1)
    np.testing.assert_array_equal(predicted, stored["predictions"])
    *convolutions, dense = Target(network).hits(x, np.full(len(x), 5))
    for number, spectrum in enumerate(convolutions, 1):
        counts = spectrum[5].sum(axis=(1, 2)).T
        np.testing.assert_array_equal(counts, stored[f"conv{number}_counts_sum"])
        scores = map_scores(tarantula(spectrum))[5]
        np.testing.assert_allclose(scores, stored[f"map_scores{number}"], rtol=0, atol=1e-12)
        expected = stored[f"suspicious_maps{number}"]
        np.testing.assert_array_equal(most_suspicious_of_layer(scores, len(expected)), expected)
    assert f"conv{len(convolutions) + 1}_counts_sum" not in stored
    np.testing.assert_array_equal(dense[5], stored["dense_counts_as_af_ns_nf"])
    scores, expected = tarantula(dense)[5], stored["suspicious_dense"]
    np.testing.assert_allclose(scores, stored["dense_scores"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(most_suspicious_of_layer(scores, len(expected)), expected)


# --- Counts and scores ---

def test_a_spectrum_counts_and_batches_add_up():
    active, labels = RNG.random((50, 3, 2)) < 0.4, RNG.integers(0, 4, 50)
    success = RNG.random(50) < 0.7
    expected = np.zeros((4, 4, 3, 2), int)
    for row, label, right in zip(active, labels, success, strict=True):
        for place, is_active in np.ndenumerate(row):
            expected[(label, 2 * (not is_active) + (not right), *place)] += 1
    np.testing.assert_array_equal(hit_spectrum(active, labels, success, 4), expected)
    parts = [hit_spectrum(active[rows], labels[rows], success[rows], 4)
             for rows in (slice(30), slice(30, None))]
    np.testing.assert_array_equal(sum(parts), expected)


def test_tarantula_by_hand():
    # Units of one class: as in the spec, never active, only when right, only when wrong.
    with_errors = [[2, 3, 8, 1], [0, 0, 10, 4], [5, 0, 5, 4], [0, 2, 10, 2]]
    found = tarantula(np.array([np.transpose(with_errors)]))
    np.testing.assert_allclose(found, [[0.789474, 0.0, 0.0, 1.0]], atol=5e-7)


@pytest.mark.parametrize("unit", [[4, 0, 6, 0], [0, 4, 0, 6]])
def test_without_right_or_wrong_answers_the_score_is_0(unit):
    assert tarantula(np.array(unit).reshape(1, 4, 1)) == 0.0


def test_a_map_has_the_mean_of_its_units():
    scores = RNG.random((2, 3, 4, 5))
    np.testing.assert_allclose(map_scores(scores)[1, 2], scores[1, :, :, 2].mean(), rtol=1e-14)


# --- The most suspicious ---

def slots_of(scores, k):
    """The original's words, with lists."""
    kept = list(range(k))
    for unit in range(k, len(scores)):
        smallest = min(scores[one] for one in kept)
        if scores[unit] > smallest:
            kept[[scores[one] for one in kept].index(smallest)] = unit
    return kept


def test_slots_by_hand():
    # 0.1 goes for 0.4, then the first of two 0.2 for 0.3; the last 0.3 exceeds the other 0.2.
    scores = np.array([0.2, 0.5, 0.1, 0.2, 0.4, 0.2, 0.3, 0.3, 0.3])
    np.testing.assert_array_equal(most_suspicious_of_layer(scores, 4), [6, 1, 4, 7])
    # Together with a second layer, whose units count on from 9; of equals the first slot comes first.
    found = most_suspicious([scores, np.array([0.3, 0.5])], 4)
    np.testing.assert_array_equal(found, [1, 10, 4, 6])
    assert found.dtype == np.int32


@pytest.mark.parametrize("seed", range(5))
def test_slots_as_the_original_says_them(seed):
    rng = np.random.default_rng(seed)
    # Few values: many ties.
    scores = [rng.integers(0, 4, size) / 4 for size in (30, 12, 7)]
    for layer in scores:
        np.testing.assert_array_equal(most_suspicious_of_layer(layer, 7), slots_of(layer, 7))
    starts = itertools.accumulate((30, 12), initial=0)
    slots = [start + one for start, layer in zip(starts, scores, strict=True)
             for one in slots_of(layer, 7)]
    expected = sorted(slots, key=lambda unit: np.concatenate(scores)[unit], reverse=True)[:7]
    np.testing.assert_array_equal(most_suspicious(scores, 7), expected)


def test_of_a_smaller_layer_all_units_are_taken():
    np.testing.assert_array_equal(most_suspicious_of_layer(np.zeros(3), 20), [0, 1, 2])
    np.testing.assert_array_equal(most_suspicious([np.zeros(3), np.ones(3)], 5), [3, 4, 5, 0, 1])


@pytest.mark.parametrize("k", [0, 7])
def test_k_is_of_the_units(k):
    with pytest.raises(InputError, match=rf"^k must lie in \[1, 6\]. Received: k={k}\.$"):
        most_suspicious([np.zeros(3), np.zeros(3)], k)


def test_k_of_a_layer_is_at_least_1():
    with pytest.raises(InputError, match=r"^k must be at least 1\. Received: k=0\.$"):
        most_suspicious_of_layer(np.zeros(3), 0)


# --- Where units are looked at ---

@pytest.mark.parametrize(("name", "dataset", "part"), [
    ("mnist_5x30", "mnist", "subset"), ("cifar_cnn", "cifar", "class5_8")])
def test_pre_activations_are_the_originals(name, dataset, part):
    stored = ARRAYS[f"{dataset}/{part}/images_uint8"][:8]
    x, network = inputs(stored), target(name)
    logits, expected = dgn.TARGETS[dataset](tf.constant(dgn.pixels(stored)))
    for run in (Target(network).pre_activations, tf.function(Target(network).pre_activations)):
        found = run(tf.constant(x))
        assert len(found) == len(expected)
        for of_site, of_layer in zip(found, expected, strict=True):
            np.testing.assert_allclose(of_site, of_layer, rtol=0, atol=1e-5)
    of_network, outputs = Target(network).activity(tf.constant(x))
    np.testing.assert_allclose(of_network, logits, rtol=0, atol=1e-4)
    for output, before in zip(outputs, found, strict=True):
        np.testing.assert_allclose(output, tf.nn.relu(before), rtol=0, atol=1e-5)


def test_sites_of_a_resnet_are_its_activations():
    network = built("resnet", 8, 8, 3, blocks_per_stage=1, head="rce")
    found = Target(network)
    expected = [layer for layer in network.model.layers if isinstance(layer, layers.LeakyReLU)]
    assert found.sites == tuple(Site(layer.name, layer.output.shape[1:]) for layer in expected)
    assert len(expected) == 7 and all(site.is_convolutional for site in found.sites)
    x = tf.constant(images(3, 8, 8, 3))
    logits, outputs = found.activity(x)
    np.testing.assert_allclose(logits, network.logits(x), rtol=1e-4, atol=1e-6)
    inner = keras.Model(network.model.inputs, [layer.input for layer in expected])
    for z, output, before in zip(found.pre_activations(x), outputs, inner(x), strict=True):
        np.testing.assert_allclose(z, before, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(output, np.where(z > 0, z, LEAKY_SLOPE * z), rtol=1e-6)


@pytest.mark.parametrize(("name", "shape", "expected"), [
    ("mlp", (8, 8, 1), {"hidden1": (100,), "hidden2": (100,)}),
    ("lenet", (8, 8, 1), {"conv1": (8, 8, 32), "conv2": (4, 4, 64), "hidden": (1024,)}),
    ("simple_cnn", (8, 8, 3), {
        "conv1.relu": (8, 8, 64), "conv2.relu": (8, 8, 64), "conv3.relu": (4, 4, 128),
        "conv4.relu": (4, 4, 128), "hidden1.relu": (1, 1, 256), "hidden2.relu": (1, 1, 256)}),
])
def test_sites_of_other_networks(name, shape, expected):
    assert {site.name: site.shape for site in Target(built(name, *shape)).sites} == expected


def test_gradients_reach_the_images():
    found = Target(target("mnist_5x30"))
    x = tf.constant(inputs(ARRAYS["mnist/subset/images_uint8"][:2]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        last = tf.reduce_sum(found.pre_activations(x)[-1])
    assert np.any(tape.gradient(last, x))


def test_a_unit_is_active_above_the_threshold():
    network = built("mlp", 8, 8, 1)
    found, x, labels = Target(network), images(20, 8, 8, 1), np.arange(20) % 4
    logits, outputs = found.activity(tf.constant(x))
    success = logits.numpy().argmax(axis=1) == labels
    for threshold in (0.0, 0.05):
        expected = [hit_spectrum(output.numpy() > threshold, labels, success, 4) for output in outputs]
        spectra = found.hits(x, labels, threshold=threshold, batch_size=8)
        for spectrum, of_site in zip(spectra, expected, strict=True):
            np.testing.assert_array_equal(spectrum, of_site)
    assert (expected[0] != found.hits(x, labels)[0]).any()


def test_an_ensemble_is_refused():
    spec = NetworkSpec("mnist", (4, 4, 1), 4, 0, "ce", "mlp")
    members = [Network(NETWORKS["mlp"].load_builder()((4, 4, 1), 4, seed=seed), heads.get("ce"), spec,
                       source=f"net{seed}") for seed in range(2)]
    with pytest.raises(InputError, match=r"one network.*Received: the ensemble of net0, net1\.$"):
        Target(ensemble(tf.distribute.get_strategy(), members))


def test_a_network_without_activations_is_refused():
    start = keras.Input((4, 4, 1))
    flat = layers.Flatten()(start)
    network = Network(keras.Model(start, (layers.Dense(3)(flat), flat)), heads.get("ce"))
    with pytest.raises(InputError, match=r"^Suspiciousness needs .*Received: this network, which"):
        Target(network)

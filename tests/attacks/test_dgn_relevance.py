"""Relevance: the goldens, closed forms, plain NumPy twins, every network of ours, and refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from attacks.dgn import relevance as relevances
from attacks.dgn.relevance import most_relevant, relevance
from errors import InputError
from networks import NETWORKS, foreign, heads, v1
from networks.network import Network, ensemble
from networks.spec import NetworkSpec
from resnet_model import FusedBatchNorm
from tests.helpers import dgn
from tests.helpers.dgn_targets import inputs, target
from tests.helpers.golden import golden

ARRAYS = golden("dgn_analysis_public")
RNG = np.random.default_rng(20)
# Batches of unequal rest: the last one is padded.
ODD_BATCH = 128


def images(*shape):
    return RNG.uniform(-0.5, 0.5, shape).astype(np.float32)


def as_network(model_inputs, logits, head="ce"):
    return Network(keras.Model(model_inputs, (logits, layers.Flatten()(model_inputs))), heads.get(head))


def randomize(model):
    """Numbers in all weights: the zeros and ones of a new network would hide mistakes."""
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path or "gamma" in weight.path else -0.6
        weight.assign(RNG.uniform(low, 0.9, weight.shape))


def assert_close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# --- The goldens ---

@pytest.fixture(scope="module")
def subset():
    return inputs(ARRAYS["mnist/subset/images_uint8"]), ARRAYS["mnist/subset/labels"]


@pytest.mark.parametrize(("start_at_label", "golden_name"), [(False, "pred"), (True, "true")])
def test_mnist_is_the_original_rules(subset, start_at_label, golden_name):
    network, (x, labels) = target("mnist_5x30"), subset
    found = relevance(network, x, labels, start_at_label=start_at_label, batch_size=ODD_BATCH)
    assert len(x) % ODD_BATCH and found.scores.dtype == np.float64
    # Float32 against float64: 2e-7.
    assert_close(found.scores, ARRAYS[f"mnist/subset/relevance_start_{golden_name}"], 1e-6)
    np.testing.assert_array_equal(found.num_images, np.bincount(labels))
    logits = network.logits(tf.constant(x)).numpy()
    starts = logits[np.arange(len(x)), labels] if start_at_label else logits.max(axis=1)
    assert found.num_below_zero == np.count_nonzero(starts < 0)
    assert (found.num_below_zero > 0) == start_at_label


def test_mnist_lists_are_the_original_rules(subset):
    expected = ARRAYS["mnist/subset/relevant"]
    found = most_relevant(relevance(target("mnist_5x30"), *subset).scores, expected.shape[1])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


# Plain NumPy: each rule gives z and the way back.

def divided(arrived, z):
    return arrived / np.where(z >= 0, z + 0.01, z - 0.01)


def dense(h, kernel, bias):
    z = h @ kernel + bias
    return z, lambda arrived: h * (divided(arrived, z) @ kernel.T)


def conv(h, kernel, bias, stride=1, pad=(0, 0)):
    """h [n, s, s, c], s square; pad: zeros before and behind."""
    height, width = kernel.shape[:2]
    padded = np.pad(h, ((0, 0), pad, pad, (0, 0)))
    size = (padded.shape[1] - height) // stride + 1
    taps = [(i, j, slice(i, i + stride * size, stride), slice(j, j + stride * size, stride))
            for i in range(height) for j in range(width)]
    z = bias + sum(padded[:, rows, columns] @ kernel[i, j] for i, j, rows, columns in taps)

    def back(arrived):
        gathered = np.zeros_like(padded)
        for i, j, rows, columns in taps:
            gathered[:, rows, columns] += divided(arrived, z) @ kernel[i, j].T
        inner = slice(pad[0], pad[0] + h.shape[1])
        return h * gathered[:, inner, inner]

    return z, back


def max_pool(h):
    """Its windows [n, s, s, c, 4], too."""
    size = h.shape[1] // 2
    corners = [(slice(i, 2 * size, 2), slice(j, 2 * size, 2)) for i in range(2) for j in range(2)]
    windows = np.stack([h[:, rows, columns] for rows, columns in corners], axis=-1)

    def back(arrived):
        handed = np.zeros_like(h)
        for k, (rows, columns) in enumerate(corners):
            handed[:, rows, columns] = np.where(windows.argmax(axis=-1) == k, arrived, 0)
        return handed

    return windows.max(axis=-1), back, windows


def start_of(z):
    return np.where(z == z.max(axis=1, keepdims=True), z, 0)


def cifar_twin(u):
    """Relevance [n, 3072] of the CIFAR target; how close the two largest of a window come, [n]."""
    *hidden, last = dgn.weights("cifar_cnn")
    h, ways, gap = u.astype(np.float64), [], np.full(len(u), np.inf)
    for number, (kernel, bias) in enumerate(hidden):
        if kernel.ndim == 2 and h.ndim == 4:
            ways.append(lambda arrived, shape=h.shape: arrived.reshape(shape))
            h = h.reshape(len(h), -1)
        z, back = (conv if kernel.ndim == 4 else dense)(h, kernel, bias)
        h = np.maximum(z, 0)
        ways.append(back)
        if number < 2:
            h, back, windows = max_pool(h)
            ways.append(back)
            *_, second, first = np.moveaxis(np.sort(windows, axis=-1), -1, 0)
            # Windows without any active unit hand on nothing, whoever wins.
            apart = np.where(first > 0, first - second, np.inf)
            gap = np.minimum(gap, apart.reshape(len(u), -1).min(axis=1))
    z, back = dense(h, *last)
    arrived = start_of(z)
    for way in (back, *reversed(ways)):
        arrived = way(arrived)
    return arrived.reshape(len(u), -1), gap


def test_cifar_is_the_original_rules_but_for_windows_that_float32_cannot_tell():
    stored, expected = ARRAYS["cifar/class5_8/images_uint8"], ARRAYS["cifar/class5_8/relevance"]
    per_image, gap = cifar_twin(dgn.pixels(stored))
    assert_close(per_image.sum(axis=0), expected, 1e-6)
    network, told_apart = target("cifar_cnn"), gap > 5e-7
    # One image has a window whose two largest lie 1.5e-8 apart: a bit of float32 says who wins.
    assert gap.min() < 2e-8 and np.count_nonzero(told_apart) > len(stored) / 2
    for image, of_image, told in zip(inputs(stored), per_image, told_apart, strict=True):
        found = relevance(network, image[np.newaxis], np.array([5]), batch_size=1).scores[5]
        assert_close(found, of_image, 1e-5 if told else 0.05)
    scores = relevance(network, inputs(stored), np.full(len(stored), 5)).scores
    assert_close(scores[5], expected, 0.01)
    assert not scores[:5].any() and not scores[6:].any()
    k = len(ARRAYS["cifar/class5_8/relevant80"])
    # As a set, and that but for one pixel: the cut is 1e-5 from the next one.
    assert len({*most_relevant(scores, k)[5]} & {*ARRAYS["cifar/class5_8/relevant80"]}) >= k - 1


# --- Closed forms ---

def dense_network(*weights, **options):
    """Of (kernel, bias) pairs with ReLU between them, for images [1, D, 1]."""
    start = keras.Input((1, len(weights[0][0]), 1))
    x = layers.Flatten()(start)
    for number, (_, bias) in enumerate(weights):
        activation = "relu" if number < len(weights) - 1 else None
        x = layers.Dense(len(bias), options.get("activation", activation))(x)
    network = as_network(start, x, options.get("head", "ce"))
    network.model.set_weights([np.float32(array) for pair in weights for array in pair])
    return network


def test_by_hand():
    network = dense_network(([[1, -1], [0.5, 1]], [0.5, -0.5]), ([[1, 0], [-1, 2]], [0, 0.25]))
    x = np.float32([[[[1.0], [2.0]]]])
    # Logits (2, 1.25); hidden relevance (2.48756219, -0.49751244).
    found = relevance(network, x, np.array([1]))
    np.testing.assert_allclose(found.scores, [[0, 0], [1.96657522, -0.95996853]], rtol=1e-6)
    # From 1.25 at class 1: hidden (0, 0.5 · 2 · 1.25 / 1.26).
    found = relevance(network, x, np.array([1]), start_at_label=True)
    hidden = 1.25 / 1.26
    np.testing.assert_allclose(found.scores[1], [-hidden / 0.51, 2 * hidden / 0.51], rtol=1e-6)


def test_without_biases_what_arrives_is_the_logit():
    weights = [(RNG.normal(size=shape), np.zeros(shape[1])) for shape in ((12, 9), (9, 7), (7, 4))]
    network, x = dense_network(*weights), images(40, 1, 12, 1)
    logits = network.logits(tf.constant(x)).numpy()
    labels = np.arange(len(x)) % 4
    found = relevance(network, x, labels, stabiliser=1e-7).scores.sum(axis=1)
    expected = [logits[labels == label].max(axis=1).sum() for label in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # One layer keeps z / (z ± stabiliser) of it.
    linear = dense_network(weights[0])
    start = linear.logits(tf.constant(x[:1])).numpy().max()
    found = relevance(linear, x[:1], labels[:1]).scores.sum()
    np.testing.assert_allclose(found, start * start / (start + np.copysign(0.01, start)), rtol=1e-5)


def test_a_reversed_head_is_the_network_of_negative_logits():
    weights = [(RNG.normal(size=shape), RNG.normal(size=shape[1])) for shape in ((12, 9), (9, 4))]
    x, labels = images(30, 1, 12, 1), np.arange(30) % 4
    hidden, (kernel, bias) = weights
    found = relevance(dense_network(hidden, (kernel, bias), head="rce"), x, labels)
    expected = relevance(dense_network(hidden, (-kernel, -bias)), x, labels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert found.num_below_zero == expected.num_below_zero


def test_starts_below_zero_are_counted_without_the_padding():
    network = dense_network((RNG.normal(size=(12, 3)), [-40.0, -50.0, -60.0]))
    found = relevance(network, images(7, 1, 12, 1), np.zeros(7, int), batch_size=5)
    assert found.num_below_zero == 7
    np.testing.assert_array_equal(found.num_images, [7, 0, 0])


# --- Other layers ---

def residual_network():
    """Batch norm of both kinds, leaky ReLU, strides, a shortcut pooled and padded as in our ResNets."""
    start = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 3, padding="same", name="conv0")(start)
    x = activated = layers.LeakyReLU(negative_slope=0.1)(FusedBatchNorm(name="norm0")(x))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv1")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm1")(x))
    x = layers.Conv2D(4, 1, name="conv2")(x)
    shortcut = layers.AveragePooling2D(2)(activated)
    shortcut = keras.ops.pad(shortcut, [(0, 0), (0, 0), (0, 0), (1, 1)])
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, shortcut]))
    return as_network(start, layers.Dense(3, name="logit")(x))


def affine(h, gamma, beta, mean, variance):
    """Batch norm in inference."""
    scale = gamma / np.sqrt(variance + 1e-3)
    z = (h - mean) * scale + beta
    return z, lambda arrived: h * scale * divided(arrived, z)


def residual_twin(x, weights):
    """Relevance [n, 32] of `residual_network`, of its weights by layer."""
    h0 = x.astype(np.float64)
    z0, back_conv0 = conv(h0, *weights["conv0"], pad=(1, 1))
    z, back_norm0 = affine(z0, *weights["norm0"])
    activated = np.where(z > 0, z, 0.1 * z)
    # Of four pixels a stride of two leaves two, and "same" pads behind only.
    z, back_conv1 = conv(activated, *weights["conv1"], 0.0, stride=2, pad=(0, 1))
    z, back_norm1 = affine(z, *weights["norm1"])
    branch, back_conv2 = conv(np.maximum(z, 0), *weights["conv2"])
    # Averages are convolutions of equal weights; so many maps, so many of them.
    pooled, back_pool = conv(activated, np.tile(np.eye(2) / 4, (2, 2, 1, 1)), 0.0, stride=2)
    shortcut = np.pad(pooled, ((0, 0), (0, 0), (0, 0), (1, 1)))
    added = branch + shortcut
    features, back_mean = conv(added, np.tile(np.eye(4) / 4, (2, 2, 1, 1)), 0.0)
    z, back_logit = dense(features.reshape(len(x), 4), *weights["logit"])
    of_sum = divided(back_mean(back_logit(start_of(z)).reshape(features.shape)), added)
    of_branch, of_shortcut = branch * of_sum, shortcut * of_sum
    of_activated = back_conv1(back_norm1(back_conv2(of_branch))) + back_pool(of_shortcut[..., 1:-1])
    return back_conv0(back_norm0(of_activated)).reshape(len(x), -1)


def test_residual_network_is_its_numpy_twin():
    network, x, labels = residual_network(), images(6, 4, 4, 2), np.array([0, 1, 2, 0, 0, 2])
    randomize(network.model)
    weights = {layer.name: [np.float64(array) for array in layer.get_weights()]
               for layer in network.model.layers}
    per_image = residual_twin(x, weights)
    expected = [per_image[labels == label].sum(axis=0) for label in range(3)]
    assert_close(relevance(network, x, labels, batch_size=4).scores, np.stack(expected), 1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_ours(name):
    row = NETWORKS[name]
    channels = 1 if 1 in row.variants else 3
    # The smallest that each takes; of a ResNet, ResNet-8.
    size = 20 if name == "cifar_cnn" else 8
    deep = {"blocks_per_stage": 1} if row.has_residual_units else {}
    model = row.load_builder()((size, size, channels), 4, **deep)
    found = relevance(Network(model, heads.get("rce")), images(3, size, size, channels),
                      np.array([0, 3, 3]))
    assert found.scores.shape == (4, size * size * channels)
    assert np.isfinite(found.scores).all()
    np.testing.assert_array_equal(found.scores.any(axis=1), [True, False, False, True])


def test_numbers_of_the_image_itself_get_nothing():
    """The simple CNN for three channels standardises its images: relevance passes that unchanged."""
    start = keras.Input((4, 4, 3))
    network = as_network(start, layers.Dense(3)(layers.Flatten()(v1.standardized(start))))
    x, labels = images(5, 4, 4, 3), np.arange(5) % 3
    plain = dense_network(network.model.get_weights())
    standardized = np.asarray(v1.standardized(tf.constant(x))).reshape(5, 1, -1, 1)
    found = relevance(network, x, labels).scores
    assert_close(found, relevance(plain, standardized, labels).scores, 1e-6)


def test_a_network_of_another_hand_with_our_names_for_its_layers():
    start = keras.Input((4, 4, 1))
    x = layers.Dense(6, "relu", name="features")(layers.Flatten(name="images")(start))
    model = keras.Model(start, layers.Dense(3, "softmax", name="logits")(x))
    network = foreign.from_keras(model, model_input="0..1")
    x, labels = images(5, 4, 4, 1), np.arange(5) % 3
    found = relevance(network, x, labels).scores
    weights = model.get_weights()
    plain = dense_network(weights[:2], weights[2:])
    assert_close(found, relevance(plain, x.reshape(5, 1, -1, 1) + 0.5, labels).scores, 1e-6)


def test_a_network_in_half_precision():
    built = [NETWORKS["cifar_cnn"].load_builder()((20, 20, 3), 4, mixed_precision=precision)
             for precision in ("", "bfloat16")]
    built[1].set_weights(built[0].get_weights())
    x, labels = images(4, 20, 20, 3), np.arange(4)
    exact, half = (relevance(Network(model, heads.get("ce")), x, labels).scores for model in built)
    # Its pools tell less apart.
    assert np.corrcoef(exact.ravel(), half.ravel())[0, 1] > 0.95


def test_one_trace_serves_all_batches(monkeypatch):
    calls = []
    handed = relevances._Walk.sums
    monkeypatch.setattr(relevances._Walk, "sums", lambda walk, x, labels: (
        calls.append(x.shape), handed(walk, x, labels))[1])
    weights = RNG.normal(size=(12, 3)), np.zeros(3)
    relevance(dense_network(weights), images(23, 1, 12, 1), np.zeros(23, int), batch_size=5)
    assert calls == [(5, 1, 12, 1)]


# --- Refusals ---

def refused(logits_of):
    start = keras.Input((4, 4, 1))
    network = as_network(start, logits_of(layers.Flatten(name="flat")(start)))
    with pytest.raises(InputError) as caught:
        relevance(network, images(2, 4, 4, 1), np.zeros(2, int))
    assert str(caught.value).endswith(f". Received: model={network.model.name!r}.")
    return str(caught.value).partition(". Received")[0]


def test_an_unknown_layer_is_refused_by_name():
    def odd(x):
        return layers.Dense(3)(layers.LayerNormalization(name="odd")(x))

    assert refused(odd) == "relevance knows no rule for layer 'odd' of type LayerNormalization"


def test_a_subclass_is_another_layer():
    class Dense(layers.Dense):
        pass

    assert refused(lambda x: Dense(3, name="mine")(x)).endswith("for layer 'mine' of type Dense")


@pytest.mark.parametrize("layer", [layers.Dense(3, "softmax", name="odd"),
                                   layers.Activation("softmax", name="odd")])
def test_an_unknown_activation_is_refused_by_name(layer):
    kind = type(layer).__name__
    assert refused(layer).endswith(f"for layer 'odd' of type {kind} with softmax")


@pytest.mark.parametrize("operation", [
    lambda x: x * layers.Dense(16)(x), lambda x: x - layers.Dense(16)(x), keras.ops.exp])
def test_unknown_operations_are_refused(operation):
    assert "knows no rule for layer" in refused(lambda x: layers.Dense(3)(operation(x)))


def test_an_ensemble_is_refused():
    spec = NetworkSpec("mnist", (4, 4, 1), 3, 0, "ce", "mlp")
    members = [Network(NETWORKS["mlp"].load_builder()((4, 4, 1), 3, seed=seed), heads.get("ce"), spec,
                       source=f"net{seed}") for seed in range(2)]
    with pytest.raises(InputError, match=r"one network.*Received: the ensemble of net0, net1\.$"):
        relevance(ensemble(tf.distribute.get_strategy(), members), images(1, 4, 4, 1), np.zeros(1, int))


def test_relevance_that_is_not_finite_is_refused():
    network = dense_network((np.full((12, 3), np.nan), np.zeros(3)))
    with pytest.raises(InputError, match="expected a finite relevance of this network"):
        relevance(network, images(2, 1, 12, 1), np.zeros(2, int))


# --- Lists ---

def test_of_equal_scores_the_lowest_pixel_comes_first():
    found = most_relevant(np.array([[1.0, 3.0, -2.0, 3.0, 1.0], np.zeros(5)]), 4)
    np.testing.assert_array_equal(found, [[1, 3, 0, 4], [0, 1, 2, 3]])


@pytest.mark.parametrize("k", [0, 784])
def test_k_leaves_other_pixels(k):
    with pytest.raises(InputError, match=rf"^k must lie in \[1, 783\]. Received: k={k}\.$"):
        most_relevant(np.zeros((2, 784)), k)

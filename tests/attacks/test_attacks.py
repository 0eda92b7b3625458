"""Attacks of one call: golden images, closed forms on a linear network, one table over them all.

Those that search are in test_search_attacks.py.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

import attacks
from attacks.bim import bim
from attacks.fgsm import fgsm
from attacks.loops.ascent import GRADIENT_CHUNK, in_chunks
from attacks.pgd import pgd
from attacks.random_noise import random_noise
from attacks.tgsm import tgsm
from errors import InputError
from evaluation import checks
from networks import heads
from resnet_model import RCELoss, ResNetConfig, build_resnet, named_variables
from tests.helpers.golden import golden, load_golden_weights

# Those that know a detector are in test_knowing.py.
CALLS = [name for name, attack in attacks.ATTACKS.items()
         if not attack.stages and "scores" not in attack.takes]
GRADIENT_ATTACKS = [name for name in CALLS if "logits" in attacks.ATTACKS[name].takes]
GOLDEN = golden("attacks_mnist_u1_rce")
IMAGES = GOLDEN["images"]
RNG = np.random.default_rng(0)
INDEX = tf.range(len(IMAGES))
WEIGHTS = RNG.normal(0.0, 0.5, (28 * 28, 10)).astype(np.float32)
BIAS = RNG.normal(0.0, 0.5, 10).astype(np.float32)


def linear(x):
    return tf.reshape(x, [-1, WEIGHTS.shape[0]]) @ WEIGHTS + BIAS


@functools.cache
def raw_logits(network):
    """The function from images to raw logits of one of the toy networks."""
    if network == "linear":
        return linear
    model = build_resnet(ResNetConfig((28, 28, 1), 10, 1))
    load_golden_weights(named_variables(model), golden("resnet_mnist_u1_rce_weights"))
    return lambda x: model(x, training=False)[0]


@functools.cache
def traced_attack(name, network, objective):
    """(attack of images, eps, indices and seed; sign-adjusted logits), both traced once."""
    # Not inside logits_fn, which is traced: it would build the network in the trace.
    raw, sign_adjusted = raw_logits(network), heads.get(objective).attack_logits

    def logits_fn(x):
        return sign_adjusted(raw(x))

    craft = tf.function(lambda x, eps, index, seed: call(name, logits_fn, x, eps, index, seed))
    return (lambda x, eps, index=INDEX, seed=0: craft(x, eps, index, tf.constant(seed)).numpy(),
            logits_fn)


def call(name, logits_fn, x, eps, index, seed=0, **settings):
    """An attack of one call, given what its registry entry says that it takes."""
    attack = attacks.get(name)
    first = (logits_fn,) if "logits" in attack.takes else ()
    if "features" in attack.takes:
        first = (lambda images: ((logits := logits_fn(images)), logits),)
    drawn = {"seed": seed, "image_index": index} if "seed" in attack.takes else {}
    if "labels" in attack.takes:
        drawn["labels"] = in_chunks(lambda images: tf.argmax(logits_fn(images), -1, tf.int32), x,
                                    outputs=tf.int32)
    if "restarts" in attack.takes:
        settings = {"num_steps": 4, "restart": tf.zeros_like(index), **settings}  # for the tests' time
    if "generators" in attack.takes:
        drawn["generated"] = 0.5 - tf.abs(x)  # of a generator that knows the image alone
    result = attack.function(*first, x, eps=eps, **drawn, **settings)
    return result["adversarial"] if isinstance(result, dict) else result


def eps_of(value):
    """eps as test_adv.py gives it."""
    return tf.constant(value, tf.float64)


def softmax(logits):
    return tf.nn.softmax(logits).numpy()


def boxed(x):
    return np.clip(x, -0.5, 0.5)


# The golden images of the original.


@pytest.mark.parametrize("name", ["fgsm", "bim", "tgsm"])
def test_golden_images(name):
    craft, _ = traced_attack(name, "resnet", "rce")
    adversarial = craft(IMAGES, eps_of(0.1))
    np.testing.assert_allclose(adversarial, GOLDEN[f"{name}_adv"], rtol=0, atol=1e-6)


# Every attack × network × sign.


def cases(names):
    # The loss apart, apgd_dlr is apgd_ce.
    return pytest.mark.parametrize("case", [
        pytest.param((name, network, objective), id=f"{name}-{network}-{objective}",
                     marks=pytest.mark.slow if name == "apgd_dlr" else ())
        for name in names for network in ("linear", "resnet") for objective in ("ce", "rce")])


@functools.cache
def crafted(case, eps, call=0):
    """Adversarial images of a case; each `call` is computed anew."""
    craft, _ = traced_attack(*case)
    return craft(IMAGES, eps_of(eps))


@cases(CALLS)
def test_shape_box_and_size_of_the_change(case):
    for eps in (0.05, 0.3):
        adversarial = crafted(case, eps)
        assert adversarial.shape == IMAGES.shape
        assert adversarial.dtype == np.float32
        assert adversarial.min() >= -0.5 and adversarial.max() <= 0.5
        change = np.abs(adversarial.astype(np.float64) - IMAGES)
        assert change.max() <= eps + 1e-6
        # Most of what eps allows is used.
        assert change.max() > (0.9 if case[0] in ("random", "fgsm") else 0.5) * eps


@cases(CALLS)
def test_eps_0_changes_nothing(case):
    np.testing.assert_array_equal(crafted(case, 0.0), IMAGES)


@cases(CALLS)
def test_the_same_call_gives_the_same_bytes(case):
    assert crafted(case, 0.05).tobytes() == crafted(case, 0.05, call=1).tobytes()


@cases(GRADIENT_ATTACKS)
def test_gradient_attacks_do_what_they_are_for(case):
    _, logits_fn = traced_attack(*case)
    clean = logits_fn(tf.constant(IMAGES))
    gained = tf.nn.log_softmax(logits_fn(tf.constant(crafted(case, 0.05)))) - tf.nn.log_softmax(clean)
    if case[0] == "tgsm":
        gained_by_class = tf.one_hot(tf.argmin(clean, -1), 10) * gained
    else:
        gained_by_class = -tf.one_hot(tf.argmax(clean, -1), 10) * gained
    assert np.mean(tf.reduce_sum(gained_by_class, -1) > 0) >= 0.9


# Closed forms.


def ce_gradient(logits, label):
    """Gradient by x of the fused cross entropy on the linear network: W (softmax − label)."""
    return ((softmax(logits) - label) @ WEIGHTS.T).reshape(-1, 28, 28, 1)


@pytest.mark.parametrize("objective", list(heads.HEADS))
@pytest.mark.parametrize("network", ["linear", "resnet"])
def test_fgsm_with_the_reverse_cost_ascends_the_rce_loss_of_the_raw_logits(network, objective):
    raw, head = raw_logits(network), heads.get(objective).attack_logits
    with tf.GradientTape() as tape:
        x = tf.constant(IMAGES)
        tape.watch(x)
        predicted = tf.argmax(head(raw(x)), axis=-1)
        loss = RCELoss(reduction="none")(predicted, raw(x))
    gradient = tape.gradient(loss, x).numpy()
    expected = np.clip(IMAGES + np.float32(0.1) * np.sign(gradient), -0.5, 0.5)
    ours = fgsm(lambda images: head(raw(images)), tf.constant(IMAGES), eps=eps_of(0.1),
                reverse_cost=True, head_sign=float(head(tf.ones([])))).numpy()
    # Where the gradient is all but zero its sign is rounding.
    clear = np.abs(gradient) > 1e-4 * np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(ours[clear], expected[clear])


@pytest.mark.parametrize("eps", [0.01, 0.2])
def test_fgsm_on_a_linear_network(eps):
    logits = linear(tf.constant(IMAGES))
    label = np.eye(10)[np.argmax(logits, -1)]
    expected = boxed(IMAGES + np.float32(eps) * np.sign(ce_gradient(logits, label)))
    ours = fgsm(linear, tf.constant(IMAGES), eps=eps)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_bim_on_a_linear_network_keeps_its_first_label(scale):
    def logits_of(x):
        return linear(x) * scale

    x = IMAGES
    label = np.eye(10)[np.argmax(logits_of(tf.constant(x)), -1)]
    for _ in range(4):
        gradient = ce_gradient(logits_of(tf.constant(x)), label)
        x = boxed(x + np.float32(0.2 / 4) * np.sign(gradient).astype(np.float32))
    assert np.any(np.argmax(logits_of(tf.constant(x)), -1) != np.argmax(label, -1))
    ours = bim(logits_of, tf.constant(IMAGES), eps=0.2, num_steps=4)
    assert np.mean(np.abs(ours - x) > 1e-6) < 1e-3


def test_one_step_of_bim_is_fgsm():
    x = tf.constant(IMAGES)
    np.testing.assert_array_equal(
        bim(linear, x, eps=0.1, num_steps=1), fgsm(linear, x, eps=0.1))


def test_tgsm_descends_softmax_minus_a_label_that_sums_to_minus_four():
    logits = linear(tf.constant(IMAGES)) * 0.05
    label = np.eye(10)[np.argmin(logits, -1)] - 0.5
    assert label.sum(-1) == pytest.approx(-4.0)
    directions = {
        "fused": np.sign((softmax(logits) - label) @ WEIGHTS.T),
        # Written out in log softmax, the label's sum would weigh the softmax.
        "written out": np.sign((-4.0 * softmax(logits) - label) @ WEIGHTS.T)}
    assert np.mean(directions["fused"] != directions["written out"]) > 0.1
    ours = tgsm(lambda x: linear(x) * 0.05, tf.constant(IMAGES), eps=0.1, num_steps=1)
    expected = boxed(IMAGES - np.float32(0.1) * directions["fused"].reshape(IMAGES.shape))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_another_box():
    x = tf.constant(IMAGES + 0.5)
    for attack in (fgsm, bim):
        moved = attack(lambda x: linear(x - 0.5), x, eps=0.2, clip_min=0.0, clip_max=1.0).numpy()
        assert moved.min() >= 0.0 and moved.max() <= 1.0
        assert moved.max() > 0.6
        same = attack(linear, tf.constant(IMAGES), eps=0.2).numpy() + 0.5
        assert np.mean(np.abs(moved - same) > 1e-5) < 1e-3


# The batch an image comes in has no influence.


@pytest.fixture(scope="module")
def small_network():
    """A ResNet-8 on 8×8 images, and 250 of them."""
    model = build_resnet(ResNetConfig((8, 8, 1), 10, 1), seed=2)
    images = np.random.default_rng(1).uniform(-0.5, 0.5, (250, 8, 8, 1)).astype(np.float32)
    return lambda x: model(x, training=False)[0], images


# bim and tgsm have the loop of pgd and the chunks of fgsm, apgd_dlr has those of apgd_ce.
@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=pytest.mark.slow) if name in ("bim", "tgsm", "apgd_dlr") else name
    for name in CALLS])
def craft_rows(request, small_network):
    """A function of rows of the 250 images that attacks them in batches of a size."""
    logits_fn, images = small_network
    attack = tf.function(lambda x, index: call(request.param, logits_fn, x, 0.1, index, seed=3))

    def craft(rows, batch_size):
        batches = [rows[i:i + batch_size] for i in range(0, len(rows), batch_size)]
        return np.concatenate([
            attack(images[batch], tf.constant(batch, tf.int32)).numpy() for batch in batches])

    return craft


def test_results_do_not_depend_on_the_batch(craft_rows):
    rows = np.arange(250)
    at_once = craft_rows(rows, 250)
    np.testing.assert_array_equal(craft_rows(rows[:200], 100), at_once[:200])
    # Across the edge of the chunks.
    np.testing.assert_array_equal(craft_rows(rows[90:118], 7), at_once[90:118])
    alone = np.array([0, 99, 100, 249])
    np.testing.assert_array_equal(craft_rows(alone, 1), at_once[alone])
    order = np.random.default_rng(2).permutation(250)
    np.testing.assert_array_equal(craft_rows(order, 250), at_once[order])


@pytest.mark.parametrize("rows", [1, 7, 100, 101, 250])
def test_the_network_is_always_given_one_number_of_images(rows):
    seen = []

    def spy(x):
        seen.append(x.shape[0])
        return linear(x)

    for name in GRADIENT_ATTACKS:
        tf.function(lambda x, name=name: call(name, spy, x, 0.1, tf.range(rows))
                    ).get_concrete_function(tf.TensorSpec((rows, 28, 28, 1)))
    assert set(seen) == {GRADIENT_CHUNK}


@pytest.mark.parametrize("rows", [1, 99, 100, 101, 250])
def test_chunks_cover_every_row_in_order(rows):
    x, y = (tf.constant(RNG.normal(size=(rows, 2, 3)), tf.float32) for _ in range(2))
    result = in_chunks(lambda a, b: a - 2.0 * b, x, y)
    np.testing.assert_array_equal(result, x - 2.0 * y)


# PGD.


def test_restarts_of_pgd_start_where_their_number_says():
    _, logits_fn = traced_attack("pgd", "resnet", "rce")
    craft = tf.function(lambda restart: pgd(
        logits_fn, tf.constant(IMAGES), eps=eps_of(0.03), seed=0, image_index=INDEX, restart=restart,
        num_steps=3))
    results = [craft(tf.fill([16], number)) for number in (0, 1)]
    mixed = craft(tf.constant([0, 1] * 8))
    for name in ("adversarial", "merit", "wrong"):
        zero, one = (result[name].numpy() for result in results)
        np.testing.assert_array_equal(mixed[name][::2], zero[::2])
        np.testing.assert_array_equal(mixed[name][1::2], one[1::2])
    assert np.any(results[0]["merit"] != results[1]["merit"])


def test_the_merit_of_pgd_is_the_margin_at_its_image():
    _, logits_fn = traced_attack("pgd", "resnet", "rce")
    result = tf.function(lambda: pgd(
        logits_fn, tf.constant(IMAGES), eps=eps_of(0.1), seed=0, image_index=INDEX,
        restart=tf.zeros_like(INDEX), num_steps=3, step_size=0.05))()
    label = np.argmax(logits_fn(tf.constant(IMAGES)), -1)
    logits = logits_fn(result["adversarial"]).numpy()
    np.testing.assert_array_equal(result["wrong"], logits.argmax(axis=1) != label)
    own = logits[range(16), label]
    logits[range(16), label] = -np.inf
    np.testing.assert_allclose(result["merit"], logits.max(axis=1) - own, rtol=1e-4, atol=1e-4)


def test_pgd_reaches_the_optimum_of_a_linear_network_of_two_classes():
    """There the worst image is that of the sign of the weights' difference: FGSM's."""
    def two(x):
        return 0.05 * tf.gather(linear(x), [0, 1], axis=1)  # small: no gradient is 0

    x = tf.constant(IMAGES)
    worst = pgd(two, x, eps=eps_of(0.1), seed=0, image_index=INDEX,
                restart=tf.zeros_like(INDEX))["adversarial"]
    np.testing.assert_allclose(worst, fgsm(two, x, eps=eps_of(0.1)), rtol=0, atol=1e-6)


# Random noise.


def noise_of(seed, index, eps=0.1, draw=0):
    x = tf.zeros([len(index), 8, 8, 1])
    return random_noise(
        x, eps=eps, seed=seed, image_index=tf.constant(index, tf.int32), draw=draw).numpy()


def test_random_noise_depends_on_seed_and_image_index_alone():
    noise = noise_of(0, [4, 5, 4])
    np.testing.assert_array_equal(noise[0], noise[2])
    assert np.any(noise[0] != noise[1])
    np.testing.assert_array_equal(noise_of(0, [5])[0], noise[1])
    assert np.any(noise_of(1, [4])[0] != noise[0])
    assert np.any(noise_of(0, [4], draw=1)[0] != noise[0])


def test_random_noise_is_uniform():
    noise = noise_of(0, range(200)) / np.float32(0.1)
    assert abs(noise.mean()) < 0.02
    np.testing.assert_allclose(noise.std(), 1 / np.sqrt(3), rtol=0.02)
    np.testing.assert_allclose(np.histogram(noise, 4, (-1, 1))[0] / noise.size, 0.25, rtol=0.06)


# The registry and the checks.


def test_the_registry_is_what_the_flag_allows():
    assert tuple(attacks.ATTACKS) == tuple(attacks.ATTACKS)


def test_an_unknown_attack_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"\[random, fgsm, bim, tgsm.*Received: attack_method='fgms'"):
        attacks.get("fgms")


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.5])
def test_images_in_the_box_pass(value):
    checks.check_images(np.full((2, 4, 4, 1), value, np.float32), -0.5, 0.5)


@pytest.mark.parametrize(("value", "message"), [
    (np.nan, "NaN in 1 pixels"), (0.51, "values from .* to 0.5"), (-0.6, "values from -0.6"),
    (np.inf, "to inf")])
def test_bad_images_are_refused(value, message):
    images = np.zeros((2, 4, 4, 1), np.float32)
    images[1, 2, 3, 0] = value
    with pytest.raises(InputError, match=message):
        checks.check_images(images, -0.5, 0.5)


def test_logits_pass():
    checks.check_logits(RNG.normal(size=(5, 10)))
    # One row in [0, 1] that sums to 1 does not make the others probabilities.
    checks.check_logits(np.float32([[0.5, 0.5], [3.0, -2.0]]))
    # All positive, below 1: logits of an untrained network.
    checks.check_logits(np.float32([[0.5, 0.6], [0.1, 0.2]]))


def test_probabilities_are_refused():
    with pytest.raises(InputError, match="logits, not probabilities"):
        checks.check_logits(softmax(RNG.normal(size=(5, 10)).astype(np.float32)))
    # Those of an RCE network arrive with the sign of its logits.
    with pytest.raises(InputError, match="logits, not probabilities"):
        checks.check_logits(-softmax(RNG.normal(size=(5, 10)).astype(np.float32)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    logits = np.zeros((3, 10))
    logits[2, 4] = value
    with pytest.raises(InputError, match=r"logits must be finite\. Received: 1 values"):
        checks.check_logits(logits)


def test_gradients_of_zero_are_counted_and_refused_when_they_are_all():
    gradients = RNG.normal(size=(5, 4, 4, 1))
    assert checks.check_gradients(gradients) == 0
    gradients[[1, 3]] = 0.0
    gradients[0, 1:] = 0.0
    assert checks.check_gradients(gradients) == 2
    with pytest.raises(InputError, match="exactly zero for all 5 images"):
        checks.check_gradients(np.zeros((5, 4, 4, 1)))
    gradients[2, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"finite\. Received: 1 values"):
        checks.check_gradients(gradients)

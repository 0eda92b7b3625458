"""Attacks that search: golden runs of the original, closed forms, and what no image may depend on."""

import functools

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import pytest
import tensorflow as tf

import attacks
from attacks.loops.carlini import SHRINK, START_SHRINK, Numbers, carlini_search
from attacks.loops.detector_aware import DENSITY_FLOOR, log_density_ratio
from attacks.loops.search import SEARCH_CHUNK, WIDE_CHUNK, WIDE_FROM, Search
from errors import InputError
from networks import heads
from resnet_model import ResNetConfig, build_resnet, named_variables
from tests.helpers.golden import golden, load_golden_weights

GOLDEN = golden("attacks_mnist_u1_rce")
WHITE_BOX = golden("attacks_whitebox_mnist_u1_rce")
IMAGES = tf.constant(GOLDEN["images"])
LEAST_LIKELY = tf.constant(GOLDEN["least_likely_target"], tf.int32)
CW_TARGETS = tf.constant(GOLDEN["cw_targets"])
BANDWIDTH = float(WHITE_BOX["sigma2"])
MEDIANS = WHITE_BOX["median"].ravel()
EPS = tf.constant(0.2, tf.float64)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0.0, 0.5, (784, 10)).astype(np.float32)

# Set of golden runs → confidence and learning rate. The two of the class CarliniL2_highcon, which
# the original never uses, have the loss of confidence 0.
CW_SETS = {"cw": (0, 0.01), "cw_highcon": (10, 0.01), "cw_lr01": (0, 0.1),
           "cw_conf1_lr01": (1, 0.1), "cw_highcon_lr01": (10, 0.1)}
CW_TRACES = CW_SETS | {"cw_highcon_class": (0, 0.01), "cw_highcon_class_lr01": (0, 0.1)}


@functools.cache
def resnet():
    model = build_resnet(ResNetConfig((28, 28, 1), 10, 1))
    load_golden_weights(named_variables(model), golden("resnet_mnist_u1_rce_weights"))
    return model


@pytest.fixture(scope="module", autouse=True)
def built():
    """The network is built before a function that uses it is traced, not in the trace."""
    resnet()


@functools.cache
def kernels():
    """The original's 100 kernels per class, [100, 64, 10]."""
    features = golden("detection_training_features_mnist_u1_rce")["training_logits_RCE"]
    return features[golden("detection_kernels_mnist_u1_rce")["kernel_RCE_for_attack_row_index"]
                    ].transpose(0, 2, 1)


@functools.cache
def network(name="resnet", objective="rce"):
    """A function to sign-adjusted logits and features."""
    sign_adjusted = heads.get(objective).attack_logits
    if name == "linear":
        return lambda x: (sign_adjusted(tf.reshape(x, [-1, 784]) @ WEIGHTS),
                          tf.reshape(x, [-1, 784])[:, 300:364])
    model = resnet()

    def logits_and_features(x):
        logits, features = model(x, training=False)
        return sign_adjusted(logits), features

    return logits_and_features


def logits_of(x):
    return network()(x)[0]


# --- JSMA and SMDA ---


@pytest.mark.parametrize("name", ["jsma", "smda"])
@pytest.mark.parametrize(("num_steps", "suffix"), [(1, "_epochs1"), (10, "_epochs10"), (100, "")])
def test_saliency_attacks_are_bit_equal_to_the_golden_images(name, num_steps, suffix):
    search = attacks.get(name).function(logits_of, num_steps=num_steps)
    result = search(IMAGES, LEAST_LIKELY, eps=EPS)
    np.testing.assert_array_equal(result["adversarial"], GOLDEN[f"{name}{suffix}_adv"])
    reached = np.argmax(GOLDEN[f"{name}{suffix}_pred_adv"], -1) == LEAST_LIKELY
    np.testing.assert_array_equal(result["success"], reached)
    assert np.all(result["iterations"][~reached] == num_steps)
    assert np.all(result["iterations"][reached].numpy() <= num_steps)


def test_jsma_on_a_linear_network_raises_the_pixels_of_the_largest_slope():
    """Of log p_target = z_t − logsumexp(z), pixel by pixel, in NumPy."""
    linear = network("linear", "ce")
    target = (np.argmax(linear(IMAGES)[0], -1) + 3) % 10
    result = attacks.ATTACKS["jsma"].function(lambda x: linear(x)[0], num_steps=7)(
        IMAGES, tf.constant(target, tf.int32), eps=EPS)
    for x, ours, t, iterations in zip(GOLDEN["images"].reshape(16, 784), result["adversarial"],
                                      target, result["iterations"], strict=True):
        x = x.copy()
        steps = 0
        while steps < 7 and np.argmax(x @ WEIGHTS) != t:
            p = np.exp(x @ WEIGHTS - (x @ WEIGHTS).max())
            slope = WEIGHTS[:, t] - WEIGHTS @ (p / p.sum())
            pixel = np.argmax(np.where(x < 0.5, slope, -np.inf))
            x[pixel] = min(x[pixel] + np.float32(0.2), 0.5)
            steps += 1
        np.testing.assert_allclose(ours.numpy().ravel(), x, atol=1e-6)
        assert iterations == steps


def test_pairs_are_the_best_by_the_papers_saliency():
    """One step against a search over all pairs of |Σt·Σo| with Σt > 0 and Σo < 0."""
    small = tf.constant(RNG.uniform(-0.5, 0.5, (5, 4, 4, 1)).astype(np.float32))
    weights = RNG.normal(size=(16, 3)).astype(np.float32)
    target = np.array([0, 1, 2, 0, 1])

    def probabilities(x):
        return tf.nn.softmax(tf.reshape(x, [-1, 16]) @ weights)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(small)
        p = probabilities(small)
        own = tf.gather(p, target, batch_dims=1)
        others = tf.reduce_sum(p, -1) - own
    t, o = (tape.gradient(y, small).numpy().reshape(5, 16) for y in (own, others))
    search = attacks.ATTACKS["jsma"].function(
        lambda x: tf.reshape(x, [-1, 16]) @ weights, num_steps=1, pair=True)
    result = search(small, tf.constant(target, tf.int32), eps=tf.constant(0.01, tf.float64))
    moved = np.abs(result["adversarial"] - small).reshape(5, 16) > 1e-4
    for row in range(5):
        if np.argmax(probabilities(small)[row]) == target[row]:
            assert not moved[row].any()
            continue
        scores = {(a, b): -(t[row, a] + t[row, b]) * (o[row, a] + o[row, b])
                  for a in range(16) for b in range(a)
                  if t[row, a] + t[row, b] > 0 > o[row, a] + o[row, b]}
        assert set(np.flatnonzero(moved[row])) == set(max(scores, key=scores.get))


def test_jsma_ends_when_every_pixel_is_saturated():
    x = tf.fill([2, 28, 28, 1], 0.5)
    result = attacks.ATTACKS["jsma"].function(logits_of)(x, LEAST_LIKELY[:2], eps=EPS)
    np.testing.assert_array_equal(result["adversarial"], x)
    np.testing.assert_array_equal(result["iterations"], [0, 0])


def test_a_target_whose_probability_underflows_is_still_approached():
    """p_target is 0 in float32, and so would be its gradient."""
    def saturated(x):
        return 300.0 * tf.reshape(x, [-1, 784])[:, :2] + [[400.0, 0.0]]

    x = tf.fill([1, 28, 28, 1], 0.0)
    assert tf.nn.softmax(saturated(x))[0, 1] == 0.0
    result = attacks.ATTACKS["jsma"].function(saturated, num_steps=1)(
        x, tf.constant([1]), eps=EPS)
    assert np.flatnonzero(result["adversarial"]).tolist() == [1]


# --- C&W ---


def golden_cw(name, **options):
    kappa, learning_rate = CW_TRACES[name]
    numbers = Numbers(kappa, num_steps=100, learning_rate=learning_rate, num_search_steps=5,
                      initial_tradeoff=1.0, abort_group=16)
    return carlini_search(network(), numbers, **options)


def begin(search, x=IMAGES, target=CW_TARGETS, **inputs):
    return search.start(x=x, target=target, valid=tf.ones(len(x), bool), **inputs)


def at(state, kappa, density_form=None):
    """What the search sees at its present δ, computed apart from it: image, loss, L2², r."""
    image = tf.tanh(state["start_w"] + state["delta"]) / 2
    logits, features = network()(image)
    logits, rows = logits.numpy(), np.arange(len(image))
    l2 = np.square(image - state["anchor"]).sum((1, 2, 3))
    own = logits[rows, state["target"]]
    logits[rows, state["target"]] = -np.inf
    excess = np.maximum(0, logits.max(1) - own + kappa)
    ratio = np.zeros(len(rows))
    if density_form:
        ratio = log_density_ratio(kernels(), MEDIANS, BANDWIDTH, density_form)(
            features, state["target"]).numpy()
        excess += np.maximum(0, ratio)
    return image, l2 + state["tradeoff"] * excess, l2, ratio


@pytest.mark.parametrize("name", CW_TRACES)
def test_the_first_20_iterations_of_cw_are_the_originals(name):
    search = golden_cw(name)
    state = begin(search)
    for i in range(20):
        image, loss, l2, _ = at(state, CW_TRACES[name][0])
        np.testing.assert_allclose(tf.reduce_sum(loss), GOLDEN[f"{name}_trace_loss"][i], atol=1e-4)
        np.testing.assert_allclose(l2, GOLDEN[f"{name}_trace_l2"][i], atol=3e-4)
        np.testing.assert_allclose(logits_of(image), GOLDEN[f"{name}_trace_logits"][i], atol=2e-4)
        state = search.advance(state, 1)
    np.testing.assert_allclose(image, GOLDEN[f"{name}_trace_newimg_19"], atol=3e-3)


@pytest.mark.parametrize("name", [
    name if name == "cw_highcon_lr01" else pytest.param(name, marks=pytest.mark.slow)
    for name in CW_SETS])
def test_successes_and_constants_of_cw_are_the_originals(name):
    search = golden_cw(name)
    state, constants = begin(search), []
    for _ in range(5):
        constants.append(state["tradeoff"].numpy())
        state = search.advance(state, 100)
    result = search.finish(state)
    assert not np.any(state["active"])
    tradeoffs = GOLDEN[f"{name}_const_per_step"]
    # The final images, and with them later constants, are chaotic.
    steps = 5 if name in ("cw", "cw_highcon") else 2
    np.testing.assert_array_equal(constants[:steps], tradeoffs[:steps])
    success = GOLDEN[f"{name}_success"] == 1
    np.testing.assert_array_equal(result["success"], success)
    l2 = np.square(result["adversarial"] - IMAGES).sum((1, 2, 3))
    np.testing.assert_array_equal(l2[~success], 0.0)
    if success.any():
        expected = GOLDEN[f"{name}_l2_squared"][success].mean()
        assert l2[success].mean() == pytest.approx(expected, rel=0.1)
    assert GOLDEN[f"{name}_iterations_run"] == 500
    np.testing.assert_array_equal(result["iterations"], 500)


def two_class(weights, bias):
    """Logits (w·x + b, 0), and no features that matter."""
    def logits_and_features(x):
        flat = tf.reshape(x, [-1, 16])
        score = tf.linalg.matvec(flat, weights) + bias
        return tf.stack([score, tf.zeros_like(score)], 1), flat

    return logits_and_features


def test_cw_finds_the_smallest_perturbation_of_a_linear_network():
    """The distance from the plane w·x + b = 0 is |w·x + b| / ‖w‖, inside the box."""
    weights = tf.constant(RNG.normal(size=16).astype(np.float32))
    x = RNG.uniform(-0.2, 0.2, (6, 4, 4, 1)).astype(np.float32)
    logits_fn = two_class(weights, 0.3)
    score = logits_fn(tf.constant(x))[0][:, 0].numpy()
    closest = np.abs(score) / np.linalg.norm(weights)
    x = tf.constant(x)
    settings = {"num_steps": 500, "num_search_steps": 9, "learning_rate": 0.01}
    target = tf.constant((score > 0).astype(np.int32))
    to_target = attacks.ATTACKS["carliniL2"].function(logits_fn, **settings)(x, target)
    away = attacks.ATTACKS["carliniL2"].function(logits_fn, targeted=False, **settings)(x, 1 - target)
    for result in (to_target, away):
        assert np.all(result["success"])
        found = np.sqrt(np.square(result["adversarial"] - x).sum((1, 2, 3)))
        np.testing.assert_allclose(found, closest, rtol=0.01, atol=2e-4)
        assert np.all(found >= closest * (1 - 1e-4))


@pytest.mark.parametrize("kappa", [0.0, 3.0])
@pytest.mark.parametrize("targeted", [True, False])
def test_a_success_of_cw_has_its_margin(kappa, targeted):
    search = attacks.ATTACKS["carliniL2"].function(
        network("linear", "ce"), kappa=kappa, num_steps=60, learning_rate=0.1, num_search_steps=3,
        targeted=targeted)
    labels = tf.argmax(network("linear", "ce")(IMAGES)[0], -1, output_type=tf.int32)
    goal = (labels + 1) % 10 if targeted else labels
    result = search(IMAGES, goal)
    logits = network("linear", "ce")(result["adversarial"])[0].numpy()
    own = logits[range(16), goal]
    logits[range(16), goal] = -np.inf
    margin = (own - logits.max(-1)) * (1 if targeted else -1)
    assert np.mean(result["success"]) >= 0.9
    assert np.all(margin[result["success"]] > kappa - 1e-4)


def test_the_last_of_ten_search_steps_uses_the_upper_bound():
    search = attacks.ATTACKS["carliniL2"].function(
        network("linear", "ce"), num_steps=20, learning_rate=0.1, num_search_steps=10)
    state = begin(search)
    uppers = {}
    for _ in range(10 * 20):
        last = (state["search_step"] == 9) & state["active"]
        for row in np.flatnonzero(last & (state["step"] == 0)):
            uppers[row] = (float(state["tradeoff"][row]), float(state["upper"][row]))
        state = search.advance(state, 1)
    assert len(uppers) == 16
    assert all(tradeoff == upper for tradeoff, upper in uppers.values())


def test_adam_starts_anew_at_every_search_step():
    search = golden_cw("cw_lr01")
    state = search.advance(begin(search), 100)
    np.testing.assert_array_equal(state["search_step"], 1)
    for name in ("delta", "first_moment", "second_moment"):
        np.testing.assert_array_equal(state[name], tf.zeros_like(state[name]))
    assert np.all(np.isinf(state["checked_loss"]))


def test_a_continued_search_goes_on_where_a_step_ended_and_succeeds_with_few():
    def search(continued):
        return attacks.ATTACKS["carliniL2"].function(
            network("linear", "ce"), num_steps=20, learning_rate=0.05, num_search_steps=5,
            continued=continued)

    state = search(True).advance(begin(search(True)), 20)
    np.testing.assert_array_equal(state["search_step"], 1)
    assert np.all(np.abs(state["delta"]).max(axis=(1, 2, 3)) > 0)
    labels = tf.argmax(network("linear", "ce")(IMAGES)[0], -1, output_type=tf.int32)
    anew, continued = (search(value)(IMAGES, (labels + 1) % 10) for value in (False, True))
    assert np.all(continued["success"]) and np.all(continued["iterations"].numpy() == 100)
    assert np.mean(anew["success"]) < 0.5


def test_a_continued_search_begins_where_tanh_has_a_slope():
    black = np.full((1, 4, 4, 1), -0.5, np.float32)
    for continued, shrink in ((False, SHRINK), (True, START_SHRINK)):
        state = attacks.ATTACKS["carliniL2"].function(
            network("linear", "ce"), continued=continued).start(
                x=black, target=tf.constant([1]), valid=tf.constant([True]))
        np.testing.assert_allclose(np.tanh(state["start_w"]), -shrink, rtol=1e-6)
        # Distances stay those from the image.
        np.testing.assert_allclose(state["anchor"], black, atol=1e-6)


def aborts(group, slopes=(5.0, 0.0)):
    """Iterations of two images, of which the second's loss does not fall."""
    def logits_fn(x):
        flat = tf.reshape(x, [-1, 16])
        return tf.stack([tf.zeros(x.shape[0]), flat[:, 1] * flat[:, 0] * 10 - 4.0], 1), flat

    x = np.zeros((2, 4, 4, 1), np.float32)
    x[:, 0, 0, 0] = slopes
    search = attacks.ATTACKS["carliniL2"].function(
        logits_fn, num_steps=100, num_search_steps=1, learning_rate=0.01, abort_group=group)
    return search(x / 12.5, tf.constant([1, 1]))["iterations"].numpy()


def test_an_image_that_gets_nowhere_aborts_alone_or_with_its_batch():
    alone = aborts(group=1)
    # At iteration 10 its loss is that of iteration 0.
    assert alone.tolist() == [100, 10]
    together = aborts(group=10)
    assert together[0] == together[1] > 10


# --- White-box ---


def white_box(kappa, learning_rate, form="original", **options):
    return attacks.ATTACKS["carliniL2_specific"].function(
        network(), kernels=kernels(), density_medians=MEDIANS, bandwidth=BANDWIDTH,
        density_form=form, kappa=(5, kappa), num_steps=(100, 100),
        learning_rate=(learning_rate, learning_rate), num_search_steps=(3, 3), **options)


WB_IMAGES, WB_TARGETS = tf.constant(WHITE_BOX["images"]), tf.constant(WHITE_BOX["targets"])


def second_attack(search, name):
    return begin(search, WB_IMAGES, WB_TARGETS, begin=tf.constant(WHITE_BOX[f"{name}/attack1_adv"]))


@pytest.mark.parametrize(("name", "kappa"), [("published_conf5", 5), ("conf0", 0)])
def test_the_first_20_iterations_of_the_white_box_attack_are_the_originals(name, kappa):
    search = white_box(kappa, 0.01)
    state = second_attack(search, name)
    for i in range(20):
        image, loss, l2, ratio = at(state, kappa, "original")
        np.testing.assert_allclose(loss, WHITE_BOX[f"{name}/trace_loss"][:, i], rtol=2e-6)
        np.testing.assert_allclose(l2, WHITE_BOX[f"{name}/trace_l2"][:, i], atol=1e-5)
        np.testing.assert_allclose(ratio, WHITE_BOX[f"{name}/trace_log_ratio"][:, i], rtol=2e-6)
        np.testing.assert_allclose(tf.nn.softmax(logits_of(image)),
                                   WHITE_BOX[f"{name}/trace_softmax"][:, i], atol=2e-6)
        state = search.advance(state, 1)


@pytest.mark.slow
def test_the_white_box_attack_succeeds_where_the_original_does():
    search = white_box(0, 0.1)
    np.testing.assert_array_equal(search.stages[0](WB_IMAGES, WB_TARGETS)["success"],
                                  WHITE_BOX["lr01_conf0/attack1_success"] == 1)
    result = search.finish(search.advance(second_attack(search, "lr01_conf0"), 1000))
    success = WHITE_BOX["lr01_conf0/attack2_success"] == 1
    assert success.sum() == 3
    np.testing.assert_array_equal(result["success"], success)
    ratio = result["log_ratio"].numpy()
    assert np.all(ratio[success] <= 0.0)
    # The fourth reached its target, but not the density: the closest image is kept.
    assert 0.0 < ratio[~success] < 2.0
    np.testing.assert_array_equal(
        np.argmax(logits_of(result["adversarial"]), -1), WB_TARGETS)


def test_confidence_is_asked_of_logits_and_can_be_reached():
    """The original tests softmax outputs minus 5, which never wins."""
    linear = network("linear", "ce")
    far = RNG.normal(0.0, 0.3, (100, 64, 10))
    search = attacks.ATTACKS["carliniL2_specific"].function(
        linear, kernels=far, density_medians=np.full(10, 1e-30), bandwidth=3.8,
        num_steps=(60, 60), learning_rate=(0.1, 0.1), num_search_steps=(2, 2))
    assert np.mean(search(WB_IMAGES, WB_TARGETS)["success"]) >= 0.5


@pytest.mark.slow
def test_without_any_success_the_clean_image_is_returned():
    result = white_box(5, 0.01)(WB_IMAGES, WB_TARGETS)
    assert not np.any(result["success"])
    np.testing.assert_array_equal(result["adversarial"], WB_IMAGES)


def ratio_and_slope(form, objective_bandwidth, squared_distance):
    """r and the norm of its gradient at that distance from the only kernel."""
    ratio = log_density_ratio(np.zeros((1, 64, 10)), np.full(10, 0.1), objective_bandwidth, form)
    features = tf.fill([1, 64], np.float32(np.sqrt(squared_distance / 64)))
    with tf.GradientTape() as tape:
        tape.watch(features)
        r = ratio(features, tf.constant([3]))
    return float(r[0]), float(tf.norm(tape.gradient(r, features)))


@pytest.mark.parametrize(("bandwidth", "reach"), [(0.1 / 0.26, 40), (1 / 0.26, 400)])
def test_the_originals_density_has_no_gradient_far_from_the_kernels(bandwidth, reach):
    """Beyond d² = 40 (RCE) or 400 (CE) exp(−d²/σ²) is 0 in float32 beside 1e-30."""
    floor = -np.log(DENSITY_FLOOR) + np.log(0.1)
    r, slope = ratio_and_slope("original", bandwidth, reach * 1.05)
    assert slope == 0.0
    assert r == pytest.approx(floor, rel=1e-5)
    far, far_slope = ratio_and_slope("log", bandwidth, reach * 1.05)
    assert far == pytest.approx(reach * 1.05 / bandwidth + np.log(0.1), rel=1e-5)
    assert far_slope == pytest.approx(2 * np.sqrt(reach * 1.05) / bandwidth, rel=1e-5)


@pytest.mark.parametrize("bandwidth", [0.1 / 0.26, 1 / 0.26])
def test_near_the_kernels_both_forms_are_one(bandwidth):
    for squared_distance in (0.1, 2.0, 10.0):
        np.testing.assert_allclose(ratio_and_slope("original", bandwidth, squared_distance),
                                   ratio_and_slope("log", bandwidth, squared_distance), rtol=1e-4)


def test_an_unknown_density_form_is_refused():
    with pytest.raises(InputError, match=r"one of \[log, original\]\. Received: .*'exp'"):
        log_density_ratio(kernels(), MEDIANS, BANDWIDTH, "exp")


def test_distance_is_measured_from_attack_1_or_from_the_clean_image():
    anchors = {}
    for from_clean in (False, True):
        search = white_box(0, 0.1, distance_from_clean=from_clean)
        state = second_attack(search, "lr01_conf0")
        anchors[from_clean] = state["anchor"]
        begun = tf.tanh(state["start_w"]) / 2
        np.testing.assert_allclose(begun, WHITE_BOX["lr01_conf0/attack1_adv"], atol=1e-5)
    np.testing.assert_allclose(anchors[False], WHITE_BOX["lr01_conf0/attack1_adv"], atol=1e-5)
    np.testing.assert_allclose(anchors[True], WB_IMAGES, atol=1e-5)


# --- What no image may depend on ---


SEARCHES = [name for name, attack in attacks.ATTACKS.items() if attack.stages]
SHORT = {"jsma": {"num_steps": 12}, "smda": {"num_steps": 12},
         "carliniL2": {"num_steps": 15, "num_search_steps": 3, "learning_rate": 0.1},
         "carliniL2_highcon": {"num_steps": 15, "num_search_steps": 2, "learning_rate": 0.1,
                               "kappa": 0.5},
         "carliniL2_highden": {"num_steps": (8, 12), "num_search_steps": (2, 2),
                               "learning_rate": (0.1, 0.1)},
         "carliniL2_specific": {"num_steps": (4, 4), "num_search_steps": (2, 2),
                                "learning_rate": (0.1, 0.1)}}


def make(name, network_fn, compact=True, **settings):
    """A short search of that name on a function to logits and features."""
    attack = attacks.get(name)
    if "kernels" in attack.takes:
        settings = {"kernels": kernels(), "density_medians": MEDIANS, "bandwidth": BANDWIDTH,
                    **settings}
    function = (lambda x: network_fn(x)[0]) if attack.uses_eps else network_fn
    return attack.function(function, compact=compact, **SHORT[name], **settings)


def craft(name, search, x, target, eps=0.3):
    given = {"eps": tf.constant(eps, tf.float64)} if attacks.get(name).uses_eps else {}
    return search(tf.constant(x), tf.constant(target, tf.int32), **given)


def test_a_batch_of_wide_chunks_has_the_bits_of_narrow_ones():
    draw = np.random.default_rng(5)
    count = WIDE_FROM + WIDE_CHUNK // 2  # wide chunks, and a rest
    x = draw.uniform(-0.5, 0.5, (count, 28, 28, 1)).astype(np.float32)
    search = make("carliniL2", network("resnet", "rce"))
    target = draw.integers(0, 10, count)
    together = craft("carliniL2", search, x, target)
    for first in range(0, count, 40):
        rows = slice(first, first + 40)
        alone = craft("carliniL2", search, x[rows], target[rows])
        for key, array in alone.items():
            np.testing.assert_array_equal(together[key][rows], array, err_msg=key)


@pytest.mark.parametrize("objective", ["ce", "rce"])
@pytest.mark.parametrize("net", ["linear", "resnet"])
@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_stays_in_the_box_and_its_budget(name, net, objective):
    search = make(name, network(net, objective))
    clean = np.argmax(network(net, objective)(IMAGES)[0], -1)
    result = craft(name, search, IMAGES, (clean + 1) % 10)
    adversarial = result["adversarial"].numpy()
    assert adversarial.shape == IMAGES.shape and adversarial.dtype == np.float32
    assert adversarial.min() >= -0.5 and adversarial.max() <= 0.5
    settings = SHORT[name]
    steps = np.max(settings["num_steps"])
    iterations = result["iterations"].numpy()
    if name in ("jsma", "smda"):
        assert iterations.max() <= steps
        changed = (adversarial != IMAGES.numpy()).sum((1, 2, 3))
        assert np.all(changed <= iterations)
        assert np.all(adversarial >= IMAGES.numpy())
    else:
        assert iterations.max() <= steps * np.max(settings["num_search_steps"])
    reached = np.argmax(network(net, objective)(adversarial)[0], -1) == (clean + 1) % 10
    assert np.all(reached[result["success"].numpy()])


@pytest.mark.parametrize("name", ["jsma", "smda"])
def test_eps_0_changes_nothing(name):
    result = craft(name, make(name, network()), IMAGES, LEAST_LIKELY, eps=0.0)
    np.testing.assert_array_equal(result["adversarial"], IMAGES)


@pytest.fixture(scope="module")
def small():
    """A ResNet-8 on 8×8 images, 64 of them and their targets."""
    model = build_resnet(ResNetConfig((8, 8, 1), 10, 1), seed=2)

    def network_fn(x):
        logits, features = model(x, training=False)
        # Of a fresh network, scaled so that some images are easy and some are not.
        return 20.0 * logits, features

    images = np.random.default_rng(1).uniform(-0.5, 0.5, (64, 8, 8, 1)).astype(np.float32)
    target = (np.argmax(network_fn(images)[0], -1) + np.arange(64) % 9 + 1) % 10
    return network_fn, images, target


def rows_of(result, rows):
    return {name: array.numpy()[rows] for name, array in result.items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


# carliniL2_specific is carliniL2_highden with other numbers, smda is jsma.
@pytest.mark.parametrize("name", [
    "jsma", "carliniL2", pytest.param("carliniL2_highcon", marks=pytest.mark.slow),
    pytest.param("carliniL2_highden", marks=pytest.mark.slow)])
def test_batch_place_and_company_have_no_influence(name, small):
    network_fn, images, target = small
    search = make(name, network_fn)
    everything = np.arange(64)
    together = craft(name, search, images, target)
    assert np.mean(together["success"]) < 1
    assert np.any(together["success"]) or name == "carliniL2_highden"
    for row in everything if name == "jsma" else (0, 15, 16, 63):
        alone = craft(name, search, images[[row]], target[[row]])
        assert_same(rows_of(alone, [0]), rows_of(together, [row]))
    some = craft(name, search, images[20:45], target[20:45])
    assert_same(rows_of(some, np.arange(25)), rows_of(together, np.arange(20, 45)))
    order = np.random.default_rng(2).permutation(64)
    permuted = craft(name, search, images[order], target[order])
    assert_same(rows_of(permuted, everything), rows_of(together, order))
    # The same again, and with gradients of ended images too.
    assert_same(rows_of(craft(name, search, images, target), everything),
                rows_of(together, everything))
    wasteful = craft(name, make(name, network_fn, compact=False), images, target)
    assert_same(rows_of(wasteful, everything), rows_of(together, everything))


def counted_search(end_after, compact):
    """A search of nothing whose images end after so many steps, and the rows each step was given."""
    seen = []

    def start(x, target, valid):
        return {"x": x, "left": target, "active": valid, "success": tf.zeros_like(valid)}

    def step(state):
        tf.py_function(lambda active: seen.append(int(np.sum(active))), [state["active"]], [])
        left = state["left"] - 1
        return {"x": state["x"] + 1.0, "left": left, "active": left > 0}

    search = Search(start, step, ("x", "left", "active"), lambda state: state, compact=compact)
    x = tf.zeros([len(end_after), 1, 1, 1])
    return search(x, tf.constant(end_after, tf.int32)), seen


def test_images_that_have_ended_cost_nothing():
    ends = [1] * 45 + [3] * 20 + [6] * 5
    result, seen = counted_search(ends, compact=True)
    np.testing.assert_array_equal(result["x"][:, 0, 0, 0], ends)
    # Chunks of 16: 70, 25, 25, 5, 5, 5 images.
    assert len(seen) == 5 + 2 + 2 + 1 + 1 + 1
    assert sum(seen) == sum(ends)
    result, seen = counted_search(ends, compact=False)
    np.testing.assert_array_equal(result["x"][:, 0, 0, 0], ends)
    assert len(seen) == 6 * 5


def test_the_network_is_always_given_one_number_of_images_and_traced_once():
    seen = []

    def spy(x):
        seen.append(x.shape[0])
        return network("linear", "ce")(x)

    search = attacks.ATTACKS["carliniL2"].function(spy, num_steps=5, num_search_steps=2)
    for _ in range(3):
        search(IMAGES, CW_TARGETS)
    assert seen == [SEARCH_CHUNK]


def test_advance_in_slices_is_advance_at_once():
    search = make("carliniL2", network("linear", "ce"))
    state = begin(search)
    while np.any(state["active"]):
        state = search.advance(state, 7)
    assert_same(rows_of(search.finish(state), np.arange(16)),
                rows_of(search(IMAGES, CW_TARGETS), np.arange(16)))

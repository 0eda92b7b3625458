"""Attacks that know a detector: closed forms on linear networks, golden steps, what is kept."""

import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from attacks import get
from attacks.loops import climbing, knowing
from attacks.loops.balls import NORMS, Ball
from defenses.differentiable import log_density
from tests.helpers import adaptive
from tests.helpers.golden import golden

RNG = np.random.default_rng(0)
NUM, SHAPE = 8, (4, 4, 1)
X = tf.constant(RNG.uniform(-0.3, 0.3, (NUM, *SHAPE)))
INDEX, FIRST = tf.range(NUM), tf.zeros(NUM, tf.int32)
# Class 1 lies along one half of the pixels, what the detector looks at along the other.
TO_OTHER, TO_NORMAL = np.zeros((2, 16))
TO_OTHER[:8], TO_NORMAL[8:] = RNG.uniform(0.5, 1.0, (2, 8))
LABELS = tf.zeros(NUM, tf.int32)


def network(offset):
    """A linear network of two classes: 0 until a step along TO_OTHER makes up for the offset [n]."""
    def logits_and_features(images):
        flat = tf.reshape(images - X, [NUM, 16])
        other = tf.linalg.matvec(flat, TO_OTHER) - offset
        return tf.stack([tf.zeros_like(other), other], axis=1), flat

    return logits_and_features


def linear_slack(needed):
    """Accepts what has moved far enough along TO_NORMAL."""
    return lambda logits, features, classes: (
        tf.linalg.matvec(features, TO_NORMAL) - needed)[:, None]


@functools.cache
def traced(name, norm, num_steps):
    """An attack as a function of offset, needed and eps, traced once."""
    return tf.function(lambda offset, needed, eps: get(name).function(
        network(offset), X, labels=LABELS, slack_fn=linear_slack(needed), eps=eps, seed=0,
        image_index=INDEX, restart=FIRST, norm=norm, chunk=NUM, num_steps=num_steps))


def attack(offset, needed, *, norm, eps, name="selective_pgd", num_steps=200):
    numbers = (tf.constant(number, tf.float64) for number in (offset, needed, eps))
    return {name: value.numpy() for name, value in traced(name, norm, num_steps)(*numbers).items()}


# What eps can reach along a direction: its L1 norm in L-inf; the two halves share an L2 ball.
REACH = {"linf": (TO_OTHER.sum(), TO_NORMAL.sum()),
         "l2": (np.linalg.norm(TO_OTHER) / np.sqrt(2), np.linalg.norm(TO_NORMAL) / np.sqrt(2))}


# What climbs margin and scores, each in its own way.
CLIMBERS = ["selective_pgd", "orthogonal_pgd", "apgd_detector"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CLIMBERS)
def test_the_optimum_of_linear_network_and_detector_is_reached(name, norm):
    eps, (across, accepted) = 0.1, REACH[norm]
    # Just within what the ball holds, and just beyond it.
    near = attack(0.97 * eps * across, 0.97 * eps * accepted, norm=norm, eps=eps, name=name)
    assert near["evaded"].all()
    beyond = attack(1.03 * eps * across, 1.03 * eps * accepted, norm=norm, eps=eps, name=name)
    assert not beyond["evaded"].any()
    assert near["zero_gradient_steps"].max() == 0


def test_every_second_start_goes_deep_before_it_looks_at_the_detector():
    deepest = 0.3 * REACH["linf"][0]

    def accepts_what_is_deep(logits, features, classes):
        """Falls from the boundary on: who climbs it from there goes back."""
        margin = (logits[:, 1] - logits[:, 0])[:, None]
        return tf.where(margin > 0.5 * deepest, margin, -margin)

    starts = tf.range(NUM) % 4
    result = tf.function(get("selective_pgd").function)(
        network(tf.zeros(NUM, tf.float64)), X, labels=LABELS, slack_fn=accepts_what_is_deep, eps=0.3,
        seed=0, image_index=INDEX, restart=starts, chunk=NUM, num_steps=40)
    assert result["wrong"].numpy().all()
    assert result["evaded"].numpy().tolist() == (starts.numpy() % 2 == 1).tolist()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CLIMBERS)
def test_two_half_planes_that_meet_outside_the_ball_are_never_both_reached(name, norm):
    eps, (across, accepted) = 0.1, REACH[norm]
    result = attack(0.5 * eps * across, 3 * eps * accepted, norm=norm, eps=eps, name=name)
    assert result["wrong"].all() and not result["evaded"].any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CLIMBERS)
def test_results_stay_in_ball_and_box(name, norm):
    change = attack(0.0, 1e9, norm=norm, eps=0.4, name=name, num_steps=30)["adversarial"] - X.numpy()
    size = np.abs(change).max(axis=(1, 2, 3)) if norm == "linf" else np.sqrt(
        np.square(change).sum(axis=(1, 2, 3)))
    assert size.max() <= 0.4 * (1 + 1e-6) and size.min() > 0.2
    assert np.abs(change + X.numpy()).max() <= 0.5


def test_a_wrong_image_beats_a_right_one_and_then_the_merit_counts():
    image = X[:3]
    best = knowing.none_yet(image)

    class Seen:
        def __init__(self, wrong, merit):
            self.wrong, self.merit = tf.constant(wrong), tf.constant(merit, tf.float64)
            self.evaded = tf.logical_and(self.wrong, self.merit >= 0)

    best = knowing.keep_best(best, image, Seen([False] * 3, [-1.0, -1.0, -2.0]), 0)
    best = knowing.keep_best(best, image + 0.1, Seen([True, False, False], [-9.0, -3.0, -2.0]), 1)
    best = knowing.keep_best(best, image + 0.2, Seen([False, True, False], [0.5, 2.0, -1.0]), 2)
    assert best["best_step"].numpy().tolist() == [1, 2, 2]
    assert best["wrong"].numpy().tolist() == [True, True, False]
    assert best["evaded"].numpy().tolist() == [False, True, False]
    np.testing.assert_allclose(best["adversarial"][0], image[0] + 0.1)


def test_without_a_score_every_wrong_image_evades():
    nothing = lambda logits, features, classes: tf.zeros([NUM, 0], logits.dtype)  # noqa: E731
    judged = knowing.Judged(network(tf.constant(-1.0, tf.float64)), nothing, X, LABELS)
    assert judged.wrong.numpy().all() and judged.evaded.numpy().all()


def test_a_tie_is_not_wrong():
    logits = tf.constant([[1.0, 1.0, 0.0]])
    other, margin = knowing.largest_other(logits, tf.constant([1]))
    assert other.numpy() == [0] and margin.numpy() == [0.0]


@pytest.mark.parametrize("norm", NORMS)
def test_starts_depend_on_the_row_alone(norm):
    ball = Ball(norm, X, tf.constant(0.1, X.dtype), -0.5, 0.5)
    restarts = tf.constant([0, 1] * (NUM // 2))
    starts = ball.start(3, INDEX, restarts).numpy()
    order = np.argsort(RNG.random(NUM))
    shuffled = Ball(norm, tf.gather(X, order), ball.eps, -0.5, 0.5)
    np.testing.assert_array_equal(
        shuffled.start(3, tf.gather(INDEX, order), tf.gather(restarts, order)).numpy(), starts[order])
    size = np.abs(starts - X.numpy()).max(axis=(1, 2, 3)) if norm == "linf" else np.sqrt(
        np.square(starts - X.numpy()).sum(axis=(1, 2, 3)))
    # The first start lies in the inner half.
    assert size[::2].max() <= 0.05 * (1 + 1e-6) < size[1::2].max() <= 0.1 * (1 + 1e-6)


# The code published with orthogonal PGD.


ORTHOGONAL = golden("adaptive_orthogonal")


def test_projections_are_the_originals():
    found = climbing.freed_of(tf.constant(ORTHOGONAL["pair_gradient"]),
                              tf.constant(ORTHOGONAL["pair_other"]), in_conflict=False)
    np.testing.assert_allclose(found, ORTHOGONAL["pair_projected"], rtol=0, atol=1e-12)


def test_gradients_that_do_not_conflict_are_left_as_they_are():
    rng = np.random.default_rng(0)
    gradient, other = (tf.constant(rng.normal(size=(20, 2, 2, 1))) for _ in range(2))
    apart = np.sum(gradient * other, axis=(1, 2, 3)) < 0
    found = climbing.freed_of(gradient, other, in_conflict=True).numpy()
    np.testing.assert_array_equal(found[~apart], gradient.numpy()[~apart])
    np.testing.assert_allclose(np.sum(found * other, axis=(1, 2, 3))[apart], 0, atol=1e-12)


@pytest.mark.parametrize("run", ["selective_linf", "orthogonal_linf", "detector_projected_linf"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_points_are_those_of_the_published_code(run, dtype):
    """Its losses and its edge, our loop and our projections."""
    network_ = adaptive.network(ORTHOGONAL, dtype)
    x, labels = tf.constant(ORTHOGONAL["x"].astype(dtype)), tf.constant(ORTHOGONAL["label"], tf.int32)
    density = log_density(ORTHOGONAL["kernels"], float(ORTHOGONAL["bandwidth"]))
    points, suspicions = [], []

    def judge(image):
        logits, features = network_(image)
        value = density(features, tf.argmax(logits, axis=1, output_type=tf.int32))
        return types.SimpleNamespace(logits=logits, wrong=tf.argmax(logits, 1, tf.int32) != labels,
                                     merit=value, evaded=tf.zeros(6, tf.bool))

    def look(image, number, carried):
        points.append(image.numpy())
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(image)
            judged = judge(image)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, judged.logits)
        suspicions.append(-judged.merit.numpy())
        to_class, to_normal = (tape.gradient(value, image) for value in (loss, judged.merit))
        raised = judged.logits + 0.05 * tf.one_hot(labels, 6, dtype=dtype)
        across = (tf.argmax(raised, 1, tf.int32) != labels)[:, None, None, None]
        normal = to_normal if run == "selective_linf" else climbing.freed_of(
            to_normal, to_class, in_conflict=False)
        other = climbing.freed_of(to_class, to_normal, in_conflict=False) if (
            run == "orthogonal_linf") else to_class
        return judged, tf.where(across, normal, other), carried

    eps = ORTHOGONAL[f"{run}/eps"]
    ball = Ball("linf", x, tf.constant(eps, x.dtype), 0.0, 1.0)
    best = climbing.climb(look, judge, x, ball, num_steps=40, step_sizes=(
        (1.0, float(ORTHOGONAL[f"{run}/step_size"] / eps)),))
    in_float64 = dtype == np.float64
    np.testing.assert_allclose(points[:21], ORTHOGONAL[f"{run}/points"], rtol=0,
                               atol=1e-12 if in_float64 else 1e-5)
    np.testing.assert_allclose(suspicions, ORTHOGONAL[f"{run}/suspicion"], rtol=0,
                               atol=1e-11 if in_float64 else 1e-4)
    assert best["wrong"].numpy().any()

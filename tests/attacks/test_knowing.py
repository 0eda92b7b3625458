"""Attacks that know a detector: closed forms on linear networks, golden steps, what is kept."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from attacks import get
from attacks.loops import knowing
from attacks.loops.balls import NORMS, Ball

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
CLIMBERS = ["selective_pgd", "apgd_detector"]


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

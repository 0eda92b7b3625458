"""Attacks that imitate normal images, or start at them: closed forms on linear networks."""

import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from attacks import get
from attacks.loops.balls import NORMS
from attacks.loops.matching import Accepted
from errors import InputError
from evaluation import accepted as accepting

RNG = np.random.default_rng(0)
NUM, SHAPE, CLASSES = 6, (4, 4, 1), 3
SIZE = 16
X = RNG.uniform(-0.2, 0.2, (NUM, *SHAPE))
INDEX, LABELS = tf.range(NUM), tf.constant([0, 1, 2] * 2)
WEIGHTS = RNG.normal(size=(SIZE, CLASSES))


def network(images):
    """Features are the pixels."""
    features = tf.reshape(images, [-1, SIZE])
    return features @ tf.constant(WEIGHTS, images.dtype), features


def all_pass(logits, features, classes):
    return tf.ones([logits.shape[0], 1], logits.dtype)


def near(kind):
    """Accepts what lies near a place: slack falls with the distance."""
    return lambda logits, features, classes: -tf.reduce_sum(
        tf.math.squared_difference(features, tf.constant(kind, features.dtype)), axis=1, keepdims=True)


def run(name, norm, *, restart=0, num_steps=120, **given):
    attack = tf.function(lambda: get(name).function(
        network, tf.constant(X), labels=LABELS, seed=0, image_index=INDEX,
        restart=tf.fill([NUM], restart), norm=norm, chunk=NUM, num_steps=num_steps, **given))
    return {key: value.numpy() for key, value in attack().items()}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restart", [0, 1, 2])
def test_features_come_to_the_nearest_kernel_of_each_class_in_turn(norm, restart):
    # Beside each image a kernel of each class, farther away for each higher number.
    steps = RNG.normal(size=(NUM, SIZE, CLASSES))
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    kernels = X.reshape(NUM, SIZE, 1) + steps * np.array([0.02, 0.04, 0.06])
    # Which image comes to its own nearest kernel is looked at on the first alone.
    wanted = [1, 2, 1][restart]  # its class 0 is its label; two classes take turns
    result = run("matching_pgd", norm, restart=restart, kernels=kernels, num_targets=2, eps=0.3,
                 slack_fn=near(np.tile(kernels[0, :, wanted], (NUM, 1))))
    distance = np.linalg.norm(result["adversarial"].reshape(NUM, SIZE)[0] - kernels[0, :, wanted])
    assert distance < 0.03 and result["zero_gradient_steps"].max() == 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restart", [0, 1])
def test_logits_come_to_those_of_an_accepted_image_of_another_class(norm, restart):
    images = np.random.default_rng(1).uniform(-0.3, 0.3, (2 * NUM, *SHAPE))
    logits = network(tf.constant(images))[0].numpy()
    classes = np.argmax(logits, axis=1).astype(np.int32)
    distance = np.linalg.norm(network(tf.constant(X))[0].numpy()[:, None] - logits, axis=2)
    distance[classes[None] == LABELS.numpy()[:, None]] = np.inf
    wanted = logits[np.argsort(distance, axis=1)[:, restart]]

    def slack(own_logits, features, predicted):
        return -tf.reduce_sum(tf.math.squared_difference(own_logits, wanted), axis=1, keepdims=True)

    result = run("logit_matching", norm, restart=restart, eps=2.0, slack_fn=slack, accepted=Accepted(
        tf.constant(images), tf.constant(logits), tf.constant(classes)))
    got = network(tf.constant(result["adversarial"]))[0].numpy()
    assert result["wrong"].all() and np.linalg.norm(got - wanted, axis=1).max() < 0.3


@pytest.mark.parametrize("norm", NORMS)
def test_every_step_stays_in_the_ball(norm):
    bank = Accepted(tf.constant(X), tf.constant(100 * RNG.normal(size=(NUM, CLASSES))), LABELS)
    result = run("logit_matching", norm, eps=0.05, accepted=bank, slack_fn=all_pass, num_steps=20)
    change = (result["adversarial"] - X).reshape(NUM, -1)
    size = np.abs(change).max(axis=1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert size.max() <= 0.05 * (1 + 1e-6)


# --- HopSkipJump ---

DIRECTION = RNG.normal(size=SIZE)
OFFSET = X.reshape(NUM, SIZE) @ DIRECTION


def two_sided(images, needed=0.3):
    """Class 1 from `needed` along DIRECTION on, which each image starts at 0."""
    features = tf.reshape(images, [-1, SIZE])
    along = tf.linalg.matvec(features, tf.constant(DIRECTION, images.dtype)) - OFFSET - needed
    return tf.stack([tf.zeros_like(along), along], axis=1), features


def jump(norm, *, classes=(1, 1), num_steps=1500, needed=0.3, rows=slice(None), of=two_sided):
    bank = np.clip(X[:2] + 0.4 * np.sign(DIRECTION).reshape(SHAPE), -0.5, 0.5)
    attack = tf.function(lambda: get("hopskipjump").function(
        functools.partial(of, needed=needed), tf.constant(X), labels=tf.zeros(NUM, tf.int32),
        slack_fn=all_pass, accepted=Accepted(tf.constant(bank), tf.zeros([2, 2]), tf.constant(classes)),
        seed=0, image_index=INDEX, norm=norm, num_steps=num_steps, chunk=NUM))
    return {key: value.numpy() for key, value in attack().items()}


@pytest.mark.parametrize("norm", NORMS)
def test_answers_alone_lead_to_the_nearest_boundary(norm):
    result = jump(norm)
    change = (result["adversarial"] - X).reshape(NUM, SIZE)
    # The distance of a plane in a norm is over the dual norm of its normal.
    best = 0.3 / (np.abs(DIRECTION).sum() if norm == "linf" else np.linalg.norm(DIRECTION))
    size = np.abs(change).max(axis=1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert np.all(size < 1.08 * best) and np.all(size > best * (1 - 1e-6))
    assert result["evaded"].all() and np.all(change @ DIRECTION >= 0.3)
    assert result["queries"].max() <= 1500 and result["queries"].min() > 1000


def test_it_asks_no_more_than_it_may():
    asked = []

    def counted(images, needed):
        tf.py_function(lambda: asked.append(1), [], [])
        return two_sided(images, needed)

    result = jump("l2", num_steps=300, of=counted)
    # All rows ask together; what a row is asked after its end is not counted.
    assert result["queries"].max() <= 300 and len(asked) >= result["queries"].max()


def test_without_a_start_an_image_stays():
    result = jump("l2", classes=(0, 0), needed=1e3)
    assert not result["evaded"].any() and np.array_equal(result["adversarial"], X)
    assert result["queries"].tolist() == [1] * NUM


def test_an_image_that_is_answered_wrongly_needs_no_attack():
    result = jump("linf", needed=-1e3)
    assert result["evaded"].all() and np.array_equal(result["adversarial"], X)


# --- Which normal images are accepted ---


def test_accepted_are_right_and_pass():
    passing, predicted = np.array([1, 1, 0, 1, 1, 1], bool), np.array([0, 1, 2, 0, 0, 2])
    aim = types.SimpleNamespace(passes=lambda outputs: passing)
    logits = RNG.normal(size=(NUM, CLASSES)).astype(np.float32)
    found = accepting.accepted_of(aim, X, LABELS.numpy(), logits,
                                  types.SimpleNamespace(predicted=predicted))
    assert found.classes.tolist() == [0, 1, 0, 2]
    np.testing.assert_array_equal(found.images, X[[0, 1, 3, 5]])
    np.testing.assert_array_equal(found.logits, logits[[0, 1, 3, 5]])


def test_one_class_alone_cannot_be_imitated():
    only = Accepted(X[:2], np.zeros((2, 3)), np.array([1, 1], np.int32))
    with pytest.raises(InputError, match=r"logit_matching imitates .* two classes\. Received: 2 of "):
        accepting.check_two_classes(only, "logit_matching")


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_of_another_class(norm):
    bank = Accepted(X[:4], np.zeros((4, 3)), LABELS.numpy()[:4])
    change = (X[:, None] - X[None, :4]).reshape(NUM, 4, SIZE)
    distance = np.abs(change).max(axis=2) if norm == "linf" else np.linalg.norm(change, axis=2)
    distance[LABELS.numpy()[:, None] == LABELS.numpy()[None, :4]] = np.inf
    found = accepting.nearest_of_another_class(X, LABELS.numpy(), bank, norm)
    np.testing.assert_allclose(found, distance.min(axis=1))
    nobody = Accepted(X[:0], np.zeros((0, 3)), np.zeros(0, np.int32))
    assert np.isinf(accepting.nearest_of_another_class(X, LABELS.numpy(), nobody, norm)).all()

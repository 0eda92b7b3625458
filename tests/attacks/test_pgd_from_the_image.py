"""PGD without a random start: a step of eps is FGSM, and no draw decides anything."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from attacks.fgsm import fgsm
from attacks.pgd import pgd
from tests.helpers import dgn_targets

RNG = np.random.default_rng(0)
# Many pixels at the edges of the box and many within.
IMAGES = np.clip(RNG.uniform(-0.8, 0.8, (7, 28, 28, 1)), -0.5, 0.5).astype(np.float32)
INDEX = tf.range(len(IMAGES))


@functools.cache
def logits_fn():
    return dgn_targets.target("mnist_5x30").logits


@functools.cache
def traced(**numbers):
    logits_fn()
    return tf.function(lambda x, eps, target, **draws: pgd(
        logits_fn(), x, eps=eps, target=target, **draws, **numbers))


def run(*, eps=0.1, seed=0, index=INDEX, restart=0, target=None, random_start=False, **numbers):
    """PGD as a crafter runs it: traced, eps in float64."""
    attack = traced(random_start=random_start, **numbers)
    return attack(IMAGES, tf.constant(eps, tf.float64), target, seed=tf.constant(seed),
                  image_index=index, restart=tf.fill([len(IMAGES)], restart))


@pytest.mark.parametrize("eps", [1e-3, 0.1, 0.3])
def test_a_step_of_eps_is_fgsm_to_the_bit(eps):
    logits_fn()
    single = tf.function(lambda x, eps: fgsm(logits_fn(), x, eps=eps))
    expected = single(IMAGES, tf.constant(eps, tf.float64))
    found = run(eps=eps, num_steps=1, step_size=eps)
    np.testing.assert_array_equal(found["adversarial"], expected)
    assert np.abs(expected - IMAGES).max() > 0.9 * eps
    predicted = tf.argmax(logits_fn()(tf.constant(IMAGES)), axis=1)
    after = logits_fn()(expected)
    np.testing.assert_array_equal(found["wrong"], tf.argmax(after, axis=1) != predicted)
    np.testing.assert_allclose(found["cross_entropy"], tf.nn.sparse_softmax_cross_entropy_with_logits(
        predicted, after), rtol=1e-4, atol=1e-5)
    # With a start it is another.
    other = run(eps=eps, num_steps=1, step_size=eps, random_start=True)["adversarial"]
    assert np.any(other != expected)


@pytest.mark.parametrize("draw", [
    {"seed": 5}, {"restart": 3}, {"index": 9 - INDEX}, {"seed": 1, "restart": 2}])
def test_it_starts_at_the_image_whatever_is_drawn(draw):
    numbers = {"num_steps": 3, "step_size": 0.02}
    expected = run(**numbers)
    found = run(**numbers, **draw)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    # Three steps from the image take a pixel no further than that.
    change = np.abs(np.float64(expected["adversarial"]) - IMAGES)
    assert 0.059 < change.max() <= 0.06 + 1e-7
    started = run(**numbers, **draw, random_start=True)
    assert np.any(started["adversarial"] != run(**numbers, random_start=True)["adversarial"])


@pytest.mark.parametrize("random_start", [True, False])
def test_no_step_leaves_the_start(random_start):
    """Of eps 0 all are the image; a start within eps is all that is left of steps of 0."""
    np.testing.assert_array_equal(
        run(eps=0.0, num_steps=2, step_size=0.1, random_start=random_start)["adversarial"], IMAGES)
    change = np.abs(run(num_steps=2, step_size=0.0, random_start=random_start)["adversarial"] - IMAGES)
    assert (change.max() > 0.09) == random_start and change.max() <= 0.1 + 1e-7


def test_a_target_is_descended_from_the_image():
    target = tf.constant([3] * len(IMAGES), tf.int32)
    found = run(num_steps=1, step_size=0.1, target=target)["adversarial"]
    x = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits_fn()(x))
    slopes = tape.gradient(loss, x).numpy()
    clear = np.abs(slopes) > 1e-6
    expected = np.clip(IMAGES - np.float32(0.1) * np.sign(slopes), -0.5, 0.5)
    assert clear.mean() > 0.5
    np.testing.assert_allclose(found.numpy()[clear], expected[clear], rtol=0, atol=1e-7)

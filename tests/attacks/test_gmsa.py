"""GMSA step for step as its authors' classes; its reductions, and what it keeps, on linear models."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from attacks.loops.ascent import ascend_from
from attacks.loops.balls import Ball
from attacks.loops.gmsa import REDUCTIONS, gmsa
from tests.helpers.golden import golden
from tests.helpers.pairing import images_of
from tests.helpers.rmc import assign_weights, digits_network

GOLDEN, NETWORKS = golden("rmc_gmsa"), golden("rmc_adapt")
RUNS = [name.removesuffix("/result") for name in GOLDEN.files if name.endswith("/result")]
COUNTS = ("none", "one", "two", "three", "four", "five")
OURS = {"avg": "sum", "min": "min"}


@functools.cache
def loss_and_gradient(name):
    """Of the goldens' network under one of their weight sets."""
    model = digits_network(NETWORKS)
    if not name.startswith("theta"):
        assign_weights(model, NETWORKS, f"{name}/weights/")

    @tf.function
    def attacked(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(GOLDEN["labels"], model(images)[0])
        return loss, tape.gradient(loss, images)

    return attacked


def gradients_of(names):
    """What `gmsa` takes, of several weight sets."""
    def gradients_fn(images):
        losses, gradients = zip(*(loss_and_gradient(name)(images) for name in names), strict=True)
        return tf.stack(losses), tf.stack(gradients)

    return gradients_fn


def models_and_reduction(run):
    names = list(GOLDEN["model_names"])
    kind, which, *rest = run.split("_")
    if kind == "gmsa":
        return names[:COUNTS.index(rest[0])], OURS[which]
    if which in names:
        return [which], "sum"
    # The newest of a round is not the last of the file; its clean losses tell.
    off = np.abs(GOLDEN["losses_each_model_clean"] - GOLDEN[f"{run}/loss_clean"]).max(axis=1)
    return [names[off.argmin()]], "sum"


def attack(names, reduce, num_steps):
    """The attack, and what it saw in order: images, reduced losses, reduced gradients."""
    seen, gradients_fn = [], gradients_of(names)

    def recorded(images):
        found = gradients_fn(images)
        seen.append((images, *REDUCTIONS[reduce](*found)))
        return found

    images, (eps, step_size) = images_of(GOLDEN), GOLDEN["numbers_eps_step"]
    result = gmsa(recorded, tf.constant(images), start=tf.constant(images + GOLDEN["start_noise"]),
                  eps=eps, step_size=step_size, num_steps=num_steps, reduce=reduce)
    return result, [np.stack(part) for part in zip(*seen, strict=True)]


@functools.cache
def golden_run(run):
    return attack(*models_and_reduction(run), int(GOLDEN[f"{run}/num_steps_done"]))


def test_each_models_losses_are_the_originals():
    losses, _ = gradients_of(GOLDEN["model_names"])(tf.constant(images_of(GOLDEN)))
    np.testing.assert_allclose(losses, GOLDEN["losses_each_model_clean"], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("run", RUNS)
def test_the_first_gradient_is_the_originals(run):
    _, (_, _, gradients) = golden_run(run)
    expected = GOLDEN[f"{run}/gradient_step0"]
    # After the clean image's comes the start's.
    np.testing.assert_allclose(gradients[1], expected, rtol=0,
                               atol=1.5 * 2.3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("run", RUNS)
def test_iterates_and_losses_are_the_originals(run):
    _, (images, losses, _) = golden_run(run)
    iterates, expected = GOLDEN[f"{run}/iterates"], GOLDEN[f"{run}/loss_per_iterate"]
    np.testing.assert_allclose(images[1:1 + len(iterates)] + 0.5, iterates, rtol=0, atol=5 * 2.4e-7)
    np.testing.assert_allclose(losses[0], GOLDEN[f"{run}/loss_clean"], rtol=1e-5, atol=2e-6)
    assert losses[1:].shape == expected.shape
    np.testing.assert_allclose(losses[1:], expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("run", RUNS)
def test_results_are_the_originals(run):
    result, (images, losses, _) = golden_run(run)
    np.testing.assert_allclose(result["adversarial"] + 0.5, GOLDEN[f"{run}/result"], rtol=0,
                               atol=5 * 2.4e-7)
    np.testing.assert_array_equal(result["loss"], losses.max(axis=0))
    best = images[losses.argmax(axis=0), np.arange(losses.shape[1])]
    np.testing.assert_array_equal(result["adversarial"], best)


def test_of_one_model_the_minimum_is_the_sum():
    summed, least = (attack(GOLDEN["model_names"][:1], reduce, 5)[0] for reduce in ("sum", "min"))
    for name in ("adversarial", "loss"):
        np.testing.assert_array_equal(summed[name], least[name])


def linear(weights, offsets):
    """Models of losses w·x + b: w [m, 1, h, w, c] or broadcast to it, b [m, n]."""
    def gradients_fn(images):
        gradients = weights * tf.ones_like(images)
        return tf.reduce_sum(gradients * images, axis=[2, 3, 4]) + offsets, gradients

    return gradients_fn


UP_AND_DOWN = tf.reshape([1.0, -1.0], [2, 1, 1, 1, 1])
MIDDLE = tf.zeros([2, 2, 2, 1])


def test_the_minimum_follows_each_images_lower_model():
    lower_first = linear(UP_AND_DOWN, [[0.0, 9.0], [9.0, 0.0]])
    found = gmsa(lower_first, MIDDLE, start=MIDDLE, eps=0.25, step_size=0.1, num_steps=3, reduce="min")
    np.testing.assert_allclose(
        found["adversarial"], tf.reshape([0.25, -0.25], [2, 1, 1, 1]) * tf.ones_like(MIDDLE))
    np.testing.assert_allclose(found["loss"], [1.0, 1.0])


def test_the_sum_follows_the_steeper_model():
    found = gmsa(linear(UP_AND_DOWN * [[[[[1.0]]]], [[[[2.0]]]]], [[0.0], [9.0]]), MIDDLE, start=MIDDLE,
                 eps=0.25, step_size=0.1, num_steps=3, reduce="sum")
    np.testing.assert_allclose(found["adversarial"], tf.fill([2, 2, 2, 1], -0.25))
    np.testing.assert_allclose(found["loss"], [10.0, 10.0])


def test_of_equal_losses_the_first_models_gradient_is_taken():
    losses = tf.constant([[2.0, 1.0, 3.0, 3.0], [1.0, 1.0, 3.0, 0.0], [1.0, 1.0, 2.0, 0.0]])
    gradients = tf.random.stateless_uniform([3, 4, 2, 2, 1], seed=(0, 0))
    loss, gradient = REDUCTIONS["min"](losses, gradients)
    np.testing.assert_array_equal(loss, [1.0, 1.0, 2.0, 0.0])
    np.testing.assert_array_equal(gradient, gradients.numpy()[[1, 0, 2, 1], range(4)])


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_results_stay_in_ball_and_box(reduce):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.uniform(-0.5, 0.5, (6, 3, 3, 2)), tf.float32)
    models = linear(tf.constant(rng.normal(size=(2, 1, 3, 3, 2)), tf.float32), 0.0)
    ball = Ball("linf", x, tf.constant(0.1), -0.5, 0.5)
    for num_steps in (0, 4):
        found = gmsa(models, x, start=x + 7.0, eps=0.1, step_size=0.07, num_steps=num_steps,
                     reduce=reduce)["adversarial"]
        assert np.all((found >= ball.low) & (found <= ball.high))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_a_clean_image_is_left_for_a_larger_loss_only(reduce):
    # Of the first image the clean pixels have the largest loss; of the second every one has the same;
    # of the third there is none. The fourth rises.
    x, steepness = tf.zeros([4, 2, 2, 1]), tf.reshape([1.0, 0.0, np.nan, -1.0], [4, 1, 1, 1])

    def gradients_fn(images):
        losses = -tf.reduce_sum(steepness * tf.square(images), axis=[1, 2, 3])
        return losses[None], (-2 * steepness * images)[None]

    found = gmsa(gradients_fn, x, start=x + 0.05, eps=0.1, step_size=0.03, num_steps=4, reduce=reduce)
    np.testing.assert_array_equal(found["adversarial"][:3], x[:3])
    np.testing.assert_array_equal(found["loss"][:3], [0.0, 0.0, np.nan])
    np.testing.assert_array_equal(found["adversarial"][3], tf.fill([2, 2, 1], 0.1))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_with_one_model_it_is_pgd(reduce):
    rng = np.random.default_rng(1)
    x, noise = (tf.constant(rng.uniform(-bound, bound, (5, 2, 2, 1)), tf.float32)
                for bound in (0.5, 0.1))
    weights = tf.constant(rng.normal(size=(4, 2)), tf.float32)
    label = tf.one_hot([0, 1, 0, 1, 0], 2)

    def logits_fn(images):
        return tf.reshape(images, [-1, 4]) @ weights

    def gradients_fn(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.nn.softmax_cross_entropy_with_logits(label, logits_fn(images))
        return loss[None], tape.gradient(loss, images)[None]

    found = gmsa(gradients_fn, x, start=x + noise, eps=0.1, step_size=0.03, num_steps=4, reduce=reduce)
    last = ascend_from(logits_fn, x + noise, label, Ball("linf", x, tf.constant(0.1), -0.5, 0.5),
                       num_steps=4, step_size=tf.constant(0.03))
    # The loss of a linear network only rises: PGD's last point is its best.
    np.testing.assert_array_equal(found["adversarial"], last)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_one_trace_serves_all_numbers_of_steps_and_of_models(reduce):
    # A single image: an unknown number of rows beside more than one is taken to be theirs.
    x = MIDDLE[:1]

    def run(weights, offsets, num_steps):
        return gmsa(linear(weights, offsets), x, start=x, eps=0.25, step_size=0.03,
                    num_steps=num_steps, reduce=reduce)

    traced = tf.function(run, input_signature=[
        tf.TensorSpec([None, 1, 1, 1, 1]), tf.TensorSpec([None, None]), tf.TensorSpec([], tf.int32)])
    offsets = tf.constant([[0.0], [0.5]])
    for models, num_steps in ((2, 3), (2, 6), (1, 6)):
        given = UP_AND_DOWN[:models], offsets[:models]
        found, eager = traced(*given, tf.constant(num_steps)), run(*given, num_steps)
        for name in ("adversarial", "loss"):
            np.testing.assert_array_equal(found[name], eager[name])
    assert traced.experimental_get_tracing_count() == 1

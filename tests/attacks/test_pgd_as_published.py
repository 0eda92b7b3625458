"""PGD step for step as CleverHans' in the logit pairing paper, and its worst of three restarts."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from attacks.loops.ascent import ascend_from, own_and_other
from attacks.loops.balls import Ball
from evaluation.restarts import Restarts, worst_of_restarts
from tests.helpers import pairing
from tests.helpers.golden import golden


@functools.cache
def network():
    model = pairing.clp_lenet()
    return tf.function(lambda images: model(images)[0], reduce_retracing=True)


@tf.function
def _ascend(images, start, labels, eps, step_size, num_steps):
    ball = Ball("linf", images, eps, -0.5, 0.5)
    return ascend_from(network(), start, tf.one_hot(labels, 10), ball, num_steps=num_steps,
                       step_size=step_size)


@pytest.fixture(autouse=True)
def _built_before_it_is_traced():
    network()


def pgd(arrays, name, restart, numbers, num_steps=None, rows=slice(None)):
    """The goldens' PGD: against true labels, from the authors' starts."""
    images, (eps, step, steps) = pairing.images_of(arrays), numbers
    start = images + pairing.uniform(f"{name}/start/{restart}", images.shape, eps)
    return _ascend(images[rows], start[rows], arrays["labels"][rows], tf.cast(eps, tf.float32),
                   tf.cast(step, tf.float32), tf.constant(int(num_steps or steps)))


@pytest.mark.parametrize(("kind", "restarts"), [("baseline", 3), ("strong", 1)])
def test_iterates_are_the_originals(kind, restarts):
    arrays = golden("lp_pgd_lenet")
    for restart in range(restarts):
        for steps, name in ((1, "1"), (5, "5"), (None, "last")):
            found = pgd(arrays, "pgd", restart, arrays[f"{kind}/numbers"], steps, slice(6))
            expected = arrays[f"{kind}/restart{restart}/iterate_{name}"] - 0.5
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["baseline", "strong"])
def test_success_and_loss_are_the_originals(kind):
    arrays = golden("lp_pgd_lenet")
    labels, off = arrays["labels"], []
    for restart in range(3):
        images = pgd(arrays, "pgd", restart, arrays[f"{kind}/numbers"])
        logits = network()(images)
        np.testing.assert_array_equal(
            tf.argmax(logits, 1) != labels, arrays[f"{kind}/success"][restart])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        off.append(np.abs(loss / arrays[f"{kind}/loss"][restart] - 1))
    # Single images flip a sign, as README_LP says.
    assert np.median(off) < 1e-5 and np.max(off) < 1e-1


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("rows_per_call", [16, 100])
def test_the_worst_of_three_restarts(drop, rows_per_call):
    arrays = golden("lp_restarts_lenet")
    images, labels = pairing.images_of(arrays), arrays["labels"]
    starts = [images + pairing.uniform(f"restarts/start/{r}", images.shape, 0.1) for r in range(3)]
    eps, step, steps = arrays["numbers"]
    wrong = arrays["clean_logits"].argmax(1) != labels

    def attack_rows(image, restart):
        found = _ascend(images[image], np.stack(starts)[restart, image], labels[image],
                        tf.cast(eps, tf.float32), tf.cast(step, tf.float32), tf.constant(int(steps)))
        own, other = own_and_other(network()(found), labels[image])
        return {"adversarial": found.numpy(), "merit": (other - own).numpy(),
                "wrong": (other > own).numpy()}

    found = worst_of_restarts(attack_rows, images, Restarts(3, drop, rows_per_call), settled=wrong)
    broken = arrays["success"].any(0)
    np.testing.assert_array_equal(found["first_broken"] >= 0, broken | (wrong & drop))
    first = np.where(broken, arrays["success"].argmax(0), -1)
    np.testing.assert_array_equal(found["first_broken"], np.where(wrong & drop, 0, first))
    assert 1 - np.mean(found["wrong"] | wrong) == pytest.approx(
        arrays["original_clean_mean_worst_batch48"][2])

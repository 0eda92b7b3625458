"""Which loss and which sign of the logits belong to an objective."""

import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from networks import heads

LOGITS = np.float32([[3.0, -1.0, 0.5], [0.0, 2.0, -4.0]])


@pytest.mark.parametrize(("name", "classes"), [("ce", [0, 1]), ("rce", [1, 2])])
def test_predicted_class_is_argmax_for_ce_and_argmin_for_rce(name, classes):
    predicted = heads.get(name).predict_classes(tf.constant(LOGITS))
    assert predicted.dtype == tf.int32
    np.testing.assert_array_equal(predicted, classes)


@pytest.mark.parametrize(("name", "sign"), [("ce", 1.0), ("rce", -1.0)])
def test_attack_logits_have_the_sign_whose_softmax_are_the_class_probabilities(name, sign):
    objective = heads.get(name)
    adjusted = objective.attack_logits(tf.constant(LOGITS)).numpy()
    np.testing.assert_array_equal(adjusted, sign * LOGITS)
    np.testing.assert_array_equal(
        objective.predict_classes(tf.constant(LOGITS)), tf.nn.softmax(adjusted).numpy().argmax(-1))


@pytest.mark.parametrize("name", ["ce", "rce"])
def test_a_small_loss_goes_with_a_correct_prediction(name):
    objective = heads.get(name)
    losses = np.stack([objective.loss(tf.fill([2], label), tf.constant(LOGITS)) for label in range(3)])
    assert losses.shape == (3, 2)
    np.testing.assert_array_equal(losses.argmin(0), objective.predict_classes(tf.constant(LOGITS)))


def test_the_ce_loss_is_cross_entropy_of_logits_per_example():
    labels = np.int32([2, 1])
    expected = -tf.nn.log_softmax(LOGITS).numpy()[[0, 1], labels]
    np.testing.assert_allclose(heads.get("ce").loss(labels, LOGITS), expected, rtol=1e-6)


def test_the_rce_loss_is_reverse_cross_entropy_per_example():
    log_p = tf.nn.log_softmax(LOGITS).numpy()
    expected = [-(log_p[0, 0] + log_p[0, 1]) / 2, -(log_p[1, 0] + log_p[1, 2]) / 2]
    np.testing.assert_allclose(
        heads.get("rce").loss(np.int32([2, 1]), LOGITS), expected, rtol=1e-6)


def test_an_unknown_objective_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"\[ce, rce\].*Received: objective='mse'"):
        heads.get("mse")


def test_names():
    assert heads.name_of(True) == "rce"
    assert heads.name_of(False) == "ce"
    assert all(name == objective.name for name, objective in heads.HEADS.items())

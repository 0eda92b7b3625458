"""The scores that attacks climb, against golden values and gradients and the NumPy scores that
judge."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from defenses import SCORES, differentiable, scores
from defenses.detector import Detector
from defenses.kernels import Kernels
from errors import InputError
from files.attack_results import Outputs
from tests.helpers.golden import golden

GOLDEN = golden("adaptive_scores")
LOGITS, FEATURES = GOLDEN["logits"], GOLDEN["features"]
PREDICTED, OTHER = GOLDEN["predicted"].astype(np.int32), GOLDEN["other"].astype(np.int32)
KERNELS, BANDWIDTH = GOLDEN["kernels"], float(GOLDEN["bandwidth"])
VARIANCE, ETA = float(GOLDEN["non_me_variance"]), float(GOLDEN["eta"])


def detector(**changes):
    """One of the golden kernels, whose thresholds are medians of the golden rows."""
    reference = scores.Reference(Kernels(KERNELS, BANDWIDTH), VARIANCE, ETA)
    outputs = Outputs(scores.confidence(LOGITS), scores.non_me(LOGITS), FEATURES, PREDICTED)
    values = scores.score(SCORES, outputs, reference)
    made = Detector({}, reference, tuple(SCORES), np.array([0.05]),
                    np.array([[np.median(value)] for value in values.values()]), np.arange(0),
                    np.arange(0).astype(np.uint64))
    return dataclasses.replace(made, **changes), values


def density(features, classes):
    return differentiable.log_density(KERNELS, BANDWIDTH)(features, classes)


FORMS = {
    "log_density_of_predicted": lambda z, f: density(f, PREDICTED),
    "log_density_of_other": lambda z, f: density(f, OTHER),
    "deficit": lambda z, f: differentiable.deficit(z, PREDICTED),
    "log_odds": lambda z, f: differentiable.log_odds(z, PREDICTED),
    "log_odds_of_other": lambda z, f: differentiable.log_odds(z, OTHER),
    "log_j": lambda z, f: differentiable.log_j(z, PREDICTED, VARIANCE, ETA),
}


def value_and_gradient(name, dtype):
    inputs = tf.constant(LOGITS, dtype), tf.constant(FEATURES, dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = FORMS[name](*inputs)
    gradient = tape.gradient(value, inputs[1 if "density" in name else 0])
    return value.numpy(), gradient.numpy()


@pytest.mark.parametrize("name", FORMS)
def test_values_and_gradients_are_golden(name):
    value, gradient = value_and_gradient(name, tf.float64)
    absolute = 1e-15 if name == "deficit" else 1e-300
    np.testing.assert_allclose(value, GOLDEN[name], rtol=1e-9, atol=absolute)
    if f"{name}/gradient" in GOLDEN:
        scale = np.abs(GOLDEN[f"{name}/gradient"]).max(axis=1, keepdims=True)
        assert (np.abs(gradient - GOLDEN[f"{name}/gradient"]) <= 1e-9 * scale + 1e-15).all()


@pytest.mark.parametrize(("name", "relative"), [
    ("log_density_of_predicted", 1e-5), ("log_density_of_other", 1e-5), ("log_odds", 1e-5),
    ("deficit", 1e-3)])
def test_float32_keeps_the_digits(name, relative):
    value, _ = value_and_gradient(name, tf.float32)
    wanted = GOLDEN[name]
    told = wanted > 1e-8 if name == "deficit" else np.ones(len(wanted), bool)
    np.testing.assert_allclose(value[told], wanted[told], rtol=relative,
                               atol=1e-6 if name == "log_odds" else 0)


@pytest.mark.parametrize("name", [name for name, row in SCORES.items() if row.form])
def test_a_slack_accepts_what_the_judge_accepts(name):
    fitted, values = detector()
    slack = differentiable.aim(fitted, [name], 0.05)(
        tf.constant(LOGITS), tf.constant(FEATURES), PREDICTED)[:, 0].numpy()
    # At the threshold itself, a golden row or the middle of two, rounding decides.
    clear = np.abs(slack) > 1e-9
    assert clear.sum() >= len(slack) - 2
    accepted = values[name] >= fitted.threshold(name, 0.05)
    np.testing.assert_array_equal(slack[clear] >= 0, accepted[clear])


def test_every_order_is_climbed_once_and_none_that_accepts_everything():
    fitted, _ = detector()
    assert differentiable.aimed_at(fitted, tuple(SCORES), 0.05) == [
        "confidence", "non_me", "j_score", "k_density"]
    lowest = np.array([[0.1], [0.5], [0.5], [0.0], [-400.0]])
    fitted, _ = detector(thresholds=lowest)
    assert differentiable.aimed_at(fitted, tuple(SCORES), 0.05) == ["non_me", "k_density"]


def test_aiming_at_nothing_leaves_no_columns():
    fitted, _ = detector(thresholds=np.zeros((5, 1)))
    slacks = differentiable.aim(fitted, ["j_score"], 0.05)
    assert slacks(tf.constant(LOGITS), tf.constant(FEATURES), PREDICTED).shape == (len(LOGITS), 0)


@pytest.mark.parametrize(("against", "rate"), [(["sharpness"], 0.05), (["non_me"], 0.02)])
def test_a_score_or_rate_that_was_not_fitted_is_refused(against, rate):
    with pytest.raises(InputError, match="Received: "):
        differentiable.aim(detector()[0], against, rate)


@pytest.mark.parametrize("threshold", [1.0, 1 - 1e-16, 0.5])
def test_a_confidence_of_one_can_be_reached(threshold):
    fitted, _ = detector()
    form = differentiable.confidence_threshold(fitted, threshold)
    assert np.isfinite(form) and form <= 37

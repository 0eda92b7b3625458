"""Scores of the first paper version, thresholds, and what Theorem 1 promises."""

import dataclasses
import inspect
import math

import numpy as np
import pytest

from defenses import SCORES, thresholds
from defenses import detector as detectors
from defenses import scores as formulas
from defenses.kernels import Kernels, log_kernel_density
from defenses.scores import Reference, j_score, kernel_non_me, log_probabilities, non_me_variance
from errors import InputError
from files.attack_results import Outputs

RNG = np.random.default_rng(0)
NETWORK = {"weights_sha256": "x", "dataset": "d", "image_shape": [1], "num_classes": 3,
           "objective": "ce"}


def softmax(logits):
    return np.exp(log_probabilities(logits))


# Scores.


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_scores_lie_in_their_ranges_and_ignore_a_shift_of_the_logits(scale):
    logits = scale * RNG.normal(size=(200, 7))
    non_me = formulas.non_me(logits)
    assert (non_me >= 0).all() and (non_me <= math.log(6)).all()
    variance = non_me_variance(non_me, 7) + 1e-12
    kernel = kernel_non_me(non_me, 7, variance)
    j = j_score(formulas.confidence(logits), kernel)
    for values in (kernel, j):
        assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()
    shifted = logits + 7 * scale
    np.testing.assert_allclose(formulas.non_me(shifted), non_me, atol=1e-9 * scale + 1e-9)
    np.testing.assert_allclose(formulas.confidence(shifted), formulas.confidence(logits), rtol=1e-9)
    shifted_kernel = kernel_non_me(formulas.non_me(shifted), 7, variance)
    np.testing.assert_allclose(shifted_kernel, kernel, atol=1e-8 * scale + 1e-8)
    np.testing.assert_allclose(j_score(formulas.confidence(shifted), shifted_kernel), j,
                               atol=1e-8 * scale + 1e-8)


def test_non_me_is_log_of_the_others_only_where_they_are_equal():
    equal = np.array([[5.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(formulas.non_me(equal), math.log(3), rtol=1e-12)
    assert formulas.non_me(np.array([[5.0, 1.05, 1.0, 1.0]]))[0] < math.log(3) - 1e-5


def test_kernel_non_me_is_one_at_its_best_and_e_to_the_minus_one_a_sigma_away():
    best, variance = math.log(9), 0.04
    values = kernel_non_me(np.array([best, best - 0.2]), 10, variance)
    np.testing.assert_allclose(values, [1.0, math.exp(-1)])
    wider = kernel_non_me(np.array([best - 0.4]), 10, variance, eta=4.0)
    np.testing.assert_allclose(wider, math.exp(-1))


def test_kernel_non_me_of_training_images_without_deviation_is_finite():
    """Of two classes one element is not maximal: non-ME is 0 = log(L − 1) of every image."""
    two_classes = formulas.non_me(RNG.normal(size=(20, 2)))
    variance = non_me_variance(two_classes, 2)
    np.testing.assert_array_equal(kernel_non_me(two_classes, 2, variance), 1)
    np.testing.assert_array_equal(
        kernel_non_me(np.array([math.log(9), math.log(9) - 0.1]), 10, 0.0), [1, 0])


def test_the_variance_is_the_mean_square_deviation_from_the_best():
    assert non_me_variance(np.array([math.log(9) - 0.1, math.log(9) - 0.3]), 10) == (
        pytest.approx((0.01 + 0.09) / 2))


def test_j_is_confidence_as_eta_grows_and_orders_by_non_me_as_it_shrinks():
    logits = RNG.normal(size=(100, 5))
    confidence, non_me = formulas.confidence(logits), formulas.non_me(logits)
    j = j_score(confidence, kernel_non_me(non_me, 5, 0.1, eta=1e12))
    np.testing.assert_allclose(j, confidence, rtol=1e-9)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.1, 2.0, 20.0])
def test_theorem_1(num_classes, scale):
    """If softmax(Z) is within α of the reverse label, softmax(−Z) is within α(L−1)² of the label, and
    two of its other elements differ by at most 2α²(L−1)²."""
    logits = scale * RNG.normal(size=(2000, num_classes))
    labels = logits.argmin(axis=1)
    onehot = np.eye(num_classes)[labels]
    alpha = np.abs(softmax(logits) - (1 - onehot) / (num_classes - 1)).max(axis=1)
    reversed_ = softmax(-logits)
    slack = 1e-12
    assert (np.abs(reversed_ - onehot).max(axis=1) <= alpha * (num_classes - 1) ** 2 + slack).all()
    others = np.where(onehot == 1, np.nan, reversed_)
    spread = np.nanmax(others, axis=1) - np.nanmin(others, axis=1)
    assert (spread <= 2 * alpha**2 * (num_classes - 1) ** 2 + slack).all()


# Thresholds.


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("n", [1, 7, 100, 999])
def test_a_threshold_refuses_its_share_of_the_fitting_images(rate, n):
    scores = RNG.normal(size=n)
    refused = ~thresholds.accepts(scores, thresholds.fit(scores, rate))
    assert refused.sum() == math.floor(rate * n)


def test_equal_scores_are_never_refused_beyond_the_rate():
    scores = np.repeat([0.0, 1.0], 50)
    assert thresholds.accepts(scores, thresholds.fit(scores, 0.3)).all()


def test_nan_is_refused():
    assert thresholds.accepts(np.array([np.nan, 1.0]), 0.5).tolist() == [False, True]


@pytest.mark.parametrize(("scores", "rate", "words"), [
    ([1.0], 1.0, "false_refusal_rate must lie"), ([1.0], -0.1, "false_refusal_rate must lie"),
    ([], 0.1, "0 scores"), ([1.0, math.nan], 0.1, "1 of them NaN")])
def test_bad_fits_are_refused(scores, rate, words):
    with pytest.raises(InputError, match=words):
        thresholds.fit(np.array(scores), rate)


# The detector on arrays.


@pytest.fixture(scope="module")
def detector():
    kernels = RNG.normal(size=(20, 4, 3))
    scores = {name: RNG.normal(size=100) for name in SCORES}
    return detectors.fit(scores, (0.01, 0.05), network=NETWORK,
                         reference=Reference(Kernels(kernels, 1.0), 0.1),
                         fitted_on=np.arange(100), fitted_images=np.arange(100))


def test_a_detector_scores_as_the_functions_do(detector):
    logits, features = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 4))
    scores = detector.scores(logits, features)
    assert tuple(scores) == tuple(SCORES)
    np.testing.assert_array_equal(scores["confidence"], formulas.confidence(logits))
    np.testing.assert_array_equal(scores["non_me"], formulas.non_me(logits))
    np.testing.assert_array_equal(scores["k_density"], log_kernel_density(
        features, logits.argmax(axis=1), detector.reference.kernels.features, 1.0))
    np.testing.assert_allclose(scores["j_score"], scores["confidence"] * scores["kernel_non_me"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["logits", "features"])
def test_outputs_that_are_not_finite_are_refused(detector, bad, what):
    arrays = {"logits": np.zeros((5, 3)), "features": np.zeros((5, 4))}
    arrays[what][3, 1] = bad
    with pytest.raises(InputError, match=f"expected finite {what}.*1 images.*row 3"):
        detector.scores(**arrays)


@pytest.mark.parametrize(("score", "rate"), [("beauty", 0.01), ("non_me", 0.02)])
def test_only_what_was_fitted_can_be_asked_for(detector, score, rate):
    with pytest.raises(InputError, match="which were fitted"):
        detector.threshold(score, rate)


# Scores are rows.


@pytest.mark.parametrize("name", SCORES)
def test_each_row_names_a_formula_of_outputs_and_reference(name):
    formula = getattr(formulas, SCORES[name].function)
    assert list(inspect.signature(formula).parameters) == ["outputs", "reference"]
    assert SCORES[name].same_order_as in ("", *SCORES)
    outputs = Outputs(RNG.uniform(size=6), RNG.uniform(size=6), RNG.normal(size=(6, 4)),
                      np.arange(6) % 3)
    reference = Reference(Kernels(RNG.normal(size=(5, 4, 3)), 1.0), 0.1)
    values = formulas.score([name], outputs, reference)[name]
    assert values.shape == (6,) and values.dtype == np.float64
    part = formulas.score([name], outputs.rows(np.array([4, 1])), reference)[name]
    np.testing.assert_allclose(part, values[[4, 1]], rtol=1e-12)


def test_what_needs_training_images_says_so():
    outputs = Outputs(*np.ones((2, 1)), np.ones((1, 2)), np.zeros(1, int))
    with pytest.raises(InputError, match=r"variance of the non-ME .*others\.py --mode=kernel_para"):
        formulas.score(["j_score"], outputs, Reference(Kernels(np.ones((1, 2, 3)), 1.0)))


# Which scores a detector has.


def test_a_detector_on_disk_names_its_scores(detector, tmp_path):
    two = dataclasses.replace(detector, score_names=("k_density", "non_me"),
                              thresholds=detector.thresholds[[4, 1]])
    detectors.save(tmp_path / "detector.npz", two)
    found = detectors.load(tmp_path / "detector.npz")
    assert found.score_names == ("k_density", "non_me")
    for name in found.score_names:
        assert found.threshold(name, 0.05) == detector.threshold(name, 0.05)
    assert list(found.scores(np.zeros((2, 3)), np.zeros((2, 4)))) == ["k_density", "non_me"]
    with pytest.raises(InputError, match=r"score must be one of .*Received: score='confidence'"):
        found.threshold("confidence", 0.05)


def test_a_detector_that_names_no_scores_has_those_of_version_0_1(detector, tmp_path, monkeypatch):
    detectors.save(tmp_path / "new.npz", detector)
    with np.load(tmp_path / "new.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file if name != "scores"})
    # A score that came later, and in front.
    monkeypatch.setattr("defenses.detector.SCORES", {"beauty": None, **SCORES})
    found = detectors.load(tmp_path / "old.npz")
    assert found.score_names == ("confidence", "non_me", "kernel_non_me", "j_score", "k_density")
    np.testing.assert_array_equal(found.thresholds, detector.thresholds)


def test_a_file_with_an_unknown_score_is_refused_in_one_sentence(detector, tmp_path):
    path = tmp_path / "detector.npz"
    detectors.save(path, detector)
    with np.load(path) as file:
        np.savez(path, **{**file, "scores": np.array(["confidence", "beauty", "a", "b", "c"])})
    with pytest.raises(InputError, match=r"detector\.npz: expected scores of \[confidence, .*"
                                         r"Received: scores=a, b, beauty, c\.$"):
        detectors.load(path)
    with np.load(path) as file:
        np.savez(path, **{**file, "scores": np.zeros(5)})
    with pytest.raises(InputError, match="expected scores to be the names of scores"):
        detectors.load(path)

"""The papers' curves: their numbers on arrays where they are known, and the bounds they must keep."""

import math

import numpy as np
import pytest

import figures
import plots
import scoring
from defenses import detector as detectors
from evaluation import Round


def make(eps, normal, adversarial, right_normal=None, right_adversarial=None):
    """A round whose scores are all the same."""
    n = len(normal)
    return Round("fgsm", eps, np.arange(n), {name: np.array(normal) for name in detectors.SCORES},
                 {name: np.array(adversarial) for name in detectors.SCORES},
                 np.ones(n, bool) if right_normal is None else np.array(right_normal),
                 np.zeros(n, bool) if right_adversarial is None else np.array(right_adversarial))


def lines(panels):
    """{panel title: {label: (x, y)}}."""
    return {panel.title: {curve.label: (curve.x.tolist(), curve.y.tolist()) for curve in panel.curves}
            for panel in panels}


APART = make(0.1, [0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2])
MIXED = make(0.2, [0.9, 0.8, 0.3, 0.2], [0.7, 0.6, 0.5, 0.1], [True, False, True, True],
             [True, False, False, False])


def test_the_top_half_of_images_that_are_told_apart_is_normal_and_right():
    shown = lines(figures.top_half({"rce": [APART, MIXED]}))
    assert shown["normal images in the top half"]["RCE confidence"] == ([0.1, 0.2], [100, 50])
    # 0.9 right, 0.8 wrong, 0.7 right, 0.6 wrong.
    assert shown["accuracy in the top half"]["RCE K-density"] == ([0.1, 0.2], [100, 50])


def test_ties_do_not_help_the_top_half():
    even = make(0.1, [0.5] * 4, [0.5] * 4)
    shown = lines(figures.top_half({"ce": [even]}))
    assert shown["normal images in the top half"]["CE non-ME"][1] == [0]


def test_auroc_against_eps_counts_successful_images():
    shown = lines(figures.auroc_against_eps({"rce": [APART, MIXED]}))["AUROC"]
    # Rows 2 and 3 of MIXED are right when normal and wrong when adversarial: 0.3, 0.2 against 0.5, 0.1.
    assert shown["RCE J-score"][1] == [100, 50]


def test_a_threshold_answers_all_at_0_and_refuses_more_as_it_rises():
    shown = lines(figures.against_threshold({"rce": MIXED, "ce": APART}))
    thresholds, accuracy = shown["accuracy of the answers"]["RCE"]
    assert thresholds[0] == 0 and accuracy[0] == pytest.approx(100 * 4 / 8)
    assert thresholds[-1] == pytest.approx(0.9)  # above it nobody is answered
    assert accuracy[-1] == 100
    for label in ("RCE normal", "RCE adversarial", "CE normal", "CE adversarial"):
        refused = shown["refused"][label][1]
        assert refused[0] == 0 and refused[-1] == 100 and np.all(np.diff(refused) >= 0)


def test_the_mean_j_score_grows_with_eta_up_to_the_confidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4))
    scores = {"confidence": scoring.confidence(logits), "non_me": scoring.non_me(logits)}
    r = Round("fgsm", 0.1, np.arange(50), scores, scores, np.ones(50, bool), np.zeros(50, bool))
    fitted = detectors.Detector({}, np.zeros((1, 2, 4)), 1.0, 0.05, 1.0, np.array([0.01]),
                                np.zeros((5, 1)), np.arange(0))
    panel, = figures.scores_against_eps({"rce": [r]}, {"rce": fitted})
    means = {curve.label: curve.y[0] for curve in panel.curves}
    js = [means[f"J-score, η = {eta:g}"] for eta in figures.ETAS]
    assert js == sorted(js) and js[-1] <= means["confidence"]
    kernel = np.exp(-np.square(scores["non_me"] - math.log(3)) / 0.05)
    assert means["J-score, η = 1"] == pytest.approx(np.mean(scores["confidence"] * kernel))


def test_robustness_is_the_accuracy_under_attack():
    shown = lines(figures.robustness({"fgsm": {"ce": [APART, MIXED]}, "bim": {"ce": [MIXED]}}))
    assert shown["accuracy"]["CE fgsm"] == ([0.1, 0.2], [0, 25])


def test_colours_and_markers_are_one_per_line():
    assert len(set(plots.LINE_STYLE)) == len(plots.LINE_STYLE)
    assert len({colour for _, colour, _ in plots.SCORE_STYLE.values()}) == len(plots.SCORE_STYLE)
    assert len({marker for _, _, marker in plots.SCORE_STYLE.values()}) == len(plots.SCORE_STYLE)
    assert set(plots.SCORE_STYLE) == set(detectors.SCORES)


def test_panels_leave_a_picture_and_its_numbers(tmp_path):
    plots.panels(tmp_path / "x.png", figures.top_half({"rce": [APART, MIXED]}), "title")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert rows[0] == "panel,curve,x,y"
    assert len(rows) == 1 + 2 * len(figures.DRAWN_SCORES) * 2
    assert "normal images in the top half,RCE confidence,0.2,50.0" in rows

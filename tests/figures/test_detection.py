"""The papers' curves: their numbers on arrays where they are known, and the bounds they must keep."""

import dataclasses
import math

import numpy as np
import pytest

from defenses import SCORES
from defenses import detector as detectors
from defenses.kernels import Kernels
from defenses.scores import Reference, confidence, non_me
from evaluation import metrics
from evaluation.rounds import Round
from figures import curves, detection, drawing
from files.attack_results import AttackResults, Outputs


def make(eps, normal, adversarial, right_normal=None, right_adversarial=None):
    """A round whose scores are all the same."""
    n = len(normal)
    return Round("fgsm", eps, np.arange(n), {name: np.array(normal) for name in SCORES},
                 {name: np.array(adversarial) for name in SCORES},
                 np.ones(n, bool) if right_normal is None else np.array(right_normal),
                 np.zeros(n, bool) if right_adversarial is None else np.array(right_adversarial))


DETECTOR = detectors.Detector(
    {}, Reference(Kernels(np.zeros((1, 2, 4)), 1.0), 0.05), tuple(SCORES), np.array([0.01]),
    np.zeros((len(SCORES), 1)), np.arange(0), np.arange(0))


def lines(panels):
    """{panel title: {label: (x, y)}}."""
    return {panel.title: {curve.label: (curve.x.tolist(), curve.y.tolist()) for curve in panel.curves}
            for panel in panels}


APART = make(0.1, [0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2])
MIXED = make(0.2, [0.9, 0.8, 0.3, 0.2], [0.7, 0.6, 0.5, 0.1], [True, False, True, True],
             [True, False, False, False])


def test_the_top_half_of_images_that_are_told_apart_is_normal_and_right():
    shown = lines(curves.top_half({"RCE": [APART, MIXED]}))
    assert shown["normal images in the top half"]["RCE confidence"] == ([0.1, 0.2], [100, 50])
    # 0.9 right, 0.8 wrong, 0.7 right, 0.6 wrong.
    assert shown["accuracy in the top half"]["RCE K-density"] == ([0.1, 0.2], [100, 50])


def test_ties_do_not_help_the_top_half():
    even = make(0.1, [0.5] * 4, [0.5] * 4)
    shown = lines(curves.top_half({"CE": [even]}))
    assert shown["normal images in the top half"]["CE non-ME"][1] == [0]


def test_auroc_against_eps_counts_successful_images():
    shown = lines(curves.auroc_against_eps({"RCE": [APART, MIXED]}))["AUROC"]
    # Rows 2 and 3 of MIXED are right when normal and wrong when adversarial: 0.3, 0.2 against 0.5, 0.1.
    assert shown["RCE J-score"][1] == [100, 50]


def test_a_threshold_answers_all_at_0_and_refuses_more_as_it_rises():
    shown = lines(curves.against_threshold({"RCE": MIXED, "CE": APART}))
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
    scores = {"confidence": confidence(logits), "non_me": non_me(logits)}
    r = Round("fgsm", 0.1, np.arange(50), scores, scores, np.ones(50, bool), np.zeros(50, bool))
    panel, = curves.scores_against_eps({"RCE": [r]}, {"RCE": DETECTOR})
    means = {curve.label: curve.y[0] for curve in panel.curves}
    js = [means[f"J-score, η = {eta:g}"] for eta in curves.ETA_STYLE]
    assert js == sorted(js) and js[-1] <= means["confidence"]
    kernel = np.exp(-np.square(scores["non_me"] - math.log(3)) / 0.05)
    assert means["J-score, η = 1"] == pytest.approx(np.mean(scores["confidence"] * kernel))


def test_robustness_is_the_accuracy_under_attack():
    shown = lines(curves.robustness({"fgsm": {"CE": [APART, MIXED]}, "bim": {"CE": [MIXED]}}))
    assert shown["accuracy"]["CE fgsm"] == ([0.1, 0.2], [0, 25])


def test_roc_curves_are_those_of_the_images_that_count():
    panel_ce, panel_rce = curves.roc({"CE": APART, "RCE": MIXED})
    assert (panel_ce.title, panel_rce.title) == ("CE, 4 images", "RCE, 2 images")
    assert panel_ce.is_roc and [curve.colour for curve in panel_ce.curves] == [
        drawing.SCORE_STYLE[score][1] for score in SCORES]
    # Rows 2 and 3 of MIXED: 0.3, 0.2 against 0.5, 0.1.
    for curve, name in zip(panel_rce.curves, ("confidence", "non-ME", "kernel non-ME", "J-score",
                                              "K-density"), strict=True):
        assert curve.label == f"{name}, AUROC 50.00 %"
        np.testing.assert_array_equal([curve.x, curve.y],
                                      metrics.roc(np.array([0.3, 0.2]), np.array([0.5, 0.1])))


@pytest.mark.parametrize("num_images", [1, 7, 200])
def test_roc_curves_of_few_images_keep_every_point(num_images):
    rng = np.random.default_rng(0)
    normal, adversarial = rng.normal(1, 1, num_images), rng.normal(0, 1, num_images)
    curve = curves.roc_curve("x", "non_me", normal, adversarial)
    np.testing.assert_array_equal([curve.x, curve.y], metrics.roc(normal, adversarial))


def test_roc_curves_of_many_images_keep_their_shape():
    rng = np.random.default_rng(0)
    normal, adversarial = rng.normal(1, 1, 5000), rng.normal(0, 1, 5000)
    curve = curves.roc_curve("x", "non_me", normal, adversarial, auroc=0.5)
    fpr, tpr = metrics.roc(normal, adversarial)
    assert len(curve.x) <= 402 < len(fpr)
    assert set(zip(curve.x, curve.y, strict=True)) <= set(zip(fpr, tpr, strict=True))
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    # Both measured where the sum of both rates is the same, which tells the points of a curve apart.
    drawn = np.interp(fpr + tpr, curve.x + curve.y, curve.y)
    assert np.abs(drawn - tpr).max() < 0.01
    assert curve.label == "x, AUROC 50.00 %"


@pytest.mark.parametrize(("counted", "eps"), [
    ([[0.02, 0.12, 0.4]], 0.12), ([[0.1, 0.2], [0.2, 0.3]], 0.2), ([[0.02], [0.3]], 0.02),
    ([[0.02], []], 0.02), ([[None], [None]], None), ([[], []], None)])
def test_the_round_shown_is_the_one_nearest_to_a_tenth_where_all_objectives_have_images(counted, eps):
    assert detection.shown_eps(counted) == eps


# Minimal distortions: images 5, 6, 7 at eps 0.2, then 0.1.
PER_IMAGE = {"eps": np.repeat([0.2, 0.1], 3), "image_index": np.array([5, 6, 7, 5, 6, 7]),
             "kept": np.array([True, True, False, True, False, False]),
             "rms": np.array([0.2, 0.2, 0.2, 0.1, 0.1, 0.1])}


def test_the_minimal_distortion_is_that_of_the_smallest_eps_that_succeeds():
    np.testing.assert_allclose(detection.minimal_distortions(PER_IMAGE), [25.5, 51])
    search = {name: array[:3] for name, array in PER_IMAGE.items()} | {"eps": np.full(3, np.nan)}
    np.testing.assert_allclose(detection.minimal_distortions(search), [51, 51])


def test_distortions_have_their_mean_and_say_where_nothing_succeeds():
    attacked = {"fgsm": {"CE": detection.Attacked([], np.array([10.0, 20.0])),
                         "RCE": detection.Attacked([], np.empty(0))}}
    first, second = detection.distortions(attacked)
    assert (first.attack, first.objective, first.n, first.mean) == ("fgsm", "ce", 2, 15)
    assert 10 <= first.low <= 15 <= first.high <= 20
    assert (second.objective, second.n) == ("rce", 0) and math.isnan(second.mean)


# t-SNE and what is drawn.


def _features(num_per_eps):
    values = np.arange(2 * num_per_eps)
    normal, adversarial = (
        Outputs(values, values, np.stack([shifted, -values], axis=1), values)
        for shifted in (values, values + 0.5))
    return AttackResults("RCE", None, normal, adversarial, values % 7, [0.1, 0.2], num_per_eps, None)


def test_tsne_takes_the_same_images_of_each_round_by_the_seed(monkeypatch):
    monkeypatch.setattr(detection, "TSNE_IMAGES", 6)
    (first, classes), (second, _) = detection.tsne_features(_features(20), seed=3)
    assert first.shape == (12, 2)
    assert len(np.unique(first[:6, 0])) == 6
    np.testing.assert_array_equal(first[6:, 0], first[:6, 0] + 0.5)
    np.testing.assert_array_equal(classes, np.tile(first[:6, 0] % 7, 2))
    np.testing.assert_array_equal(second[:, 0], first[:, 0] + 20)
    np.testing.assert_array_equal(detection.tsne_features(_features(20), seed=3)[0][0], first)
    assert (detection.tsne_features(_features(20), seed=4)[0][0] != first).any()
    assert len(detection.tsne_features(_features(4))[0][0]) == 8


def attacked(*rounds, features=()):
    return detection.Attacked(rounds, np.array([1.0, 2.0]), features)


DETECTORS = dict.fromkeys(("CE", "RCE"), DETECTOR)


def test_a_search_is_drawn_without_the_curves_over_eps():
    search = dataclasses.replace(APART, eps=None)
    drawn = detection.drawings({"fgsm": {"RCE": attacked(APART, MIXED)},
                              "jsma": {"RCE": attacked(APART)},
                              "carliniL2": {"RCE": attacked(search)}}, DETECTORS, "mnist")
    assert list(drawn) == [
        "robustness", "distortions", "auroc_fgsm", "top_half_fgsm", "thresholds_fgsm", "scores_fgsm",
        "roc_fgsm", "roc_jsma", "roc_carliniL2"]
    assert drawn["roc_fgsm"].keywords["title"] == "normal against fgsm, eps 0.10\nmnist"
    assert drawn["roc_carliniL2"].keywords["title"] == "normal against carliniL2\nmnist"


def test_thresholds_are_shown_at_the_largest_eps_that_all_have():
    further = dataclasses.replace(APART, eps=0.4)
    drawn = detection.drawings({"fgsm": {"RCE": attacked(APART, MIXED, further),
                                       "CE": attacked(APART, MIXED)}}, DETECTORS, "mnist")
    assert drawn["thresholds_fgsm"].keywords["title"] == "fgsm, eps 0.20\nmnist, 4 images an eps"
    refused, = (panel for panel in drawn["thresholds_fgsm"].keywords["row"] if panel.title == "refused")
    same, = (panel for panel in curves.against_threshold({"RCE": MIXED, "CE": MIXED})
             if panel.title == "refused")
    for curve, expected in zip(refused.curves, same.curves, strict=True):
        np.testing.assert_array_equal(curve.y, expected.y)
    apart = detection.drawings({"fgsm": {"RCE": attacked(APART, MIXED), "CE": attacked(
        dataclasses.replace(APART, eps=0.3), further)}}, DETECTORS, "mnist")
    assert "thresholds_fgsm" not in apart


def test_where_no_image_counts_there_is_no_roc_curve():
    failed = dataclasses.replace(APART, eps=None, right_adversarial=np.ones(4, bool))
    search = dataclasses.replace(APART, eps=None)
    drawn = detection.drawings({"carliniL2": {"CE": attacked(search), "RCE": attacked(failed)}},
                             DETECTORS, "mnist")
    panel, = drawn["roc_carliniL2"].keywords["row"]
    assert panel.title == "CE, 4 images"
    nothing = detection.Attacked([failed], np.empty(0))
    assert detection.drawings({"carliniL2": {"RCE": nothing}}, DETECTORS, "mnist") == {}


def test_titles_name_another_cost():
    rce_cost = dataclasses.replace(attacked(APART, MIXED), cost="rce")
    drawn = detection.drawings({"fgsm": {"CE": rce_cost, "RCE": rce_cost}}, DETECTORS, "mnist")
    assert drawn["top_half_fgsm"].keywords["title"].startswith(
        "normal and fgsm (RCE cost) images mixed")


def test_tsne_is_drawn_of_the_round_of_the_roc_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "tsne", lambda features, seed: features + seed)
    points = np.array([[1.0, 2.0], [3.0, 4.0]])
    features = [(points, np.array([7, 7])), (10 * points, np.array([7, 7]))]
    drawn = detection.drawings({"fgsm": {name: attacked(APART, MIXED, features=features)
                                       for name in ("CE", "RCE")}}, DETECTORS, "mnist", seed=1)
    drawn["tsne_fgsm"](tmp_path / "tsne.png")
    assert (tmp_path / "tsne.csv").read_text().splitlines()[1:] == [
        "CE,2.0,3.0,7,0", "CE,4.0,5.0,7,1", "RCE,2.0,3.0,7,0", "RCE,4.0,5.0,7,1"]


def test_colours_and_markers_are_one_per_line():
    assert len(set(drawing.LINE_STYLE)) == len(drawing.LINE_STYLE)
    assert len({colour for _, colour, _ in drawing.SCORE_STYLE.values()}) == len(drawing.SCORE_STYLE)
    assert len({marker for _, _, marker in drawing.SCORE_STYLE.values()}) == len(drawing.SCORE_STYLE)
    assert set(drawing.SCORE_STYLE) == set(SCORES)


def test_panels_leave_a_picture_and_its_numbers(tmp_path):
    drawing.panels(tmp_path / "x.png", curves.top_half({"RCE": [APART, MIXED]}), "title")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert rows[0] == "panel,curve,x,y"
    assert len(rows) == 1 + 2 * len(curves.DRAWN_SCORES) * 2
    assert "normal images in the top half,RCE confidence,0.2,50.0" in rows

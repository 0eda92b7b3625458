"""results/experiments.py, on result files whose answers are known."""

import subprocess
import sys

import numpy as np
import pytest

from files import provenance, result_files
from files.features import save_kernels, save_training_features
from results import experiments
from tests.helpers.script_runner import ROOT

NUM = 8


@pytest.fixture
def work(tmp_path):
    """Results of RCE on two classes: one feature, images at 0, adversarial ones of class 1 at 3."""
    for attack, changed in (("fgsm", 2), ("carliniL2_highcon", 3), ("carliniL2_specific", 4)):
        write(tmp_path / f"{attack}_mnist/RCE", changed)
    folder = tmp_path / "kernel_para_mnist"
    save_training_features(folder, "rce", np.array([[0.0], [3.0], [3.2], [3.4]]),
                                     np.array([0, 1, 1, 1]))
    # Of class 1 the detector has a kernel far from the adversarial images, the attack has not.
    save_kernels(folder, "rce", np.array([[[0.0, 3.1]], [[0.0, 3.2]], [[0.0, 3.3]]]))
    save_kernels(folder, "rce", np.array([[[0.0, 2.9]]]), "attack_kernels")
    return tmp_path


def test_the_curve_of_a_training_ends_with_its_last_accuracy():
    lines = dict(line.split(": ") for line in experiments.training())
    assert lines["cifar10_resnet32_ce"].endswith(", 88.97 at 25,000")
    assert lines["one_cycle_1.0_rce"] == "45.27 at 500, 57.16 at 1,000, 76.06 at 1,500"


def write(folder, changed):
    """NUM images of class 0, the last of them wrong from the start; the first `changed` become 1."""
    labels_nor = np.array([0] * (NUM - 1) + [1])
    labels_adv = np.where(np.arange(NUM) < changed, 1, labels_nor)
    result_files.save_attack_results(folder, {
        "labels_true": np.zeros(NUM, int), "labels_nor": labels_nor, "labels_adv": labels_adv,
        "confidence_nor": np.linspace(0.5, 0.9, NUM), "confidence_adv": np.full(NUM, 0.6),
        "entropy_nor": np.zeros(NUM), "entropy_adv": np.full(NUM, -1.0),
        "logits_nor": np.zeros((NUM, 1)), "logits_adv": np.full((NUM, 1), 3.0),
        **{f"{side}_img": np.zeros((NUM, 2, 2, 1), np.float32) for side in ("nor", "adv")},
        "L2_distance": np.zeros(NUM)}, {name: np.zeros(NUM) for name in result_files.PER_IMAGE})
    provenance.write(folder, "test_adv", flags={}, metrics={
        "eps": [None], "num_per_eps": NUM, "rounds": [{"seconds": 1.0}]})


def test_highcon_takes_the_normal_images_of_fgsm(work):
    confidence, non_me, density = experiments.highcon(work, "rce")
    # Normal confidences are 0.5 + 0.4 k / 7: one of three lies above 0.6, and five of seven.
    assert "AUC 33.33 against 3 normal images, 71.43 against 7" in confidence
    assert "normal up to 0.842857, adversarial from 0.600000 to 0.600000" in confidence
    assert "AUC 100.00 against 3 normal images, 100.00 against 7" in non_me
    assert density.startswith("RCE k_density: AUC 100.00 against 3")


def test_white_box_examples_may_pass_the_kernels_of_the_attack_only(work):
    assert list(experiments.white_box(work, "rce")) == [
        "RCE: 0 of 4 that change the class are flagged with 1 kernels per class",
        "RCE: 4 of 4 that change the class are flagged with 3 kernels per class"]


def test_eps_that_reach_the_published_value_are_named():
    def cell(attack, number, value, published):
        return {"figure": "auc", "attack": attack, "objective": "rce", "score": "non_me", "n": 30,
                "round": number, "eps": 0.02 * number, "value": value, "low": value - 1,
                "high": value + 1, "published": published}

    cells = [cell("fgsm", number, value, 98.6) for number, value in (
        (1, 60.0), (2, 90.0), (4, 97.7), (8, 99.0))]
    cells += [cell("bim", 8, 99.0, 90.6), cell("jsma", 1, 50.0, 99.4)]
    line, = experiments.eps({"mnist": {"cells": cells}})
    assert line == ("MNIST fgsm RCE non_me, published 98.6: reached at "
                    "0.08 (97.7, 96.7 to 98.7, n = 30), 0.16 (99.0, 98.0 to 100.0, n = 30); "
                    "largest 0.16 (99.0, 98.0 to 100.0, n = 30)")


@pytest.mark.parametrize("arguments, words", [
    ([], f"error: expected eps, training, or one of {', '.join(experiments.OF_RUNS)} and the "),
    (["highcon", "no such folder"], "error: expected eps, training, or one of highcon, "),
    (["highcon", "."], "error: expected ")])
def test_what_is_missing_is_one_sentence(arguments, words, tmp_path):
    done = subprocess.run([sys.executable, "-m", "results.experiments", *arguments], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(words) and done.stderr.count("\n") == 1

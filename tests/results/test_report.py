"""Published numbers beside ours: what is collected of a run, what the tables say; README and JSON."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from defenses import PUBLISHED_SCORES
from defenses.kernels import KERNEL_BANDWIDTH, Kernels
from errors import InputError
from evaluation.metrics import separation
from evaluation.rounds import rounds_of, successful
from files import provenance, result_files
from files.features import load_kernels, save_kernels
from results import (
    attackers,
    cells,
    collect,
    dgn,
    experiments,
    logit_pairing,
    pictures,
    report,
    rmc,
    statements,
    tables,
)
from tests.helpers.results import auc_table, results_of
from tests.helpers.script_runner import ROOT

PUBLISHED = cells.load_published()
FOUND = cells.load()
EXPERIMENTS = report.load_experiments()


# The pages in the repository.


def test_readme_and_json_agree():
    text = report.README.read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    part = report.readme_part(FOUND, attackers.load()["rows"])
    assert text == report.with_part(text, part), "run `make report`"


def test_report_and_json_agree():
    assert report.REPORT.read_text(encoding="utf-8") == report.report(
        FOUND, EXPERIMENTS, cells.load_beyond(), attackers.load(), logit_pairing.load(), rmc.load(),
        dgn.load()), "run `make report`"


def test_experiments_say_what_was_tried_and_found():
    for entry in EXPERIMENTS:
        assert all(entry[key] for key in ("question", "commands", "finding", "cells"))


@pytest.fixture(scope="module")
def listed():
    """The commands of results/reproduce.sh."""
    return subprocess.run(
        ["bash", "results/reproduce.sh", "--list"], cwd=ROOT, env=os.environ | {"DATA": "/data"},
        capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@pytest.mark.parametrize("command", sorted({
    command for entry in EXPERIMENTS for command in entry["commands"]}))
def test_commands_of_experiments_are_commands(command, listed):
    if command.startswith("python -m "):
        module, name, *folder = command.split()[2:]
        assert module == "results.experiments"
        if name in ("eps", "training"):
            assert folder == []
        else:
            assert name in experiments.OF_RUNS and folder == ["runs"]
    else:
        assert command.removeprefix("python ") in listed


def test_no_cell_that_falls_short_is_left_out():
    tried = {tuple(cell) for entry in EXPERIMENTS for cell in entry["cells"]}
    assert set(cells.short_cells(FOUND)) == tried


def test_a_cell_that_falls_short_without_an_experiment_is_named():
    cells = [*auc_cells("jsma", "ce", (99.0, 42.0, 99.0), (98.6, 60.1, 97.7)),
             *auc_cells("carliniL2", "ce", (50.0, 64.0, 99.9), (98.6, 64.1, 99.4))]
    found = {"mnist": {"runs": {}, "cells": cells}}
    tried = [{"cells": [["mnist", "carliniL2", "ce", "confidence"]], "question": "Why?",
              "commands": ["python detect.py"], "finding": "Because."}]
    assert report.report(found, tried).endswith("\nNot looked into yet: MNIST jsma CE non_me.\n")


def test_cells_are_complete():
    for dataset, found in FOUND.items():
        for run in found["runs"].values():
            assert all(run[key] is not None for key in ("command", "seed", "date", "hardware",
                                                        "git_revision", "versions"))
        for cell in found["cells"]:
            assert cell["run"] in found["runs"]
            assert (cell["value"] is None) == (cell["n"] == 0)
            assert cell["figure"] == "seconds" or not cell["n"] or (
                cell["low"] <= cell["value"] <= cell["high"])
            if cell["figure"] == "auc" and cell["attack"] in cells.PAPER_ATTACKS:
                assert cell["published"] == published_auc(dataset, cell)


def published_auc(dataset, cell):
    published = PUBLISHED["auc_percent_v4_resnet32"]
    column = published["columns"].index(cell["score"])
    return published[dataset][cell["attack"]][cell["objective"]][column]


def test_pictures_are_small():
    for path in (ROOT / "results" / "figures").glob("*.png"):
        assert path.stat().st_size < 150_000, path


# Collecting.

NUM, EPS = 30, [0.02, 0.04]


def record(folder, name, flags, metrics):
    provenance.write(folder, name, flags=flags, metrics=metrics)


def write_attack(folder, eps, seed, *, white_box=False):
    """Result files of NUM images per eps with random scores; returns results and per-image arrays."""
    rng = np.random.default_rng(seed)
    rows = NUM * len(eps)
    true = rng.integers(0, 3, rows)
    results = {
        "labels_true": true, "labels_nor": np.where(rng.random(rows) < 0.9, true, (true + 1) % 3),
        "labels_adv": np.where(rng.random(rows) < 0.7, (true + 1) % 3, true),
        **{f"{name}_{side}": rng.random(rows) for name in ("entropy", "confidence")
           for side in ("nor", "adv")},
        **{f"logits_{side}": rng.normal(size=(rows, 4)) for side in ("nor", "adv")},
        **{f"{side}_img": np.zeros((rows, 2, 2, 1), np.float32) for side in ("nor", "adv")},
        "L2_distance": rng.random(rows)}
    right = results["labels_nor"] == true
    per_image = {name: rng.random(rows) for name in result_files.PER_IMAGE} | {
        "label": true, "predicted_before": results["labels_nor"],
        "predicted_after": results["labels_adv"], "kept": right & (results["labels_adv"] != true)}
    if white_box:
        per_image |= {name: rng.random(rows) for name in ("first_success", "log_ratio")}
        per_image["kept"] = per_image["kept"] & (rng.random(rows) < 0.5)
    result_files.save_attack_results(folder, results, per_image)
    record(folder, "test_adv", {"seed": 0}, {"eps": eps, "num_per_eps": NUM, "rounds": [
        {"seconds": 3.0} for _ in eps]})
    return results, per_image


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """What results/reproduce.sh leaves, of a network that was never trained: (folder, attacks)."""
    folder = tmp_path_factory.mktemp("work")
    kernel_folder = folder / "kernel_para_mnist"
    for objective, precision in (("ce", 0.99), ("rce", 0.98)):
        log_root = folder / f"models_mnist/resnet32_{objective}"
        record(log_root / "train", "train", {"seed": 0}, {"step": 70})
        record(log_root / "eval", "test_nor", {"seed": 0},
               {"step": 70, "precision": precision, "num_images": 1000})
        rng = np.random.default_rng(1)
        for kind, shape in (("kernels", (20, 4, 3)), ("attack_kernels", (10, 4, 3))):
            save_kernels(kernel_folder, objective, rng.normal(size=shape), kind)
        save_kernels(kernel_folder, objective, rng.random(3), "attack_medians")
    made = {}
    for seed, (attack, tag, eps) in enumerate([
            ("fgsm", "RCE", EPS), ("fgsm", "CE", EPS), ("carliniL2", "RCE", [None]),
            ("carliniL2_specific", "CE", [None])]):
        made[attack, tag] = write_attack(folder / f"{attack}_mnist" / tag, eps, seed,
                                         white_box=attack in cells.WHITE_BOX)
    return folder, made


@pytest.fixture(scope="module")
def found(work):
    return collect.collect(work[0], "mnist")


def only(found, **what):
    cell, = (cell for cell in found["cells"] if all(cell.get(k) == v for k, v in what.items()))
    return cell


def test_accuracy_is_that_of_test_nor(found):
    cell = only(found, figure="accuracy", objective="rce")
    assert (cell["value"], cell["n"], cell["steps"]) == (98.0, 1000, 70)
    assert (cell["network"], cell["run"]) == ("resnet32", "test_nor_resnet32_rce")
    assert cell["published"] == 99.71
    # Wilson's interval in its closed form.
    z, p, n = 1.959964, 0.98, 1000
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert cell["low"] == pytest.approx(100 * (centre - half), abs=1e-3)
    assert cell["high"] == pytest.approx(100 * (centre + half), abs=1e-3)
    assert found["runs"]["train_resnet32_rce"]["steps"] == 70


@pytest.mark.parametrize("number", [1, 2])
def test_aucs_are_those_of_scoring(work, found, number):
    results, _ = work[1]["fgsm", "RCE"]
    kernels = load_kernels(work[0] / "kernel_para_mnist", "rce")
    expected = auc_table(
        results, kernels, KERNEL_BANDWIDTH["rce"], EPS, NUM, number)[0]
    for score in PUBLISHED_SCORES:
        cell = only(found, figure="auc", attack="fgsm", objective="rce", round=number, score=score)
        assert cell["value"] == pytest.approx(100 * expected["auc"][score], abs=1e-5)
        assert (cell["n"], cell["eps"]) == (expected["n"], EPS[number - 1])
        assert cell["low"] < cell["value"] < cell["high"]
    assert only(found, figure="auc", attack="fgsm", objective="rce", round=1,
                score="k_density")["published"] == 99.4


def test_distortion_is_over_what_counts(work, found):
    _, per_image = work[1]["carliniL2", "RCE"]
    kept = per_image["kept"].astype(bool)
    cell = only(found, figure="distortion", attack="carliniL2", objective="rce")
    assert cell["value"] == pytest.approx(255 * per_image["rms"][kept].mean(), abs=1e-5)
    assert (cell["n"], cell["published"]) == (kept.sum(), 11.04)


def test_flagged_is_below_the_median_of_the_predicted_class(work, found):
    results, _ = work[1]["carliniL2_specific", "CE"]
    counted = successful(results_of(results, EPS, NUM))
    folder = work[0] / "kernel_para_mnist"
    kernels = load_kernels(folder, "ce", "attack_kernels")
    medians = load_kernels(folder, "ce", "attack_medians")
    density = Kernels(kernels, KERNEL_BANDWIDTH["ce"]).density(
        results["logits_adv"], results["labels_adv"])
    flagged = (density < medians[results["labels_adv"]])[counted]
    cell = only(found, figure="flagged", attack="carliniL2_specific", objective="ce")
    assert cell["value"] == pytest.approx(flagged.mean(), abs=1e-6)
    assert (cell["n"], cell["published"]) == (counted.sum(), 0.01)
    assert 0 < cell["low"] < cell["value"] < cell["high"] < 1
    assert only(found, figure="distortion", attack="carliniL2_specific")["published"] == 17.12


def test_white_box_distortion_is_of_all_and_of_those_that_pass(work, found):
    _, per_image = work[1]["carliniL2_specific", "CE"]
    changed = ((per_image["predicted_before"] == per_image["label"])
               & (per_image["predicted_after"] != per_image["label"]))
    passed = per_image["kept"].astype(bool)
    assert 0 < passed.sum() < changed.sum()
    for figure, chosen in (("distortion", changed), ("distortion_passed", passed)):
        cell = only(found, figure=figure, attack="carliniL2_specific")
        assert cell["value"] == pytest.approx(255 * per_image["rms"][chosen].mean(), abs=1e-5)
        assert cell["n"] == chosen.sum()


def test_one_table_is_of_one_network(work, tmp_path):
    shutil.copytree(work[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "fgsm_mnist/CE/test_adv_run.json"
    attacked = json.loads(path.read_text())
    attacked["metrics"]["network"] = {"weights_sha256": "a" * 64}
    path.write_text(json.dumps(attacked))
    collect.collect(tmp_path, "mnist")  # nothing else says whose it is
    record(tmp_path / "models_mnist/resnet32_ce/eval", "test_nor", {}, {
        "step": 1, "precision": 1, "num_images": 10, "network": {"weights_sha256": "b" * 64}})
    done = subprocess.run([sys.executable, "-m", "results.collect", str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"error: expected results in {tmp_path}/fgsm_mnist/CE of the network of " in done.stderr


def test_kernels_are_told_with_their_runs(work, tmp_path):
    shutil.copytree(work[0], tmp_path, dirs_exist_ok=True)
    network = {"weights_sha256": "a" * 64}
    record(tmp_path / "kernel_para_mnist", "kernel_para_RCE", {"seed": 3}, {"network": network})
    record(tmp_path / "kernel_para_mnist", "select_kernel_RCE", {"seed": 4}, {})
    runs = collect.collect(tmp_path, "mnist")["runs"]
    assert (runs["kernel_para_rce"]["seed"], runs["select_kernel_rce"]["seed"]) == (3, 4)
    assert runs["kernel_para_rce"]["weights_sha256"] == "a" * 64
    assert "kernel_para_ce" not in runs


# Pictures.


def draw(folder, weights, *names):
    """A folder of `detect.py --mode=figures`, of networks with these weights."""
    record(folder, "figures", {"seed": 0}, {"networks": {
        objective: {"weights_sha256": 64 * weights} for objective in ("ce", "rce")}})
    for name in names:
        (folder / f"{name}.png").write_bytes(name.encode())


def test_pictures_are_found_with_their_runs(tmp_path):
    draw(tmp_path / "detection_mnist", "a", "robustness", "roc_jsma", "auroc_tgsm")
    draw(tmp_path / "dense/detection_mnist", "b", "thresholds_fgsm")
    unrecorded = tmp_path / "wide/detection_mnist/top_half_fgsm.png"
    grid = tmp_path / "fgsm_mnist/RCE/images.png"
    for path in (unrecorded, grid):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    record(tmp_path / "models_mnist/resnet32_ce/eval", "test_nor", {}, {
        "network": {"weights_sha256": 64 * "a"}})
    paths, runs = pictures.find(tmp_path, "mnist")
    assert set(paths) == {"robustness", "roc_jsma", "dense_thresholds_fgsm", "images_fgsm"}
    assert paths["robustness"] == tmp_path / "detection_mnist/robustness.png"
    assert set(runs) == {"figures", "figures_dense"}
    assert pictures.find(tmp_path, "cifar10") == ({}, {})


@pytest.mark.parametrize("folder", ["", "wide", "wide_rce_cost"])
def test_pictures_of_other_networks_than_the_tables_are_refused(tmp_path, folder):
    draw(tmp_path / folder / "detection_mnist", "b", "robustness")
    record(tmp_path / "models_mnist/resnet32_rce/eval", "test_nor", {}, {
        "network": {"weights_sha256": 64 * "a"}})
    with pytest.raises(InputError, match=r"expected pictures in .* of the network of the accuracy"):
        pictures.find(tmp_path, "mnist")


def test_every_picture_of_the_report_has_its_caption(tmp_path, monkeypatch):
    assert pictures.lines("mnist")
    monkeypatch.setattr(pictures, "FIGURES", tmp_path)
    (tmp_path / "mnist_roc_fgsm.png").write_bytes(b"old")
    (tmp_path / "cifar10_roc_fgsm.png").write_bytes(b"other")
    new = tmp_path / "new.png"
    new.write_bytes(b"new")
    collect._replace_pictures("mnist", {"images_jsma": new})
    assert sorted(path.name for path in tmp_path.glob("*_*.png")) == [
        "cifar10_roc_fgsm.png", "mnist_images_jsma.png"]
    assert pictures.lines("mnist") == [
        "jsma against RCE: normal, adversarial, difference.", "",
        "![mnist_images_jsma](figures/mnist_images_jsma.png)", ""]


def test_seconds_are_per_example(found):
    cell = only(found, figure="seconds", attack="fgsm", objective="ce")
    assert (cell["value"], cell["n"], cell["published"]) == (pytest.approx(3.0 / NUM), 2 * NUM, 0.0019)


def test_what_was_not_run_has_no_cell(found):
    assert not [cell for cell in found["cells"] if cell.get("attack") in ("bim", "jsma", "random")]
    assert collect.collect(cells.HERE, "cifar10") == {"runs": {}, "cells": []}


def test_intervals_are_those_of_the_bootstrap(work, found):
    results, _ = work[1]["fgsm", "CE"]
    first, _ = rounds_of("fgsm", results_of(results, EPS, NUM), ["non_me"], None)
    counted = first.where(first.subset("successful"))
    expected = separation(counted.normal["non_me"], counted.adversarial["non_me"])["auroc"]
    cell = only(found, figure="auc", attack="fgsm", objective="ce", round=1, score="non_me")
    np.testing.assert_allclose([cell["low"], cell["high"]], [100 * expected.low, 100 * expected.high],
                               atol=1e-5)


def test_collect_needs_a_folder(tmp_path):
    done = subprocess.run([sys.executable, "-m", "results.collect", str(tmp_path / "none")], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected the folder of results/reproduce.sh. Received: ")


# Tables and verdicts.


def cell(value, published=None, width=1.0, **what):
    return {"value": value, "published": published, "low": value - width, "high": value + width,
            "n": 100, "steps": 20000, "run": "r", **what}


def auc_cells(attack, objective, values, published=(None,) * 3, eps=None, number=1):
    return [cell(value, p, figure="auc", attack=attack, objective=objective, score=score, eps=eps,
                 round=number)
            for value, p, score in zip(values, published, PUBLISHED_SCORES, strict=True)]


def test_what_falls_short_is_marked():
    found = {"mnist": {"runs": {}, "cells": [
        *(c for number in (2, 4, 8) for c in auc_cells(
            "fgsm", "rce", (90.0, 98.0, 99.5), (98.8, 98.6, 99.4), 0.02 * number, number)),
        *auc_cells("carliniL2", "ce", (50.0, 64.0, 99.0), (98.6, 64.1, 99.4))]}}
    table = "\n".join(tables.auc_table(found, "mnist"))
    assert "| fgsm | RCE | 98.8 / 98.6 / 99.4 |" + " 90.0 ▼ / 98.0 / 99.5 |" * 3 + "  |" in table
    assert "| carliniL2 | CE | 98.6 / 64.1 / 99.4 |  |  |  | 50.0 ▼ / 64.0 / 99.0 |" in table
    assert "| bim | CE | 88.9 / 70.5 / 90.0 | not run | not run | not run |  |" in table
    assert "| jsma | CE | 98.6 / 60.1 / 97.7 |  |  |  | not run |" in table
    assert cells.short_cells(found) == [("mnist", "carliniL2", "ce", "confidence"),
                                         ("mnist", "fgsm", "rce", "confidence")]


def test_an_eps_that_is_not_that_of_the_head_is_named():
    found = {"mnist": {"cells": [*auc_cells("jsma", "ce", (1.0, 2.0, 3.0), eps=0.2),
                                 *auc_cells("fgsm", "ce", (4.0, 5.0, 6.0), eps=0.3, number=4)]}}
    table = "\n".join(tables.auc_table(found, "mnist"))
    assert "| not run | 4.0 / 5.0 / 6.0 (eps 0.30) | not run |  |" in table
    assert "|  |  |  | 1.0 / 2.0 / 3.0 (eps 0.20) |" in table


def test_the_readme_shows_one_round_and_says_what_was_not_run():
    found = {"mnist": {"cells": [
        cell(99.0, published=99.62, width=0.1, figure="accuracy", network="resnet32", objective="ce",
             steps=20000),
        *(c for number in (4, 8) for c in auc_cells(
            "fgsm", "rce", (90.0 + number,) * 3, (98.8, 98.6, 80.0), 0.02 * number, number)),
        *auc_cells("jsma", "ce", (1.0, 2.0, 3.0), eps=0.2)]}}
    table = "\n".join(tables.readme_table(found))
    for words in ("| MNIST accuracy | 99.62 | 99.00 ▼ (20,000 steps) | 99.71 | not run |",
                  "| MNIST fgsm | 79.7 / 66.8 / 98.8 | not run | 98.8 / 98.6 / 99.4 | "
                  "98.0 / 98.0 / 98.0 |",
                  "| MNIST jsma | 98.6 / 60.1 / 97.7 | 1.0 / 2.0 / 3.0 (eps 0.20) | "
                  "100.0 / 99.4 / 99.0 | not run |"):
        assert words in table, words
    assert tables.README_ROUND in cells.SHOWN_ROUNDS


def test_white_box_examples_that_pass_the_detector_fall_short():
    flagged = cell(0.25, 0.77, 0.2, figure="flagged", attack="carliniL2_specific", objective="rce")
    found = {"mnist": {"cells": [flagged]}}
    assert "| carliniL2_specific | RCE | flagged | 0.77 | 0.25 (0.05 to 0.45) ▼ | 100 |" in (
        tables.distortion_table(found, "mnist"))
    assert cells.short_cells(found) == [("mnist", "carliniL2_specific", "rce", "flagged")]


def test_one_shown_round_that_falls_short_is_enough():
    found = {"mnist": {"cells": [
        *auc_cells("fgsm", "rce", (90.0, 98.0, 98.0), (98.8,) * 3, 0.04, 2),
        *auc_cells("fgsm", "rce", (99.0,) * 3, (98.8,) * 3, 0.08, 4),
        *auc_cells("fgsm", "rce", (10.0,) * 3, (98.8,) * 3, 0.06, 3)]}}
    assert cells.short_cells(found) == [("mnist", "fgsm", "rce", "confidence")]


def test_verdicts_without_any_run():
    words = {name: verdict.words() for name, verdict in statements.verdicts({}).items()}
    assert words == {entry["id"]: "not run" for entry in PUBLISHED["shape_of_the_result"]}


def test_verdicts_on_known_cells():
    cells = [*auc_cells("carliniL2_highcon", "ce", (0.5, 40.0, 91.0)),
             *auc_cells("carliniL2_highcon", "rce", (2.0, 93.0, 90.0)),
             *auc_cells("fgsm", "ce", (1, 60.0, 90.0), eps=0.04, number=2),
             *auc_cells("fgsm", "rce", (1, 70.0, 90.0), eps=0.04, number=2),
             # The same row of the paper.
             *auc_cells("fgsm", "ce", (1, 60.0, 90.0), eps=0.08, number=4),
             *auc_cells("fgsm", "rce", (1, 70.0, 90.0), eps=0.08, number=4),
             # Not shown, so not judged.
             *auc_cells("fgsm", "ce", (1, 90.0, 90.0), eps=0.06, number=3),
             *auc_cells("fgsm", "rce", (1, 10.0, 10.0), eps=0.06, number=3),
             *(cell(value, figure="accuracy", network=network, objective=objective)
               for network, objective, value in (
                   ("resnet32", "ce", 99.5), ("resnet32", "rce", 99.6), ("simple_cnn", "ce", 98.0),
                   ("simple_cnn", "rce", 99.0))),
             *(cell(value, figure="distortion", attack="carliniL2_specific", objective=objective)
               for objective, value in (("ce", 10.0), ("rce", 17.9)))]
    verdicts = statements.verdicts({"mnist": {"cells": cells}})
    assert verdicts["non_me_rce_above_ce"].words() == "true (2 of 12 rows run)"
    assert verdicts["confidence_fails_highcon"].words() == (
        "false (2 of 4 rows run: not MNIST carliniL2_highcon RCE)")
    assert verdicts["k_density_rce_above_ce"].words() == (
        "false (2 of 11 rows run: not MNIST carliniL2_highcon)")
    assert verdicts["accuracy_equal"].words() == "true (1 of 4 rows run)"
    assert verdicts["whitebox_distortion"].words() == "false (1 of 2 rows run: not MNIST)"
    assert verdicts["confidence_fails_bim_cifar"].words() == "not run"


def test_every_table_stands_with_what_was_collected(found):
    text = report.report({"mnist": found}, [{
        "cells": [["mnist", "fgsm", "ce", "non_me"]], "question": "Why?",
        "commands": ["python detect.py"], "finding": "Because."}])
    for words in ("| MNIST | resnet32 | RCE | 99.71 | 99.21 | 98.00 (", "### Why?",
                  "Cells: MNIST fgsm CE non_me.",
                  "| carliniL2 | RCE | distortion | 11.04 |",
                  "| carliniL2_specific | CE | flagged | 0.01 |",
                  "| fgsm | 0.0019 | 0.0024 | 0.1 | 0.1 |",
                  "| jsma | 29 | 20 | not run | not run |",
                  "| carliniL2_specific | RCE | flagged | 0.77 | not run | not run |",
                  "| carliniL2_highcon | CE | distortion | 13.7 | not run | not run |",
                  "| CIFAR-10 (through JPEG) | resnet32 | CE | 92.87 | 92.23 | not run | not run |",
                  "| MNIST | simple_cnn | CE | - | 98.81 | not run | not run | not run |"):
        assert words in text, words
    assert "nan" not in text and "None" not in text


def test_a_page_with_a_part_keeps_the_rest():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.with_part(page, "new\n") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"

"""Turns what results/reproduce.sh has left in a folder into results/<data set>.json.

    python -m results.collect runs

One cell per figure: what it is of, the published value (null where none is), ours with its 95 %
interval, the number of images, and the run it comes from; under "runs" each run's command, seed, steps,
versions, hardware and date. What was not run has no cell.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

import metrics
import scoring
from data import artifacts, files, run_records
from results.cells import (
    ATTACKS,
    DATASETS,
    HERE,
    NETWORKS,
    OBJECTIVES,
    PUBLISHED,
    WHITE_BOX,
    published_accuracy,
)

LEVELS = 255  # pixels of the paper's distortions lie in [0, 255]
# What is shown of the pictures of `detect.py --mode=figures`, where they have been drawn: the name on
# the page → the folder of the results and the name there. wide: up to eps 0.4; dense: figure 7 of v1.
FIGURES = {
    **{name: (".", name) for name in ("robustness", "distortions", "roc_fgsm", "roc_carliniL2",
                                      "auroc_bim", "tsne_fgsm", "tsne_carliniL2")},
    "top_half_fgsm": ("wide", "top_half_fgsm"),
    "top_half_fgsm_rce_cost": ("wide_rce_cost", "top_half_fgsm"),
    "thresholds_fgsm": ("wide", "thresholds_fgsm"),
    "scores_fgsm": ("wide", "scores_fgsm"),
    "dense_thresholds_fgsm": ("dense", "thresholds_fgsm"),
}


def collect(work: Path, dataset: str) -> dict[str, Any]:
    """Cells and runs of one data set.

    Args:
      work: folder of results/reproduce.sh.
      dataset: of DATASETS.

    Returns:
      {"runs": {name: ...}, "cells": [...]}, as the module says.
    """
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    found = _Found(work, dataset, published)
    for objective in OBJECTIVES:
        for network in NETWORKS:
            found.add_accuracy(network, objective)
        for attack in (*ATTACKS, *WHITE_BOX):
            found.add_attack(attack, objective)
    return {"runs": found.runs, "cells": found.cells}


class _Found:
    """Runs and cells of a data set, as they are found."""

    def __init__(self, work, dataset, published):
        self._work, self._dataset, self._published = work, dataset, published
        self.runs, self.cells = {}, []

    def add_accuracy(self, network, objective):
        log_root = self._work / f"models_{self._dataset}" / f"{network}_{objective}"
        training = run_records.read(log_root / "train", "train")
        record = run_records.read(log_root / "eval", "test_nor")
        if record is None or training is None:
            return
        run = f"test_nor_{network}_{objective}"
        self._add_run(f"train_{network}_{objective}", training, steps=training["metrics"]["step"])
        self._add_run(run, record)
        num_images, step = record["metrics"]["num_images"], record["metrics"]["step"]
        num_right = round(record["metrics"]["precision"] * num_images)
        interval = binomtest(num_right, num_images).proportion_ci(method="wilson")
        self._add_cell(
            run, num_images, _percent((num_right / num_images, interval.low, interval.high)),
            published_accuracy(self._published, self._dataset, network, objective)[0],
            figure="accuracy", network=network, objective=objective, steps=step)

    def add_attack(self, attack, objective):
        folder = self._work / artifacts.results_dir(attack, self._dataset, objective)
        record = run_records.read(folder, "test_adv")
        if record is None:
            return
        run = f"{attack}_{objective}"
        self._add_run(run, record)
        results = artifacts.load_attack_results(folder)
        per_image = artifacts.load_per_image(folder)
        kernel_folder = self._work / artifacts.kernel_dir(self._dataset)
        cell = {"attack": attack, "objective": objective}
        num_images = record["metrics"]["num_per_eps"]
        if artifacts.kernels_path(kernel_folder, objective):
            kernels = artifacts.load_kernels(kernel_folder, objective)
            for number, eps in enumerate(record["metrics"]["eps"], 1):
                rows = scoring.round_rows(number, num_images)
                self._add_aucs(run, results, kernels, rows, cell | {"round": number, "eps": eps})
        if record["metrics"]["eps"] == [None]:
            self._add_distortion(run, results, per_image, kernel_folder, cell)
        seconds = sum(part["seconds"] for part in record["metrics"]["rounds"])
        count = num_images * len(record["metrics"]["rounds"])
        self._add_cell(run, count, [seconds / count, None, None],
                       self._look_up("attack_seconds_per_example_v4", attack, objective),
                       figure="seconds", **cell)

    def _add_aucs(self, run, results, kernels, rows, cell):
        scores = scoring.score_images(
            results, kernels, scoring.KERNEL_BANDWIDTH[cell["objective"]], rows)
        published = self._look_up("auc_percent_v4_resnet32", self._dataset, cell["attack"],
                                  cell["objective"]) or [None] * 3
        for score, value in zip(scoring.SCORES, published, strict=True):
            normal, adversarial = scores[score]
            ours = [None] * 3
            if len(normal):
                ours = _percent(metrics.separation(normal, adversarial)["auroc"])
            self._add_cell(run, len(normal), ours, value, figure="auc", score=score, **cell)

    def _add_distortion(self, run, results, per_image, kernel_folder, cell):
        """Mean RMS over the examples that count; of a white-box attack how many are still flagged."""
        white_box = cell["attack"] in WHITE_BOX
        # The white-box attacks succeed by passing the detector, which their second stage may miss:
        # counted are all that change the class.
        counted = ((per_image["predicted_before"] == per_image["label"])
                   & (per_image["predicted_after"] != per_image["label"])
                   if white_box else per_image["kept"].astype(bool))
        if not counted.any():
            return
        table = "whitebox_v4" if cell["attack"] == "carliniL2_specific" else "distortion_v4"
        published = self._look_up(table, self._dataset, *(
            (cell["objective"], "distortion") if white_box else (cell["attack"], cell["objective"])))
        self._add_cell(run, int(counted.sum()), list(metrics.mean(LEVELS * per_image["rms"][counted])),
                       published, figure="distortion", **cell)
        if not white_box:
            return
        medians = artifacts.load_kernels(kernel_folder, cell["objective"], "attack_medians")
        kernels = artifacts.load_kernels(kernel_folder, cell["objective"], "attack_kernels")
        classes = results["labels_adv"][counted]
        density = scoring.log_kernel_density(results["logits_adv"][counted], classes, kernels,
                                             scoring.KERNEL_BANDWIDTH[cell["objective"]])
        published = (self._look_up("whitebox_v4", self._dataset, cell["objective"], "ratio")
                     if cell["attack"] == "carliniL2_specific" else None)
        self._add_cell(run, int(counted.sum()), list(metrics.mean(density < np.log(medians[classes]))),
                       published, figure="flagged", **cell)

    def _look_up(self, *keys):
        """The published value under `keys`; None where the paper has none."""
        value = self._published
        for key in keys:
            value = value.get(key) if value else None
        return value

    def _add_run(self, name, record, **more):
        self.runs[name] = {key: record.get(key) for key in (
            "command", "seed", "date", "hardware", "git_revision", "versions")} | more

    def _add_cell(self, run, num_images, ours, published, **what):
        value, low, high = (None if number is None else round(float(number), 6) for number in ours)
        self.cells.append(what | {"published": published, "value": value, "low": low, "high": high,
                                  "n": num_images, "run": run})


def _percent(estimate):
    return [100 * number for number in estimate]


def main() -> int:
    """Collects every data set that has been run in the folder that is named."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.stderr.write("error: expected the folder of results/reproduce.sh. "
                         f"Received: {sys.argv[1:]}.\n")
        return 1
    work = Path(sys.argv[1])
    for dataset in DATASETS:
        found = collect(work, dataset)
        if not found["cells"]:
            continue
        files.write_json(HERE / f"{dataset}.json", found)
        for name, (folder, stem) in FIGURES.items():
            drawn = work / folder / f"detection_{dataset}" / f"{stem}.png"
            if drawn.is_file():
                (HERE / "figures").mkdir(exist_ok=True)
                shutil.copyfile(drawn, HERE / "figures" / f"{dataset}_{name}.png")
        sys.stdout.write(f"{len(found['cells'])} cells: {HERE / dataset}.json\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

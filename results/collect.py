"""Turns what results/reproduce.sh has left in a folder into results/<data set>.json.

    python -m results.collect runs

One cell per figure: what it is of, the published value (null where none is), ours with its 95 %
interval, the number of images, and the run it comes from; under "runs" each run's command, seed, steps,
versions, hardware and date. What was not run has no cell.
"""

import itertools
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from defenses import PUBLISHED_SCORES
from defenses.kernels import KERNEL_BANDWIDTH, Kernels
from defenses.scores import Reference
from evaluation import finding, metrics
from evaluation.rounds import rounds_of, successful
from files import atomic, attack_results, provenance
from files.features import kernels_path, load_kernels
from files.names import OBJECTIVE_TAG, kernel_dir, results_dir
from results import command, pictures
from results.cells import (
    ATTACKS,
    DATASETS,
    HERE,
    NETWORKS,
    OBJECTIVES,
    SEARCHES,
    WHITE_BOX,
    load_published,
    published_accuracy,
    published_figure,
    tested,
)

LEVELS = 255  # pixels of the paper's distortions lie in [0, 255]


def collect(work: Path, dataset: str) -> dict[str, Any]:
    """Cells and runs of one data set.

    Args:
      work: folder of results/reproduce.sh.
      dataset: of DATASETS.

    Returns:
      {"runs": {name: ...}, "cells": [...]}, as the module says.
    """
    found = Found(work, dataset, load_published())
    found.add_kernels()
    for objective in OBJECTIVES:
        for network in NETWORKS:
            found.add_accuracy(network, objective)
        for attack in (*ATTACKS, *WHITE_BOX):
            found.add_attack(attack, objective)
    return {"runs": found.runs, "cells": found.cells}


class Found:
    """Runs and cells of a data set, as they are found."""

    def __init__(self, work, dataset, published):
        self._work, self._dataset, self._published = work, dataset, published
        self.runs, self.cells = {}, []

    def add_accuracy(self, network: str, objective: str) -> None:
        """The accuracy of a network of cells.NETWORKS, where it was trained and tested."""
        log_root = self._work / f"models_{self._dataset}" / f"{network}_{objective}"
        training = provenance.read(log_root / "train", "train")
        record = provenance.read(log_root / "eval", "test_nor")
        if record is None or training is None:
            return
        run = f"test_nor_{network}_{objective}"
        self._add_run(f"train_{network}_{objective}", training, steps=training["metrics"]["step"])
        self._add_run(run, record)
        num_images, step = record["metrics"]["num_images"], record["metrics"]["step"]
        # The record holds the share; Wilson's interval takes the count.
        num_right = round(record["metrics"]["precision"] * num_images)
        self._add_cell(
            run, num_images, _percent(_share(num_right, num_images)),
            published_accuracy(self._published, self._dataset, network, objective)[0],
            figure="accuracy", network=network, objective=objective, steps=step)

    def add_kernels(self):
        """How the K-density of the tables came about: the training features and the kernels drawn."""
        folder = self._work / kernel_dir(self._dataset)
        for mode, objective in itertools.product(("kernel_para", "select_kernel"), OBJECTIVES):
            record = provenance.read(folder, f"{mode}_{OBJECTIVE_TAG[objective]}")
            if record is not None:
                self._add_run(f"{mode}_{objective}", record)

    def add_attack(self, attack: str, objective: str) -> None:
        """AUCs, distortions and seconds of an attack on ResNet-32, where it was run."""
        folder = self._work / results_dir(attack, self._dataset, objective)
        record = provenance.read(folder, "test_adv")
        if record is None:
            return
        run = f"{attack}_{objective}"
        results = attack_results.load(objective, folder)
        kernel_folder = self._work / kernel_dir(self._dataset)
        self._add_run(run, record, **self._steps(results, kernel_folder))
        cell = {"attack": attack, "objective": objective}
        if kernels_path(kernel_folder, objective):
            kernels = Kernels(load_kernels(kernel_folder, objective), KERNEL_BANDWIDTH[objective])
            scored = rounds_of(attack, results, PUBLISHED_SCORES, Reference(kernels),
                               rows=successful(results))
            for number, r in enumerate(scored, 1):
                self._add_aucs(run, r, cell | {"round": number, "eps": r.eps})
        if attack in SEARCHES:
            self._add_distortions(run, results, kernel_folder, cell)
        seconds = sum(part["seconds"] for part in record["metrics"]["rounds"])
        # No interval: the time of a sweep is one measurement.
        self._add_cell(run, results.num_rows, [seconds / results.num_rows, None, None],
                       self._published_figure("seconds", cell), figure="seconds", **cell)

    def _steps(self, results, kernel_folder):
        """{"steps": ...} of the attacked network, where it is known to be that of the accuracy; an
        InputError when what stands in one table is known to be of two networks."""
        finding.check_features(results, kernel_folder)
        accuracy = tested(self._work, self._dataset, results.head)
        finding.check_network(results, accuracy.network, f"the accuracy in {accuracy.folder}")
        return {"steps": accuracy.step} if accuracy.network and results.network else {}

    def _add_aucs(self, run, scored, cell):
        published = self._published_figure("auc", cell) or ()
        # Nothing is published of random: its scores are shown all the same.
        for score, value in itertools.zip_longest(PUBLISHED_SCORES, published):
            normal, adversarial = scored.normal[score], scored.adversarial[score]
            ours = [None] * 3
            if len(normal):
                ours = _percent(metrics.separation(normal, adversarial)["auroc"])
            self._add_cell(run, len(normal), ours, value, figure="auc", score=score, **cell)

    def _add_distortions(self, run, results, kernel_folder, cell):
        """Mean RMS over the examples that count; of a white-box attack how many are still flagged."""
        per_image, published = results.per_image, self._published_figure("distortion", cell)
        rms, kept = LEVELS * per_image["rms"], per_image["kept"].astype(bool)
        if cell["attack"] not in WHITE_BOX:
            self._add_mean(run, rms[kept], published, figure="distortion", **cell)
            return
        # The white-box attacks succeed by passing the detector, which their second stage may miss:
        # the paper counts all that change the class.
        counted = successful(results)
        self._add_mean(run, rms[counted], published, figure="distortion", **cell)
        self._add_mean(run, rms[kept], None, figure="distortion_passed", **cell)
        if counted.any():
            kernels, medians = (load_kernels(kernel_folder, results.tag, kind)
                                for kind in ("attack_kernels", "attack_medians"))
            low = flagged(results, Kernels(kernels, KERNEL_BANDWIDTH[results.head]), medians)
            self._add_cell(run, len(low), _share(low.sum(), len(low)),
                           self._published_figure("flagged", cell), figure="flagged", **cell)

    def _add_mean(self, run, values, published, **what):
        if len(values):
            self._add_cell(run, len(values), metrics.mean(values), published, **what)

    def _published_figure(self, figure, cell):
        return published_figure(self._published, figure, self._dataset, cell["attack"],
                                cell["objective"])

    def _add_run(self, name, record, **more):
        network = record["metrics"].get("network")
        weights = {"weights_sha256": network["weights_sha256"]} if network else {}
        self.runs[name] = run_of(record) | weights | more

    def _add_cell(self, run, num_images, ours, published, **what):
        value, low, high = (None if number is None else round(float(number), 6) for number in ours)
        self.cells.append(what | {"published": published, "value": value, "low": low, "high": high,
                                  "n": num_images, "run": run})


def flagged(results: attack_results.AttackResults, kernels: Kernels,
            medians: np.ndarray) -> np.ndarray:
    """Which of the examples that count a detector at the median density of a class refuses.

    Args:
      results: of an attack.
      kernels: of the attacked network.
      medians: float [num_classes], the densities of `density_medians`.

    Returns:
      bool [m], of the `successful` ones: whose density lies below the median of the predicted class.
    """
    outputs = results.adversarial.rows(successful(results))
    density = kernels.log_density(outputs.features, outputs.predicted)
    # In logarithms: far from every kernel the density itself is 0.
    return density < np.log(medians[outputs.predicted])


def run_of(record: dict[str, Any]) -> dict[str, Any]:
    """What the JSON keeps of a run record."""
    return {key: record.get(key) for key in (
        "command", "seed", "date", "hardware", "git_revision", "versions")}


def _share(count, total):
    """A share with Wilson's interval."""
    # The normal approximation is too short near 100 %, where accuracies lie, and leaves [0, 1].
    interval = binomtest(int(count), total).proportion_ci(method="wilson")
    return count / total, interval.low, interval.high


def _percent(estimate):
    return [100 * number for number in estimate]


def _write(work):
    # All before the first file is written: results of two networks leave the pages as they were.
    collected = {dataset: collect(work, dataset) for dataset in DATASETS}
    drawn = {dataset: pictures.find(work, dataset) for dataset in DATASETS}
    said = ""
    for dataset, found in collected.items():
        if not found["cells"]:
            continue
        paths, runs = drawn[dataset]
        found["runs"] |= {name: run_of(record) for name, record in runs.items()}
        atomic.write_json(HERE / f"{dataset}.json", found)
        _replace_pictures(dataset, paths)
        said += f"{len(found['cells'])} cells: {HERE / dataset}.json\n"
    return said


def main() -> int:
    """Collects every data set that has been run in the folder that is named."""
    return command.run("reproduce.sh", _write)


def _replace_pictures(dataset, paths):
    """Copies the pictures of a data set to results/figures; those of an earlier run go."""
    pictures.FIGURES.mkdir(exist_ok=True)
    for old in pictures.FIGURES.glob(f"{dataset}_*.png"):
        old.unlink()
    for name, path in paths.items():
        shutil.copyfile(path, pictures.FIGURES / f"{dataset}_{name}.png")


if __name__ == "__main__":
    sys.exit(main())

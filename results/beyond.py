"""What the tables of the paper do not show: a deeper network under attack, and what a seed is worth.

    python -m results.beyond runs       # the folder of results/reproduce.sh, with resnet56/ and seeds/

Writes results/beyond.json, which `make report` draws up: means and ranges over the seeds of a small
network, and the AUCs of ResNet-56 on MNIST. What was not run has no row.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from defenses import PUBLISHED_SCORES
from defenses.kernels import KERNEL_BANDWIDTH, Kernels
from defenses.scores import Reference
from evaluation import metrics
from evaluation.rounds import rounds_of, successful
from files import atomic, attack_results, provenance
from files.attack_results import ORIGINAL_EPS_STEP
from files.features import load_kernels
from files.names import kernel_dir, results_dir
from results import command
from results.cells import BEYOND_DATASET, HERE, OBJECTIVES, SHOWN_ROUNDS, SWEPT, load_published
from results.collect import Found, run_of

PATH = HERE / "beyond.json"
_SEARCH = "carliniL2"
_DEEPER, _SMALL = "resnet56", "resnet8"


def collect(work: Path) -> dict[str, Any]:
    """Rows of both tables, and the runs behind them.

    Args:
      work: folder of results/reproduce.sh.

    Returns:
      {"cells", "cell_runs": the deeper network's accuracies and their runs, as of `results.collect`;
      "deeper": rows, "seeds": rows, "runs": {name: run}}. A row of an accuracy has "network",
      "objective", "num_right" and "n"; one of AUCs "attack", "objective", "eps", "n" and "aucs", three
      in [0, 1] or null; of the seeds each has its "seed", too.
    """
    tested = Found(work, BEYOND_DATASET, load_published())
    found = {"cells": tested.cells, "cell_runs": tested.runs, "deeper": [], "seeds": [], "runs": {}}
    for objective in OBJECTIVES:
        tested.add_accuracy(_DEEPER, objective)
        found["deeper"] += _attacks(work / _DEEPER, (*SWEPT, _SEARCH), objective)
    for folder in sorted((work / "seeds").glob("*")):
        for objective in OBJECTIVES:
            rows = [*_accuracy(folder, objective, found["runs"]), *_attacks(folder, SWEPT, objective)]
            found["seeds"] += [row | {"seed": int(folder.name)} for row in rows]
    return found


def _accuracy(work, objective, runs) -> Iterator[dict[str, Any]]:
    log_root = work / f"models_{BEYOND_DATASET}/{_SMALL}_{objective}"
    record = provenance.read(log_root / "eval", "test_nor")
    training = provenance.read(log_root / "train", "train")
    if record and training:
        runs[f"train_{_SMALL}_{objective}_seed_{work.name}"] = run_of(training)
        num = record["metrics"]["num_images"]
        yield {"network": _SMALL, "objective": objective, "n": num,
               "num_right": round(record["metrics"]["precision"] * num)}


def _attacks(work, attacks, objective) -> Iterator[dict[str, Any]]:
    for attack in attacks:
        folder = work / results_dir(attack, BEYOND_DATASET, objective)
        if provenance.read(folder, "test_adv") is None:
            continue
        results = attack_results.load(objective, folder)
        kernels = Kernels(load_kernels(work / kernel_dir(BEYOND_DATASET), objective),
                          KERNEL_BANDWIDTH[objective])
        for scored in rounds_of(attack, results, PUBLISHED_SCORES, Reference(kernels),
                                rows=successful(results)):
            num = len(scored.image)
            aucs = [round(float(metrics.auc(scored.normal[score], scored.adversarial[score])), 6)
                    if num else None for score in PUBLISHED_SCORES]
            yield {"attack": attack, "objective": objective, "eps": scored.eps, "n": num, "aucs": aucs}


def seeds_table(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: of each accuracy and AUC of the small network mean and range over the seeds."""
    table = [["", "objective", "seeds", *PUBLISHED_SCORES]]
    rows = found["seeds"]
    for objective in OBJECTIVES:
        accuracies = [100 * row["num_right"] / row["n"] for row in rows
                      if "network" in row and row["objective"] == objective]
        if accuracies:
            table.append([f"accuracy of {_SMALL}", objective.upper(), str(len(accuracies)),
                          _range(accuracies, 2), "", ""])
    keys = sorted({(SWEPT.index(row["attack"]), row["eps"], row["objective"])
                   for row in rows if "attack" in row})
    for number, eps, objective in keys:
        of = [row["aucs"] for row in rows if (row.get("attack"), row.get("eps"), row["objective"])
              == (SWEPT[number], eps, objective)]
        columns = [[100 * value for value in column if value is not None]
                   for column in zip(*of, strict=True)]
        table.append([f"{SWEPT[number]}, eps {eps:.2f}", objective.upper(), str(len(of)),
                      *(_range(column, 1) if column else "n/a" for column in columns)])
    return table if len(table) > 1 else []


def _range(values, digits):
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def deeper_table(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: AUCs of the deeper network, in the rounds that the other tables show."""
    table, shown = [["", "objective", "images that count", *PUBLISHED_SCORES]], [
        None, *(round(ORIGINAL_EPS_STEP * number, 10) for number in SHOWN_ROUNDS)]
    for row in found["deeper"]:
        if row["eps"] in shown:
            what = row["attack"] + ("" if row["eps"] is None else f", eps {row['eps']:.2f}")
            values = ["n/a" if value is None else f"{100 * value:.1f}" for value in row["aucs"]]
            table.append([what, row["objective"].upper(), str(row["n"]), *values])
    return table if len(table) > 1 else []


def _write(work):
    found = collect(work)
    atomic.write_json(PATH, found)
    return f"{len(found['deeper'])} and {len(found['seeds'])} rows: {PATH}\n"


def main() -> int:
    """Collects from the folder that is named."""
    return command.run("reproduce.sh", _write)


if __name__ == "__main__":
    sys.exit(main())

"""The cells of results/*.json: what is there, what is shown of it, what falls short."""

import itertools
import json
from pathlib import Path
from typing import Any

from data import run_records

HERE = Path(__file__).parent
PUBLISHED = HERE / "published.json"
# Name → title.
DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10 (through JPEG)"}
OBJECTIVES = ("ce", "rce")
# Whose accuracies are published; attacks are those of the first.
NETWORKS = ("resnet32", "resnet56", "resnet110", "simple_cnn")
# In the order of the paper's tables; random is ours.
ATTACKS = ("random", "fgsm", "bim", "tgsm", "jsma", "carliniL2", "carliniL2_highcon")
WHITE_BOX = ("carliniL2_highden", "carliniL2_specific")
# Figures of which more is better. flagged: white-box examples that the detector still refuses.
JUDGED = ("accuracy", "auc", "flagged")
NOT_RUN = "not run"
PAPER_ATTACKS = tuple(attack for attack in ATTACKS if attack != "random")
# The paper does not say at which eps its AUCs were taken; the script it was released with takes 8.
SHOWN_ROUNDS = (2, 4, 8)
# Attacks of all rounds; the others have one.
SWEPT = ("fgsm", "bim", "tgsm")


def published_accuracy(published: dict[str, Any], dataset: str, network: str,
                       objective: str) -> tuple[float | None, float | None]:
    """Accuracy (%) by v4 of the paper, or by v1 where v4 has none; and by v1."""
    errors = published["test_error_percent_v4"][dataset].get(network)
    v1 = published["test_accuracy_percent_v1"][dataset][network][objective]
    return (round(100 - errors[objective], 2) if errors else v1), v1


def tested_network(work: Path, dataset: str, objective: str) -> tuple[dict[str, Any] | None, str]:
    """The network of the tables' accuracy, None where no run record tells; and what to call it.

    Args:
      work: folder of results/reproduce.sh.
      dataset: name of the data set.
      objective: of OBJECTIVES.
    """
    eval_dir = work / f"models_{dataset}/{NETWORKS[0]}_{objective}/eval"
    record = run_records.read(eval_dir, "test_nor")
    return record and record["metrics"].get("network"), f"the accuracy in {eval_dir}"


def load(folder: Path = HERE) -> dict[str, dict[str, Any]]:
    """Data set → {"runs", "cells"} of every results/<data set>.json there is."""
    return {dataset: json.loads(path.read_text(encoding="utf-8")) for dataset in DATASETS
            if (path := folder / f"{dataset}.json").is_file()}


def is_short(cell: dict[str, Any]) -> bool:
    """Whether the published value lies above our interval, of a figure that is better when higher."""
    return (cell["figure"] in JUDGED and cell["published"] is not None and cell["high"] is not None
            and cell["high"] < cell["published"])


def short_cells(found: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(data set, attack, objective, score) of each published AUC that ours reaches in no shown round,
    with "flagged" for the score of the share that is; of an accuracy (data set, network, objective,
    "accuracy")."""
    short = []
    for dataset, what in found.items():
        cells = [cell for cell in what["cells"] if cell["figure"] in JUDGED and is_shown(cell)]
        for key, group in itertools.groupby(sorted(cells, key=_key), _key):
            if all(map(is_short, group)):
                short.append((dataset, *key))
    return short


def _key(cell):
    return (cell.get("attack") or cell["network"], cell["objective"],
            cell.get("score", cell["figure"]))


def is_shown(cell: dict[str, Any]) -> bool:
    """Whether it is of one of SHOWN_ROUNDS, or of an attack that has but one."""
    return cell.get("attack") not in SWEPT or cell["round"] in SHOWN_ROUNDS


def short_name(dataset: str) -> str:
    """The first word of the title."""
    return DATASETS[dataset].split()[0]


class Cells:
    """The cells of a data set, to be asked for by what they are of."""

    def __init__(self, found: dict[str, dict[str, Any]], dataset: str):
        self._cells = found.get(dataset, {"cells": []})["cells"]

    def one(self, **what) -> dict[str, Any] | None:
        """The only cell with these values; None without one."""
        return next(iter(self.all(**what)), None)

    def all(self, **what) -> list[dict[str, Any]]:
        """All cells with these values."""
        return [cell for cell in self._cells
                if all(cell.get(key) == value for key, value in what.items())]

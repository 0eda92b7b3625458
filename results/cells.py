"""The cells of results/*.json: what is there, what is shown of it, what falls short."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from files import provenance

HERE = Path(__file__).parent
# Name → title.
DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10 (through JPEG)"}
OBJECTIVES = ("ce", "rce")
# Of `results.beyond`.
BEYOND_DATASET = "mnist"
# Whose accuracies are published; attacks are those of the first.
NETWORKS = ("resnet32", "resnet56", "resnet110", "simple_cnn")
# In the order of the paper's tables; random is ours.
ATTACKS = ("random", "fgsm", "bim", "tgsm", "jsma", "carliniL2", "carliniL2_highcon")
WHITE_BOX = ("carliniL2_highden", "carliniL2_specific")
# Figures of which more is better. flagged: white-box examples that the detector still refuses.
JUDGED = ("accuracy", "auc", "flagged")
PAPER_ATTACKS = tuple(attack for attack in ATTACKS if attack != "random")
# The paper does not say at which eps its AUCs were taken; the script it was released with takes 8.
SHOWN_ROUNDS = (2, 4, 8)
# Attacks of all rounds; the others have one.
SWEPT = ("fgsm", "bim", "tgsm")
# Attacks for the smallest change, whose distortions are told.
SEARCHES = tuple(attack for attack in (*PAPER_ATTACKS, *WHITE_BOX) if attack not in SWEPT)


def read_found(path: Path) -> dict[str, Any]:
    """What was collected into a file; without it no rows."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "runs": {}}


def load_published() -> dict[str, Any]:
    """published.json: the paper's numbers, and where they stand."""
    return json.loads((HERE / "published.json").read_text(encoding="utf-8"))


def published_accuracy(published: dict[str, Any], dataset: str, network: str,
                       objective: str) -> tuple[float | None, float | None]:
    """Accuracy (%) by v4 of the paper, or by v1 where v4 has none; and by v1."""
    errors = published["test_error_percent_v4"][dataset].get(network)
    v1 = published["test_accuracy_percent_v1"][dataset][network][objective]
    # v4 prints errors, v1 accuracies.
    return (round(100 - errors[objective], 2) if errors else v1), v1


def published_figure(published: dict[str, Any], figure: str, dataset: str, attack: str,
                     objective: str) -> Any:
    """What the paper gives of an attack: a number, of "auc" one per score; None where nothing.

    Args:
      published: of `load_published`.
      figure: "auc", "distortion", "flagged" or "seconds" (a mean over both data sets).
      dataset: name of the data set.
      attack: of ATTACKS or WHITE_BOX.
      objective: of OBJECTIVES.
    """
    tables = {"auc": ("auc_percent_v4_resnet32", dataset, attack, objective),
              "distortion": ("distortion_v4", dataset, attack, objective),
              "seconds": ("attack_seconds_per_example_v4", attack, objective)}
    if attack == "carliniL2_specific":  # the only white-box attack with numbers
        tables |= {"distortion": ("whitebox_v4", dataset, objective, "distortion"),
                   "flagged": ("whitebox_v4", dataset, objective, "ratio")}
    if figure not in tables:
        return None
    value = published
    for key in tables[figure]:
        value = value.get(key, {})
    return None if value == {} else value


class Tested(NamedTuple):
    """What the accuracy of the tables is of.

    Attributes:
      network: of `Network.identity`; None where no run record tells.
      step: its training steps; None without a record.
      folder: where the record lies.
    """

    network: dict[str, Any] | None
    step: int | None
    folder: Path


def tested(work: Path, dataset: str, objective: str) -> Tested:
    """The network whose accuracy and attacks the tables show.

    Args:
      work: folder of results/reproduce.sh.
      dataset: name of the data set.
      objective: of OBJECTIVES.
    """
    folder = work / f"models_{dataset}/{NETWORKS[0]}_{objective}/eval"
    metrics = (provenance.read(folder, "test_nor") or {"metrics": {}})["metrics"]
    return Tested(metrics.get("network"), metrics.get("step"), folder)


def load(folder: Path = HERE) -> dict[str, dict[str, Any]]:
    """Data set → {"runs", "cells"} of every results/<data set>.json there is, with the accuracies of
    deeper networks that `results.beyond` has found."""
    found = {dataset: json.loads(path.read_text(encoding="utf-8")) for dataset in DATASETS
             if (path := folder / f"{dataset}.json").is_file()}
    more = load_beyond(folder)
    if more["cells"]:
        found[BEYOND_DATASET]["cells"] += more["cells"]
        found[BEYOND_DATASET]["runs"] |= more["cell_runs"]
    return found


def load_beyond(folder: Path = HERE) -> dict[str, Any]:
    """What `results.beyond` has found; without its file no rows."""
    path = folder / "beyond.json"
    if not path.is_file():
        return {"cells": [], "cell_runs": {}, "deeper": [], "seeds": [], "runs": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def is_short(cell: dict[str, Any]) -> bool:
    """Whether the published value lies above our interval, of a figure that is better when higher."""
    # By the end of the interval, not by our value: what chance explains is no shortfall.
    return (cell["figure"] in JUDGED and cell["published"] is not None and cell["high"] is not None
            and cell["high"] < cell["published"])


def short_cells(found: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(data set, attack, objective, score) of each published AUC that ours falls short of in a shown
    round, with "flagged" for the score of the share that is; of an accuracy (data set, network,
    objective, "accuracy")."""
    return sorted({
        (dataset, cell.get("attack") or cell["network"], cell["objective"],
         cell.get("score", cell["figure"]))
        for dataset, what in found.items() for cell in what["cells"]
        if is_short(cell) and is_shown(cell)})


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

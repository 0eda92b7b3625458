"""Which pictures results/REPORT.md shows, what stands under them, and that they are of its networks."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation import finding
from figures import drawing
from files import provenance
from files.names import results_dir
from results.cells import DATASETS, HERE, PAPER_ATTACKS, WHITE_BOX, tested

FIGURES = HERE / "figures"
# Curves of the networks that were trained elsewhere.
NETWORKS = HERE / "networks"
TRAINING = FIGURES / "training.png"
# Folder of results/reproduce.sh whose networks are not those of the tables: figure 7 of v1.
_DENSE = "dense"


class _Shown(NamedTuple):
    """A picture of `detect.py --mode=figures`: folder of results/reproduce.sh, name there, caption."""

    folder: str
    name: str
    caption: str


_MIXED = ("Of normal and adversarial images mixed, the half that scores highest: share of normal "
          "images and accuracy in it")
# Name on the page → picture. The folder wide holds FGSM to eps 0.4.
_DRAWN = {
    "robustness": _Shown(".", "robustness", "Accuracy under attack against eps (v4)."),
    "distortions": _Shown(".", "distortions", "Mean RMS of the smallest distortions that succeed (v4), "
                          "of a sign attack by changing the class, of a search by reaching its goal."),
    "auroc_bim": _Shown(".", "auroc_bim", "AUROC under BIM against eps."),
    **{f"roc_{attack}": _Shown(".", f"roc_{attack}", f"ROC curves under {attack}.")
       for attack in (*PAPER_ATTACKS, *WHITE_BOX)},
    **{f"tsne_{attack}": _Shown(".", f"tsne_{attack}", f"t-SNE of features, normal and {attack} (v1, "
                                "figures 2 and 9).") for attack in ("fgsm", "carliniL2")},
    "top_half_fgsm": _Shown("wide", "top_half_fgsm", f"{_MIXED}; FGSM on the CE cost (v1, figure 3)."),
    "top_half_fgsm_rce_cost": _Shown("wide_rce_cost", "top_half_fgsm",
                                     f"{_MIXED}; FGSM on the RCE cost (v1, figure 4)."),
    "thresholds_fgsm": _Shown("wide", "thresholds_fgsm", "Accuracy of the answers and shares refused "
                              "against the threshold T (v1, figure 5)."),
    "scores_fgsm": _Shown("wide", "scores_fgsm", "Mean J-score and confidence of adversarial images "
                          "against eps (v1, figure 6)."),
    "dense_thresholds_fgsm": _Shown(_DENSE, "thresholds_fgsm", "The same for dense nets, beside an "
                                    "ensemble of five (v1, figure 7)."),
}
_COLOURS = {"ce": "#0072B2", "rce": "#D55E00"}
_GRIDS = ("fgsm", "jsma", "carliniL2", "carliniL2_specific")
_CAPTIONS = {name: shown.caption for name, shown in _DRAWN.items()} | {
    f"images_{attack}": f"{attack} against RCE: normal, adversarial, difference." for attack in _GRIDS}


def tested_at(path: Path) -> list[tuple[int, float]]:
    """Steps and test accuracies (%) of a training.csv."""
    with open(path, newline="") as file:
        return [(int(row["step"]), 100 * float(row["test_precision"]))
                for row in csv.DictReader(file) if row["test_precision"]]


def draw_training() -> None:
    """Draws TRAINING: test accuracy against steps of every network of NETWORKS, a panel a data set."""
    panels = []
    for dataset, title in DATASETS.items():
        curves = []
        for path in sorted(NETWORKS.glob(f"{dataset}_*/training.csv")):
            _, network, objective = path.parent.name.split("_")
            steps, accuracies = zip(*tested_at(path), strict=True)
            curves.append(drawing.Curve(f"{network}, {objective.upper()}", np.array(steps),
                                        np.array(accuracies), _COLOURS[objective], "",
                                        drawing.OBJECTIVE_LINE[objective]))
        panels.append(drawing.Panel(title, "step", "test accuracy (%)", curves))
    drawing.panels(TRAINING, panels, "Trainings of results/networks")


def find(work: Path, dataset: str) -> tuple[dict[str, Path], dict[str, dict[str, Any]]]:
    """The pictures there are of a data set, and how they came about.

    Args:
      work: folder of results/reproduce.sh.
      dataset: name of the data set.

    Returns:
      Name on the page → file, and name of the run → record of `detect.py --mode=figures`. Folders
      without such a record are passed over.

    Raises:
      InputError: pictures of other networks than those of test_nor.py.
    """
    paths, runs = {}, {}
    for folder in dict.fromkeys(shown.folder for shown in _DRAWN.values()):
        drawn = work / folder / f"detection_{dataset}"
        record = provenance.read(drawn, "figures")
        if record is None:
            continue
        if folder != _DENSE:
            for objective, network in record["metrics"]["networks"].items():
                accuracy = tested(work, dataset, objective)
                finding.check_same_network("pictures", drawn, network, accuracy.network,
                                           f"the accuracy in {accuracy.folder}")
        runs["figures" if folder == "." else f"figures_{folder}"] = record
        paths |= {name: drawn / f"{shown.name}.png" for name, shown in _DRAWN.items()
                  if shown.folder == folder}
    paths |= {f"images_{attack}": work / results_dir(attack, dataset, "rce") / "images.png"
              for attack in _GRIDS}
    return {name: path for name, path in paths.items() if path.is_file()}, runs


def lines(dataset: str) -> list[str]:
    """Markdown of the pictures in results/figures of a data set, each with its caption."""
    found = {path: _CAPTIONS[path.stem.removeprefix(f"{dataset}_")]
             for path in sorted(FIGURES.glob(f"{dataset}_*.png"))}
    return [text for path, caption in found.items()
            for text in (caption, "", f"![{path.stem}](figures/{path.name})", "")]

"""Draws up results/REPORT.md and the tables of the README from results/*.json: `make report`.

    python -m results.report

Nothing is measured here: a number that is in no JSON file says "not run".
"""

import functools
import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from data import files
from results.collect import (
    ATTACKS,
    DATASETS,
    NETWORKS,
    OBJECTIVES,
    PUBLISHED,
    WHITE_BOX,
    published_accuracy,
)
from scoring import SCORES

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
REPORT = HERE / "REPORT.md"
BEGIN, END = "<!-- made by `make report`: begin -->", "<!-- made by `make report`: end -->"
# The paper does not say at which eps its AUCs were taken; the script it was released with takes 8.
SHOWN_ROUNDS = (2, 4, 8)
NOT_RUN = "not run"
SHORT = " ▼"
PAPER_ATTACKS = tuple(attack for attack in ATTACKS if attack != "random")
TITLES = {"confidence": "confidence", "non_me": "non-ME", "k_density": "K-density",
          "mnist": "MNIST", "cifar10": "CIFAR-10 (through JPEG)"}


_ACCURACY_NOTE = """\
Accuracy on normal test images. The paper trains the ResNets for 20,000 steps on MNIST and 90,000 on
CIFAR-10; ours have had the steps in the table. All other numbers are of these networks.
"""
_README_NOTE = """\
The paper does not say at which eps its AUCs were taken: three of ten rounds are shown (the released
script takes 8); attacks without eps have one. Every round, distortions, seconds, experiments and
figures: [results/REPORT.md](results/REPORT.md).
"""
_REPORT_NOTE = """\
# Published numbers and ours

Made by `make report` from the JSON files beside it. Published values are those of published.json
(tables of arXiv 1706.00633 v4; v1 where said). Intervals: 95 %, bootstrap over images (Wilson for
accuracies). ▼: the published value lies above the interval. What has no number says "not run".
"""
_SECONDS = """\
### Seconds per adversarial example

Ours are upper bounds: other work may have run beside the attack.
"""
_DISTORTIONS = """\
### Distortions and white-box examples

Distortion: mean RMS of the change, pixels in [0, 255]. Flagged: share of the examples that change the
class whose K-density lies below the median of the training images, 100 kernels per class.
"""


class Verdict(NamedTuple):
    """Whether a statement of the paper holds for ours: in how many of the rows that were run."""

    holds: int
    of: int
    fails: tuple[str, ...]

    def words(self) -> str:
        """true, false with the rows that fail, or not run."""
        if not self.of:
            return NOT_RUN
        if not self.fails:
            return f"true ({self.holds} of {self.of} rows run)"
        return f"false ({self.holds} of {self.of} rows run; not: {', '.join(self.fails)})"


def load(folder: Path = HERE) -> dict[str, dict[str, Any]]:
    """Data set → {"runs", "cells"} of every results/<data set>.json there is."""
    return {dataset: json.loads(path.read_text(encoding="utf-8")) for dataset in DATASETS
            if (path := folder / f"{dataset}.json").is_file()}


def is_short(cell: dict[str, Any]) -> bool:
    """Whether the published value lies above our interval."""
    return (cell["published"] is not None and cell["high"] is not None
            and cell["high"] < cell["published"])


def short_cells(found: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(data set, attack, objective, score) of each published AUC that ours reaches in no shown round;
    of an accuracy, (data set, network, objective, "accuracy")."""
    short = []
    for dataset, what in found.items():
        cells = [cell for cell in what["cells"]
                 if cell["figure"] in ("accuracy", "auc") and _is_shown(cell)]
        for key, group in itertools.groupby(sorted(cells, key=_key), _key):
            if all(map(is_short, group)):
                short.append((dataset, *key))
    return short


def _key(cell):
    what = cell["attack"] if cell["figure"] == "auc" else cell["network"]
    return what, cell["objective"], cell.get("score", cell["figure"])


def _is_shown(cell):
    """Whether it is of one of SHOWN_ROUNDS, or of an attack that has but one."""
    return (cell.get("eps") is None or cell["attack"] == "jsma" or cell["round"] in SHOWN_ROUNDS)


class _Cells:
    """The cells of a data set, to be asked for by what they are of."""

    def __init__(self, found, dataset):
        self._cells = found.get(dataset, {"cells": []})["cells"]

    def one(self, **what):
        """The only cell with these values; None without one."""
        return next(iter(self.all(**what)), None)

    def all(self, **what):
        return [cell for cell in self._cells
                if all(cell.get(key) == value for key, value in what.items())]


# --- Tables, as lines of Markdown ---

def accuracy_table(found) -> list[str]:
    """Accuracy on the normal test images."""
    rows, published = [], json.loads(PUBLISHED.read_text(encoding="utf-8"))
    for dataset, network, objective in itertools.product(DATASETS, NETWORKS, OBJECTIVES):
        cell = _Cells(found, dataset).one(figure="accuracy", network=network, objective=objective)
        best, v1 = published_accuracy(published, dataset, network, objective)
        v4 = "-" if network not in published["test_error_percent_v4"][dataset] else f"{best:.2f}"
        rows.append([TITLES[dataset], network, objective.upper(), v4, f"{v1:.2f}",
                     _with_interval(cell, 2), *_counts(cell, "steps", "n")])
    return _table(["data", "network", "objective", "published, v4 (%)", "v1 (%)",
                   "ours (%), 95 % interval", "steps", "test images"], rows)


def auc_table(found, dataset) -> list[str]:
    """Published AUCs and ours in the rounds of SHOWN_ROUNDS."""
    cells = _Cells(found, dataset)
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["auc_percent_v4_resnet32"][dataset]
    rows = []
    for attack, objective in itertools.product(PAPER_ATTACKS, OBJECTIVES):
        of = {"figure": "auc", "attack": attack, "objective": objective}
        rounds = [cells.all(**of, round=number) for number in SHOWN_ROUNDS]
        if not cells.all(**of):
            ours = [NOT_RUN] * len(SHOWN_ROUNDS)
        elif cells.one(**of, round=2):
            ours = [_triple(group) for group in rounds]
        else:  # one round: an attack without eps, or at one
            ours = [_triple(cells.all(**of)), "", ""]
        rows.append([attack, objective.upper(), " / ".join(
            f"{value:.1f}" for value in published[attack][objective]), *ours])
    heads = [f"eps {0.02 * number:.2f} (round {number})" for number in SHOWN_ROUNDS]
    return _table(["attack", "objective", "published", *heads], rows)


def all_rounds_table(found, dataset) -> list[str]:
    """Ours in every round, with intervals."""
    cells, rows = _Cells(found, dataset), []
    for attack, objective in itertools.product(ATTACKS, OBJECTIVES):
        of = {"figure": "auc", "attack": attack, "objective": objective}
        for first in cells.all(**of, score=SCORES[0]):
            group = [cells.one(**of, score=score, round=first["round"]) for score in SCORES]
            eps = "" if first["eps"] is None else f"{first['eps']:.2f}"
            rows.append([attack, objective.upper(), eps, str(first["n"]),
                         *(_with_interval(cell, 1) for cell in group)])
    return _table(["attack", "objective", "eps", "images that count",
                   *(f"{TITLES[score]} (%)" for score in SCORES)], rows) if rows else [NOT_RUN]


def distortion_table(found, dataset) -> list[str]:
    """Distortions of the searches, and how many white-box examples are still flagged."""
    cells, rows = _Cells(found, dataset), []
    for attack, objective in itertools.product(("jsma", "carliniL2", "carliniL2_highcon", *WHITE_BOX),
                                               OBJECTIVES):
        for figure, digits in (("distortion", 2), ("flagged", 2)):
            cell = cells.one(figure=figure, attack=attack, objective=objective)
            if cell:
                rows.append([attack, objective.upper(), figure, _number(cell["published"], digits),
                             _with_interval(cell, digits), str(cell["n"])])
    return _table(["attack", "objective", "figure", "published", "ours, 95 % interval", "examples"],
                  rows) if rows else [NOT_RUN]


def seconds_table(found, dataset) -> list[str]:
    """Seconds per adversarial example."""
    cells, rows = _Cells(found, dataset), []
    for attack in (*ATTACKS, *WHITE_BOX):
        pair = [cells.one(figure="seconds", attack=attack, objective=o) for o in OBJECTIVES]
        if any(pair):
            rows.append([attack, *(_number(cell and cell["published"], 4) for cell in pair),
                         *(f"{cell['value']:.2g}" if cell else NOT_RUN for cell in pair)])
    heads = ["published CE (both data sets, a GPU)", "RCE", "ours CE", "RCE"]
    return _table(["attack", *heads], rows) if rows else [NOT_RUN]


def _table(heads, rows):
    return [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]


def _triple(cells):
    """Our values of one round, marked where they fall short of the published one."""
    if not cells:
        return NOT_RUN
    by_score = {cell["score"]: cell for cell in cells}
    return " / ".join("n/a" if (cell := by_score[score])["value"] is None else
                      f"{cell['value']:.1f}{SHORT if is_short(cell) else ''}" for score in SCORES)


def _with_interval(cell, digits):
    if cell is None:
        return NOT_RUN
    if cell["value"] is None:
        return "n/a"
    low, high = (_number(cell[key], digits) for key in ("low", "high"))
    mark = SHORT if cell["figure"] in ("accuracy", "auc") and is_short(cell) else ""
    return f"{cell['value']:.{digits}f} ({low} to {high}){mark}"


def _counts(cell, *keys):
    return [f"{cell[key]:,}" if cell else NOT_RUN for key in keys]


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}".rstrip("0").rstrip(".")


# --- The statements of the paper ---

def verdicts(found) -> dict[str, Verdict]:
    """Id of `shape_of_the_result` in published.json → whether it holds for ours."""
    cells = {dataset: _Cells(found, dataset) for dataset in DATASETS}
    auc = functools.partial(_shown_aucs, cells)
    non_me = [(name, pair["rce"] > pair["ce"]) for name, pair in auc("non_me")]
    density = [(name, pair["rce"] >= pair["ce"]) for name, pair in auc("k_density")
               if not name.startswith("CIFAR-10 fgsm")]
    highcon, bim = ([(f"{row} {objective.upper()}", value < 1) for row, pair in rows
                     for objective, value in pair.items()]
                    for rows in (auc("confidence", "carliniL2_highcon"),
                                 auc("confidence", "bim", "cifar10")))
    return {
        "non_me_rce_above_ce": _verdict(non_me),
        "confidence_fails_highcon": _verdict(highcon),
        "confidence_fails_bim_cifar": _verdict(bim),
        "k_density_rce_above_ce": _verdict(density),
        "accuracy_equal": _verdict(
            [(f"{name} {network}", abs(pair["rce"] - pair["ce"]) <= 0.15)
             for network in ("resnet32", "resnet56")
             for name, pair in _pairs(cells, figure="accuracy", network=network)]),
        "whitebox_distortion": _verdict(
            [(name, pair["rce"] >= 1.8 * pair["ce"]) for name, pair in _pairs(
                cells, figure="distortion", attack="carliniL2_specific")]),
    }


def _verdict(rows):
    fails = tuple(name for name, holds in rows if not holds)
    return Verdict(len(rows) - len(fails), len(rows), fails)


def _shown_aucs(cells, score, attack=None, only=None):
    """(row, {objective: AUC}) of what both objectives have, in the rounds that are shown."""
    for dataset, name in itertools.product([only] if only else DATASETS,
                                           [attack] if attack else PAPER_ATTACKS):
        shown = [cell for cell in cells[dataset].all(figure="auc", attack=name, score=score)
                 if _is_shown(cell)]
        for number in sorted({cell["round"] for cell in shown}):
            pair = {cell["objective"]: cell["value"] for cell in shown if cell["round"] == number
                    and cell["value"] is not None}
            if set(pair) == set(OBJECTIVES):
                eps = next(cell["eps"] for cell in shown if cell["round"] == number)
                at_eps = "" if eps is None else f" at {eps:.2f}"
                yield f"{TITLES[dataset].split()[0]} {name}{at_eps}", pair


def _pairs(cells, **what):
    for dataset in DATASETS:
        pair = {cell["objective"]: cell["value"] for cell in cells[dataset].all(**what)}
        if set(pair) == set(OBJECTIVES):
            yield TITLES[dataset].split()[0], pair


def shape_table(found) -> list[str]:
    """Each statement of `shape_of_the_result` with its verdict."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["shape_of_the_result"]
    judged = verdicts(found)
    return _table(["statement of the paper", "ours"], [
        [entry["statement"], judged[entry["id"]].words()] for entry in published])


# --- Pages ---

def readme_part(found) -> str:
    """What stands between the markers of the README."""
    lines = [_ACCURACY_NOTE, *accuracy_table(found), ""]
    for dataset in found:
        lines += [f"AUC (%) of confidence / non-ME / K-density on {TITLES[dataset]}, ResNet-32; ▼: the",
                  "published value lies above the 95 % interval of ours:", "",
                  *auc_table(found, dataset), ""]
    return "\n".join([*lines, _README_NOTE, *shape_table(found), ""])


def report(found, experiments) -> str:
    """The text of REPORT.md."""
    lines = [_REPORT_NOTE, "## Accuracy", "", _ACCURACY_NOTE, *accuracy_table(found), "",
             "## Statements of the paper", "", *shape_table(found), ""]
    for dataset in found:
        figures = sorted((HERE / "figures").glob(f"{dataset}_*.png"))
        lines += [f"## {TITLES[dataset]}", "",
                  "### AUC (%): published, and ours in three rounds", "",
                  *auc_table(found, dataset), "",
                  "### AUC: every round", "", *all_rounds_table(found, dataset), "",
                  _DISTORTIONS, *distortion_table(found, dataset), "",
                  _SECONDS, *seconds_table(found, dataset), "",
                  "### Figures", "", *(f"![{path.stem}](figures/{path.name})" for path in figures), "",
                  "### Runs", "", *map(_run_line, found[dataset]["runs"].items()), ""]
    lines += ["## Where ours falls short: what was tried", ""]
    for entry in experiments:
        cells = ", ".join(map(_cell_name, entry["cells"]))
        lines += [f"### {entry['question']}", "", f"Cells: {cells}.", "", f"`{entry['command']}`", "",
                  entry["finding"], ""]
    tried = {tuple(cell) for entry in experiments for cell in entry["cells"]}
    untried = [cell for cell in short_cells(found) if cell not in tried]
    if untried:
        lines += [f"Not looked into yet: {', '.join(map(_cell_name, untried))}."]
    return "\n".join(lines).rstrip() + "\n"


def _run_line(item):
    name, run = item
    versions = ", ".join(f"{package} {run['versions'][package]}" for package in (
        "tensorflow", "keras", "numpy", "scikit-learn"))
    return (f"- {name}: `{run['command']}`; seed {run['seed']}, {run['date']}, {run['hardware']}, "
            f"{versions}")


def _cell_name(cell):
    dataset, what, objective, score = cell
    return f"{TITLES[dataset].split()[0]} {what} {objective.upper()} {score}"


def load_experiments(folder: Path = HERE) -> list[dict[str, Any]]:
    """experiments.json: each with the cells it is about, a question, the command and the finding."""
    path = folder / "experiments.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def with_part(readme: str, part: str) -> str:
    """The README with `part` between the markers."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{part}{END}{tail}"


def main() -> int:
    """Writes both pages."""
    found = load()
    for path, text in ((README, with_part(README.read_text(encoding="utf-8"), readme_part(found))),
                       (REPORT, report(found, load_experiments()))):
        with files.atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(HERE.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

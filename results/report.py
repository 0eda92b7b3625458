"""Draws up results/REPORT.md and the table of the README from results/*.json: `make report`.

    python -m results.report

Nothing is measured here: a number that is in no JSON file says "not run".
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from defenses import PUBLISHED_SCORES
from files import atomic, attack_results
from results import pictures
from results.cells import (
    ATTACKS,
    DATASETS,
    HERE,
    NETWORKS,
    NOT_RUN,
    OBJECTIVES,
    PAPER_ATTACKS,
    SEARCHES,
    SHOWN_ROUNDS,
    SWEPT,
    WHITE_BOX,
    Cells,
    is_short,
    load,
    load_published,
    published_accuracy,
    published_figure,
    short_cells,
    short_name,
)
from results.statements import verdicts

README = HERE.parent / "README.md"
REPORT = HERE / "REPORT.md"
BEGIN, END = "<!-- made by `make report`: begin -->", "<!-- made by `make report`: end -->"
SHORT = " ▼"
# Of SHOWN_ROUNDS, the one that the released script takes.
README_ROUND = 8
SCORE_TITLES = {"confidence": "confidence", "non_me": "non-ME", "k_density": "K-density"}


_ACCURACY_NOTE = """\
Accuracy on normal test images. The paper trains the ResNets for 20,000 steps on MNIST and 90,000 on
CIFAR-10; ours have had the steps in the table, with the rates of the commands in REPORT.md. All other
numbers are of these networks. Our CIFAR-10 images have been through JPEG: no others could be had here.
"""
_README_NOTE = """\
AUC (%) of confidence / non-ME / K-density, ResNet-32, sign attacks at eps 0.16, the round that the
released script takes (the paper names none). ▼: the published value lies above the 95 % interval of
ours. Our CIFAR-10 images have been through JPEG: no others could be had here.
"""
_README_END = """\
Every network, round, interval, distortion and command, the paper's six statements judged, and what was
tried where ours falls short: [results/REPORT.md](results/REPORT.md).
"""
_REPORT_NOTE = """\
# Published numbers and ours

Made by `make report` from the JSON files beside it. Published values are those of published.json
(tables of arXiv 1706.00633 v4; v1 where said). Intervals: 95 %, bootstrap over images (Wilson for
accuracies). ▼: the published value lies above the interval. What has no number says "not run".
"""
_SHORT_NOTE = """\
Every ▼ of the rounds shown and of the accuracies is looked into, also where another round reaches the
published value: which round the paper took, it does not say.
"""
_SECONDS = """\
### Seconds per adversarial example

Ours are upper bounds: other work may have run beside the attack.
"""
_DISTORTIONS = """\
### Distortions and white-box examples

Distortion: mean RMS of the change, pixels in [0, 255], over the examples that reach their goal (of JSMA
a class, so that fewer count than in the AUCs), as in the figure; of a white-box attack over all that
change the class, and, passed, over those among them that pass its detector, as in the figure. Flagged:
share of the examples that change the class whose K-density lies below the median of the training
images, 100 kernels per class (Wilson interval).
"""
_FIGURES = """\
### Figures

Of the images that the detectors were not fitted on, so that areas in them differ from those of the
tables, which count all; distortions and grids of images are of all, too.
"""


# --- Tables, as lines of Markdown ---

def accuracy_table(found) -> list[str]:
    """Accuracy on the normal test images."""
    rows, published = [], load_published()
    for dataset, network, objective in itertools.product(DATASETS, NETWORKS, OBJECTIVES):
        cell = Cells(found, dataset).one(figure="accuracy", network=network, objective=objective)
        best, v1 = published_accuracy(published, dataset, network, objective)
        v4 = "-" if network not in published["test_error_percent_v4"][dataset] else f"{best:.2f}"
        rows.append([DATASETS[dataset], network, objective.upper(), v4, f"{v1:.2f}",
                     _with_interval(cell, 2), *_counts(cell, "steps", "n")])
    return _table(["data", "network", "objective", "published, v4 (%)", "v1 (%)",
                   "ours (%), 95 % interval", "steps", "test images"], rows)


def auc_table(found, dataset) -> list[str]:
    """Published AUCs and ours in the rounds of SHOWN_ROUNDS."""
    cells, rows = Cells(found, dataset), []
    for attack, objective in itertools.product(PAPER_ATTACKS, OBJECTIVES):
        of = {"figure": "auc", "attack": attack, "objective": objective}
        is_swept = attack in SWEPT
        ours = [_triple(cells.all(**of, round=number), _eps_of(number)) if is_swept else ""
                for number in SHOWN_ROUNDS]
        rows.append([attack, objective.upper(), _published_triple(dataset, attack, objective),
                     *ours, "" if is_swept else _triple(cells.all(**of), None)])
    heads = [f"eps {_eps_of(number):.2f} (round {number})" for number in SHOWN_ROUNDS]
    return _table(["attack", "objective", "published (v4)", *heads, "one round"], rows)


def readme_table(found) -> list[str]:
    """Accuracy and AUCs of ResNet-32 as published and as ours, the swept attacks in README_ROUND."""
    rows = []
    for dataset in found:
        rows.append([f"{short_name(dataset)} accuracy", *_accuracies(found, dataset)])
        rows += [[f"{short_name(dataset)} {attack}", *_aucs(found, dataset, attack)]
                 for attack in PAPER_ATTACKS]
    return _table(["", "CE, published", "CE, ours", "RCE, published", "RCE, ours"], rows)


def _accuracies(found, dataset):
    """CE as published and as ours with its steps, then RCE."""
    for objective in OBJECTIVES:
        best, _ = published_accuracy(load_published(), dataset, NETWORKS[0], objective)
        yield f"{best:.2f}"
        cell = Cells(found, dataset).one(figure="accuracy", network=NETWORKS[0], objective=objective)
        yield (f"{cell['value']:.2f}{SHORT if is_short(cell) else ''} ({cell['steps']:,} steps)"
               if cell else NOT_RUN)


def _aucs(found, dataset, attack):
    """CE as published and as ours, then RCE."""
    for objective in OBJECTIVES:
        yield _published_triple(dataset, attack, objective)
        of = {"figure": "auc", "attack": attack, "objective": objective}
        cells = Cells(found, dataset)
        yield (_triple(cells.all(**of, round=README_ROUND), _eps_of(README_ROUND))
               if attack in SWEPT else _triple(cells.all(**of), None))


def all_rounds_table(found, dataset) -> list[str]:
    """Ours in every round, with intervals."""
    cells, rows = Cells(found, dataset), []
    for attack, objective in itertools.product(ATTACKS, OBJECTIVES):
        of = {"figure": "auc", "attack": attack, "objective": objective}
        for first in cells.all(**of, score=PUBLISHED_SCORES[0]):
            group = [cells.one(**of, score=score, round=first["round"]) for score in PUBLISHED_SCORES]
            eps = "" if first["eps"] is None else f"{first['eps']:.2f}"
            rows.append([attack, objective.upper(), eps, str(first["n"]),
                         *(_with_interval(cell, 1) for cell in group)])
    return _table(["attack", "objective", "eps", "images that count",
                   *(f"{SCORE_TITLES[score]} (%)" for score in PUBLISHED_SCORES)],
                  rows) if rows else [NOT_RUN]


def distortion_table(found, dataset) -> list[str]:
    """Distortions of the searches, and how many white-box examples are still flagged."""
    cells, rows = Cells(found, dataset), []
    published = load_published()
    for attack, objective in itertools.product(SEARCHES, OBJECTIVES):
        for figure in ("distortion", "distortion_passed", "flagged"):
            cell = cells.one(figure=figure, attack=attack, objective=objective)
            value = published_figure(published, figure, dataset, attack, objective)
            if cell or value is not None:
                rows.append([attack, objective.upper(), figure.replace("_", ", "), _number(value, 2),
                             _with_interval(cell, 2), *_counts(cell, "n")])
    return _table(["attack", "objective", "figure", "published (v4)", "ours, 95 % interval",
                   "examples"], rows)


def seconds_table(found, dataset) -> list[str]:
    """Seconds per adversarial example."""
    cells, rows = Cells(found, dataset), []
    published = load_published()
    for attack in (*ATTACKS, *WHITE_BOX):
        pair = [cells.one(figure="seconds", attack=attack, objective=o) for o in OBJECTIVES]
        values = [published_figure(published, "seconds", dataset, attack, o) for o in OBJECTIVES]
        rows.append([attack, *(_number(value, 4) for value in values),
                     *(f"{cell['value']:.2g}" if cell else NOT_RUN for cell in pair)])
    heads = ["published CE (v4; both data sets, a GPU)", "RCE", "ours CE", "RCE"]
    return _table(["attack", *heads], rows)


def _table(heads, rows):
    return [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]


def _eps_of(number):
    return attack_results.ORIGINAL_EPS_STEP * number


def _published_triple(dataset, attack, objective):
    aucs = published_figure(load_published(), "auc", dataset, attack, objective)
    return " / ".join(f"{value:.1f}" for value in aucs)


def _triple(cells, eps):
    """Our values of one round, marked where they fall short of the published one; with its eps where it
    is not that of the head."""
    if not cells:
        return NOT_RUN
    by_score = {cell["score"]: cell for cell in cells}
    values = " / ".join("n/a" if (cell := by_score[score])["value"] is None else
                        f"{cell['value']:.1f}{SHORT if is_short(cell) else ''}"
                        for score in PUBLISHED_SCORES)
    found = cells[0]["eps"]
    return values if found is None or found == eps else f"{values} (eps {found:.2f})"


def _with_interval(cell, digits):
    if cell is None:
        return NOT_RUN
    if cell["value"] is None:
        return "n/a"
    low, high = (_number(cell[key], digits) for key in ("low", "high"))
    return f"{cell['value']:.{digits}f} ({low} to {high}){SHORT if is_short(cell) else ''}"


def _counts(cell, *keys):
    return [f"{cell[key]:,}" if cell else NOT_RUN for key in keys]


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}".rstrip("0").rstrip(".")


def shape_table(found) -> list[str]:
    """Each statement of `shape_of_the_result` with its verdict."""
    published = load_published()["shape_of_the_result"]
    judged = verdicts(found)
    return _table(["statement of the paper", "ours"], [
        [entry["statement"], judged[entry["id"]].words()] for entry in published])


# --- Pages ---

def readme_part(found) -> str:
    """What stands between the markers of the README."""
    return "\n".join([_README_NOTE, *readme_table(found), "", _README_END])


def report(found, experiments) -> str:
    """The text of REPORT.md."""
    lines = [_REPORT_NOTE, "## Accuracy", "", _ACCURACY_NOTE, *accuracy_table(found), "",
             "## Statements of the paper", "", "Judged in every round that is shown.", "",
             *shape_table(found), ""]
    for dataset in found:
        lines += [f"## {DATASETS[dataset]}", "",
                  "### AUC (%): published, and ours in three rounds", "",
                  *auc_table(found, dataset), "",
                  "### AUC: every round", "", *all_rounds_table(found, dataset), "",
                  _DISTORTIONS, *distortion_table(found, dataset), "",
                  _SECONDS, *seconds_table(found, dataset), "",
                  _FIGURES, *pictures.lines(dataset),
                  "### Runs", "", *map(_run_line, found[dataset]["runs"].items()), ""]
    lines += ["## Where ours falls short: what was tried", "", _SHORT_NOTE]
    for entry in experiments:
        cells = ", ".join(map(_cell_name, entry["cells"]))
        lines += [f"### {entry['question']}", "", f"Cells: {cells}.", "",
                  *(f"- `{command}`" for command in entry["commands"]), "", entry["finding"], ""]
    tried = {tuple(cell) for entry in experiments for cell in entry["cells"]}
    untried = [cell for cell in short_cells(found) if cell not in tried]
    if untried:
        lines += [f"Not looked into yet: {', '.join(map(_cell_name, untried))}."]
    return "\n".join(lines).rstrip() + "\n"


def _run_line(item):
    name, run = item
    versions = ", ".join(f"{package} {run['versions'][package]}" for package in (
        "tensorflow", "keras", "numpy", "scikit-learn"))
    steps = f"network of {run['steps']:,} steps, " if "steps" in run else ""
    return (f"- {name}: `{run['command']}`; {steps}seed {run['seed']}, {run['date']}, "
            f"{run['hardware']}, commit {(run['git_revision'] or 'unknown')[:12]}, {versions}")


def _cell_name(cell):
    dataset, what, objective, score = cell
    return f"{short_name(dataset)} {what} {objective.upper()} {score}"


def load_experiments(folder: Path = HERE) -> list[dict[str, Any]]:
    """experiments.json: each with the cells it is about, a question, the commands and the finding."""
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
        with atomic.atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(HERE.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

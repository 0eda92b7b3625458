"""The tables of the README and of results/REPORT.md, as lines of Markdown.

`found` is what `cells.load` reads: data set → {"runs", "cells"}. What was not measured says "not run".
"""

import itertools
from collections.abc import Sequence

from defenses import PUBLISHED_SCORES
from evaluation import markdown
from evaluation.markdown import NOT_RUN
from files.attack_results import ORIGINAL_EPS_STEP
from results.cells import (
    ATTACKS,
    DATASETS,
    NETWORKS,
    OBJECTIVES,
    PAPER_ATTACKS,
    SEARCHES,
    SHOWN_ROUNDS,
    SWEPT,
    WHITE_BOX,
    Cells,
    is_short,
    load_published,
    published_accuracy,
    published_figure,
    short_name,
)
from results.statements import verdicts

SHORT = " ▼"
# Of SHOWN_ROUNDS, the one that the released script takes.
README_ROUND = 8
SCORE_TITLES = {"confidence": "confidence", "non_me": "non-ME", "k_density": "K-density"}


def accuracy_table(found) -> list[str]:
    """Accuracy on the normal test images."""
    rows, published = [], load_published()
    for dataset, network, objective in itertools.product(DATASETS, NETWORKS, OBJECTIVES):
        cell = Cells(found, dataset).one(figure="accuracy", network=network, objective=objective)
        best, v1 = published_accuracy(published, dataset, network, objective)
        v4 = "-" if network not in published["test_error_percent_v4"][dataset] else f"{best:.2f}"
        rows.append([DATASETS[dataset], network, objective.upper(), v4, f"{v1:.2f}",
                     _with_interval(cell, 2), *_counts(cell, "steps", "n")])
    return table(["data", "network", "objective", "published, v4 (%)", "v1 (%)",
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
    return table(["attack", "objective", "published (v4)", *heads, "one round"], rows)


def readme_table(found) -> list[str]:
    """Accuracy and AUCs of ResNet-32 as published and as ours, the swept attacks in README_ROUND."""
    rows = []
    for dataset in found:
        rows.append([f"{short_name(dataset)} accuracy", *_accuracies(found, dataset)])
        rows += [[f"{short_name(dataset)} {attack}", *_aucs(found, dataset, attack)]
                 for attack in PAPER_ATTACKS]
    return table(["", "CE, published", "CE, ours", "RCE, published", "RCE, ours"], rows)


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
    return table(["attack", "objective", "eps", "images that count",
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
    return table(["attack", "objective", "figure", "published (v4)", "ours, 95 % interval",
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
    return table(["attack", *heads], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table of these heads and rows."""
    return markdown.table([heads, *rows]).splitlines()


def _eps_of(number):
    return ORIGINAL_EPS_STEP * number


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
    # A run with other eps than the original's sweep has its own rounds.
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
    return table(["statement of the paper", "ours"], [
        [entry["statement"], judged[entry["id"]].words()] for entry in published])

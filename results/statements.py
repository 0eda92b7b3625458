"""The paper's statements about the shape of its result, judged by our cells."""

import functools
import itertools
from typing import Any, NamedTuple

from evaluation.markdown import NOT_RUN
from results.cells import (
    DATASETS,
    OBJECTIVES,
    PAPER_ATTACKS,
    Cells,
    is_shown,
    short_name,
)


class Verdict(NamedTuple):
    """Whether a statement of the paper holds for ours, in every round that is shown.

    Attributes:
      rows: the paper's rows it is about.
      run: how many of them we have.
      fails: where it does not hold.
    """

    rows: int
    run: int
    fails: tuple[str, ...]

    def words(self) -> str:
        """true, false with where it fails, or not run; and how many of the rows were run."""
        if not self.run:
            return NOT_RUN
        fails = f": not {', '.join(self.fails)}" if self.fails else ""
        return f"{'false' if fails else 'true'} ({self.run} of {self.rows} rows run{fails})"


def verdicts(found: dict[str, dict[str, Any]]) -> dict[str, Verdict]:
    """Id of `shape_of_the_result` in published.json → whether it holds for ours."""
    cells = {dataset: Cells(found, dataset) for dataset in DATASETS}
    auc = functools.partial(_shown_aucs, cells)
    # The paper's statement leaves this row out, so every - 1 below.
    density = [row for row in auc("k_density") if row[0] != "CIFAR-10 fgsm"]
    networks = [row for network in ("resnet32", "resnet56")
                for row in _pairs(cells, network, figure="accuracy", network=network)]
    white_box = _pairs(cells, figure="distortion", attack="carliniL2_specific")
    # Counted as the paper has them, not as they were run, so that what is missing shows.
    every = len(DATASETS) * len(PAPER_ATTACKS)
    return {
        "non_me_rce_above_ce": _verdict(every, auc("non_me"), _rce_above_ce),
        "confidence_fails_highcon": _verdict(
            4, _by_objective(auc("confidence", "carliniL2_highcon")), _below_1),
        "confidence_fails_bim_cifar": _verdict(
            2, _by_objective(auc("confidence", "bim", "cifar10")), _below_1),
        "k_density_rce_above_ce": _verdict(
            every - 1, density, lambda pair: pair["rce"] >= pair["ce"]),
        "accuracy_equal": _verdict(4, networks, lambda pair: abs(pair["rce"] - pair["ce"]) <= 0.15),
        "whitebox_distortion": _verdict(2, white_box, lambda pair: pair["rce"] >= 1.8 * pair["ce"]),
    }


def _rce_above_ce(pair):
    return pair["rce"] > pair["ce"]


def _below_1(value):
    return value < 1


def _verdict(num_rows, rows, holds):
    """Of (row of the paper, where in it, value): in which rows `holds` does of each value."""
    rows = list(rows)
    fails = tuple(row + where for row, where, value in rows if not holds(value))
    return Verdict(num_rows, len({row for row, *_ in rows}), fails)


def _by_objective(rows):
    for row, where, pair in rows:
        for objective, value in pair.items():
            yield f"{row} {objective.upper()}", where, value


def _shown_aucs(cells, score, attack=None, only=None):
    """(row, at which eps, {objective: AUC}) of what both objectives have, in the rounds shown."""
    for dataset, name in itertools.product([only] if only else DATASETS,
                                           [attack] if attack else PAPER_ATTACKS):
        shown = [cell for cell in cells[dataset].all(figure="auc", attack=name, score=score)
                 if is_shown(cell)]
        for number in sorted({cell["round"] for cell in shown}):
            pair = {cell["objective"]: cell["value"] for cell in shown if cell["round"] == number
                    and cell["value"] is not None}
            if set(pair) == set(OBJECTIVES):
                eps = next(cell["eps"] for cell in shown if cell["round"] == number)
                yield (f"{short_name(dataset)} {name}", "" if eps is None else f" at {eps:.2f}", pair)


def _pairs(cells, name="", **what):
    """(row, "", {objective: value}) of each data set that has both objectives."""
    for dataset in DATASETS:
        pair = {cell["objective"]: cell["value"] for cell in cells[dataset].all(**what)}
        if set(pair) == set(OBJECTIVES):
            yield f"{short_name(dataset)} {name}".rstrip(), "", pair

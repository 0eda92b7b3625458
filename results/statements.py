"""The paper's statements about the shape of its result, judged by our cells."""

import functools
import itertools
from typing import Any, NamedTuple

from results.cells import (
    DATASETS,
    NOT_RUN,
    OBJECTIVES,
    PAPER_ATTACKS,
    Cells,
    is_shown,
    short_name,
)


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


def verdicts(found: dict[str, dict[str, Any]]) -> dict[str, Verdict]:
    """Id of `shape_of_the_result` in published.json → whether it holds for ours."""
    cells = {dataset: Cells(found, dataset) for dataset in DATASETS}
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
                 if is_shown(cell)]
        for number in sorted({cell["round"] for cell in shown}):
            pair = {cell["objective"]: cell["value"] for cell in shown if cell["round"] == number
                    and cell["value"] is not None}
            if set(pair) == set(OBJECTIVES):
                eps = next(cell["eps"] for cell in shown if cell["round"] == number)
                at_eps = "" if eps is None else f" at {eps:.2f}"
                yield f"{short_name(dataset)} {name}{at_eps}", pair


def _pairs(cells, **what):
    for dataset in DATASETS:
        pair = {cell["objective"]: cell["value"] for cell in cells[dataset].all(**what)}
        if set(pair) == set(OBJECTIVES):
            yield short_name(dataset), pair

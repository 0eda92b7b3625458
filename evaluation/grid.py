"""What hardened networks are worth: networks by rows, what attacks them by columns.

Stored images were made against the target, so that other rows tell of transfer and no more; columns of
who knows the row's own network stand beside them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evaluation.markdown import NOT_RUN
from evaluation.success import Share, share, shown

if TYPE_CHECKING:  # TensorFlow, which whoever draws up tables does not need
    from evaluation.generated import Adversarial

CLEAN = "clean"
# Name of a column that a source of images, or a row's own attacker, has.
STORED, WRONG, PATTERN, OWN, ADAPTIVE = (
    "{}", "{} of a wrong class", "{} of a wrong class: that class", "white-box {}", "adaptive {}")
# What nobody may read the columns of generators without.
CAUTION = ("Generators are chosen by the true class, which a network can learn to read off the "
           "perturbation: a row that is right more often under its own images than on clean ones "
           "does. Stored images were made against the target; what attacks a row's own network stands "
           "in the columns white-box and adaptive.")


class Cell(NamedTuple):
    """What a network answers in a column.

    Attributes:
      right: share of images whose true class it answers; of PATTERN the class of their generator.
      changed: share that it answers otherwise than the image itself; None of clean images and PATTERN.
      success: of those whose image itself it answers rightly, the share that it answers wrongly.
    """

    right: Share
    changed: Share | None = None
    success: Share | None = None


def cell(answers: np.ndarray, labels: np.ndarray, before: np.ndarray) -> Cell:
    """What answers int [n] are worth, beside those to the images themselves."""
    was_right = before == labels
    return Cell(share(answers == labels), share(answers != before),
                share(answers[was_right] != labels[was_right]))


def wrong_classes(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Of each image another class than its own, drawn evenly: int [n]."""
    shift = np.random.default_rng(seed).integers(1, num_classes, len(labels))
    return (labels + shift) % num_classes


def row(answer: Callable[[np.ndarray], np.ndarray], x: np.ndarray, labels: np.ndarray, *,
        stored: Mapping[str, "Adversarial"], wrong: Mapping[str, tuple[np.ndarray, np.ndarray]],
        own: Mapping[str, np.ndarray], adaptive: Mapping[str, "Adversarial"]) -> dict[str, Cell]:
    """The cells of a network, by column.

    Args:
      answer: from network inputs to predicted classes int [n].
      x: clean images.
      labels: their classes.
      stored: source → what was made against the target.
      wrong: source → what generators of wrong classes make of `x`, and those classes.
      own: attack → what it makes of `x` against this network.
      adaptive: source → what was made against this network.
    """
    before = answer(x)
    cells = {CLEAN: Cell(share(before == labels))}
    for form, sets in ((STORED, stored), (ADAPTIVE, adaptive)):
        for source, made in sets.items():
            cells[form.format(source)] = cell(answer(made.x_adv), made.labels, before[made.index])
    for source, (x_adv, classes) in wrong.items():
        answers = answer(x_adv)
        cells[WRONG.format(source)] = cell(answers, labels, before)
        cells[PATTERN.format(source)] = Cell(share(answers == classes))
    for attack, x_adv in own.items():
        cells[OWN.format(attack)] = cell(answer(x_adv), labels, before)
    return cells


def columns(losses: Sequence[str], baselines: Sequence[str]) -> list[str]:
    """All columns in order.

    Args:
      losses: custom losses.
      baselines: attacks beside them.
    """
    return [CLEAN, *(STORED.format(source) for source in (*losses, *baselines)),
            *(form.format(loss) for loss in losses for form in (WRONG, PATTERN)),
            *(OWN.format(attack) for attack in baselines), *(ADAPTIVE.format(loss) for loss in losses)]


def leaks(rows: Mapping[str, Mapping[str, Cell]], sources: Mapping[str, str]) -> list[str]:
    """A sentence for each row that answers more of its own source's images rightly than of clean ones,
    beyond both intervals.

    Args:
      rows: name → cells.
      sources: name → what its training images were made by; of rows that have one.
    """
    told = []
    for name, source in sources.items():
        cells = rows[name]
        own = cells.get(STORED.format(source))
        if own and own.right.low > cells[CLEAN].right.high:
            told.append(f"{name} is right on {shown(own.right)} of the images of {source}, and on "
                        f"{shown(cells[CLEAN].right)} of clean ones: it reads the class off the "
                        "perturbation.")
    return told


def format_rows(rows: Mapping[str, Mapping[str, Cell]], names: Sequence[str]) -> list[list[str]]:
    """Head and a row for each column of the grid as text: right answers in per cent, and what was not
    run. Networks stand side by side, as there are fewer of them."""
    return [["right, % of", *rows], *(
        [column, *(f"{100 * cells[column].right.value:.2f}" if column in cells else NOT_RUN
                   for cells in rows.values())] for column in names)]


def as_json(rows: Mapping[str, Mapping[str, Cell]]) -> dict[str, Any]:
    """The cells as JSON values: name → column → shares as [value, low, high, n]."""
    return {name: {column: {field: list(value) for field, value in one._asdict().items() if value}
                   for column, one in cells.items()} for name, cells in rows.items()}


def from_json(found: Mapping[str, Any]) -> dict[str, dict[str, Cell]]:
    """What `as_json` made JSON values of."""
    return {name: {column: Cell(**{field: Share(*value) for field, value in one.items()})
                   for column, one in cells.items()} for name, cells in found.items()}


def as_table(rows: Mapping[str, Mapping[str, Cell]]) -> tuple[Sequence[str], list[Sequence]]:
    """Head and rows of a CSV file: a line for each cell."""
    head = ("network", "column", "right", "low", "high", "n", "changed", "success_on_right")
    nothing = Share(float("nan"), 0, 0, 0)
    return head, [(name, column, *one.right, (one.changed or nothing).value,
                   (one.success or nothing).value)
                  for name, cells in rows.items() for column, one in cells.items()]

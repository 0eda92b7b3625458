"""The attacks of a budget of `evaluation/budgets.py` on a network and its detector."""

from collections.abc import Callable, Sequence

import attacks
from defenses.detector import Detector
from evaluation.accepted import accepted_of, classes_of
from evaluation.aims import aim
from evaluation.budgets import BUDGETS, DENSITY, Task
from evaluation.jobs import Job
from evaluation.sweep import Sweep, outputs_of
from evaluation.white_box import known_of
from files.names import ALL_SCORES
from networks.network import Network


def jobs(budget: str, norm: str, eps_values: Sequence[float], network: Network, detector: Detector,
         rate: float, path: str, skipped: Callable[[str], None]) -> list[tuple[Task, Job]]:
    """What a challenge runs, in order.

    Args:
      budget: of BUDGETS.
      norm: "linf" or "l2".
      eps_values: in the order in which they are given.
      network: that is attacked.
      detector: that is challenged.
      rate: of its false refusals, whose thresholds are aimed at.
      path: of the detector, for messages.
      skipped: told in a sentence what cannot be run on this network, or in this norm.

    Raises:
      InputError: a rate that the detector was not fitted at.
    """
    chosen = BUDGETS[budget]
    eps_values = tuple(eps_values) if chosen.every_eps else tuple(eps_values[-1:])
    made = []
    for task in chosen.tasks:
        why = _impossible(task, norm, network, detector)
        if why:
            skipped(why)
            continue
        row = attacks.get(task.method)
        settings = dict(task.settings) | (_norm_of(row, norm) if not row.norm else {})
        made.append((task, Job(task.method, settings, eps_values if row.uses_eps else (None,),
                               task.target, _known(task, row, network, detector, rate, path))))
    return made


def nothing_to_imitate(work: Sweep) -> str:
    """Why an attack that imitates normal images which the detector answers is not run on those of a
    sweep; "" where it can be, or imitates none."""
    if not work.crafter.takes_accepted:
        return ""
    logits, features = work.network.forward(work.strategy)(work.x)
    found = accepted_of(work.aim, work.x, work.labels, logits, outputs_of(logits, features))
    classes = classes_of(found)
    if len(classes) > 1:
        return ""
    return (f"{work.crafter.name} is not run: it imitates normal images of two classes that the "
            f"detector answers rightly, and there are {len(found.classes)}, of classes {classes}.")


def _impossible(task, norm, network, detector):
    """Why a task says nothing here; "" where it can be run."""
    row, classes = attacks.get(task.method), network.model.outputs[0].shape[-1]
    if row.uses_eps and row.norm not in ("", norm):
        return f"{task.method} is not run: it measures in {row.norm}."
    if classes < row.fewest_classes:
        return (f"{task.method} is not run: it needs {row.fewest_classes} classes, and the network has "
                f"{classes}.")
    aimed = DENSITY if "kernels" in row.takes else task.against
    if aimed not in ("", ALL_SCORES, *detector.score_names):
        return f"{task.method} against {aimed} is not run: the detector has no such score."
    return ""


def _norm_of(row, norm):
    return next(dict(setting.choices[norm]) for setting in row.settings
                if setting.flag == "attack_norm")


def _known(task, row, network, detector, rate, path):
    if "kernels" in row.takes:
        return known_of(network, "", lambda sentence: None, detector, True, rate)
    return aim(detector, [task.against], rate, path) if task.against else None

"""Results of attacks as `evaluation.success` counts them: what run records say of the attacker."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from attacks import ATTACKS, Attack
from defenses.detector import Detector
from evaluation.model_space import KINDS
from evaluation.rounds import Round
from evaluation.success import STALE, Tried, tried
from files import attack_results
from files.attack_results import AttackResults


class Told(NamedTuple):
    """What the run record beside results tells.

    Attributes:
      attack: the row of the attack; None where no record tells, or of one that is no row.
      metrics: of the record; {} without.
    """

    attack: Attack | None
    metrics: Mapping[str, Any]


def told_of(results: AttackResults) -> Told:
    """What the run record beside an attack's results tells of it."""
    record = attack_results.read_record(results.folder)
    if record is None:
        return Told(None, {})
    metrics = record["metrics"]
    if results.defense is None:
        return Told(ATTACKS.get(record["flags"].get("attack_method")), metrics)
    # Not from --attack_method, which does not tell whose images --rmc_from took. Who follows the
    # defender knows it, but no detector; the others saw the network as it was trained, and another
    # one answers.
    variant = metrics["variant"]
    knows = ({"knowledge": "oblivious", "norm": "linf"} if variant in KINDS else
             {"knowledge": "transfer"})
    return Told(ATTACKS.get(variant), metrics | knows)


def of_results(results: AttackResults, rounds: list[Round], detector: Detector) -> list[Tried]:
    """The rounds of an attack as a detector answers them.

    Args:
      results: as `evaluation.finding.judged` yields them.
      rounds: of these, without the images that the detector was fitted on.
      detector: of the attacked network.
    """
    row, told = told_of(results)
    # Records of earlier versions tell neither; the row does, where there is no choice.
    knowledge = told.get("knowledge", row.knowledge if row else "oblivious")
    if told.get("detector_sha256", detector.digest()) != detector.digest():
        knowledge = STALE
    norm = told.get("norm", row.norm if row else "")
    distance = results.per_image[norm] if norm in ("linf", "l2") and results.per_image else None
    fitted = np.isin(results.image_digests, detector.fitted_images)
    counted = []
    for number, scored in enumerate(rounds):
        rows = slice(number * results.num_per_eps, (number + 1) * results.num_per_eps)
        far = None if distance is None else distance[rows][~fitted[rows]]
        counted.append(tried(scored, detector, knowledge=knowledge, norm=norm, distance=far))
    return counted

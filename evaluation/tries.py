"""Results of attacks as `evaluation.success` counts them: what run records say of the attacker."""

import numpy as np

from attacks import ATTACKS
from defenses.detector import Detector
from evaluation.rounds import Round
from evaluation.success import Tried, tried
from files import provenance
from files.attack_results import AttackResults


def of_results(results: AttackResults, rounds: list[Round], detector: Detector) -> list[Tried]:
    """The rounds of an attack as a detector answers them.

    Args:
      results: as `evaluation.finding.judged` yields them.
      rounds: of these, without the images that the detector was fitted on.
      detector: of the attacked network.
    """
    record = provenance.read(results.folder, "test_adv")
    row = ATTACKS.get(record["flags"].get("attack_method")) if record else None
    # Records of earlier versions tell neither; the row does, where there is no choice.
    told = record["metrics"] if record else {}
    knowledge = told.get("knowledge", row.knowledge if row else "oblivious")
    if told.get("detector_sha256", detector.digest()) != detector.digest():
        # Of this one it knew nothing.
        knowledge = "oblivious"
    norm = told.get("norm", row.norm if row else "")
    distance = results.per_image[norm] if norm in ("linf", "l2") and results.per_image else None
    fitted = np.isin(results.image_digests, detector.fitted_images)
    counted = []
    for number, scored in enumerate(rounds):
        rows = slice(number * results.num_per_eps, (number + 1) * results.num_per_eps)
        far = None if distance is None else distance[rows][~fitted[rows]]
        counted.append(tried(scored, detector, knowledge=knowledge, norm=norm, distance=far))
    return counted

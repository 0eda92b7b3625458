"""The images of an attack at one eps, with their scores: what figures and tables are made from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from defenses import PUBLISHED_SCORES
from defenses import detector as detectors
from defenses.kernels import log_kernel_density
from errors import InputError
from evaluation import metrics


def counted(results: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which images count, bool [n]: classified correctly when normal, wrongly when adversarial."""
    return ((results["labels_nor"] == results["labels_true"])
            & (results["labels_adv"] != results["labels_true"]))


def _counted_rows(results, rows):
    return np.arange(len(results["labels_true"]))[rows][counted(results)[rows]]


def score_images(results: Mapping[str, np.ndarray], kernels: np.ndarray, bandwidth: float,
                 rows: slice) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores of the images that count, in the sense of `counted`.

    Args:
      results: arrays of `files.attack_results.load_attack_results`.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.
      rows: the rows to look at, e.g. those of one eps.

    Returns:
      Per name of PUBLISHED_SCORES: (normal, adversarial), both float64 [n], n the images that count.
      "k_density" is the log-density, which orders like the density but does not underflow.

    Raises:
      InputError: a label is no class of the kernels, or features and kernels differ in width.

    Source: auc_of_roc_RCE.m of the original.
    """
    chosen = _counted_rows(results, rows)
    part = {name: array[chosen] for name, array in results.items()}
    # Kernels were drawn by true label; each density takes those of the image's own prediction.
    density = [log_kernel_density(part[f"logits_{side}"], part[f"labels_{side}"], kernels,
                                  bandwidth) for side in ("nor", "adv")]
    return {"confidence": (part["confidence_nor"], part["confidence_adv"]),
            "non_me": (part["entropy_nor"], part["entropy_adv"]),
            "k_density": (density[0], density[1])}


def evaluate_rounds(results: Mapping[str, np.ndarray], kernels: np.ndarray, bandwidth: float,
                    eps_values: Sequence[float | None], num_per_eps: int,
                    eps_round: int = 0, *, matlab_ties: bool = False) -> list[dict[str, Any]]:
    """AUC of the three scores in each round of an eps sweep.

    Args:
      results: arrays of `files.attack_results.load_attack_results`, num_per_eps rows per eps.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.
      eps_values: eps of each round (None where an attack has none).
      num_per_eps: images per round.
      eps_round: the only round to look at, from 1; 0: all.
      matlab_ties: as in `auc`.

    Returns:
      Per round: {"round": from 1, "eps", "n": images that count, "auc": {score: float}}, the AUCs
      NaN where n is 0.

    Raises:
      InputError: there is no such round, or the rows are not num_per_eps per eps.
    """
    check_rounds(len(results["labels_true"]), eps_values, num_per_eps, eps_round)
    rows = round_rows(eps_round, num_per_eps) if eps_round else slice(None)
    # All rounds at once: the kernels of a class are then prepared once.
    scores = score_images(results, kernels, bandwidth, rows)
    rounds = _counted_rows(results, rows) // num_per_eps + 1
    table = []
    for k in [eps_round] if eps_round else range(1, len(eps_values) + 1):
        of_round = rounds == k
        table.append({"round": k, "eps": eps_values[k - 1], "n": int(of_round.sum()), "auc": {
            name: metrics.auc(*(side[of_round] for side in scores[name]), matlab_ties=matlab_ties)
            for name in PUBLISHED_SCORES}})
    return table


def check_rounds(num_rows: int, eps_values: Sequence[float | None], num_per_eps: int,
                 eps_round: int) -> None:
    """Raises an InputError unless num_rows are num_per_eps per eps and the round exists (0: all)."""
    if num_rows != num_per_eps * len(eps_values):
        raise InputError(f"expected {len(eps_values)} rounds of {num_per_eps} images. "
                         f"Received: rows={num_rows}.")
    if not 0 <= eps_round <= len(eps_values):
        raise InputError(f"eps_round must lie in [0, {len(eps_values)}], 0 being all rounds. "
                         f"Received: eps_round={eps_round}.")


def round_rows(eps_round: int, num_per_eps: int) -> slice:
    """Rows of one round, counted from 1, in result files of num_per_eps images per eps."""
    return slice((eps_round - 1) * num_per_eps, eps_round * num_per_eps)


# Which images count. Successful: classified correctly when normal, wrongly when adversarial.
SUBSETS = ("successful", "all")


@dataclasses.dataclass(frozen=True)
class Round:
    """The images of one attack at one eps, with their scores.

    Attributes:
      attack: name of the attack.
      eps: None for an attack without.
      image: which picture each is, as `AttackResults.image_digests` tells, uint64 [n].
      normal: by name of `defenses.SCORES`, float [n].
      adversarial: as `normal`.
      right_normal: whether the normal image is classified correctly, bool [n].
      right_adversarial: whether the adversarial one is, bool [n].
    """

    attack: str
    eps: float | None
    image: np.ndarray
    normal: Mapping[str, np.ndarray]
    adversarial: Mapping[str, np.ndarray]
    right_normal: np.ndarray
    right_adversarial: np.ndarray

    def subset(self, name: str) -> np.ndarray:
        """bool [n]: the images of one of SUBSETS."""
        if name == "all":
            return np.ones(len(self.image), bool)
        return self.right_normal & ~self.right_adversarial


def rounds_of(attack: str, results: Mapping[str, np.ndarray], image: np.ndarray,
              is_fitted: np.ndarray, eps_values: Sequence[float | None], num_per_eps: int,
              detector: detectors.Detector) -> list[Round]:
    """The rounds of an attack's result files without the images the detector was fitted on.

    Args:
      attack: name of the attack.
      results: arrays of `files.attack_results.load_attack_results`.
      image: uint64 [rows], which picture each row is.
      is_fitted: bool [rows], whether the detector was fitted on it.
      eps_values: of each round.
      num_per_eps: rows per round.
      detector: whose scores are taken.
    """
    scores = {side: detectors.combine(
        results[f"confidence_{side}"], results[f"entropy_{side}"], results[f"logits_{side}"],
        results[f"labels_{side}"], detector.kernels, detector.bandwidth, detector.non_me_variance,
        detector.eta) for side in ("nor", "adv")}
    rounds = []
    for number, eps in enumerate(eps_values, 1):
        rows = np.arange(len(image))[round_rows(number, num_per_eps)]
        rows = rows[~is_fitted[rows]]
        right = {side: results[f"labels_{side}"][rows] == results["labels_true"][rows]
                 for side in ("nor", "adv")}
        rounds.append(Round(
            attack, eps, image[rows],
            *({name: values[rows] for name, values in scores[side].items()} for side in scores),
            right["nor"], right["adv"]))
    return rounds

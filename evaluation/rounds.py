"""The images of an attack at one eps, with their scores: what figures and tables are made from."""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from defenses.scores import Reference, score
from errors import InputError
from files.attack_results import AttackResults

# Which images count. Successful: classified correctly when normal, wrongly when adversarial.
SUBSETS = ("successful", "all")


@dataclasses.dataclass(frozen=True)
class Round:
    """The images of one attack at one eps, with their scores.

    Attributes:
      attack: name of the attack.
      eps: None for an attack without.
      image: which picture each is, int [n].
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
        return successful(self) if name == "successful" else np.ones(len(self.image), bool)

    def where(self, chosen: np.ndarray) -> "Round":
        """The same of some images, bool [n]."""
        return Round(self.attack, self.eps, self.image[chosen],
                     *({name: values[chosen] for name, values in scores.items()}
                       for scores in (self.normal, self.adversarial)),
                     self.right_normal[chosen], self.right_adversarial[chosen])


def successful(images: Round | AttackResults) -> np.ndarray:
    """Which images count, bool [n]: classified correctly when normal, wrongly when adversarial."""
    # As in the original: an image that was wrong before was not the attack's doing, and one that stays
    # right needs no detection.
    return images.right_normal & ~images.right_adversarial


def check_rounds(results: AttackResults, eps_round: int = 0) -> None:
    """Raises an InputError unless the results are num_per_eps rows per eps and there is the round, from
    1 (0: all)."""
    eps_values = results.eps_values
    if results.num_rows != results.num_per_eps * len(eps_values):
        raise InputError(f"expected {len(eps_values)} rounds of {results.num_per_eps} images. "
                         f"Received: rows={results.num_rows}.")
    if not 0 <= eps_round <= len(eps_values):
        raise InputError(f"eps_round must lie in [0, {len(eps_values)}], 0 being all rounds. "
                         f"Received: eps_round={eps_round}.")


def rounds_of(attack: str, results: AttackResults, names: Collection[str], reference: Reference, *,
              rows: np.ndarray | None = None, image: np.ndarray | None = None) -> list[Round]:
    """The rounds of an attack's results, scored.

    Args:
      attack: name of the attack.
      results: in rounds, as `check_rounds` has it.
      names: of `defenses.SCORES`, those to compute.
      reference: of the attacked network.
      rows: bool [rows], which are looked at; None: all.
      image: which picture each row is, int [rows]; None: its place in the round.

    Returns:
      One per eps, in the order of the results; "k_density" is the log-density.

    Raises:
      InputError: as `defenses.scores.score`.

    Source: auc_of_roc_RCE.m of the original.
    """
    if reference is not None:
        # The original's files tell no network: the kernels know how many classes there are.
        results.check_classes(reference.kernels.num_classes)
    number = np.arange(results.num_rows) // results.num_per_eps
    image = np.arange(results.num_rows) % results.num_per_eps if image is None else image
    rows = np.flatnonzero(np.ones(results.num_rows, bool) if rows is None else rows)
    # All rounds at once: the kernels of a class are then prepared once.
    normal, adversarial = (score(names, outputs.rows(rows), reference)
                           for outputs in (results.normal, results.adversarial))
    scored = Round(attack, None, image[rows], normal, adversarial, results.right_normal[rows],
                   results.right_adversarial[rows])
    return [dataclasses.replace(scored.where(number[rows] == k), eps=eps)
            for k, eps in enumerate(results.eps_values)]

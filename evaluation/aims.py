"""What an attacker who knows a detector aims at: which of its scores, at which threshold."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from defenses import differentiable
from defenses.detector import Detector
from defenses.scores import score
from errors import InputError
from evaluation.finding import check_same_network
from files.attack_results import Outputs
from files.names import ALL_SCORES
from networks.network import Network


def broken(aim: "Aim | None", outputs: Outputs, labels: np.ndarray) -> np.ndarray:
    """bool [n]: images that are wrong and, where a detector is aimed at, past it."""
    wrong = outputs.predicted != labels
    return wrong if aim is None else wrong & aim.passes(outputs)


@dataclasses.dataclass(frozen=True)
class Aim:
    """Scores of a detector that an attack is to pass all at once.

    Attributes:
      detector: whose.
      against: names of its scores.
      rate: one of its false refusal rates, that of the thresholds.
    """

    detector: Detector
    against: tuple[str, ...]
    rate: float

    def keywords(self) -> dict[str, Any]:
        """Keywords of an attack that takes scores."""
        return {"slack_fn": differentiable.aim(self.detector, self.against, self.rate)}

    def identity(self) -> dict[str, Any]:
        """What is aimed at, as JSON values: part of the run's record and of its parts' identity."""
        return {"detector_sha256": self.detector.digest(), "against": list(self.against),
                "against_rate": self.rate}

    @property
    def name(self) -> str:
        """What folders of results call it."""
        names = self.detector.score_names
        return ALL_SCORES if set(self.against) == set(names) else "+".join(self.against)

    def passes(self, outputs: Outputs) -> np.ndarray:
        """bool [n]: images whose float64 scores pass each threshold aimed at."""
        scores = score(self.against, outputs, self.detector.reference)
        return np.all([self.detector.accepts(scores, name, self.rate) for name in self.against], axis=0)


def aim(detector: Detector, given: Sequence[str], rate: float, path: str) -> Aim:
    """The aim that --against names.

    Args:
      detector: whose scores.
      given: names of scores; "all" alone is every one.
      rate: of the thresholds.
      path: of the detector, for messages.

    Raises:
      InputError: a score that the detector has not, one twice, or a rate that it was not fitted at.
    """
    names, rates = tuple(detector.score_names), detector.false_refusal_rates.tolist()
    against = names if list(given) == [ALL_SCORES] else tuple(given)
    unknown = [name for name in against if name not in names]
    if unknown or not against or len(set(against)) < len(against):
        raise InputError(f"against must be {ALL_SCORES} or different scores of {path}, "
                         f"[{', '.join(names)}]. Received: against={','.join(given)}.")
    if rate not in rates:
        raise InputError(f"against_rate must be one of {rates}, at which {path} was fitted. "
                         f"Received: against_rate={rate}.")
    # In the detector's order: one folder for one aim.
    return Aim(detector, tuple(name for name in names if name in against), rate)


def check_fits(detector: Detector, network: Network, path: str) -> None:
    """Raises an InputError when a detector is not of this network."""
    check_same_network("a detector", path, detector.network, network.identity(), "--log_root")

"""The thresholding test of the paper on logits and features: scores, thresholds, an answer or none."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from defenses import SCORES, thresholds
from defenses import scores as formulas
from defenses.kernels import Kernels
from errors import InputError
from files import detectors as detector_files
from files.arrays import sha256
from files.attack_results import Outputs


@dataclasses.dataclass(frozen=True)
class Detector:
    """What accepts or refuses the outputs of one network.

    Attributes:
      network: JSON values of the network it belongs to, "weights_sha256" among them.
      reference: what images are compared with.
      score_names: of SCORES, those that have thresholds: with no other it judges.
      false_refusal_rates: shares of normal images that may be refused, float [rates].
      thresholds: T of each score at each rate, float [scores, rates].
      fitted_on: which images of the data set the thresholds were fitted on, int [n].
      fitted_images: the same by `AttackResults.image_digests`, uint64 [n].

    Raises:
      InputError: a score is unknown, or the thresholds are not of these scores and rates.
    """

    network: Mapping[str, Any]
    reference: formulas.Reference
    score_names: Sequence[str]
    false_refusal_rates: np.ndarray
    thresholds: np.ndarray
    fitted_on: np.ndarray
    fitted_images: np.ndarray

    def __post_init__(self):
        unknown = sorted(set(self.score_names) - set(SCORES))
        if unknown:
            raise InputError(f"expected scores of [{', '.join(SCORES)}], as this version knows them. "
                             f"Received: scores={', '.join(unknown)}.")
        wanted = (len(self.score_names), len(self.false_refusal_rates))
        if self.thresholds.shape != wanted:
            raise InputError(f"expected thresholds of shape {wanted}, scores by false refusal rates. "
                             f"Received: shape={self.thresholds.shape}.")

    def digest(self) -> str:
        """SHA-256 of all that decides: another one answers otherwise, or may."""
        reference = self.reference
        numbers = (reference.kernels.bandwidth, reference.non_me_variance, reference.eta)
        return sha256(np.asarray(reference.kernels.features, np.float32), np.array(numbers, np.float64),
                      np.asarray(self.thresholds, np.float64),
                      np.asarray(self.false_refusal_rates, np.float64),
                      np.frombuffer(",".join(self.score_names).encode(), np.uint8))

    def scores(self, logits: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of images, float64 [n] by name of `score_names`, finite.

        Args:
          logits: sign-adjusted, float [n, num_classes].
          features: float [n, d].

        Raises:
          InputError: a logit or feature is not finite, or shapes do not fit the kernels.
        """
        # An error, not a refusal: NaN below every threshold would look like a detected attack.
        for name, array in (("logits", logits), ("features", features)):
            if not np.isfinite(array).all():
                rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
                raise InputError(f"expected finite {name} of every image. Received: {len(rows)} images "
                                 f"with others, the first in row {rows[0]}.")
        outputs = Outputs(formulas.confidence(logits), formulas.non_me(logits), features,
                          logits.argmax(axis=1))
        return formulas.score(self.score_names, outputs, self.reference)

    def threshold(self, score: str, false_refusal_rate: float) -> float:
        """T of a score of `score_names` at one of the fitted rates; InputError at any other."""
        names, rates = list(self.score_names), self.false_refusal_rates.tolist()
        # Never interpolated: between the fitted rates nobody has counted what is refused.
        if score not in names or false_refusal_rate not in rates:
            raise InputError(f"score must be one of {names} and false_refusal_rate one of "
                             f"{rates}, which were fitted. Received: score={score!r}, "
                             f"false_refusal_rate={false_refusal_rate}.")
        return float(self.thresholds[names.index(score), rates.index(false_refusal_rate)])

    def accepts_everything(self, score: str, false_refusal_rate: float) -> bool:
        """Whether T is no more than the lowest value that the score can take."""
        lowest = SCORES[score].lowest
        # Of the confidence that hangs on the classes.
        lowest = 1 / self.reference.kernels.num_classes if lowest is None else lowest
        return self.threshold(score, false_refusal_rate) <= lowest

    def accepts(self, scores: Mapping[str, np.ndarray], score: str,
                false_refusal_rate: float) -> np.ndarray:
        """bool [n]: which of the images with these `scores` are answered; as `threshold`."""
        return thresholds.accepts(scores[score], self.threshold(score, false_refusal_rate))


def fit(scores: Mapping[str, np.ndarray], false_refusal_rates: Sequence[float],
        **rest) -> Detector:
    """A detector whose thresholds refuse these shares of normal images.

    Args:
      scores: by name of SCORES float [n], of normal images that it has not been made from.
      false_refusal_rates: each in [0, 1).
      **rest: the other attributes of `Detector`.

    Raises:
      InputError: as `thresholds.fit`.
    """
    fitted = [[thresholds.fit(values, rate) for rate in false_refusal_rates]
              for values in scores.values()]
    return Detector(score_names=tuple(scores), false_refusal_rates=np.array(false_refusal_rates),
                    thresholds=np.array(fitted), **rest)


def save(path: str | os.PathLike, detector: Detector) -> None:
    """Writes a detector.npz; arguments and errors as `files.detectors.save`."""
    reference = detector.reference
    detector_files.save(path, {
        "kernels": reference.kernels.features, "bandwidth": reference.kernels.bandwidth,
        "non_me_variance": reference.non_me_variance, "eta": reference.eta,
        "scores": detector.score_names, "network": detector.network,
        **{name: getattr(detector, name) for name in (
            "thresholds", "false_refusal_rates", "fitted_on", "fitted_images")}})


def load(path: str | os.PathLike) -> Detector:
    """Reads a detector.npz.

    Raises:
      InputError: as `files.detectors.load`, or as `Detector`, with the file in front.
    """
    found = detector_files.load(path)
    kernels = Kernels(found.pop("kernels"), found.pop("bandwidth"))
    reference = formulas.Reference(kernels, found.pop("non_me_variance"), found.pop("eta"))
    try:
        return Detector(reference=reference, score_names=found.pop("scores"), **found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None

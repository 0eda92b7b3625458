"""The thresholding test of the paper on logits and features: scores, thresholds, an answer or none."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from defenses import SCORES, thresholds
from defenses import scores as formulas
from defenses.kernels import log_kernel_density
from defenses.scores import j_score
from errors import InputError


@dataclasses.dataclass(frozen=True)
class Detector:
    """What accepts or refuses the outputs of one network.

    Attributes:
      network: JSON values of the network it belongs to, "weights_sha256" among them.
      kernels: float [num_kernels, d, num_classes], training features.
      bandwidth: σ² of the K-density.
      non_me_variance: σ² of the kernel non-ME.
      eta: η of the kernel non-ME.
      false_refusal_rates: shares of normal images that may be refused, float [rates].
      thresholds: T of each of SCORES at each rate, float [len(SCORES), rates].
      fitted_on: which images of the data set the thresholds were fitted on, int [n].
      fitted_images: the same by `AttackResults.image_digests`, uint64 [n].

    Raises:
      InputError: the thresholds are not of these scores and rates.
    """

    network: Mapping[str, Any]
    kernels: np.ndarray
    bandwidth: float
    non_me_variance: float
    eta: float
    false_refusal_rates: np.ndarray
    thresholds: np.ndarray
    fitted_on: np.ndarray
    fitted_images: np.ndarray

    def __post_init__(self):
        wanted = (len(SCORES), len(self.false_refusal_rates))
        if self.thresholds.shape != wanted:
            raise InputError(f"expected thresholds of shape {wanted}, scores by false refusal rates. "
                             f"Received: shape={self.thresholds.shape}.")

    def scores(self, logits: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of images, float64 [n] by name of SCORES, finite.

        Args:
          logits: sign-adjusted, float [n, num_classes].
          features: float [n, d].

        Raises:
          InputError: a logit or feature is not finite, or shapes do not fit the kernels.
        """
        for name, array in (("logits", logits), ("features", features)):
            if not np.isfinite(array).all():
                rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
                raise InputError(f"expected finite {name} of every image. Received: {len(rows)} images "
                                 f"with others, the first in row {rows[0]}.")
        return combine(formulas.confidence(logits), formulas.non_me(logits), features,
                       logits.argmax(axis=1), self.kernels, self.bandwidth, self.non_me_variance,
                       self.eta)

    def threshold(self, score: str, false_refusal_rate: float) -> float:
        """T of a score of SCORES at one of the fitted rates; InputError at any other."""
        rates = self.false_refusal_rates.tolist()
        if score not in SCORES or false_refusal_rate not in rates:
            raise InputError(f"score must be one of {list(SCORES)} and false_refusal_rate one of "
                             f"{rates}, which were fitted. Received: score={score!r}, "
                             f"false_refusal_rate={false_refusal_rate}.")
        return float(self.thresholds[list(SCORES).index(score), rates.index(false_refusal_rate)])

    def accepts(self, scores: Mapping[str, np.ndarray], score: str,
                false_refusal_rate: float) -> np.ndarray:
        """bool [n]: which of the images with these `scores` are answered; as `threshold`."""
        return thresholds.accepts(scores[score], self.threshold(score, false_refusal_rate))


def combine(confidence: np.ndarray, non_me: np.ndarray, features: np.ndarray, classes: np.ndarray,
            kernels: np.ndarray, bandwidth: float, non_me_variance: float,
            eta: float) -> dict[str, np.ndarray]:
    """All of SCORES from confidence and non-ME float [n], features [n, d] and predicted classes [n].

    "k_density" is the logarithm, which orders like the density but does not underflow.
    """
    kernel_non_me = formulas.kernel_non_me(non_me, kernels.shape[2], non_me_variance, eta)
    values = (confidence, non_me, kernel_non_me, j_score(confidence, kernel_non_me),
              log_kernel_density(features, classes, kernels, bandwidth))
    return dict(zip(SCORES, values, strict=True))


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
    fitted = [[thresholds.fit(scores[name], rate) for rate in false_refusal_rates] for name in SCORES]
    return Detector(false_refusal_rates=np.array(false_refusal_rates), thresholds=np.array(fitted),
                    **rest)

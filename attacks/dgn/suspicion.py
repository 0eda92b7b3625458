"""Which units of a network fire when it errs: hit spectra, Tarantula's score and the most suspicious.

Source: Neuron, DenseLayer, CNNLayer, FeatureMap and find_suspicious_* of the original's
Suspicious/DetectSuspiciousNeurons.py; Tarantula: Jones and Harrold 2005.
"""

from collections.abc import Sequence

import numpy as np

from errors import InputError


def hit_spectrum(active: np.ndarray, labels: np.ndarray, success: np.ndarray, num_classes: int
                 ) -> np.ndarray:
    """How often each unit was active or not, over right and wrong answers.

    Spectra of several batches add up.

    Args:
      active: bool [n, ...], n below 2**24.
      labels: classes of the images, int [n].
      success: whether the network was right, bool [n].
      num_classes: L.

    Returns:
      int32 [L, 4, ...]: as, af, ns, nf, that is active and right, active and wrong, not active and
      right, not active and wrong.
    """
    groups = np.zeros((2 * num_classes, len(active)), np.float32)
    groups[2 * labels + ~success, np.arange(len(active))] = 1.0
    # A product counts several times as fast as sums over chosen rows; in float32 it is exact.
    hits = groups @ active.reshape(len(active), -1).astype(np.float32)
    missed = groups.sum(axis=1, keepdims=True) - hits
    of_class = [part.reshape(num_classes, 2, -1) for part in (hits, missed)]
    spectrum = np.concatenate(of_class, axis=1).astype(np.int32)
    return spectrum.reshape(num_classes, 4, *active.shape[1:])


def tarantula(spectrum: np.ndarray) -> np.ndarray:
    """Share of the wrong answers with the unit active, over this plus that of the right ones.

    Args:
      spectrum: of `hit_spectrum`, int [L, 4, ...].

    Returns:
      float64 [L, ...] in [0, 1]. 0 for a unit that was never active, where the original has None, and
      for a class without a wrong or without a right answer.
    """
    right, wrong, idle_right, idle_wrong = np.moveaxis(spectrum.astype(np.float64), 1, 0)
    with np.errstate(invalid="ignore"):
        of_wrong, of_right = wrong / (wrong + idle_wrong), right / (right + idle_right)
        return np.nan_to_num(of_wrong / (of_wrong + of_right), nan=0.0)


def map_scores(scores: np.ndarray) -> np.ndarray:
    """Score of each feature map, the mean of its units'.

    Args:
      scores: of `tarantula`, float64 [L, height, width, maps].

    Returns:
      float64 [L, maps].
    """
    return scores.mean(axis=(1, 2))


def most_suspicious(scores: Sequence[np.ndarray], k: int) -> np.ndarray:
    """The k most suspicious units of all layers together: the rule for networks without convolutions.

    Args:
      scores: float64 [units], a layer each.
      k: how many, at least 1 and at most all.

    Returns:
      int32 [k], the highest score first; units count on from layer to layer. Which of equal scores
      is taken, and first, is the original's choice.

    Raises:
      InputError: another k.
    """
    units = sum(len(layer) for layer in scores)
    if not 1 <= k <= units:
        raise InputError(f"k must lie in [1, {units}]. Received: {k=}.")
    starts = np.cumsum([0, *(len(layer) for layer in scores[:-1])])
    slots = np.concatenate([start + most_suspicious_of_layer(layer, k)
                            for start, layer in zip(starts, scores, strict=True)])
    found = np.concatenate(scores)[slots]
    # Stable: of equals the one whose slot comes first.
    return slots[np.argsort(-found, kind="stable")[:k]].astype(np.int32)


def most_suspicious_of_layer(scores: np.ndarray, k: int) -> np.ndarray:
    """The k most suspicious units or maps of one layer: the rule for networks with convolutions.

    k slots hold the first k units; each later one whose score exceeds the smallest kept takes the first
    slot that holds the smallest. They stay in this order, as in the original.

    Args:
      scores: float64 [units].
      k: how many, at least 1; of a smaller layer, all.

    Returns:
      int32 [min(k, units)].

    Raises:
      InputError: k below 1.
    """
    if k < 1:
        raise InputError(f"k must be at least 1. Received: {k=}.")
    slots = np.arange(min(k, len(scores)), dtype=np.int32)
    for unit in range(len(slots), len(scores)):
        smallest = np.argmin(scores[slots])  # the first of equals
        if scores[unit] > scores[slots[smallest]]:
            slots[smallest] = unit
    return slots

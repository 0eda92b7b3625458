"""Scores of images from logits and features, the kernels they need, and the AUC that judges them.

Functions of NumPy arrays, in place of the original's Matlab functions. Every score is higher for images
that look more normal and finite for any finite input.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from errors import InputError

# σ² of the kernel density, as in the original's Matlab scripts.
KERNEL_BANDWIDTH = {"ce": 1 / 0.26, "rce": 0.1 / 0.26}

SCORES = ("confidence", "non_me", "k_density")

# Kernels per class of the white-box attacks.
ATTACK_KERNELS = 100

# Smallest σ² of the kernel non-ME: below lies the rounding of non-ME in float32, squared.
_VARIANCE_FLOOR = 1e-12
# Elements of the distance matrix held at a time: 4 MB in float64, which stay in the cache.
_CHUNK_ELEMENTS = 1 << 19


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax.

    Args:
      logits: float [n, num_classes], finite, of any size; sign-adjusted (−Z for RCE).

    Returns:
      float64 [n, num_classes], ≤ 0, finite for finite logits.
    """
    logits = np.asarray(logits, np.float64)
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
    # The difference of two finite logits can overflow to -inf, whose probability 0 times its
    # logarithm would be NaN.
    shifted = np.maximum(shifted, np.finfo(np.float64).min / 2)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def confidence(logits: np.ndarray) -> np.ndarray:
    """Largest softmax probability.

    Args:
      logits: float [n, num_classes], finite; sign-adjusted (−Z for RCE).

    Returns:
      float64 [n] in [1/num_classes, 1].
    """
    return np.exp(log_probabilities(logits).max(axis=1))


def non_me(logits: np.ndarray) -> np.ndarray:
    """Non-maximal entropy −Σ_{i≠m} p̂_i log p̂_i, p̂ the softmax without its largest element m.

    Args:
      logits: float [n, num_classes], finite, num_classes ≥ 2; sign-adjusted (−Z for RCE). Of
        several largest elements, the first is left out.

    Returns:
      float64 [n] in [0, log(num_classes − 1)], the upper end where all others are equal. After RCE
      training, higher means more normal.

    Raises:
      InputError: logits is not a matrix of at least two columns.
    """
    # Differs from the original: from the logits, so that it stays finite where a probability
    # underflows to 0; equal elsewhere.
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"expected logits of shape [n, at least 2 classes]. "
                         f"Received: shape={logits.shape}.")
    num_rows, num_classes = logits.shape
    others = np.ones(logits.shape, bool)
    others[np.arange(num_rows), logits.argmax(axis=1)] = False
    log_p = log_probabilities(logits[others].reshape(num_rows, num_classes - 1))
    # The sum of rounded terms may leave the range by its last digit.
    return np.clip(-(np.exp(log_p) * log_p).sum(axis=1), 0, math.log(num_classes - 1))


def non_me_variance(non_me_values: np.ndarray, num_classes: int) -> float:
    """σ² of the kernel non-ME: the mean square of (non-ME − log(L − 1)) over training images.

    Args:
      non_me_values: float [n], n ≥ 1, of the training images.
      num_classes: L.

    Source: arXiv 1706.00633v1.
    """
    return float(np.mean(np.square(non_me_values - math.log(num_classes - 1))))


def kernel_non_me(non_me_values: np.ndarray, num_classes: int, variance: float,
                  eta: float = 1.0) -> np.ndarray:
    """Kernel non-ME exp(−(non-ME − μ)²/(ησ²)) with μ = log(L − 1), the value after perfect RCE.

    Args:
      non_me_values: float [n], of `non_me`.
      num_classes: L.
      variance: σ² ≥ 0, of `non_me_variance`; 0 where all training images are at μ, as of two classes.
      eta: η > 0; the larger, the less a low non-ME counts.

    Returns:
      float64 [n] in [0, 1].

    Source: arXiv 1706.00633v1.
    """
    deviation = np.asarray(non_me_values, np.float64) - math.log(num_classes - 1)
    return np.exp(-np.square(deviation) / (eta * max(variance, _VARIANCE_FLOOR)))


def j_score(confidences: np.ndarray, kernel_non_me_values: np.ndarray) -> np.ndarray:
    """J-score, confidence times kernel non-ME: float64 [n] in [0, 1] (arXiv 1706.00633v1)."""
    return np.asarray(confidences, np.float64) * kernel_non_me_values


def log_kernel_density(features: np.ndarray, classes: np.ndarray, kernels: np.ndarray,
                       bandwidth: float) -> np.ndarray:
    """Logarithm of the K-density mean_j exp(−‖f − k_j‖²/σ²), the k_j those of each row's class.

    Args:
      features: float [n, d], penultimate layer.
      classes: int [n] in [0, num_classes), the predicted classes.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0, see KERNEL_BANDWIDTH.

    Returns:
      float64 [n] ≤ 0, finite for any features of float32, also where the density underflows to 0.

    Raises:
      InputError: shapes that do not fit, or a class without kernels.

    Source: select_kernel.m and auc_of_roc_RCE.m of the original.
    """
    features, classes = np.asarray(features, np.float64), np.asarray(classes)
    _check_density_inputs(features, classes, kernels)
    result = np.empty(len(features))
    chunk = max(1, _CHUNK_ELEMENTS // len(kernels))
    for c in np.unique(classes):
        class_kernels = np.asarray(kernels[:, :, c], np.float64)
        # ‖f − k‖² = ‖f‖² − 2fk + ‖k‖² cancels; around the kernels' mean it loses no digits.
        center = class_kernels.mean(axis=0)
        class_kernels = class_kernels - center
        rows = np.flatnonzero(classes == c)
        for start in range(0, len(rows), chunk):
            part = rows[start:start + chunk]
            result[part] = _log_mean_kernel(features[part] - center, class_kernels, bandwidth)
    return result


def _log_mean_kernel(features, kernels, bandwidth):
    """log mean_j exp(−‖f − k_j‖²/σ²) [n] of features [n, d] and kernels [num_kernels, d]."""
    exponents = features @ (2 * kernels.T)
    exponents -= np.square(kernels).sum(axis=1)
    largest = exponents.max(axis=1)
    exponents -= largest[:, None]
    exponents /= bandwidth
    np.exp(exponents, out=exponents)
    # A squared distance is not negative.
    largest = np.minimum(largest - np.square(features).sum(axis=1), 0)
    return largest / bandwidth + np.log(exponents.mean(axis=1))


def _check_density_inputs(features, classes, kernels):
    if kernels.ndim != 3 or features.ndim != 2 or features.shape[1] != kernels.shape[1]:
        raise InputError("expected features [n, d] and kernels [num_kernels, d, num_classes] with "
                         f"the same d. Received: shapes={features.shape}, {kernels.shape}.")
    if classes.size and not 0 <= classes.min() <= classes.max() < kernels.shape[2]:
        raise InputError(f"expected classes in [0, {kernels.shape[2]}), those of the kernels. "
                         f"Received: classes from {classes.min()} to {classes.max()}.")


def kernel_density(features: np.ndarray, classes: np.ndarray, kernels: np.ndarray,
                   bandwidth: float) -> np.ndarray:
    """K-density float64 [n] in [0, 1]; arguments and errors as `log_kernel_density`."""
    return np.exp(log_kernel_density(features, classes, kernels, bandwidth))


def density_medians(features: np.ndarray, labels: np.ndarray, kernels: np.ndarray,
                    bandwidth: float) -> np.ndarray:
    """Per class, the median K-density over its training features.

    Args:
      features: float [n, d], training features.
      labels: int [n], their true classes.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.

    Returns:
      float64 [num_classes].

    Raises:
      InputError: a class has no feature; as `log_kernel_density`.

    Source: median_for_attack.m of the original.
    """
    labels = np.asarray(labels)
    density = kernel_density(features, labels, kernels, bandwidth)
    counts = np.bincount(labels, minlength=kernels.shape[2])
    if not counts.all():
        raise InputError("expected training features of every class of the kernels. "
                         f"Received: class {int(counts.argmin())}=0 features.")
    return np.array([np.median(density[labels == c]) for c in range(len(counts))])


def select_kernels(features: np.ndarray, labels: np.ndarray, num_kernels: int, num_classes: int,
                   seed: int) -> np.ndarray:
    """Draws training features as kernels: per class, at random and without replacement.

    Args:
      features: float [n, d], training features.
      labels: int [n] in [0, num_classes), their true classes.
      num_kernels: kernels per class, at least 1.
      num_classes: number of classes.
      seed: of the draw. A class's kernels depend on nothing but its own features.

    Returns:
      [num_kernels, d, num_classes], of the features' type.

    Raises:
      InputError: a class has fewer features than num_kernels (never silently fewer), or a label is
        out of range.

    Source: select_kernel.m of the original.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise InputError(f"expected labels in [0, {num_classes}). "
                         f"Received: labels from {labels.min()} to {labels.max()}.")
    counts = np.bincount(labels, minlength=num_classes)
    smallest = int(counts.argmin())
    if counts[smallest] == 0:
        raise InputError(f"expected training features of every class in [0, {num_classes}). "
                         f"Received: none of class {smallest}.")
    if not 1 <= num_kernels <= counts[smallest]:
        raise InputError(f"num_kernels must lie in [1, {counts[smallest]}]: class {smallest} has "
                         f"{counts[smallest]} training features. "
                         f"Received: num_kernels={num_kernels}.")
    draws = [np.random.default_rng((seed, c)).choice(counts[c], num_kernels, replace=False)
             for c in range(num_classes)]
    return np.stack([features[labels == c][draw] for c, draw in enumerate(draws)], axis=2)


def select_attack_kernels(kernels: np.ndarray, num_kernels: int, seed: int) -> np.ndarray:
    """Draws some of the kernels of each class, for the white-box attacks.

    Args:
      kernels: [n, d, num_classes].
      num_kernels: kernels per class, in [1, n].
      seed: of the draw.

    Returns:
      [num_kernels, d, num_classes].

    Source: select_kernel_for_attack.m of the original, which draws 100 of 1,000.
    """
    num_drawn_from, num_features, num_classes = kernels.shape
    if not 1 <= num_kernels <= num_drawn_from:
        raise InputError(f"num_kernels must lie in [1, {num_drawn_from}], the kernels per class. "
                         f"Received: num_kernels={num_kernels}.")
    by_class = np.transpose(kernels, (2, 0, 1)).reshape(-1, num_features)
    return select_kernels(by_class, np.repeat(np.arange(num_classes), num_drawn_from), num_kernels,
                          num_classes, seed)


def auc(scores_normal: np.ndarray, scores_adversarial: np.ndarray, *,
        matlab_ties: bool = False) -> float:
    """Area under the ROC curve of normal (positive) against adversarial images.

    Args:
      scores_normal: float [n], higher = more normal. NaN counts as highest, as in the original.
      scores_adversarial: float [m].
      matlab_ties: equal scores count against detection, not half: there the original's stable sort
        puts the normal image below.

    Returns:
      The share of pairs in which the normal image scores higher, equal scores counting half; NaN
      when a side is empty.

    Source: AUC.m of the original.
    """
    if not len(scores_normal) or not len(scores_adversarial):
        return math.nan
    targets, ranks = _targets_and_ranks(scores_normal, scores_adversarial)
    # Differs from the original: ties count half; there they count as its sort leaves them.
    normal, adversarial = _falling_counts(targets, 2 * ranks + ~targets if matlab_ties else ranks)
    # Twice the normal images above each adversarial one, in whole numbers.
    above = adversarial @ (2 * np.cumsum(normal) - normal)
    return float(above / (2 * len(scores_normal) * len(scores_adversarial)))


def roc(scores_normal: np.ndarray, scores_adversarial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve of normal (positive) against adversarial images.

    Args:
      scores_normal: float [n], n ≥ 1, higher = more normal. NaN counts as highest.
      scores_adversarial: float [m], m ≥ 1.

    Returns:
      fpr, tpr: float64 [points], from (0, 0) to (1, 1).
    """
    return tuple(np.concatenate([[0], np.cumsum(counts)]) / counts.sum() for counts in reversed(
        _falling_counts(*_targets_and_ranks(scores_normal, scores_adversarial))))


# By hand, and compared with scikit-learn in the tests: its import alone would take longer than all the
# rest of `detect.py --mode=auc` (benchmarks/detection.py).
def _targets_and_ranks(scores_normal, scores_adversarial):
    """True for normal and False for adversarial images; the scores' dense ranks, NaN highest."""
    scores = np.concatenate([scores_normal, scores_adversarial])
    ranks = np.unique(scores, return_inverse=True)[1]
    return np.arange(len(scores)) < len(scores_normal), ranks


def _falling_counts(targets, ranks):
    """How many normal and how many adversarial images have each rank, the highest first."""
    size = ranks.max() + 1
    return [np.bincount(ranks[side], minlength=size)[::-1] for side in (targets, ~targets)]


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
      results: arrays of `data.artifacts.load_attack_results`.
      kernels: float [num_kernels, d, num_classes].
      bandwidth: σ² > 0.
      rows: the rows to look at, e.g. those of one eps.

    Returns:
      Per name of SCORES: (normal, adversarial), both float64 [n], n the images that count.
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
      results: arrays of `data.artifacts.load_attack_results`, num_per_eps rows per eps.
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
            name: auc(*(side[of_round] for side in scores[name]), matlab_ties=matlab_ties)
            for name in SCORES}})
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

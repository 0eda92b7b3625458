"""Kernel density of features (K-density), and the draw of its kernels."""

import dataclasses

import numpy as np

from errors import InputError

# By head: σ² of the kernel density, as in the original's Matlab scripts.
KERNEL_BANDWIDTH = {"ce": 1 / 0.26, "rce": 0.1 / 0.26}
# Kernels per class of the white-box attacks.
ATTACK_KERNELS = 100
# Elements of the distance matrix held at a time: 4 MB in float64, which stay in the cache.
_CHUNK_ELEMENTS = 1 << 19


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
    # Class by class, as kernels are. Detection passes the PREDICTED classes, as in the original: the
    # true class of an image under test is unknown. (The kernels are drawn by true labels.)
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
    # Factor and sign go into the small matrix, and all that follows works in place: what costs here are
    # passes over the distances.
    exponents = features @ (2 * kernels.T)
    exponents -= np.square(kernels).sum(axis=1)
    # Taken out before exp: the largest term is then 1, and the mean's logarithm finite.
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


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Features that stand for their classes, and how far they reach.

    Attributes:
      features: float [num_kernels, d, num_classes], by class.
      bandwidth: σ² > 0, see KERNEL_BANDWIDTH.
    """

    features: np.ndarray
    bandwidth: float

    @property
    def num_classes(self) -> int:
        """How many classes they stand for."""
        return self.features.shape[2]

    def log_density(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """float64 [n] ≤ 0; arguments and errors as `log_kernel_density`."""
        return log_kernel_density(features, classes, self.features, self.bandwidth)

    def density(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """K-density float64 [n] in [0, 1]; arguments and errors as `log_kernel_density`."""
        return np.exp(self.log_density(features, classes))


def density_medians(features: np.ndarray, labels: np.ndarray, kernels: Kernels) -> np.ndarray:
    """Per class, the median K-density over its training features.

    Args:
      features: float [n, d], training features.
      labels: int [n], their true classes.
      kernels: of the same classes.

    Returns:
      float64 [num_classes].

    Raises:
      InputError: a class has no feature; as `log_kernel_density`.

    Source: median_for_attack.m of the original.
    """
    labels = np.asarray(labels)
    # Of the densities, not their logarithms: between two middle ones these have another mean.
    density = kernels.density(features, labels)
    counts = np.bincount(labels, minlength=kernels.num_classes)
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
    # A generator per class: more images of one class leave the kernels of the others as they are.
    # Differs from the original: Matlab's generator drew there, so its kernels are others.
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
    # Drawn from the detector's own kernels, as in the original: its attacker knows a tenth of them.
    by_class = np.transpose(kernels, (2, 0, 1)).reshape(-1, num_features)
    return select_kernels(by_class, np.repeat(np.arange(num_classes), num_drawn_from), num_kernels,
                          num_classes, seed)

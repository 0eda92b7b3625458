"""What the white-box attacks know of a detector: its kernels and the median densities."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from defenses.detector import Detector
from defenses.kernels import KERNEL_BANDWIDTH, log_kernel_density
from errors import InputError
from files.arrays import sha256
from files.features import KERNEL_MODES, kernels_are_stale, kernels_path, load_kernels
from networks.network import Network


@dataclasses.dataclass(frozen=True)
class KnownDensity:
    """The K-density that an attack optimises against.

    Attributes:
      kernels: float [num_kernels, d, num_classes], the original's 100 per class.
      density_medians: float [num_classes].
      bandwidth: σ².
    """

    kernels: np.ndarray
    density_medians: np.ndarray
    bandwidth: float

    def keywords(self) -> dict[str, Any]:
        """Keywords of an attack that takes kernels."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def identity(self) -> Mapping[str, str]:
        """Which kernels and medians these are, as JSON values."""
        return {"kernels": sha256(self.kernels), "density_medians": sha256(self.density_medians)}

    def log_ratio(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """log(median density of a class) − log(density), float64 [n], of features [n, d] for the
        classes int [n]."""
        return np.log(self.density_medians)[classes] - log_kernel_density(
            features, classes, self.kernels, self.bandwidth)


def known_of(network: Network, folder: str | os.PathLike, warn: Callable[[str], None],
             detector: Detector | None, all_kernels: bool, rate: float | None) -> KnownDensity:
    """What an attack knows of a detector's density.

    Args:
      network: under attack.
      folder: of detect.py's kernels for attacks, where any are asked for.
      warn: as of `load`.
      detector: of the network; None where neither of the next two asks for it.
      all_kernels: whether its kernels are known, all of them; else those of the folder.
      rate: the false refusal rate whose threshold is to be reached; None: the medians of the folder.

    Raises:
      InputError: as `load`, or a rate that the detector was not fitted at.
    """
    if all_kernels and rate is not None:
        kernels, medians = detector.reference.kernels.features, None
    else:
        files = load(network, folder, warn)
        kernels = detector.reference.kernels.features if all_kernels else files.kernels
        medians = files.density_medians
    if rate is not None:
        # A density in float64: below its smallest a threshold is harder to reach than it was.
        threshold = np.exp(detector.threshold("k_density", rate))
        medians = np.full(kernels.shape[-1], max(threshold, np.finfo(np.float64).tiny))
    return KnownDensity(kernels, medians, KERNEL_BANDWIDTH[network.head.name])


def load(network: Network, folder: str | os.PathLike, warn: Callable[[str], None]) -> KnownDensity:
    """The kernels and medians of a network in a folder.

    Args:
      network: under attack.
      folder: of detect.py's kernels for attacks.
      warn: told of files that are older than what they are made from.

    Raises:
      InputError: there are none, or of another number of features or classes.
    """
    tag = network.tag
    kernels = load_kernels(folder, tag, "attack_kernels")
    medians = load_kernels(folder, tag, "attack_medians")
    num_classes, num_features = (output.shape[-1] for output in network.model.outputs)
    # Before the attack, not in its first step: tracing would fail with TensorFlow's sentence.
    if kernels.shape[1:] != (num_features, num_classes) or medians.shape != (num_classes,):
        raise InputError(
            f"kernels of {folder} must be of {num_features} features and {num_classes} classes, as "
            f"the network. Received: kernels={kernels.shape}, medians={medians.shape}.")
    for kind in ("attack_kernels", "attack_medians"):
        if kernels_are_stale(folder, tag, kind):
            warn(f"{kernels_path(folder, tag, kind)} is older than what it is made from; "
                 f"detect.py --mode={KERNEL_MODES[kind]} makes it anew.")
    return KnownDensity(kernels, medians, KERNEL_BANDWIDTH[network.head.name])

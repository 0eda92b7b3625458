"""A detector from the files of others.py and test_adv.py: its kernels, then its thresholds."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from defenses import SCORES
from defenses import detector as detectors
from defenses.kernels import (
    KERNEL_BANDWIDTH,
    Kernels,
    density_medians,
    select_attack_kernels,
    select_kernels,
)
from defenses.scores import Reference, non_me_variance, score
from errors import InputError
from evaluation import finding
from evaluation.rounds import check_rounds
from files.attack_results import AttackResults
from files.features import (
    kernels_are_stale,
    kernels_path,
    load_kernels,
    load_training_features,
    load_training_scores,
    no_kernels,
    no_training_features,
)
from files.names import head_of_tag, training_features_path


@dataclasses.dataclass(frozen=True)
class Draw:
    """How kernels are drawn from training features.

    Attributes:
      num_kernels: per class, at least 1.
      seed: of the draw.
      is_asked: whether kernels that are there must be as many.
    """

    num_kernels: int
    seed: int
    is_asked: bool = False


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a detector is fitted.

    Attributes:
      rates: shares of normal images that it may refuse, each in [0, 1).
      holdout_share: share of the normal images that it is fitted on, in (0, 1).
      eta: η > 0 of the kernel non-ME.
      seed: of the choice of these images.
    """

    rates: Sequence[float]
    holdout_share: float
    eta: float
    seed: int


def missing_source(kind: str, folder: Path, tag: str, shown: str) -> InputError | None:
    """The error that says what a kind of `names.KERNEL_NAMES` is made from and is not there; or None.

    Args:
      kind: of KERNEL_NAMES.
      folder: of kernels and training features.
      tag: of the network.
      shown: the tag in the message.
    """
    if kind != "attack_kernels" and not training_features_path(folder, tag).is_file():
        return no_training_features(folder, shown)
    needed = {"attack_kernels": "kernels", "attack_medians": "attack_kernels"}.get(kind)
    if needed is None or kernels_path(folder, tag, needed):
        return None
    return no_kernels(folder, shown, needed)


def make(kind: str, folder: Path, tag: str, draw: Draw) -> tuple[np.ndarray, str]:
    """Kernels, or what belongs to them.

    Args:
      kind: of `names.KERNEL_NAMES`.
      folder: of kernels and training features.
      tag: of the network.
      draw: of the kernels.

    Returns:
      The array, and in words what it was made from.

    Raises:
      InputError: as `select_kernels`, or a file is at fault.
    """
    if kind == "kernels":
        kernels, num_features = draw_kernels(folder, tag, draw)
        return kernels, f"{num_features} training features"
    if kind == "attack_kernels":
        kernels = load_kernels(folder, tag)
        return (select_attack_kernels(kernels, draw.num_kernels, draw.seed),
                f"the {len(kernels)} of {kernels_path(folder, tag)}")
    features, labels = load_training_features(folder, tag)
    kernels = Kernels(load_kernels(folder, tag, "attack_kernels"), KERNEL_BANDWIDTH[head_of_tag(tag)])
    return density_medians(features, labels, kernels), f"{len(features)} training features"


def draw_kernels(folder: Path, tag: str, draw: Draw) -> tuple[np.ndarray, int]:
    """Kernels [num_kernels, d, classes] of a network, and from how many training features."""
    features, labels = load_training_features(folder, tag)
    network = finding.features_network(folder, tag)
    # Not from the labels alone where a record tells: the last class may have no training image.
    num_classes = (network or {}).get("num_classes") or int(labels.max()) + 1
    return select_kernels(features, labels, draw.num_kernels, num_classes, draw.seed), len(features)


def find_kernels(folder: Path, tag: str, draw: Draw, warn: Callable[[str], None]
                 ) -> tuple[Kernels, int]:
    """The kernels there are of a network, or drawn ones.

    Args:
      folder: of kernels and training features.
      tag: of the network.
      draw: of the kernels, where there are none.
      warn: is told when they are older than the training features.

    Returns:
      The kernels, and from how many training features they were drawn: 0 when there were some to read.

    Raises:
      InputError: there is nothing to draw from, or there are not as many kernels as asked for.
    """
    path, bandwidth = kernels_path(folder, tag), KERNEL_BANDWIDTH[head_of_tag(tag)]
    if path is None:
        if not training_features_path(folder, tag).is_file():
            raise no_training_features(folder, tag)
        kernels, num_features = draw_kernels(folder, tag, draw)
        return Kernels(kernels, bandwidth), num_features
    kernels = load_kernels(folder, tag)
    # A default does not contradict the files; only a number the user typed does.
    if draw.is_asked and len(kernels) != draw.num_kernels:
        raise InputError(f"num_kernels must be {len(kernels)}, the kernels per class in {path}"
                         ", or --mode=select_kernel must draw them anew. "
                         f"Received: num_kernels={draw.num_kernels}.")
    if kernels_are_stale(folder, tag):
        warn(f"{path} is older than the training features beside it; --mode=select_kernel "
             "draws the kernels anew.")
    return Kernels(kernels, bandwidth), 0


def fit(results: AttackResults, kernels: Kernels, kernel_folder: Path,
        how: Fit) -> tuple[detectors.Detector, Mapping[str, np.ndarray]]:
    """A detector fitted on normal images of an attack's results.

    Args:
      results: of the attack.
      kernels: of the same network.
      kernel_folder: of the scores of its training images.
      how: the numbers of the fit.

    Returns:
      The detector, and the scores that its thresholds were fitted on.

    Raises:
      InputError: a file is at fault, or they are not known to be of one network.
    """
    check_rounds(results)
    training = load_training_scores(kernel_folder, results.tag)
    # As the file holds them.
    kernels = Kernels(kernels.features.astype(np.float32), kernels.bandwidth)
    reference = Reference(kernels, non_me_variance(training["non_me"], kernels.num_classes), how.eta)
    # The first round holds each image once.
    count = max(1, round(how.holdout_share * results.num_per_eps))
    rows = np.random.default_rng(how.seed).permutation(results.num_per_eps)[:count]
    scores = score(SCORES, results.normal.rows(rows), reference)
    return detectors.fit(
        scores, how.rates, network=_network_of(results, kernel_folder), reference=reference,
        # Sorted: both are sets, of which the order of the draw says nothing.
        fitted_on=np.sort(results.image_index[rows]),
        fitted_images=np.sort(results.image_digests[rows])), scores


def _network_of(results, kernel_folder) -> Mapping[str, Any]:
    """Which network the results and the training features are of; InputError if not of one."""
    finding.require_network(results.network, results.folder / "test_adv_run.json")
    finding.require_network(finding.check_features(results, kernel_folder),
                            kernel_folder / f"kernel_para_{results.tag}_run.json")
    return results.network


def ties(tag: str, detector: detectors.Detector, scores: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for each threshold that equal scores keep from refusing the share it is for.

    Args:
      tag: of the network, for the sentences.
      detector: fitted.
      scores: that it was fitted on.
    """
    count, sentences = len(detector.fitted_on), []
    for name, rate in itertools.product(detector.score_names, detector.false_refusal_rates):
        wanted, refused = int(rate * count), np.sum(~detector.accepts(scores, name, rate))
        if wanted - refused > 1:
            sentences.append(f"T({100 * rate:g} %) of {name}, {tag}, refuses {refused} of the {count} "
                             f"images instead of {wanted}: others are equal to it.")
    return sentences

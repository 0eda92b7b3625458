"""Training features, their scores, kernels (also the original's Matlab files) and t-SNE, on disk."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from errors import InputError
from files import atomic
from files.arrays import as_labels, check_lengths, check_numbers, read_arrays, read_mat, read_text
from files.names import (
    KERNEL_NAMES,
    tag_of_network,
    training_features_path,
    training_labels_path,
    training_scores_path,
)

# The mode of detect.py that writes each.
KERNEL_MODES = {"kernels": "select_kernel", "attack_kernels": "select_kernel_for_attack",
                "attack_medians": "median_for_attack"}
# What each is made from besides the training features.
_KERNEL_SOURCES = {"kernels": (), "attack_kernels": ("kernels",),
                   "attack_medians": ("attack_kernels",)}


def save_training_features(folder: str | os.PathLike, network: str, features: np.ndarray,
                           labels: np.ndarray) -> None:
    """Writes training_logits_<tag>, features float [n, d], and training_logitslabels_<tag>, the
    true classes int [n]; both or none. The original's others.py, mode kernel_para."""
    check_lengths({"features": len(features), "labels": len(labels)}, folder)
    # Both are written before either gets its name. savetxt's own format, %.18e, is the original's
    # and gives back every float32 exactly.
    with (atomic.atomic_path(training_features_path(folder, network)) as features_file,
          atomic.atomic_path(training_labels_path(folder, network)) as labels_file):
        np.savetxt(features_file, features)
        np.savetxt(labels_file, labels)


def load_training_features(folder: str | os.PathLike,
                           network: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads what `save_training_features` or the original wrote.

    Returns:
      features float64 [n, d], labels int64 [n].

    Raises:
      InputError: a file is missing, not a table of numbers or not finite; the lengths differ.
    """
    features_path = training_features_path(folder, network)
    labels_path = training_labels_path(folder, network)
    features = read_text(features_path, ndim=2)
    labels = read_text(labels_path, ndim=1)
    check_lengths({features_path.name: len(features), labels_path.name: len(labels)}, folder)
    check_numbers(features_path, features)
    check_numbers(labels_path, labels)
    return features, as_labels(labels_path, labels)


def save_training_scores(folder: str | os.PathLike, network: str,
                         scores: Mapping[str, np.ndarray]) -> None:
    """Writes training_scores_<tag>.npz beside the training features: name → float [n]."""
    with atomic.atomic_path(training_scores_path(folder, network)) as temporary:
        np.savez(temporary, **scores)


def load_training_scores(folder: str | os.PathLike, network: str) -> dict[str, np.ndarray]:
    """Reads what `save_training_scores` wrote; InputError where there is none."""
    path = training_scores_path(folder, network)
    if not path.is_file():
        raise InputError(f"expected {path.name} in {folder}, which `python others.py "
                         "--mode=kernel_para` writes. Received: no such file.")
    return read_arrays(path)


def kernels_path(folder: str | os.PathLike, network: str, kind: str = "kernels") -> Path | None:
    """The file of a kind of KERNEL_NAMES: `.npz` before the original's `.mat`; None without either."""
    stem = KERNEL_NAMES[kind][0].format(tag=tag_of_network(network))
    # Ours first: whoever made kernels here wants them, and the original's file stays where it was.
    candidates = (Path(folder) / f"{stem}{suffix}" for suffix in (".npz", ".mat"))
    return next((path for path in candidates if path.is_file()), None)


def kernels_are_stale(folder: str | os.PathLike, network: str, kind: str = "kernels") -> bool:
    """Whether the file we wrote is older than what it is made from beside it: it may belong to
    another network or other kernels. Of the original's `.mat` files the dates say nothing."""
    path = kernels_path(folder, network, kind)
    sources = [training_features_path(folder, network),
               *(kernels_path(folder, network, source) for source in _KERNEL_SOURCES[kind])]
    return path is not None and path.suffix == ".npz" and any(
        path.stat().st_mtime < source.stat().st_mtime
        for source in sources if source is not None and source.is_file() and source.suffix != ".mat")


def save_kernels(folder: str | os.PathLike, network: str, array: np.ndarray,
                 kind: str = "kernels") -> Path:
    """Writes one file of KERNEL_NAMES as `.npz`.

    Args:
      folder: where to; made where missing.
      network: its tag, or its head ("ce", "rce") where training was plain.
      array: kernels float [num_kernels, d, num_classes] or medians float [num_classes]. The 1000 in
        the names is part of the name.
      kind: key of KERNEL_NAMES.

    Returns:
      The path written.
    """
    stem, key = (name.format(tag=tag_of_network(network)) for name in KERNEL_NAMES[kind])
    path = Path(folder) / f"{stem}.npz"
    _KERNEL_CHECKS[kind](array, path)
    with atomic.atomic_path(path) as temporary:
        np.savez(temporary, **{key: array})
    return path


def load_kernels(folder: str | os.PathLike, network: str, kind: str = "kernels") -> np.ndarray:
    """Reads one file of KERNEL_NAMES, or the original's Matlab file of the same name.

    Returns:
      float64: kernels [num_kernels, d, num_classes], or medians [num_classes].

    Raises:
      InputError: neither file exists, or it does not hold its array of that shape, all finite.
    """
    key = KERNEL_NAMES[kind][1].format(tag=tag_of_network(network))
    path = kernels_path(folder, network, kind)
    if path is None:
        raise no_kernels(folder, tag_of_network(network), kind)
    array = _real_numbers(path, key)
    if kind == "attack_medians" and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # a column in Matlab's file
    _KERNEL_CHECKS[kind](array, path)
    return array


def _real_numbers(path, key):
    """The array of this name in a `.npz` or `.mat` file, float64."""
    if path.suffix == ".mat":
        return read_mat(path, key).astype(np.float64)
    arrays = read_arrays(path)
    if key not in arrays:
        raise InputError(f"expected the array {key} in {path}. Received: arrays={sorted(arrays)}.")
    if arrays[key].dtype.kind not in "fiu":
        raise InputError(f"expected real numbers in {key} of {path}. "
                         f"Received: dtype={arrays[key].dtype}.")
    return arrays[key].astype(np.float64)


def no_training_features(folder: str | os.PathLike, tag: str) -> InputError:
    """The error that names the missing training features and the command that writes them."""
    return InputError(f"expected training_logits_{tag} in {folder}, which `python others.py "
                      "--mode=kernel_para` writes. Received: no such file.")


def no_kernels(folder: str | os.PathLike, tag: str, kind: str) -> InputError:
    """The error that names the missing file of KERNEL_NAMES and the command that writes it."""
    stem = KERNEL_NAMES[kind][0].format(tag=tag)
    return InputError(
        f"expected {stem}.npz or {stem}.mat in {folder}, which `python detect.py --dataset=<data set> "
        f"--mode={KERNEL_MODES[kind]} --kernel_dir={folder}` writes. Received: no such file.")


def _check_kernels(kernels, path):
    if kernels.ndim != 3 or 0 in kernels.shape:
        raise InputError(f"expected kernels of shape [num_kernels, features, classes] in {path}. "
                         f"Received: shape={kernels.shape}.")
    if not np.isfinite(kernels).all():
        raise InputError(f"expected finite kernels in {path}. Received: "
                         f"{np.count_nonzero(~np.isfinite(kernels))} NaN or infinite values.")


def _check_medians(medians, path):
    if medians.ndim != 1 or not len(medians):
        raise InputError(f"expected medians of shape [classes] or [classes, 1] in {path}. "
                         f"Received: shape={medians.shape}.")
    if not (np.isfinite(medians).all() and (medians > 0).all()):
        raise InputError(f"expected positive medians in {path}. Received: {medians.tolist()}.")


_KERNEL_CHECKS = {"kernels": _check_kernels, "attack_kernels": _check_kernels,
                  "attack_medians": _check_medians}


def training_files(network: str) -> list[str]:
    """Names of what `save_training_features` and `save_training_scores` write of a network."""
    return [path("", network).name for path in (
        training_features_path, training_labels_path, training_scores_path)]


def tsne_files(network: str) -> list[str]:
    """Names of what is left of a t-SNE, its picture included; the first is the stem."""
    tag = tag_of_network(network)
    return [*(f"{name}_{tag}" for name in ("tSNE", "tSNElabels", "tSNEisadv")), f"tSNE_{tag}.png"]


def save_tsne(folder: str | os.PathLike, network: str, points: np.ndarray, labels: np.ndarray,
              is_adversarial: np.ndarray | None = None) -> str:
    """Writes tSNE_<tag>, tSNElabels_<tag> and, if given, tSNEisadv_<tag>; all or none.

    Args:
      folder: where to; made where missing.
      network: its tag, or its head ("ce", "rce") where training was plain.
      points: float [n, 2].
      labels: int [n], true classes.
      is_adversarial: bool or 0/1 [n].

    Returns:
      The stem tSNE_<tag>, for a picture beside the files.
    """
    arrays = {"tSNE": points, "tSNElabels": labels}
    if is_adversarial is not None:
        arrays["tSNEisadv"] = np.asarray(is_adversarial, np.int64)
    check_lengths({name: len(array) for name, array in arrays.items()}, folder)
    tag = tag_of_network(network)
    # All are written before the first gets its name.
    with contextlib.ExitStack() as stack:
        for name, array in arrays.items():
            np.savetxt(stack.enter_context(atomic.atomic_path(Path(folder) / f"{name}_{tag}")), array)
    return f"tSNE_{tag}"

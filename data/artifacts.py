"""Every file the project writes, by the names users of the original have scripts for.

Names, formats and checks in one place: result files of an attack, training features, kernels
(also the original's Matlab files), t-SNE. A killed run leaves no half file (files.py).

TensorFlow is not imported here; SciPy only to read a `.mat` file.
"""

import contextlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data import files
from errors import InputError

# Suffix of file and folder names. "Features" (the pooled layer) are called logits on disk.
OBJECTIVE_TAG = {"ce": "CE", "rce": "RCE"}
OBJECTIVE_OF_TAG = {tag: objective for objective, tag in OBJECTIVE_TAG.items()}

RESULT_TEXTS = ("entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "logits_nor",
                "logits_adv", "labels_nor", "labels_adv", "labels_true", "L2_distance")
RESULT_IMAGES = ("nor_img", "adv_img")
# Picture beside the result files: some of their images.
IMAGE_GRID = "images.png"

# One row per image and eps, in results.npz and per_image.csv: units of the network input.
PER_IMAGE = ("eps", "image_index", "label", "target", "predicted_before", "predicted_after",
             "success", "kept", "iterations", "rms", "l2", "linf", "l0", "confidence_before",
             "confidence_after", "non_me_before", "non_me_after")
# Of the white-box attacks too.
PER_IMAGE_WHITE_BOX = ("first_success", "log_ratio")

# What is stored: (file stem, name of the array in it), `{tag}` being RCE or CE.
KERNEL_NAMES = {
    "kernels": ("kernel1000_{tag}", "kernel_{tag}"),
    "attack_kernels": ("kernel1000_for_attack_{tag}", "kernel_{tag}_for_attack"),
    "attack_medians": ("kernel1000_median_for_attack_{tag}", "median_out"),
}
# The mode of detect.py that writes each.
KERNEL_MODES = {"kernels": "select_kernel", "attack_kernels": "select_kernel_for_attack",
                "attack_medians": "median_for_attack"}

# What each is made from besides the training features.
_KERNEL_SOURCES = {"kernels": (), "attack_kernels": ("kernels",),
                   "attack_medians": ("attack_kernels",)}

# Probabilities are computed in float32: a row may exceed 1 by rounding.
_CONFIDENCE_SLACK = 1e-6


# --- Result files of an attack ---

def attack_dir(attack: str, dataset: str) -> Path:
    """Folder `<attack>_<dataset>`, above the folders of the objectives."""
    return Path(f"{attack}_{dataset}")


def results_dir(attack: str, dataset: str, objective: str,
                save_pwd: str | os.PathLike | None = None) -> Path:
    """Folder of an attack's result files: `save_pwd` itself, else `<attack>_<dataset>/<RCE|CE>`."""
    if save_pwd:
        return Path(save_pwd)
    return attack_dir(attack, dataset) / OBJECTIVE_TAG[objective]


def save_attack_results(folder: str | os.PathLike, results: Mapping[str, np.ndarray],
                        per_image: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes the result files of one attack, all or none.

    Args:
      folder: where to; made where missing.
      results: arrays under the file names RESULT_TEXTS and RESULT_IMAGES, one row per image, the
        sweep's values of eps one after the other. logits_* are the features float [n, d], *_img
        the network inputs [n, height, width, channels], everything else [n].
      per_image: arrays [n] under the names PER_IMAGE and any of PER_IMAGE_WHITE_BOX, for results.npz
        and per_image.csv.

    Raises:
      InputError: a name is missing or unknown, or the arrays differ in length.
    """
    names = RESULT_TEXTS + RESULT_IMAGES
    if set(results) != set(names):
        odd = sorted(set(results) ^ set(names))
        raise InputError(f"results must hold exactly [{', '.join(names)}]. "
                         f"Received: missing or unknown={odd}.")
    odd = set(per_image or PER_IMAGE) - set(PER_IMAGE_WHITE_BOX) ^ set(PER_IMAGE)
    if odd:
        raise InputError(f"per_image must hold [{', '.join(PER_IMAGE)}]. "
                         f"Received: missing or unknown={sorted(odd)}.")
    per_image = {name: per_image[name] for name in PER_IMAGE + PER_IMAGE_WHITE_BOX
                 if name in per_image} if per_image else {}
    _check_lengths({name: len(array) for name, array in {**results, **per_image}.items()}, folder)
    with contextlib.ExitStack() as stack:
        if per_image:
            np.savez(stack.enter_context(files.atomic_path(Path(folder) / "results.npz")), **per_image)
            files.write_csv(stack.enter_context(files.atomic_path(Path(folder) / "per_image.csv")),
                      list(per_image), zip(*(a.tolist() for a in per_image.values()), strict=True))
        for name in RESULT_TEXTS:
            temporary = stack.enter_context(files.atomic_path(Path(folder) / name))
            np.savetxt(temporary, results[name])
        for name in RESULT_IMAGES:
            temporary = stack.enter_context(files.atomic_path(Path(folder) / f"{name}.npy"))
            # Differs from the original: float32, which loses nothing, instead of float64.
            np.save(temporary, np.asarray(results[name], np.float32))


def load_attack_results(folder: str | os.PathLike, images: bool = False) -> dict[str, np.ndarray]:
    """Reads and checks the result files of one attack, the original's included.

    Args:
      folder: the folder of the files.
      images: whether to read nor_img.npy and adv_img.npy, too.

    Returns:
      Arrays under the file names: labels_* int64 [n], logits_* float64 [n, d], other text float64
      [n], images as stored. entropy_* may hold NaN, as the original's own files can; the caller
      says how many.

    Raises:
      InputError: a file is missing or not a table of numbers, lengths differ, a value is not finite
        (NaN in entropy_* excepted), a confidence lies outside [0, 1] or a label is not an integer.
    """
    folder = Path(folder)
    results = {name: _read_text(folder / name, ndim=2 if name.startswith("logits_") else 1)
               for name in RESULT_TEXTS}
    if images:
        results |= {name: _read_npy(folder / f"{name}.npy") for name in RESULT_IMAGES}
    _check_lengths({name: len(array) for name, array in results.items()}, folder)
    widths = [results[name].shape[1] for name in ("logits_nor", "logits_adv")]
    if widths[0] != widths[1]:
        raise InputError(f"expected as many columns in logits_adv as in logits_nor in {folder}. "
                         f"Received: columns={widths[1]} and {widths[0]}.")
    for name, array in results.items():
        _check_values(folder / name, name, array)
        if name.startswith("labels_"):
            results[name] = _as_labels(folder / name, array)
    return results


def open_normal_images(folder: str | os.PathLike) -> np.ndarray:
    """nor_img.npy, network inputs float [n, height, width, channels], read as far as it is indexed."""
    return _read_npy(Path(folder) / "nor_img.npy", mmap_mode="r")


def load_per_image(folder: str | os.PathLike) -> dict[str, np.ndarray] | None:
    """Reads results.npz, the arrays of PER_IMAGE by name; None where the original wrote the files."""
    path = Path(folder) / "results.npz"
    return read_arrays(path) if path.is_file() else None


def _read_text(path, ndim):
    """Float64 table of numpy.savetxt: [n], or [n, columns] if `ndim` is 2."""
    if not path.is_file():
        raise InputError(f"expected the file {path.name} in {path.parent}. Received: no such file.")
    with open(path, "rb") as file:
        file.seek(-min(1, os.path.getsize(path)), os.SEEK_END)
        # A number cut short is still a number: only the missing line end tells.
        if file.read(1) != b"\n":
            raise InputError(f"expected a complete last line in {path}. Received: a file that is "
                             "empty or ends in the middle of a line.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "input contained no data"
            array = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError(f"expected rows of numbers of equal length in {path}. "
                         f"Received: {str(error).split(';')[0].rstrip('.')}.") from None
    if array.size == 0 or (ndim == 1 and array.shape[1] != 1):
        raise InputError(f"expected {'one number' if ndim == 1 else 'numbers'} per row in {path}. "
                         f"Received: shape={array.shape}.")
    return array if ndim == 2 else array[:, 0]


def _read_npy(path, mmap_mode=None):
    try:
        return np.load(path, mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"expected a NumPy array in {path}. Received: {error}.") from None


def _check_lengths(lengths, folder):
    """Raises InputError naming the files whose row count is not the most frequent one."""
    counts = list(lengths.values())
    usual = max(counts, key=counts.count)
    odd = {name: count for name, count in lengths.items() if count != usual}
    if odd:
        names = ", ".join(f"{name}={count}" for name, count in odd.items())
        raise InputError(f"expected {usual} rows in every file of {folder}, as in "
                         f"{next(name for name in lengths if name not in odd)}. Received: {names}.")


def _check_values(path, name, array):
    flat = array.reshape(len(array), -1)
    good = np.isfinite(flat)
    expected = "finite numbers"
    if name.startswith("entropy_"):
        good |= np.isnan(flat)
        expected = "finite numbers or NaN"
    if name.startswith("confidence_"):
        good &= (flat >= 0) & (flat <= 1 + _CONFIDENCE_SLACK)
        expected = "numbers in [0, 1]"
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise InputError(f"expected {expected} in {path}. "
                         f"Received: row {row + 1}={flat[row, column]:g}.")


def _as_labels(path, array):
    wrong = np.flatnonzero((array != np.round(array)) | (array < 0))
    if wrong.size:
        raise InputError(f"expected class numbers 0, 1, 2, ... in {path}. "
                         f"Received: row {wrong[0] + 1}={array[wrong[0]]:g}.")
    return array.astype(np.int64)


# --- Training features and kernels ---

def kernel_dir(dataset: str) -> Path:
    """Folder of training features and kernels, `kernel_para_<dataset>`."""
    return Path(f"kernel_para_{dataset}")


def training_features_path(folder: str | os.PathLike, objective: str) -> Path:
    """The file training_logits_<RCE|CE> in `folder`."""
    return Path(folder) / f"training_logits_{OBJECTIVE_TAG[objective]}"


def _training_labels_path(folder, objective):
    return Path(folder) / f"training_logitslabels_{OBJECTIVE_TAG[objective]}"


def save_training_features(folder: str | os.PathLike, objective: str, features: np.ndarray,
                           labels: np.ndarray) -> None:
    """Writes training_logits_<tag>, features float [n, d], and training_logitslabels_<tag>, the
    true classes int [n]; both or none. The original's others.py, mode kernel_para."""
    _check_lengths({"features": len(features), "labels": len(labels)}, folder)
    with (files.atomic_path(training_features_path(folder, objective)) as features_file,
          files.atomic_path(_training_labels_path(folder, objective)) as labels_file):
        np.savetxt(features_file, features)
        np.savetxt(labels_file, labels)


def load_training_features(folder: str | os.PathLike,
                           objective: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads what `save_training_features` or the original wrote.

    Returns:
      features float64 [n, d], labels int64 [n].

    Raises:
      InputError: a file is missing, not a table of numbers or not finite; the lengths differ.
    """
    features_path = training_features_path(folder, objective)
    labels_path = _training_labels_path(folder, objective)
    features = _read_text(features_path, ndim=2)
    labels = _read_text(labels_path, ndim=1)
    _check_lengths({features_path.name: len(features), labels_path.name: len(labels)}, folder)
    _check_values(features_path, features_path.name, features)
    _check_values(labels_path, labels_path.name, labels)
    return features, _as_labels(labels_path, labels)


def _training_scores_path(folder, objective):
    return Path(folder) / f"training_scores_{OBJECTIVE_TAG[objective]}.npz"


def save_training_scores(folder: str | os.PathLike, objective: str,
                         scores: Mapping[str, np.ndarray]) -> None:
    """Writes training_scores_<tag>.npz beside the training features: name → float [n]."""
    with files.atomic_path(_training_scores_path(folder, objective)) as temporary:
        np.savez(temporary, **scores)


def load_training_scores(folder: str | os.PathLike, objective: str) -> dict[str, np.ndarray]:
    """Reads what `save_training_scores` wrote; InputError where there is none."""
    path = _training_scores_path(folder, objective)
    if not path.is_file():
        raise InputError(f"expected {path.name} in {folder}, which `python others.py "
                         "--mode=kernel_para` writes. Received: no such file.")
    return read_arrays(path)


def kernels_path(folder: str | os.PathLike, objective: str, kind: str = "kernels") -> Path | None:
    """The file of a kind of KERNEL_NAMES: `.npz` before the original's `.mat`; None without either."""
    stem = KERNEL_NAMES[kind][0].format(tag=OBJECTIVE_TAG[objective])
    candidates = (Path(folder) / f"{stem}{suffix}" for suffix in (".npz", ".mat"))
    return next((path for path in candidates if path.is_file()), None)


def kernels_are_stale(folder: str | os.PathLike, objective: str, kind: str = "kernels") -> bool:
    """Whether the file we wrote is older than what it is made from beside it: it may belong to
    another network or other kernels. Of the original's `.mat` files the dates say nothing."""
    path = kernels_path(folder, objective, kind)
    sources = [training_features_path(folder, objective),
               *(kernels_path(folder, objective, source) for source in _KERNEL_SOURCES[kind])]
    return path is not None and path.suffix == ".npz" and any(
        path.stat().st_mtime < source.stat().st_mtime
        for source in sources if source is not None and source.is_file() and source.suffix != ".mat")


def save_kernels(folder: str | os.PathLike, objective: str, array: np.ndarray,
                 kind: str = "kernels") -> Path:
    """Writes one file of KERNEL_NAMES as `.npz`.

    Args:
      folder: where to; made where missing.
      objective: "ce" or "rce".
      array: kernels float [num_kernels, d, num_classes] or medians float [num_classes]. The 1000 in
        the names is part of the name.
      kind: key of KERNEL_NAMES.

    Returns:
      The path written.
    """
    stem, key = (name.format(tag=OBJECTIVE_TAG[objective]) for name in KERNEL_NAMES[kind])
    path = Path(folder) / f"{stem}.npz"
    _KERNEL_CHECKS[kind](array, path)
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **{key: array})
    return path


def load_kernels(folder: str | os.PathLike, objective: str, kind: str = "kernels") -> np.ndarray:
    """Reads one file of KERNEL_NAMES, or the original's Matlab file of the same name.

    Returns:
      float64: kernels [num_kernels, d, num_classes], or medians [num_classes].

    Raises:
      InputError: neither file exists, or it does not hold its array of that shape, all finite.
    """
    key = KERNEL_NAMES[kind][1].format(tag=OBJECTIVE_TAG[objective])
    path = kernels_path(folder, objective, kind)
    if path is None:
        raise no_kernels(folder, OBJECTIVE_TAG[objective], kind)
    arrays = read_arrays(path)
    if key not in arrays:
        found = [name for name in arrays if not name.startswith("__")]
        raise InputError(f"expected the array {key} in {path}. Received: arrays={found}.")
    array = np.asarray(arrays[key], np.float64)
    if kind == "attack_medians" and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # a column in Matlab's file
    _KERNEL_CHECKS[kind](array, path)
    return array


def no_kernels(folder: str | os.PathLike, tag: str, kind: str) -> InputError:
    """The error that names the missing file of KERNEL_NAMES and the command that writes it."""
    stem = KERNEL_NAMES[kind][0].format(tag=tag)
    return InputError(
        f"expected {stem}.npz or {stem}.mat in {folder}, which `python detect.py --dataset=<data set> "
        f"--mode={KERNEL_MODES[kind]} --kernel_dir={folder}` writes. Received: no such file.")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name → array of a `.npz` or `.mat` file; InputError when it is not one."""
    try:
        if path.suffix == ".mat":
            import scipy.io

            return scipy.io.loadmat(path)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    # A broken file surfaces as one of many exceptions of zipfile, zlib and SciPy's reader.
    except Exception as error:
        raise InputError(f"expected a readable {path.suffix} file at {path}. "
                         f"Received: {type(error).__name__}: {error}.") from None


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


# --- t-SNE ---

def normal_tsne_dir(dataset: str) -> Path:
    """Folder of the t-SNE of normal images, `nor_tsne_results_<dataset>`."""
    return Path(f"nor_tsne_results_{dataset}")


def tsne_dir(attack: str, dataset: str) -> Path:
    """Folder of the t-SNE of normal and adversarial images, `<attack>_<dataset>/tSNE`."""
    return attack_dir(attack, dataset) / "tSNE"


def save_tsne(folder: str | os.PathLike, objective: str, points: np.ndarray, labels: np.ndarray,
              is_adversarial: np.ndarray | None = None) -> str:
    """Writes tSNE_<tag>, tSNElabels_<tag> and, if given, tSNEisadv_<tag>; all or none.

    Args:
      folder: where to; made where missing.
      objective: "ce" or "rce".
      points: float [n, 2].
      labels: int [n], true classes.
      is_adversarial: bool or 0/1 [n].

    Returns:
      The stem tSNE_<tag>, for a picture beside the files.
    """
    arrays = {"tSNE": points, "tSNElabels": labels}
    if is_adversarial is not None:
        arrays["tSNEisadv"] = np.asarray(is_adversarial, np.int64)
    _check_lengths({name: len(array) for name, array in arrays.items()}, folder)
    tag = OBJECTIVE_TAG[objective]
    with contextlib.ExitStack() as stack:
        for name, array in arrays.items():
            np.savetxt(stack.enter_context(files.atomic_path(Path(folder) / f"{name}_{tag}")), array)
    return f"tSNE_{tag}"

"""The files of an attack's results, written all or none and read with checks.

Arrays have their names on disk here; attack_results.py turns them into values with the names of the
house. Only NumPy is needed.
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from errors import InputError
from files import atomic
from files.arrays import as_labels, check_lengths, check_numbers, read_arrays, read_npy, read_text
from files.names import LOSSES, RESTARTS_PICTURE, RESULT_IMAGES, RESULT_TEXTS

# One row per image and eps, in results.npz and per_image.csv: units of the network input.
PER_IMAGE = ("eps", "image_index", "label", "target", "predicted_before", "predicted_after",
             "success", "kept", "iterations", "rms", "l2", "linf", "l0", "confidence_before",
             "confidence_after", "non_me_before", "non_me_after")
# Of some attacks too, as their rows say.
PER_IMAGE_OPTIONAL = ("first_success", "log_ratio", "evaded", "evades_rounded", "merit", "best_step",
                      "restart", "zero_gradient_steps", "queries", "kappa", "first_broken",
                      "cross_entropy")
# What attacks with restarts leave besides, the first where it is asked for.
RESTART_FILES = (LOSSES, RESTARTS_PICTURE, Path(RESTARTS_PICTURE).with_suffix(".csv").name)
# Probabilities are computed in float32: a row may exceed 1 by rounding.
_CONFIDENCE_SLACK = 1e-6


# All that is written of an attack.
WRITTEN = (*RESULT_TEXTS, *(f"{name}.npy" for name in RESULT_IMAGES), "results.npz", "per_image.csv")


def save_attack_results(folder: str | os.PathLike, results: Mapping[str, np.ndarray],
                        per_image: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes the result files of one attack, all or none.

    Args:
      folder: where to; made where missing.
      results: arrays under the file names RESULT_TEXTS and RESULT_IMAGES, one row per image, the
        sweep's values of eps one after the other. logits_* are the features float [n, d], *_img
        the network inputs [n, height, width, channels], everything else [n].
      per_image: arrays [n] under the names PER_IMAGE and any of PER_IMAGE_OPTIONAL, for results.npz
        and per_image.csv.

    Raises:
      InputError: a name is missing or unknown, or the arrays differ in length.
    """
    names = RESULT_TEXTS + RESULT_IMAGES
    if set(results) != set(names):
        odd = sorted(set(results) ^ set(names))
        raise InputError(f"results must hold exactly [{', '.join(names)}]. "
                         f"Received: missing or unknown={odd}.")
    odd = set(per_image or PER_IMAGE) - set(PER_IMAGE_OPTIONAL) ^ set(PER_IMAGE)
    if odd:
        raise InputError(f"per_image must hold [{', '.join(PER_IMAGE)}]. "
                         f"Received: missing or unknown={sorted(odd)}.")
    per_image = {name: per_image[name] for name in PER_IMAGE + PER_IMAGE_OPTIONAL
                 if name in per_image} if per_image else {}
    check_lengths({name: len(array) for name, array in {**results, **per_image}.items()}, folder)
    with contextlib.ExitStack() as stack:
        if per_image:
            np.savez(stack.enter_context(atomic.atomic_path(Path(folder) / "results.npz")), **per_image)
            atomic.write_csv(stack.enter_context(atomic.atomic_path(Path(folder) / "per_image.csv")),
                      list(per_image), zip(*(a.tolist() for a in per_image.values()), strict=True))
        for name in RESULT_TEXTS:
            temporary = stack.enter_context(atomic.atomic_path(Path(folder) / name))
            np.savetxt(temporary, results[name])
        for name in RESULT_IMAGES:
            temporary = stack.enter_context(atomic.atomic_path(Path(folder) / f"{name}.npy"))
            # Differs from the original: float32, which loses nothing, instead of float64.
            np.save(temporary, np.asarray(results[name], np.float32))


def save_losses(folder: str | os.PathLike, losses: np.ndarray) -> None:
    """Writes LOSSES: the cross entropy of each restart and image, float32 [restarts, n]."""
    atomic.write_npy(Path(folder) / LOSSES, np.asarray(losses, np.float32))


def remove_restart_files(folder: str | os.PathLike, kept: Collection[str]) -> None:
    """Removes those of RESTART_FILES that are not kept."""
    for name in set(RESTART_FILES) - set(kept):
        (Path(folder) / name).unlink(missing_ok=True)


def load_losses(folder: str | os.PathLike) -> np.ndarray:
    """LOSSES of a folder, float32 [restarts, n]; InputError where there is none."""
    path = Path(folder) / LOSSES
    if not path.is_file():
        raise InputError(f"expected {LOSSES} in {folder}, which --save_losses=True leaves. "
                         "Received: no such file.")
    losses = read_npy(path)
    if losses.ndim != 2 or not losses.size or not np.isfinite(losses).all():
        raise InputError(f"expected finite losses [restarts, images] in {path}. "
                         f"Received: shape={losses.shape}.")
    return losses


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
    results = {name: read_text(folder / name, ndim=2 if name.startswith("logits_") else 1)
               for name in RESULT_TEXTS}
    if images:
        results |= {name: read_npy(folder / f"{name}.npy") for name in RESULT_IMAGES}
    check_lengths({name: len(array) for name, array in results.items()}, folder)
    widths = [results[name].shape[1] for name in ("logits_nor", "logits_adv")]
    if widths[0] != widths[1]:
        raise InputError(f"expected as many columns in logits_adv as in logits_nor in {folder}. "
                         f"Received: columns={widths[1]} and {widths[0]}.")
    for name, array in results.items():
        check_numbers(folder / name, array, *_expected(name, array))
        if name.startswith("labels_"):
            results[name] = as_labels(folder / name, array)
    return results


def _expected(name, array):
    """What a file's numbers must be, in words, and which of them are; () for finite ones."""
    if name.startswith("entropy_"):
        return "finite numbers or NaN", np.isfinite(array) | np.isnan(array)
    if name.startswith("confidence_"):
        return "numbers in [0, 1]", (array >= 0) & (array <= 1 + _CONFIDENCE_SLACK)
    return ()


def open_normal_images(folder: str | os.PathLike) -> np.ndarray:
    """nor_img.npy, network inputs float [n, height, width, channels], read as far as it is indexed."""
    return read_npy(Path(folder) / "nor_img.npy", mmap_mode="r")


def load_adversarial_images(folder: str | os.PathLike) -> np.ndarray:
    """adv_img.npy, like `open_normal_images`; an InputError unless float with four axes."""
    path = Path(folder) / "adv_img.npy"
    images = read_npy(path)
    if images.ndim != 4 or images.dtype.kind != "f":
        raise InputError(f"expected float images [n, height, width, channels] in {path}. "
                         f"Received: {images.dtype} of shape {images.shape}.")
    return images


def load_per_image(folder: str | os.PathLike, num_rows: int | None = None
                   ) -> dict[str, np.ndarray] | None:
    """Reads results.npz, the arrays of PER_IMAGE by name; None where the original wrote the files.

    Raises:
      InputError: an array is none of numbers, or of another length than `num_rows` or image_index.
    """
    path = Path(folder) / "results.npz"
    if not path.is_file():
        return None
    arrays = read_arrays(path)
    if "image_index" not in arrays:
        raise InputError(f"expected the array image_index, among others, in {path}. "
                         f"Received: arrays={sorted(arrays)}.")
    num_rows = len(np.atleast_1d(arrays["image_index"])) if num_rows is None else num_rows
    for name, array in arrays.items():
        if array.shape != (num_rows,) or array.dtype.kind not in "fiub":
            raise InputError(f"expected {num_rows} numbers in {name} of {path}, one a row of the other "
                             f"files. Received: shape={array.shape}, dtype={array.dtype}.")
    return arrays

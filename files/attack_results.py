"""The results of an attack: the arrays of its files, their sweep, and whose they are.

Only NumPy is needed.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.pixels import from_network_input
from errors import InputError
from files import atomic, attack_parts, provenance
from files.arrays import check_lengths, read_arrays, read_npy, read_text
from files.names import OBJECTIVE_OF_TAG, OBJECTIVE_TAG, RESULT_IMAGES, RESULT_TEXTS, results_dir

# One row per image and eps, in results.npz and per_image.csv: units of the network input.
PER_IMAGE = ("eps", "image_index", "label", "target", "predicted_before", "predicted_after",
             "success", "kept", "iterations", "rms", "l2", "linf", "l0", "confidence_before",
             "confidence_after", "non_me_before", "non_me_after")
# Of the white-box attacks too.
PER_IMAGE_WHITE_BOX = ("first_success", "log_ratio")
# Probabilities are computed in float32: a row may exceed 1 by rounding.
_CONFIDENCE_SLACK = 1e-6


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
        _check_values(folder / name, name, array)
        if name.startswith("labels_"):
            results[name] = _as_labels(folder / name, array)
    return results


def open_normal_images(folder: str | os.PathLike) -> np.ndarray:
    """nor_img.npy, network inputs float [n, height, width, channels], read as far as it is indexed."""
    return read_npy(Path(folder) / "nor_img.npy", mmap_mode="r")


def load_per_image(folder: str | os.PathLike) -> dict[str, np.ndarray] | None:
    """Reads results.npz, the arrays of PER_IMAGE by name; None where the original wrote the files."""
    path = Path(folder) / "results.npz"
    return read_arrays(path) if path.is_file() else None


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


# The original's sweep, for files without a run record.
_ORIGINAL_ROUNDS = 10
ORIGINAL_EPS_STEP = 0.02
# --attack_cost of files without a run record, and where it is not given.
USUAL_COST = "ce"
# Images whose grey levels are held at a time.
_CHUNK_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class AttackResults:
    """One attack on one network.

    Attributes:
      objective: "ce" or "rce".
      folder: where the files lie.
      arrays: of `load_attack_results`, the rounds one after the other.
      eps_values: of each round; None for an attack without.
      num_per_eps: rows per round.
      network: which network was attacked, JSON values; None where no run record tells.
      cost: which cost the attack raises or lowers, "ce" or "rce" (--attack_cost).
    """

    objective: str
    folder: Path
    arrays: Mapping[str, np.ndarray]
    eps_values: Sequence[float | None]
    num_per_eps: int
    network: Mapping[str, Any] | None
    cost: str = USUAL_COST

    @property
    def tag(self) -> str:
        """RCE or CE."""
        return OBJECTIVE_TAG[self.objective]

    @functools.cached_property
    def per_image(self) -> Mapping[str, np.ndarray] | None:
        """Arrays of `load_per_image`, read when asked for; None for the original's files."""
        return load_per_image(self.folder)

    @property
    def num_rows(self) -> int:
        """Rows of all rounds together."""
        return len(self.arrays["labels_true"])

    @property
    def num_nan(self) -> int:
        """NaN in entropy_nor and entropy_adv, which the original's files can hold."""
        return sum(int(np.isnan(self.arrays[f"entropy_{side}"]).sum()) for side in ("nor", "adv"))

    @property
    def image_index(self) -> np.ndarray:
        """Which image of the data set each row is, int [rows]; InputError for the original's files,
        which do not tell."""
        if self.per_image is None:
            raise InputError(f"expected results.npz in {self.folder}, which this version of "
                             "test_adv.py writes, to tell which images these are. Received: none.")
        return self.per_image["image_index"]

    @functools.cached_property
    def image_digests(self) -> np.ndarray:
        """Which picture each row is, in whatever file and order: the first 8 bytes of the SHA-256 of
        the normal image's grey levels, uint64 [rows]."""
        images = open_normal_images(self.folder)
        if len(images) != self.num_rows:
            raise InputError(f"expected {self.num_rows} images in nor_img.npy of {self.folder}, one a "
                             f"row of the other files. Received: {len(images)}.")
        digests = [hashlib.sha256(image).digest()[:8]
                   for start in range(0, len(images), _CHUNK_IMAGES)
                   for image in from_network_input(images[start:start + _CHUNK_IMAGES])]
        return np.frombuffer(b"".join(digests), np.uint64)


def load(objective: str, folder: str | os.PathLike, num_per_eps: int = 0) -> AttackResults:
    """Reads and checks the results of an attack, the original's included.

    Args:
      objective: of the attacked network.
      folder: of the result files.
      num_per_eps: rows per round; 0: what the run record says, without one ten equal rounds.

    Raises:
      InputError: as `load_attack_results`; or num_per_eps does not divide the rows.
    """
    folder = Path(folder)
    arrays = load_attack_results(folder)
    record = provenance.read(folder, "test_adv")
    metrics = record["metrics"] if record else {}
    if {"eps", "num_per_eps"} <= metrics.keys():
        sweep = metrics["eps"], num_per_eps or metrics["num_per_eps"]
    else:
        sweep = _original_sweep(folder, len(arrays["labels_true"]), num_per_eps)
    cost = record["flags"].get("attack_cost", USUAL_COST) if record else USUAL_COST
    return AttackResults(objective, folder, arrays, *sweep, metrics.get("network"), cost)


def _original_sweep(folder, num_rows, num_per_eps):
    num_rounds = num_rows // num_per_eps if num_per_eps else _ORIGINAL_ROUNDS
    if num_rounds == 0 or num_rows % num_rounds or (num_per_eps and num_rows % num_per_eps):
        raise InputError(f"num_per_eps must divide the {num_rows} rows in {folder}; where there is "
                         f"no test_adv_run.json, 0 means {_ORIGINAL_ROUNDS} equal rounds. "
                         f"Received: num_per_eps={num_per_eps}.")
    eps_values = [round(ORIGINAL_EPS_STEP * k, 10) for k in range(1, num_rounds + 1)]
    return eps_values, num_rows // num_rounds


def is_unfinished(folder: str | os.PathLike) -> bool:
    """Whether an attack has left parts in a folder, and no results yet."""
    has_results = (Path(folder) / RESULT_TEXTS[0]).is_file()
    return (Path(folder) / attack_parts.FOLDER).is_dir() and not has_results


def find(attack: str, dataset: str, tag: str = "",
         save_pwd: str | os.PathLike | None = None) -> dict[str, Path]:
    """Where the results of an attack lie: objective → folder.

    Args:
      attack: name of the attack.
      dataset: name of the data set.
      tag: RCE or CE; empty for both.
      save_pwd: the only folder, where test_adv.py was told one.

    Raises:
      InputError: there are none, or nothing tells which network those in `save_pwd` are of.
    """
    if save_pwd:
        save_pwd = Path(save_pwd)
        return {OBJECTIVE_OF_TAG[tag] if tag else _recorded_objective(save_pwd): save_pwd}
    folders = {objective: results_dir(attack, dataset, objective)
               for name, objective in OBJECTIVE_OF_TAG.items() if tag in ("", name)}
    found = {objective: folder for objective, folder in folders.items() if folder.is_dir()}
    if not found:
        raise InputError(
            f"expected result files in {' or '.join(map(str, folders.values()))}, which `python "
            f"test_adv.py --mode=attack --attack_method={attack} --dataset={dataset} "
            "--log_root=... --RCE_train=...` writes. Received: no such folder.")
    return found


def _recorded_objective(folder):
    record = provenance.read(folder, "test_adv")
    if record is None or "RCE_train" not in record["flags"]:
        raise InputError("objective_tag must be RCE or CE where no test_adv_run.json tells whose "
                         f"files they are: save_pwd={str(folder)!r}. Received: objective_tag=''.")
    return "rce" if record["flags"]["RCE_train"] else "ce"


def features_network(kernel_folder: str | os.PathLike, objective: str) -> Mapping[str, Any] | None:
    """Which network the training features in a folder are of; None where no run record tells."""
    record = provenance.read(kernel_folder, f"kernel_para_{OBJECTIVE_TAG[objective]}")
    return record and record["metrics"].get("network")


def check_features(results: AttackResults,
                   kernel_folder: str | os.PathLike) -> Mapping[str, Any] | None:
    """The network of the training features in a folder, as `features_network`; an InputError when it is
    known to be another than that of the results."""
    network = features_network(kernel_folder, results.objective)
    check_network(results, network, f"the training features in {kernel_folder}")
    return network


def check_network(results: AttackResults, network: Mapping[str, Any] | None, whose: str) -> None:
    """Raises an InputError when both networks are known, and the results are of another.

    Args:
      results: of an attack.
      network: the other network; None where nothing tells.
      whose: what that is the network of, for the message.
    """
    check_same_network("results", results.folder, results.network, network, whose)


def check_same_network(what: str, folder: str | os.PathLike, found: Mapping[str, Any] | None,
                       wanted: Mapping[str, Any] | None, whose: str) -> None:
    """Raises an InputError when both networks are known, and are two.

    Args:
      what: what lies in the folder, for the message.
      folder: where.
      found: its network; None where nothing tells.
      wanted: the other network; None where nothing tells.
      whose: what that is the network of, for the message.
    """
    digest = found and wanted and provenance.digest_that_differs(found, wanted)
    if digest:
        raise InputError(f"expected {what} in {folder} of the network of {whose}, with "
                         f"{provenance.DIGESTS[digest]} of SHA-256 {_shown(wanted, digest)}. "
                         f"Received: {what} of {_shown(found, digest)}.")


def refuse_others(folder: str | os.PathLike, network: Mapping[str, Any]) -> None:
    """Raises an InputError when the finished results in a folder are of another network.

    Args:
      folder: of an attack's result files.
      network: as `networks.network.Network.identity` tells it.
    """
    record = provenance.read(folder, "test_adv")
    found = record and record["metrics"].get("network")
    digest = found and provenance.digest_that_differs(found, network)
    if digest and (Path(folder) / RESULT_TEXTS[0]).is_file():
        raise InputError(
            f"{folder} holds the results of another network, with {provenance.DIGESTS[digest]} of "
            f"SHA-256 {_shown(found, digest)}: give --overwrite=True to replace them, or another "
            f"--save_pwd. Received: a network with {_shown(network, digest)}.")


def _shown(network, digest):
    return f"{network.get(digest, 'unknown')[:12]}…"

"""The results of an attack as they are judged: the arrays of its files, their sweep, whose they are.

Names and formats of the files are in artifacts.py. Only NumPy is needed.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import artifacts, attack_parts, inputs, run_records
from errors import InputError

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
      arrays: of `artifacts.load_attack_results`, the rounds one after the other.
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
        return artifacts.OBJECTIVE_TAG[self.objective]

    @functools.cached_property
    def per_image(self) -> Mapping[str, np.ndarray] | None:
        """Arrays of `artifacts.load_per_image`, read when asked for; None for the original's files."""
        return artifacts.load_per_image(self.folder)

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
        images = artifacts.open_normal_images(self.folder)
        if len(images) != self.num_rows:
            raise InputError(f"expected {self.num_rows} images in nor_img.npy of {self.folder}, one a "
                             f"row of the other files. Received: {len(images)}.")
        digests = [hashlib.sha256(image).digest()[:8]
                   for start in range(0, len(images), _CHUNK_IMAGES)
                   for image in inputs.from_network_input(images[start:start + _CHUNK_IMAGES])]
        return np.frombuffer(b"".join(digests), np.uint64)


def load(objective: str, folder: str | os.PathLike, num_per_eps: int = 0) -> AttackResults:
    """Reads and checks the results of an attack, the original's included.

    Args:
      objective: of the attacked network.
      folder: of the result files.
      num_per_eps: rows per round; 0: what the run record says, without one ten equal rounds.

    Raises:
      InputError: as `artifacts.load_attack_results`; or num_per_eps does not divide the rows.
    """
    folder = Path(folder)
    arrays = artifacts.load_attack_results(folder)
    record = run_records.read(folder, "test_adv")
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
    has_results = (Path(folder) / artifacts.RESULT_TEXTS[0]).is_file()
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
        return {artifacts.OBJECTIVE_OF_TAG[tag] if tag else _recorded_objective(save_pwd): save_pwd}
    folders = {objective: artifacts.results_dir(attack, dataset, objective)
               for name, objective in artifacts.OBJECTIVE_OF_TAG.items() if tag in ("", name)}
    found = {objective: folder for objective, folder in folders.items() if folder.is_dir()}
    if not found:
        raise InputError(
            f"expected result files in {' or '.join(map(str, folders.values()))}, which `python "
            f"test_adv.py --mode=attack --attack_method={attack} --dataset={dataset} "
            "--log_root=... --RCE_train=...` writes. Received: no such folder.")
    return found


def _recorded_objective(folder):
    record = run_records.read(folder, "test_adv")
    if record is None or "RCE_train" not in record["flags"]:
        raise InputError("objective_tag must be RCE or CE where no test_adv_run.json tells whose "
                         f"files they are: save_pwd={str(folder)!r}. Received: objective_tag=''.")
    return "rce" if record["flags"]["RCE_train"] else "ce"


def features_network(kernel_folder: str | os.PathLike, objective: str) -> Mapping[str, Any] | None:
    """Which network the training features in a folder are of; None where no run record tells."""
    record = run_records.read(kernel_folder, f"kernel_para_{artifacts.OBJECTIVE_TAG[objective]}")
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
    if found and wanted and found["weights_sha256"] != wanted["weights_sha256"]:
        raise InputError(f"expected {what} in {folder} of the network of {whose}, with weights of "
                         f"SHA-256 {wanted['weights_sha256'][:12]}…. Received: {what} of "
                         f"{found['weights_sha256'][:12]}….")

"""The augmented set of runtime masking and cleansing on disk, and the features of its rows.

`images.npy`, `labels.npy` and `identity.json`, which tells that they are whole; `features_<layer>.npy`
with a .json that tells whose they are. And `points.npz` and `.csv`, what came of the points of streams.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from errors import InputError
from files import atomic, provenance
from files.arrays import read_arrays, read_npy, sha256

_IMAGES, _LABELS, _IDENTITY = "images.npy", "labels.npy", "identity.json"
_FILES = (_IMAGES, _LABELS)
# One row per stream and point, beside the result files of rmc.py.
_POINTS = "points.npz"
CLEAN, ATTACKED = range(2)
STREAM_NAMES = ("clean", "adv")
# Nearest rows that are told of each point.
NUM_TOLD = 5
POINTS = ("stream", "position", "image_index", "label", "target", "predicted", "static", "webnn",
          "deepnn", "epochs_adapt", "epochs_calibrate", "validation_first", "validation_best",
          "validation_last", "share_true_label", "share_adversarial", "drift", "seconds",
          *(f"nearest_{number}" for number in range(1, NUM_TOLD + 1)))
POINTS_WRITTEN = (_POINTS, "points.csv")


@dataclasses.dataclass(frozen=True)
class AugmentedSet:
    """Adversarial versions of training images, block after block, and the images themselves last.

    Attributes:
      images: uint8 [M, h, w, c], read as far as it is indexed.
      labels: true classes int32 [M].
      num_clean: rows of the last block.
      identity: how it was made, JSON values; "weights_sha256" of the network, "images_sha256".
      features: float32 [M, d] of the network as it was trained; None where they are not read.
    """

    images: np.ndarray
    labels: np.ndarray
    num_clean: int
    identity: Mapping[str, Any]
    features: np.ndarray | None = None

    @functools.cached_property
    def sha256(self) -> str:
        """Which set this is, network and images included."""
        return sha256(np.frombuffer(json.dumps(self.identity, sort_keys=True).encode(), np.uint8))


def save(folder: str | os.PathLike, blocks: Iterable[np.ndarray], labels: np.ndarray,
         identity: Mapping[str, Any]) -> None:
    """Writes an augmented set.

    Args:
      folder: where to; made where missing.
      blocks: images uint8 [n, h, w, c], together one per label.
      labels: int [M].
      identity: of `AugmentedSet`; "images_sha256" is added.
    """
    folder = Path(folder)
    # First: without it the folder holds no set, whatever a kill leaves of the others.
    (folder / _IDENTITY).unlink(missing_ok=True)
    with atomic.atomic_path(folder / _IMAGES) as temporary:
        _write_blocks(temporary, blocks, len(labels))
        digest = sha256(np.load(temporary, mmap_mode="r"))
    atomic.write_npy(folder / _LABELS, labels.astype(np.int32))
    atomic.write_json(folder / _IDENTITY, {**identity, "images_sha256": digest})


def _write_blocks(path, blocks, number):
    """Blocks as one .npy, without holding them at once."""
    images, start = None, 0
    for block in blocks:
        if images is None:
            images = np.lib.format.open_memmap(path, "w+", np.uint8, (number, *block.shape[1:]))
        images[start:start + len(block)] = block
        start += len(block)
    images.flush()


def load(folder: str | os.PathLike) -> AugmentedSet:
    """The augmented set in a folder, without features; InputError where there is none, or a damaged
    one."""
    folder = Path(folder)
    identity = read_identity(folder)
    if identity is None:
        raise InputError(f"expected an augmented set in {folder}, which `python rmc.py --mode=augment` "
                         "makes. Received: none.")
    images, labels = read_npy(folder / _IMAGES, mmap_mode="r"), read_npy(folder / _LABELS)
    if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1] or (
            labels.dtype != np.int32) or identity.get("images_sha256") != sha256(images):
        raise InputError(f"expected the images and labels of {folder}/{_IDENTITY}: make them anew with "
                         f"--overwrite=True. Received: others, or damaged ones, images of shape "
                         f"{images.shape}.")
    return AugmentedSet(images, labels, identity["num_train"], identity)


def read_identity(folder: str | os.PathLike) -> dict[str, Any] | None:
    """How the augmented set in a folder was made; None where there is no whole one."""
    path = Path(folder) / _IDENTITY
    if not path.is_file():
        return None
    found = atomic.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("num_train"), int):
        raise InputError(f"expected how an augmented set was made in {path}. Received: something else.")
    return found


def refuse_others(folder: str | os.PathLike, identity: Mapping[str, Any], *,
                  goes_on: bool = False) -> None:
    """Raises an InputError when a folder holds an augmented set that was made otherwise, or, unless
    parts of this very set are there (`goes_on`), files of nobody under its names."""
    folder, found = Path(folder), read_identity(folder)
    if found is None:
        taken = next((name for name in _FILES if os.path.lexists(folder / name)), None)
        if taken and not goes_on:
            raise InputError(f"expected no {taken} in {folder} but with the {_IDENTITY} of an "
                             "augmented set: give --overwrite=True to replace it. "
                             f"Received: {taken} alone.")
        return
    wanted = json.loads(json.dumps(identity))
    name = next((name for name in wanted if found.get(name) != wanted[name]), None)
    if name:
        raise InputError(f"{folder} holds an augmented set with {name}={found.get(name)!r}: give "
                         "--overwrite=True to make it anew, or another --rmc_dir. Received: "
                         f"{name}={wanted[name]!r}.")


def check_network(folder: str | os.PathLike, augmented: AugmentedSet,
                  network: Mapping[str, Any]) -> None:
    """Raises an InputError unless the set was made of this network, as `Network.identity` tells it."""
    digest = provenance.digest_that_differs(augmented.identity, network)
    if digest:
        raise InputError(
            f"{folder} holds the augmented set of another network, {digest}="
            f"{provenance.shown(augmented.identity, digest)}: give its --log_root, or another "
            f"--rmc_dir. Received: {digest}={provenance.shown(network, digest)}.")


def save_features(folder: str | os.PathLike, layer: str, features: np.ndarray,
                  augmented: AugmentedSet) -> Path:
    """Writes the features of an augmented set, float32 [M, d], of a layer; the path."""
    path = _features_path(folder, layer)
    # First, so that no kill leaves it beside the features of another set.
    path.with_suffix(".json").unlink(missing_ok=True)
    atomic.write_npy(path, features.astype(np.float32))
    atomic.write_json(path.with_suffix(".json"), {"augmented_set": augmented.sha256})
    return path


def with_features(folder: str | os.PathLike, layer: str, augmented: AugmentedSet) -> AugmentedSet:
    """The set with what `save_features` wrote; InputError where that is missing, of another set or
    damaged."""
    path = _features_path(folder, layer)
    told = f'which "python rmc.py --mode=features --rmc_feature_layer={layer}" writes'
    if not path.is_file():
        raise InputError(f"expected {path.name} in {path.parent}, {told}. Received: no such file.")
    told_by = path.with_suffix(".json")
    record = atomic.read_json(told_by) if told_by.is_file() else None
    if not isinstance(record, dict) or record.get("augmented_set") != augmented.sha256:
        raise InputError(f"expected {path} to be of the augmented set beside it, {told} anew. "
                         "Received: features of another one.")
    features = read_npy(path)
    if features.ndim != 2 or len(features) != len(augmented.labels) or (
            features.dtype != np.float32) or not np.isfinite(features).all():
        raise InputError(f"expected finite features float32 [{len(augmented.labels)}, d] in {path}, "
                         f"{told} anew. Received: {features.dtype} of shape {features.shape}.")
    return dataclasses.replace(augmented, features=features)


def _features_path(folder, layer):
    return Path(folder) / f"features_{layer}.npy"


def save_points(folder: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Writes points.npz and points.csv: arrays [rows] under the names POINTS."""
    if set(columns) != set(POINTS):
        raise InputError(f"points must hold [{', '.join(POINTS)}]. Received: "
                         f"missing or unknown={sorted(set(columns) ^ set(POINTS))}.")
    ordered = {name: columns[name] for name in POINTS}
    path = Path(folder) / _POINTS
    with atomic.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **ordered)
    atomic.write_csv(path.with_suffix(".csv"), POINTS,
                     zip(*(array.tolist() for array in ordered.values()), strict=True))


def load_points(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """What `save_points` wrote; InputError where it is not there or damaged."""
    path = Path(folder) / _POINTS
    if not path.is_file():
        raise InputError(f"expected {_POINTS} in {folder}, which `python rmc.py --mode=eval` writes. "
                         "Received: no such file.")
    arrays = read_arrays(path)
    lengths = {array.shape for array in arrays.values()}
    if set(arrays) != set(POINTS) or len(lengths) != 1 or len(lengths.pop()) != 1 or any(
            array.dtype.kind not in "fiu" for array in arrays.values()):
        raise InputError(f"expected numbers {', '.join(POINTS)} of each point in {path}. "
                         f"Received: arrays={sorted(arrays)}.")
    return arrays


def save_table(folder: str | os.PathLike, text: str, rows: Sequence[Sequence[str]]) -> Path:
    """Writes table.md, which holds `text`, and table.csv, the rows; the path of the first."""
    path = Path(folder) / "table.md"
    with atomic.atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    atomic.write_csv(path.with_suffix(".csv"), rows[0], rows[1:])
    return path

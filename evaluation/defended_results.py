"""What came of the streams of a defender: files, figures, lines."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from errors import InputError
from evaluation import streams, sweep
from evaluation.defended import Answered, Chosen
from evaluation.success import share, shown
from files import attack_results, provenance, result_files
from files import rmc as rmc_files

# What of a point is kept as it is.
_KEPT = ("label", "predicted", "webnn", "deepnn", "epochs_adapt", "epochs_calibrate",
         "validation_first", "validation_best", "validation_last", "share_true_label",
         "share_adversarial", "drift", "seconds")


def save(folder: str | os.PathLike, chosen: Chosen, found: Mapping[int, Answered]) -> None:
    """Writes points.npz and .csv and, where both streams are there, the result files of an attack."""
    rmc_files.save_points(folder, _columns(chosen, found))
    if len(found) < 2:
        return
    clean, attacked = (sweep.outputs_of(one.arrays["logits"], one.arrays["features"])
                       for one in (found[streams.CLEAN], found[streams.ATTACKED]))
    images = chosen.stream
    crafted = {"adversarial": found[streams.ATTACKED].images, "target": _target(images),
               "iterations": np.zeros(len(images.labels), np.int32)}
    attack_results.Attacked(
        images.labels, images.x, crafted["adversarial"], clean, attacked,
        sweep.per_image(chosen.eps, images, clean, attacked, crafted)).save(folder)


def _columns(chosen, found):
    parts = []
    for number, one in found.items():
        nearest = {f"nearest_{k + 1}": one.arrays["nearest"][:, k] for k in range(rmc_files.NUM_TOLD)}
        count = len(one.static)
        parts.append({
            "stream": np.full(count, number), "position": np.arange(count),
            "image_index": chosen.stream.image_index, "static": one.static,
            "target": _target(chosen.stream), **{name: one.arrays[name] for name in _KEPT}, **nearest})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _target(images):
    return np.full(len(images.labels), -1) if images.target is None else images.target


def afterwards(found: Mapping[int, Answered]) -> dict[str, dict[str, int]]:
    """Stream → how many held-out images the network gets right after its last point, and of how
    many."""
    return {rmc_files.STREAM_NAMES[number]: {"n": len(one.afterwards.clean)} | {
        name: int(right.sum()) for name, right in one.afterwards._asdict().items()}
        for number, one in found.items() if one.afterwards}


def lines(chosen: Chosen, found: Mapping[int, Answered]) -> list[str]:
    """What is said of finished streams."""
    told = []
    for number, one in found.items():
        labels = chosen.stream.labels
        values = {"right": one.arrays["predicted"], "WebNN": one.arrays["webnn"],
                  "DeepNN": one.arrays["deepnn"], "the network as it was trained": one.static}
        shares = ", ".join(f"{name} {shown(share(classes == labels))}"
                           for name, classes in values.items())
        told.append(f"{rmc_files.STREAM_NAMES[number]}, {len(labels)} points: {shares}")
        if number == streams.ATTACKED and (_target(chosen.stream) >= 0).any():
            told.append(f"reached its target: {shown(share(values['right'] == chosen.stream.target))}")
        if one.afterwards:
            told.append(f"after it the network itself, {len(one.afterwards.clean)} held-out images: " +
                        ", ".join(f"{name.replace('_', ' ')} {shown(share(right))}"
                                  for name, right in one.afterwards._asdict().items()))
    return told


def refuse_others(folder: str | os.PathLike, told: Mapping[str, Any], *, goes_on: bool) -> None:
    """Raises an InputError when a folder holds results of another network, augmented set or defender,
    or results that rmc.py did not leave.

    Args:
      folder: that is to be written.
      told: "network" and "defense" of this run.
      goes_on: whether parts of this very run are there.
    """
    record = provenance.read(folder, "rmc")
    written: Sequence[str] = (*result_files.WRITTEN, *rmc_files.POINTS_WRITTEN)
    if record is None:
        taken = next((name for name in written if os.path.lexists(Path(folder) / name)), None)
        if taken and not goes_on:
            raise InputError(f"{folder} holds files without rmc_run.json, which may be the only ones: "
                             "give --overwrite=True to replace them, or another --save_pwd. "
                             f"Received: {taken}.")
        return
    for name in ("network", "defense"):
        # As the file gives it back.
        found, wanted = record["metrics"].get(name) or {}, json.loads(json.dumps(told[name]))
        other = next((key for key in wanted if found.get(key) != wanted[key]), None)
        if other:
            raise InputError(f"{folder} holds the results of another {name}, with {other}="
                             f"{str(found.get(other))[:20]}: give --overwrite=True to replace them, or "
                             f"another --save_pwd. Received: {other}={str(wanted[other])[:20]}.")

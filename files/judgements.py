"""The tables of detect.py on disk: AUCs of an attack, every figure of a detector, its answers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errors import InputError
from files import atomic, paths


def auc_files(attack: str, dataset: str) -> list[str]:
    """Names of what --mode=auc leaves of an attack, the ROC curves included."""
    return [f"auc_{attack}_{dataset}.json",
            *(f"roc_{attack}_{dataset}{suffix}" for suffix in (".png", ".csv"))]


def evaluation_files(tag: str) -> list[str]:
    """Names of what `save_evaluation` writes."""
    return [f"evaluation_{tag}{suffix}" for suffix in (".json", ".csv")]


def save_aucs(folder: str | os.PathLike, attack: str, dataset: str, scores: Sequence[str],
              tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Writes auc_<attack>_<dataset>.json; returns its path.

    Args:
      folder: where to; made where missing.
      attack: name of the attack.
      dataset: name of the data set.
      scores: names of the scores.
      tables: tag of the network → rows of JSON values.
    """
    path = Path(folder) / f"auc_{attack}_{dataset}.json"
    atomic.write_json(path, {"scores": scores, "objectives": tables})
    return path


# Of evaluation_<tag>.json. Before there was one it was the list "rows".
_FORMAT = 2


def save_evaluation(folder: str | os.PathLike, tag: str, rows: Sequence[Mapping[str, Any]],
                    told: Mapping[str, Any]) -> Path:
    """Writes evaluation_<tag>.json and .csv, the figures of a detector; returns the path of the first.

    Args:
      folder: where to; made where missing.
      tag: of the network.
      rows: "attack", "eps", "subset", "score", "n" and "figures", name → value with its interval, a
        named tuple (value, low, high).
      told: of attackers, as `evaluation.verdicts.told` has it; of the JSON alone.
    """
    path = Path(folder) / f"evaluation_{tag}.json"
    atomic.write_json(path, {"format": _FORMAT, **told, "rows": [row | {"figures": {
        name: estimate._asdict() for name, estimate in row["figures"].items()}} for row in rows]})
    keys = ("attack", "eps", "subset", "score", "n")
    atomic.write_csv(
        path.with_suffix(".csv"), (*keys, "figure", "value", "low", "high"),
        ((*(row[key] for key in keys), name, *estimate)
         for row in rows for name, estimate in row["figures"].items()))
    return path


def load_evaluation(path: str | os.PathLike) -> dict[str, Any]:
    """What evaluation_<tag>.json holds: "format", "rows" and, from format 2 on, what is told of
    attackers.

    Raises:
      InputError: it is no such file, or of a later format.
    """
    found = atomic.read_json(path)
    if isinstance(found, list):
        found = {"format": 1, "rows": found}
    known = isinstance(found, dict) and found.get("format") in range(1, _FORMAT + 1)
    if not known or not isinstance(found.get("rows"), list):
        raise InputError(f"expected an evaluation of detect.py, of format 1 to {_FORMAT}, in {path}. "
                         "Received: something else.")
    return found


# First columns of the answers.
_ANSWER = ("image", "answer", "label")


def refuse_others(path: str | os.PathLike) -> None:
    """Raises an InputError when a file is at `path` that `save_answers` did not write: it may be the
    only copy of whatever it is."""
    begin = ",".join(_ANSWER).encode()
    if os.path.exists(path):
        paths.require_file(path)
        with open(path, "rb") as file:
            found = file.read(len(begin))
        if found != begin:
            raise InputError("answers must be a new file, or one of earlier answers to replace. "
                             f"Received: answers={os.fspath(path)!r}, another file.")


def save_answers(path: str | os.PathLike, names: Sequence[str], answer: Any) -> None:
    """Writes what a detector says of images as CSV.

    Args:
      path: file to write.
      names: of the images.
      answer: of these images, a `defenses.deployed.Answer`.
    """
    atomic.write_csv(
        path, (*_ANSWER, *answer.scores),
        zip(names, answer.words(), answer.labels.tolist(),
            *(values.tolist() for values in answer.scores.values()), strict=True))

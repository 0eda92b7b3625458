"""What a defender is worth, beside its controls and under the attacks that follow it: one table.

There is no line without its controls: one that was not run stands there with the command that runs it.
"""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.markdown import NOT_RUN
from evaluation.model_space import KINDS
from evaluation.success import Share, share, shown
from files import provenance
from files import rmc as rmc_files

# What nobody may read a number of this defence without.
CAUTION = ("Runtime masking and cleansing is broken by attacks that follow it (GMSA, arXiv "
           "2110.14735), and adaptive defences seldom beat their static network (arXiv 2202.13711). "
           "Read each line beside its controls.")
HEAD = ("defender", "state", "neighbours", "attack", "K", "epochs ≤", "n", "right, clean %",
        "right, attacked %", "target reached %", "epochs run", "network afterwards: clean / attacked / "
        "attacked anew %")
# State and neighbours that are to stand beside each other, and those that are to be attacked by who
# follows them.
_CONTROLS = (("sequential", "nearest"), ("sequential", "random"), ("reset", "nearest"),
             ("reset", "random"))
_FOLLOWED = (("sequential", "nearest"), ("reset", "nearest"))
# Flags of a run that another line of the table may have otherwise.
_OWN_FLAGS = ("mode", "rmc_state", "rmc_neighbors", "rmc_attack", "rmc_rounds", "rmc_stream",
              "save_pwd", "overwrite", "num_shards", "shard_index", "rmc_calibrate")
_OF_TRANSFER = ("rmc_from", "target", "attack_method")


class Line(NamedTuple):
    """One line: who answered what, or a command.

    Attributes:
      defender: "RMC", "none", "WebNN" or "DeepNN".
      state: of `defenses.rmc.STATES`.
      neighbors: of `defenses.rmc.NEIGHBORS`; with a calibration that is not the usual.
      attack: name of the attack.
      k: neighbours.
      epochs: of a fit at most.
      clean: share of clean images that were answered rightly; None: that stream was not run.
      attacked: of attacked ones.
      reached: share of attacked ones that were answered with the target; None of untargeted.
      epochs_run: on average before an answer; None where nothing adapts.
      afterwards: shares of held-out images that the network of the attacked stream gets right.
      command: that would run it; "" of one that was run.
    """

    defender: str
    state: str
    neighbors: str
    attack: str
    k: int
    epochs: int
    clean: Share | None = None
    attacked: Share | None = None
    reached: Share | None = None
    epochs_run: float | None = None
    afterwards: Mapping[str, Share] | None = None
    command: str = ""


class Run(NamedTuple):
    """A finished evaluation: its folder, record and points."""

    folder: Path
    record: Mapping[str, Any]
    points: Mapping[str, np.ndarray]


def find(roots: Sequence[Path], augmented_set: str, warn: Callable[[str], None]) -> list[Run]:
    """Finished evaluations with an augmented set, in and below folders.

    Args:
      roots: where to look.
      augmented_set: its sha256.
      warn: told of evaluations with another one, which are left out.
    """
    found, others = [], []
    for path in sorted({path for root in roots for path in root.glob("**/rmc_run.json")}):
        record = provenance.read(path.parent, "rmc")
        defense = record["metrics"].get("defense")
        if not isinstance(defense, dict) or defense.get("augmented_set") != augmented_set:
            others.append(str(path.parent))
            continue
        found.append(Run(path.parent, record, rmc_files.load_points(path.parent)))
    if others:
        warn(f"{len(others)} evaluations with another augmented set are left out: "
             f"{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}.")
    return found


def beside(folder: Path, augmented_set: str) -> dict[int, dict[str, np.ndarray]]:
    """Stream → who answered its points rightly, bool [n] each: the run in `folder`, the finished ones
    beside it of the same points, and who needs no defender."""
    own, *_ = found = sorted(find([folder.parent], augmented_set, lambda sentence: None),
                             key=lambda run: run.folder != folder)
    told = {}
    for number in np.unique(own.points["stream"]).tolist():
        points = _points_of(own, number)
        same = [run for run in found if np.array_equal(_points_of(run, number), points)]
        others = _rights(own.points, number)
        others.pop("right")
        told[number] = {" ".join(_defender(run)[:2]): _rights(
            run.points, number)["right"] for run in same} | others
    return told


def _rights(points: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Who answered the points of a stream rightly, bool [n]: "right", the defender, "WebNN", "DeepNN"
    and "as trained", the network before it adapts; of the arrays of points.npz."""
    rows = points["stream"] == number
    return {name: (points[column] == points["label"])[rows] for name, column in (
        ("right", "predicted"), ("WebNN", "webnn"), ("DeepNN", "deepnn"), ("as trained", "static"))}


def _points_of(run, number):
    return run.points["image_index"][run.points["stream"] == number]


def lines(runs: Sequence[Run]) -> list[Line]:
    """The lines of the table, those that were not run as commands.

    Args:
      runs: at least one, of `find`.
    """
    attacks = list(dict.fromkeys(_attack(run) for run in runs))
    transfers = [name for name in attacks if name not in KINDS] or ["pgd"]
    told = []
    for attack in (*transfers, *KINDS):
        own = [run for run in runs if _attack(run) == attack]
        if own:
            told += _baselines(own)
        wanted = _FOLLOWED if attack in KINDS else _CONTROLS
        there = {_defender(run)[:2] for run in own}
        told += [_line(run) for run in sorted(own, key=_place)]
        told += [_missing(attack, pair, runs) for pair in wanted if pair not in there]
    return told


def _attack(run):
    return run.record["metrics"]["variant"]


def _defender(run):
    defense = run.record["metrics"]["defense"]
    return defense["state"], defense["neighbors"], defense["calibrate"]


def _place(run):
    pair = _defender(run)[:2]
    return _CONTROLS.index(pair) if pair in _CONTROLS else len(_CONTROLS)


def _line(run):
    metrics, points = run.record["metrics"], run.points
    defense, attacked = metrics["defense"], points["stream"] == rmc_files.ATTACKED
    state, neighbors, calibrate = _defender(run)
    if state == "sequential" and calibrate != "all":
        neighbors = f"{neighbors}, calibration {calibrate}"
    after = metrics["afterwards"].get(rmc_files.STREAM_NAMES[rmc_files.ATTACKED])
    targeted = attacked & (points["target"] >= 0)
    return Line(
        "RMC", state, neighbors, _attack(run), defense["k"], defense["epochs"],
        *(_right(points, rows, "predicted") for rows in (~attacked, attacked)),
        share(points["predicted"][targeted] == points["target"][targeted]) if targeted.any() else None,
        None if state == "frozen" else float(points["epochs_adapt"][attacked].mean())
        if attacked.any() else None,
        after and {name: share(np.arange(after["n"]) < number)
                   for name, number in after.items() if name != "n"})


def _right(points, rows, name):
    return share((points[name] == points["label"])[rows]) if rows.any() else None


def _baselines(runs):
    """The static network and the votes, of the run with most points: they need no defender."""
    run = max(runs, key=lambda run: (len(np.unique(run.points["stream"])), len(run.points["label"])))
    points, attacked = run.points, run.points["stream"] == rmc_files.ATTACKED
    k = run.record["metrics"]["defense"]["k"]
    return [Line(title, "frozen", "", _attack(run), k, 0, *(
        _right(points, rows, name) for rows in (~attacked, attacked)))
        for title, name in (("none", "static"), ("WebNN", "webnn"), ("DeepNN", "deepnn"))]


def _missing(attack, pair, runs):
    """A line of what is to be run: as the run that is nearest to it was."""
    state, neighbors = pair
    near = next((run for run in runs if _attack(run) == attack), runs[0])
    left_out = _OWN_FLAGS + (_OF_TRANSFER if attack in KINDS else ())
    kept = _without(shlex.split(near.record["command"]), left_out)
    own = {"mode": "eval", "rmc_state": state, "rmc_neighbors": neighbors,
           **({"rmc_attack": attack, "rmc_stream": "adv"} if attack in KINDS else {})}
    if attack in KINDS and _attack(near) in KINDS:
        own["rmc_rounds"] = near.record["flags"]["rmc_rounds"]
    defense = near.record["metrics"]["defense"]
    command = shlex.join([*kept, *(f"--{name}={value}" for name, value in own.items())])
    return Line("RMC", state, neighbors, attack, defense["k"], defense["epochs"], command=command)


def _without(command, names):
    """A command line without some flags, in either of their forms."""
    kept, skips = [], False
    for word in command:
        is_flag = word.startswith("--")
        name = word.lstrip("-").partition("=")[0]
        if is_flag and name in names:
            skips = "=" not in word
        elif is_flag or not skips:
            kept.append(word)
            skips = False
        else:
            skips = False
    return kept


def format_rows(table: Sequence[Line]) -> list[list[str]]:
    """Head and rows as text."""
    rows = [list(HEAD)]
    for line in table:
        start = [line.defender, line.state, line.neighbors or "-", line.attack, str(line.k),
                 str(line.epochs) if line.epochs else "-"]
        if line.command:
            rows.append([*start, NOT_RUN, f"`{line.command}`", *[""] * (len(HEAD) - len(start) - 2)])
            continue
        counted = line.attacked or line.clean
        after = line.afterwards
        rows.append([
            *start, str(counted.n), _cell(line.clean), _cell(line.attacked),
            _cell(line.reached) if line.reached else "-",
            "-" if line.epochs_run is None else f"{line.epochs_run:.1f}",
            " / ".join(shown(after[name]) for name in ("clean", "attacked", "attacked_anew"))
            if after else "-"])
    return rows


def _cell(counted):
    return NOT_RUN if counted is None else shown(counted)


def roots(dataset: str, save_pwd: str | os.PathLike | None) -> list[Path]:
    """Where evaluations of a data set lie: `save_pwd` and below, or the usual folders here."""
    return [Path(save_pwd)] if save_pwd else sorted(Path().glob(f"rmc_*_{dataset}"))

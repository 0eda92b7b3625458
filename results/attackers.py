"""What attackers get out of the shipped networks and detectors: those who know the detector and others.

    python -m results.attackers runs

Reads what `test_adv.py --mode=challenge` has left in runs/<data set>/seed<n>, and writes
results/attackers.json, which `make report` draws up above the tables of AUCs. The commands stand in
results/attack_shipped.sh.
"""

import sys
from pathlib import Path
from typing import Any

from defenses import SCORES
from evaluation.markdown import NOT_RUN
from files import atomic, provenance
from files.judgements import evaluation_files, load_evaluation
from files.names import ALL_SCORES, OBJECTIVE_OF_TAG, challenge_dir
from results import command
from results.cells import DATASETS, HERE, read_found
from results.collect import run_of

PATH = HERE / "attackers.json"
_WORDS = {"oblivious": "no", "adaptive": "yes"}
_KEPT = ("attacker", "norm", "eps", "score", "rate", "attacks")
# Of `collect`: what there is one of for each network and seed, or several.
_LISTS = ("rows", "warnings", "not_checked")
# What the table shows: thresholds that refuse so many normal images.
_RATE, _STRICTER = 0.05, 0.01


def collect(work: Path, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the challenges in a folder have found.

    Args:
      work: folder of results/attack_shipped.sh.
      kept: what was collected before; of it stays what is of a network and seed that `work` does not
        have.

    Returns:
      {"rows": ..., "runs": ..., "warnings": ..., "not_checked": ...}: per data set, objective, seed and
      row of `evaluation.attackers.rows` "value", "low", "high" and "n" of its success, "detected" (the
      share of images made wrong whose every wrong example is refused) and, of all scores at once,
      "parts"; the attacks' runs by name; "flag" and "sentence" of each reason for doubt; "flags" that
      nobody could look for.
    """
    found = {"runs": {}, **{name: [] for name in _LISTS}}
    of_work = set()
    for folder in sorted(work.glob("*/seed*")):
        dataset, seed = folder.parent.name, int(folder.name.removeprefix("seed"))
        for tag, objective in OBJECTIVE_OF_TAG.items():
            path = folder / challenge_dir("standard", "linf", dataset) / evaluation_files(tag)[0]
            if not path.is_file():
                continue
            evaluation = load_evaluation(path)
            of_work.add((dataset, objective, seed))
            found["warnings"] += [
                {"dataset": dataset, "objective": objective, "seed": seed, "flag": raised["flag"],
                 "sentence": raised["sentence"]} for raised in evaluation.get("warnings", ())]
            found["not_checked"].append({"dataset": dataset, "objective": objective, "seed": seed,
                                         "flags": evaluation.get("not_checked", [])})
            found["rows"] += [
                {"dataset": dataset, "objective": objective, "seed": seed, **_figures(row)}
                for row in evaluation.get("success", ())]
            for attacked in sorted(path.parent.glob(f"*_{dataset}/{tag}")):
                record = provenance.read(attacked, "test_adv")
                if record:
                    name = attacked.parent.name.removesuffix(f"_{dataset}")
                    found["runs"][f"{dataset}_{objective}_{name}_seed{seed}"] = run_of(record)
    return _joined(found, kept, of_work) if kept else found


def _figures(row):
    """What is kept of a row of `evaluation.attackers.rows`."""
    success, detected = row["success"], row["detected"]["value"]
    # Where no image was made wrong there is nothing to detect.
    told = {} if detected is None or detected != detected else {"detected": round(detected, 6)}
    parts = {"parts": {name: round(value, 6) for name, value in row["parts"].items()}}
    return {**{key: row[key] for key in _KEPT}, "n": success["n"],
            **{name: round(success[name], 6) for name in ("value", "low", "high")}, **told,
            **(parts if row["score"] == ALL_SCORES else {})}


def _joined(found, kept, of_work):
    """What was found, and of what was before it all that is of none of these data sets, objectives and
    seeds."""
    def others(name):
        return [one for one in kept.get(name, ())
                if (one["dataset"], one["objective"], one["seed"]) not in of_work]

    ends = {(f"{dataset}_{objective}_", f"_seed{seed}") for dataset, objective, seed in of_work}
    runs = {name: run for name, run in kept["runs"].items()
            if not any(name.startswith(start) and name.endswith(end) for start, end in ends)}
    # One order, whatever came first.
    return {"runs": dict(sorted((found["runs"] | runs).items())), **{
        name: sorted(found[name] + others(name),
                     key=lambda one: (one["dataset"], one["objective"], one["seed"]))
        for name in _LISTS}}


def load() -> dict[str, Any]:
    """What `collect` has found; without its file no rows."""
    return read_found(PATH)


def sentence(rows: list[dict[str, Any]]) -> str:
    """The claim, in one sentence with its numbers; NOT_RUN without any."""
    every = [row for row in _of_most_attacks(rows) if row["score"] == ALL_SCORES
             and row["rate"] == _RATE and row["norm"] == "linf"]
    parts = []
    for key in dict.fromkeys((row["dataset"], row["objective"], row["eps"]) for row in every):
        of = {who: [row for row in every if row["attacker"] == who and (
            row["dataset"], row["objective"], row["eps"]) == key] for who in _WORDS}
        if of["adaptive"]:
            known = [row["value"] for row in of["oblivious"]]
            beside = f", without {_range(known)}" if known else ""
            parts.append(f"{DATASETS[key[0]].split()[0]} {key[1].upper()} at {_eps(key[2])}: "
                         f"{_shown(of['adaptive'])}{beside}")
    if not parts:
        return f"{NOT_RUN}."
    return ("Images that such an attacker gets wrong and accepted by all five "
            f"scores, thresholds refusing {100 * _RATE:g} % of normal images, in %, and without "
            f"knowing it: {'; '.join(parts)}.")


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Data, objective and L-inf eps in words → attacker → its success against all scores at once, mean
    over the seeds with most attacks."""
    found = {}
    for row in _of_most_attacks(rows):
        if (row["norm"], row["score"], row["rate"]) == ("linf", ALL_SCORES, _RATE):
            found.setdefault(_name(row), {}).setdefault(row["attacker"], []).append(row["value"])
    return {name: {attacker: sum(values) / len(values) for attacker, values in by_attacker.items()}
            for name, by_attacker in found.items()}


def table_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Head and rows: success (%) by who knows what, by how many attacks there were, and by score, mean
    (range) over the seeds."""
    names = [*SCORES, ALL_SCORES]
    table = [["data", "objective", "L-inf eps", "knows the detector", "attacks", *names,
              f"{ALL_SCORES}, T of {100 * _STRICTER:g} %", "refused on every attack", "images",
              "seeds"]]
    keys = dict.fromkeys((row["dataset"], row["objective"], row["eps"]) for row in rows
                         if row["norm"] == "linf")
    for key in keys:
        for attacker, word in _WORDS.items():
            own = [row for row in rows if row["norm"] == "linf" and row["attacker"] == attacker
                   and (row["dataset"], row["objective"], row["eps"]) == key]
            numbers = sorted({len(row["attacks"]) for row in own}, reverse=True)
            for number in numbers or [0]:
                table.append([DATASETS[key[0]], key[1].upper(), _eps(key[2]), word, str(number),
                              *_cells([row for row in own if len(row["attacks"]) == number], names)])
    return table if len(table) > 1 else []


def _cells(rows, names):
    """Of one line: what rows of the seeds say by score, of how many images and seeds."""
    def of(score, rate):
        return [row for row in rows if (row["score"], row["rate"]) == (score, rate)]

    shown = of(ALL_SCORES, _RATE)
    detected = [row["detected"] for row in shown if "detected" in row]
    return [*(_shown(of(name, _RATE)) for name in names), _shown(of(ALL_SCORES, _STRICTER)),
            _range(detected), str(rows[0]["n"]) if shown else NOT_RUN, str(len(shown))]


def parts_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Network and budget in words → name → share of `evaluation.success.PARTS`, for who knows the
    detector and all scores at once, mean over the seeds with most attacks."""
    found = {}
    for row in _of_most_attacks(rows):
        of = row["norm"], row["attacker"], row["rate"]
        if of == ("linf", "adaptive", _RATE) and "parts" in row:
            found.setdefault(_name(row), []).append(row["parts"])
    return {name: {part: sum(one[part] for one in each) / len(each) for part in each[0]}
            for name, each in found.items()}


def _name(row):
    return f"{DATASETS[row['dataset']]} {row['objective'].upper()}, L-inf eps {_eps(row['eps'])}"


def _of_most_attacks(rows):
    """Of each network, attacker and budget the rows of those seeds that had most attacks: fewer are a
    looser bound."""
    def key(row):
        return tuple(row[name] for name in ("dataset", "objective", "attacker", "norm", "eps"))

    most = {}
    for row in rows:
        most[key(row)] = max(most.get(key(row), 0), len(row["attacks"]))
    return [row for row in rows if len(row["attacks"]) == most[key(row)]]


def _shown(rows):
    """Success (%) of rows of several seeds, mean (range), or of one with its 95 % interval."""
    if len(rows) == 1 and "low" in rows[0]:
        value, low, high = (100 * rows[0][name] for name in ("value", "low", "high"))
        return f"{value:.0f} [{low:.0f}, {high:.0f}]"
    return _range([row["value"] for row in rows])


def _range(values):
    if not values:
        return NOT_RUN
    mean, low, high = (100 * number for number in (sum(values) / len(values), min(values), max(values)))
    return f"{mean:.0f}" if low == high else f"{mean:.0f} ({low:.0f} to {high:.0f})"


def _eps(eps):
    # Of colours budgets are told in grey levels.
    return f"{eps:g}" if round(eps, 4) == eps else f"{round(eps * 255)}/255"


def _write(work):
    found = collect(work, load())
    atomic.write_json(PATH, found)
    return f"{len(found['rows'])} rows: {PATH}\n"


def main() -> int:
    """Collects from the folder that is named."""
    return command.run("attack_shipped.sh", _write)


if __name__ == "__main__":
    sys.exit(main())

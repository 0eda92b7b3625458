"""Logit pairing: the networks of results/logit_pairing.sh, the LeNets beside the published table.

    python -m results.logit_pairing logit_pairing    # the folder of results/logit_pairing.sh

Writes results/logit_pairing.json, which `make report` draws up. What was not run has no figure.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from errors import InputError
from evaluation.markdown import NOT_RUN
from evaluation.success import share
from files import atomic, provenance
from results import command
from results.cells import HERE, read_found
from results.collect import run_of

PATH = HERE / "logit_pairing.json"
ATTACKS = ("baseline", "mid", "strongest", "lite")
_PUBLISHED_RESTARTS = 10_000  # of strongest
# Networks under baseline on their way, after so many steps.
MEASURED, MEASURED_STEPS = ("clp", "lsq"), range(1000, 6001, 1000)
# Accuracy (%) on clean images, and under baseline, mid and strongest; MNIST, from the README of the
# authors' code, mid from Mosbach et al. 2018 (arXiv 1810.12042). Of two rows mid is of another version.
PUBLISHED = {
    "plain": (99.2, 0.0, 0.0, 0.0), "clp": (98.8, 62.4, 29.1, 4.1), "lsq": (98.8, 70.6, 39.0, 5.0),
    "alp": (98.5, 96.0, 93.8, 88.9), "at50_alp": (98.3, 97.2, 95.3, 89.9),
    "at50": (99.1, 92.7, 93.1, 88.2), "at100_alp": (98.4, 96.6, None, 85.7),
    "at100": (98.9, 95.2, None, 88.0)}
# Networks with nothing published beside them → what they are.
OTHERS = {
    "at50_control": "at50, one epoch with the published training attack, 40 of 0.01",
    "clp_without_noise": "clp without noise", "lsq_without_noise": "lsq without noise",
    "clp_rce": "clp with RCE for cross entropy", "lsq_rce": "lsq with RCE for cross entropy",
    "resnet32_rce": "ResNet-32 of RCE as shipped, no pairing",
    "cifar10_plain": "CIFAR-10 (through JPEG), ResNet-8, plain",
    "cifar10_clp": "CIFAR-10 (through JPEG), ResNet-8, clp",
    "cifar10_lsq": "CIFAR-10 (through JPEG), ResNet-8, lsq",
    "cifar10_resnet20_wide": "CIFAR-10 (through JPEG), resnet20_wide"}
_NETWORKS = (*PUBLISHED, *OTHERS)


def collect(work: Path, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Rows and the runs behind them.

    Args:
      work: folder of results/logit_pairing.sh.
      kept: what was collected before; of it stay the networks that `work` does not have.

    Returns:
      {"rows": [...], "runs": {name: run}}. A row has "network", "what" ("clean", one of ATTACKS or
      "baseline_<steps>"), "num_right" and "n"; of a clean one also "steps" and the training attack's
      "iterations".

    Raises:
      InputError: `work` has no network, or attacks of one network that were made of several.
    """
    rows, runs = [], {}
    of_work = {network: _of_network(work, network) for network in _NETWORKS}
    if not any(of_work.values()):
        raise InputError(f"expected networks of results/logit_pairing.sh in {work}/networks. "
                         "Received: none.")
    for network, own in of_work.items():
        own = own or _kept(kept, network)
        rows += own[0]
        runs |= own[1]
    return {"rows": rows, "runs": runs}


def _of_network(work, network):
    """Rows and runs of a network; None where `work` has nothing of it."""
    _refuse_a_mixture(work / "attacked" / network, network)
    rows, runs = [], {}
    for attack in (*ATTACKS, *map(_on_the_way, MEASURED_STEPS)):
        record = provenance.read(work / "attacked" / network / attack, "test_adv")
        if record is None:
            continue
        runs[f"{attack}_{network}"] = run_of(record)
        metrics = record["metrics"]
        num, told = metrics["num_per_eps"], metrics["rounds"][0]
        rows.append({"network": network, "what": attack, "n": num,
                     "num_right": round(told["precision_adv"] * num),
                     "num_restarts": metrics["num_restarts"]})
    training = provenance.read(work / "networks" / network / "train", "train")
    if training is None:  # a shipped one
        return (rows, runs) if rows else None
    runs[f"train_{network}"] = run_of(training) | {"steps": training["metrics"]["step"]}
    # Of all 10,000, not of the 1,000 that were attacked.
    rows.append({"network": network, "what": "clean", "n": 10_000,
                 "num_right": round(training["metrics"]["test_precision"] * 10_000),
                 "steps": training["metrics"]["step"],
                 "iterations": training["flags"]["train_attack_iterations"] or 0})
    return rows, runs


def _refuse_a_mixture(folder, network):
    """Attacks of one checkpoint must be of one, those of others on its way of others."""
    def weights(attack):
        record = provenance.read(folder / attack, "test_adv")
        return record and record["metrics"].get("network", {}).get("weights_sha256")

    attacked = {weights(attack) for attack in ATTACKS} - {None}
    on_the_way = [found for found in map(weights, map(_on_the_way, MEASURED_STEPS)) if found]
    if len(attacked) > 1 or len(set(on_the_way)) < len(on_the_way):
        raise InputError(f"expected the attacks in {folder} to be of one network, and those after "
                         "fewer steps of as many: remove the older ones. "
                         f"Received: a mixture of {network}.")


def _on_the_way(steps):
    return f"baseline_{steps}"


def _kept(kept, network):
    """What was collected of a network before."""
    if kept is None:
        return [], {}
    rows = [row for row in kept["rows"] if row["network"] == network]
    names = {f"train_{network}", *(f"{row['what']}_{network}" for row in rows)}
    return rows, {name: run for name, run in kept["runs"].items() if name in names}


def load(folder: Path = HERE) -> dict[str, Any]:
    """What was collected; without its file no rows."""
    return read_found(folder / PATH.name)


def table_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: ours with its 95 % interval, (published); ▼ where the published one lies above."""
    of = {(row["network"], row["what"]): row for row in found["rows"]}
    table = [["`--objective`", "steps", "clean", "baseline", "mid", "strongest",
              "50 restarts, 200 images"]]
    for network, published in PUBLISHED.items():
        steps = of.get((network, "clean"), {}).get("steps")
        cells = [_cell(of.get((network, what)), figure) for what, figure in zip(
            ("clean", *ATTACKS[:2]), published[:3], strict=True)]
        cells.append(_strongest(of.get((network, "strongest")), published[3]))
        table.append([network, f"{steps:,}" if steps else NOT_RUN, *cells,
                      _cell(of.get((network, "lite")), None)])
    return table


def other_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows of the networks with nothing published beside them."""
    of = {(row["network"], row["what"]): row for row in found["rows"]}
    table = [["network", "steps", "clean", "baseline", "mid", "strongest", "50 restarts, 200 images"]]
    for network, title in OTHERS.items():
        clean, *attacked, lite = (of.get((network, what))
                                  for what in ("clean", "baseline", "mid", "strongest", "lite"))
        table.append([title, f"{clean['steps']:,}" if clean else "-", _cell(clean, None),
                      *(_cell(row, None) for row in attacked[:2]), _strongest(attacked[2], None),
                      _cell(lite, None)])
    return table


def rows_by_steps(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: accuracy under baseline after so many training steps."""
    of = {(row["network"], row["what"]): row for row in found["rows"]}
    return [["steps", *MEASURED], *(
        [f"{steps:,}", *(_cell(of.get((network, _on_the_way(steps))), None) for network in MEASURED)]
        for steps in MEASURED_STEPS)]


def _cell(row, published):
    beside = "" if published is None else f" ({published:g})"
    if row is None:
        return NOT_RUN + beside
    counted = _share(row)
    short = published is not None and 100 * counted.high < published
    return (f"{100 * counted.value:.1f} [{100 * counted.low:.1f}, {100 * counted.high:.1f}]{beside}"
            f"{' ▼' if short else ''}")


def _strongest(row, published):
    """As `_cell`, with as many restarts as ours had where they are fewer than the published ones."""
    few = row is not None and row["num_restarts"] < _PUBLISHED_RESTARTS
    return _cell(row, published) + (f", {row['num_restarts']} restarts" if few else "")


def _share(row):
    return share(np.arange(row["n"]) < row["num_right"])


def findings(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The three statements of the paper that are asked about, one of ours, and what ours say."""
    of = {(row["network"], row["what"]): row["num_right"] / row["n"] for row in found["rows"]}

    def judged(needed, holds):
        values = [of.get(key) for key in needed]
        return NOT_RUN if None in values else str(bool(holds(*values))).lower()

    pairing = [(network, what) for network in ("clp", "lsq") for what in ("baseline", "strongest")]
    return [
        ("(a) CLP and LSQ look robust (over half right at baseline) and fall to less than a tenth at "
         "strongest, of as many restarts as ours had",
         judged(pairing, lambda a, b, c, d: min(a, c) > 0.5 and max(b, d) < 0.1)),
        ("(b) 50 % adversarial training barely moves on MNIST (less than 5 points from baseline to "
         "strongest, of as many restarts as ours had)",
         judged([("at50", "baseline"), ("at50", "strongest")], lambda a, b: a - b < 0.05)),
        ("(c) adversarial logit pairing keeps a little more than adversarial training on CIFAR-10 at "
         "strongest",
         judged([("cifar10_at50_alp", "strongest"), ("cifar10_at50", "strongest")],
                lambda a, b: a > b)),
        ("the robustness of RCE at baseline, MNIST ResNet-32, is an effect of its loss surface: half "
         "of it goes under many restarts",
         judged([("resnet32_rce", "baseline"), ("resnet32_rce", "strongest")],
                lambda a, b: a > 0 and b < a / 2))]


def _write(work):
    found = collect(work, load())
    atomic.write_json(PATH, found)
    return f"{len(found['rows'])} rows: {PATH}\n"


def main() -> int:
    """Collects from the folder that is named."""
    return command.run("logit_pairing.sh", _write)


if __name__ == "__main__":
    sys.exit(main())

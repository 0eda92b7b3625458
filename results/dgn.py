"""Learned data-generation networks: the runs of results/dgn.sh beside the published table.

    python -m results.dgn dgn    # the folder of results/dgn.sh, and in it speed.json of benchmarks.dgn

Writes results/dgn.json, which `make report` draws up. What was not run has no figure.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from errors import InputError
from evaluation import grid
from evaluation.markdown import NOT_RUN
from files import atomic, provenance
from files.judgements import load_evaluation
from results import command
from results.cells import HERE
from results.collect import run_of

PATH = HERE / "dgn.json"
# Right answers (%) of networks that were hardened with the images of a custom loss (rows) under those
# of each (columns): all of that kind that the original's repository tells. Its CIFAR-10 images of
# Suspiciousness were made by code that mixes images of a batch (docs/dgn.md).
PUBLISHED = {
    "mnist": {"lrp": (98.91, 30.77, 67.33), "nce": (17.88, 99.94, 15.80), "susp": (24.41, 9.13, 99.95)},
    "cifar10": {"lrp": (64.27, 45.57, 46.86), "nce": (45.03, 76.92, 46.74),
                "susp": (54.68, 49.64, 87.65)}}
LOSSES = tuple(PUBLISHED["mnist"])
PUBLISHED_CLEAN = {"mnist": 96.56, "cifar10": 70.75}
_BASELINES = ("fgsm", "pgd")
# Of the page, from results/ on: the grid, and images of each custom loss.
PICTURES = ("figures/dgn_grid.png", *(f"figures/dgn_images_{loss}.png" for loss in LOSSES))
_TARGET = Path("dgn_mnist/mnist_mnist_5x30_CE")
_COLOURS = Path("dgn_cifar10/cifar10_cifar_cnn_CE")
_RESNET = Path("dgn_mnist/mnist_resnet_RCE")
# Of what a source makes of the test images, as dgn.py --mode=generate records it.
_TOLD = ("right", "changed", "success_on_right", "distances", "distances_before_projection")


def collect(work: Path) -> dict[str, Any]:
    """What results/dgn.sh has left.

    Args:
      work: its folder.

    Returns:
      "grid", network → column → shares as [value, low, high, n]; "sources", a row each of what was made
      of test images, with the training of its generators; "judged", figures of the shipped detector;
      "speed", of benchmarks.dgn; "runs", name → run.

    Raises:
      InputError: `work` has no grid.
    """
    if not (work / _TARGET / "grid.json").is_file():
        raise InputError(f"expected the grid of results/dgn.sh in {work / _TARGET}. Received: none.")
    sources, runs = [], {"grid": run_of(provenance.read(work / _TARGET, "grid"))}
    for folder, source in ((_TARGET, LOSSES), (_TARGET, _BASELINES), (_COLOURS, ["nce"])):
        for name in source:
            _add_source(work, folder, name, sources, runs)
    for path in sorted((work / _TARGET / "robust").glob("*/train/train_run.json")):
        runs[path.parts[-3]] = run_of(provenance.read(path.parent, "train"))
    return {"grid": atomic.read_json(work / _TARGET / "grid.json"), "sources": sources,
            "judged": _judged(work, runs), "speed": _optional(work / "speed.json"), "runs": runs}


def _add_source(work, folder, name, sources, runs):
    record = provenance.read(work / folder / name, "adv_test")
    if record is None:
        return
    made = {key: record["metrics"][key] for key in _TOLD if key in record["metrics"]}
    sources.append({"target": folder.name, "source": name, "eps": record["metrics"]["eps"], **made,
                    "training": _training(work / folder / name)})
    runs[f"{folder.name} {name}"] = run_of(record)


def _training(folder):
    """How the generators in a folder were trained; None of an attack."""
    paths = sorted(folder.glob("class_*/generator.json"))
    if not paths:
        return None
    identities = [atomic.read_json(path) for path in paths]
    return {key: identities[0][key] for key in ("epochs", "learning_rate", "batch_size")} | {
        "classes": len(paths), "steps": sum(one["total_steps"] for one in identities)}


def _judged(work, runs):
    """Score → figures of generated images that are wrong on the shipped ResNet-32, as its detector
    answers them; with how they were trained and what else is known."""
    path = work / "detection/evaluation_RCE.json"
    record = provenance.read(work / "resnet", "test_adv")
    if record is None or not path.is_file():
        return None
    runs["resnet"] = run_of(record)
    rows = [row for row in load_evaluation(path)["rows"]
            if row["attack"] == "dgn_nce" and row["subset"] == "successful"]
    return {"training": _training(work / _RESNET / "nce"), "n": record["metrics"]["num_per_eps"],
            "precision_adv": record["metrics"]["rounds"][0]["precision_adv"],
            "eps": rows[0]["eps"] if rows else None,
            "scores": {row["score"]: {"n": row["n"], **{
                name: list(row["figures"][name].values()) for name in ("auroc", "accepted_at_5")
                if name in row["figures"]}} for row in rows}}


def _optional(path):
    return atomic.read_json(path) if path.is_file() else None


def load(folder: Path = HERE) -> dict[str, Any]:
    """What was collected; without its file nothing."""
    return _optional(folder / PATH.name) or {}


def published_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows of the published table, ours (published)."""
    rows = [["MNIST, hardened with", "clean", *(loss.upper() for loss in LOSSES)]]
    for loss, published in PUBLISHED["mnist"].items():
        cells = found["grid"].get(f"{loss}_gf", {})
        rows.append([loss.upper(), _right(cells, grid.CLEAN), *(
            f"{_right(cells, column)} ({figure:.2f})" for column, figure in zip(
                LOSSES, published, strict=True))])
    for loss, published in PUBLISHED["cifar10"].items():
        rows.append([f"CIFAR-10, {loss.upper()}", NOT_RUN,
                     *(f"{NOT_RUN} ({figure:.2f})" for figure in published)])
    return rows


def _right(cells, column):
    return f"{100 * cells[column]['right'][0]:.2f}" if column in cells else NOT_RUN


def grid_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows of the grid: networks side by side."""
    rows = grid.from_json(found["grid"])
    return grid.format_rows(rows, grid.columns(list(LOSSES), _BASELINES))


def leaks(found: dict[str, Any]) -> list[str]:
    """Sentences about networks that read the class off the perturbation."""
    rows = grid.from_json(found["grid"])
    return grid.leaks(rows, {name: name.partition("_")[0] for name in rows if "_" in name})


def source_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: what was made of the test images."""
    rows = [["target", "source", "trained", "right after, %", "prediction changed, %", "mean L2",
             "mean L2 before projection"]]
    for row in found["sources"]:
        before = row.get("distances_before_projection")
        rows.append([row["target"], row["source"], _trained(row["training"]),
                     f"{100 * row['right'][0]:.2f}", f"{100 * row['changed'][0]:.2f}",
                     f"{row['distances']['l2']:.2f}", f"{before['l2']:.2f}" if before else "-"])
    return rows


def _trained(training):
    if training is None:
        return "-"
    return (f"{training['epochs']} epochs of {training['classes']} classes, "
            f"{training['steps']:,} steps at {training['learning_rate']:g}")


def judged_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: whether generated images pass as normal; none where that was not run."""
    if not found.get("judged"):
        return []
    return [["score", "wrong images", "AUC, %", "accepted at 5 % false refusals, %"], *(
        [score, str(told["n"]), *(_percent(told.get(name)) for name in ("auroc", "accepted_at_5"))]
        for score, told in found["judged"]["scores"].items())]


def speed_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: ms an image at each batch, and the number of images from which on a DGN is the
    faster one with its training; none where that was not measured."""
    table = [figure for figure in _figures(found) if figure["part"] == "table"]
    cells = {(figure["target"], figure["what"], figure["batch"]): figure for figure in table
             if figure["unit"] == "ms per image"}
    batches = sorted({batch for *_, batch in cells})
    rows = [["target", "attack", *(f"batch {batch}" for batch in batches)]]
    for target, attack in dict.fromkeys((target, attack) for target, attack, _ in cells):
        rows.append([target, attack, *(_milliseconds(cells.get((target, attack, batch)))
                                       for batch in batches)])
    return rows if cells else []


def _milliseconds(figure):
    if figure is None:
        return NOT_RUN
    images = figure["details"].get("break_even_images")
    told = "" if images is None else f" ({images if isinstance(images, str) else f'{images:,.0f}'})"
    return f"{figure['value']:.3g}{told}"


def bar_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows: what has a bar, and whether it holds."""
    rows = [["measured", "figure", "bar", ""]]
    for figure in _figures(found):
        low, high, value = figure["at_least"], figure["at_most"], figure["value"]
        if low is None and high is None:
            continue
        holds = value >= low if high is None else value <= high
        bar = f"≥ {low:g}" if high is None else f"≤ {high:g}"
        rows.append([f"{figure['part']}: {figure['what']}", f"{value:.3g} {figure['unit']}", bar,
                     "" if holds else "falls short"])
    return rows if len(rows) > 1 else []


def _figures(found):
    return (found.get("speed") or {}).get("figures", [])


def _percent(estimate):
    if estimate is None:
        return "-"
    value, low, high = (100 * number for number in estimate)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _write(work):
    found = collect(work)
    atomic.write_json(PATH, found)
    for name, source in zip(PICTURES, ("grid.png", *(f"{loss}/images.png" for loss in LOSSES)),
                            strict=True):
        with atomic.atomic_path(HERE / name) as temporary:
            shutil.copyfile(work / _TARGET / source, temporary)
    return f"{len(found['grid'])} networks, {len(found['sources'])} sources: {PATH}\n"


def main() -> int:
    """Collects from the folder that is named."""
    return command.run("dgn.sh", _write)


if __name__ == "__main__":
    sys.exit(main())

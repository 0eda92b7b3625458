"""The folders of pretrained/: a network with its fitted detector and a model card."""

import dataclasses
import json
import shutil
from pathlib import Path

from errors import InputError
from files import atomic, checkpoints, pretrained, provenance
from files import detectors as detector_files
from networks.network import Network


def check_detector(path: Path, network: Network) -> None:
    """Raises an InputError when there is no detector at `path`, or one of another network."""
    wanted, found = network.weights_sha256(), detector_files.load(path)["network"]["weights_sha256"]
    if found != wanted:
        raise InputError(f"expected {path} to be of this network, with weights of SHA-256 "
                         f"{wanted[:12]}…. Received: a detector of {found[:12]}….")


def save_pretrained(folder: str, network: Network, run: checkpoints.TrainingRun, step: int,
                    detector: Path, num_correct: int, num_images: int, data_note: str = "") -> None:
    """Writes a folder of pretrained/, whole or not at all.

    Args:
      folder: where to.
      network: whose weights are saved, without the state of the optimizer.
      run: how it was trained.
      step: to which.
      detector: file of its detector.
      num_correct: of `num_images` test images, how many it classifies correctly.
      num_images: how many it was asked.
      data_note: what the card says of the data beyond their name.
    """
    variables = network.variables()
    card = _model_card(Path(folder).name, run, step, detector_files.load(detector), num_correct,
                       num_images, data_note)
    with atomic.atomic_folder(folder) as temporary:
        # No slots of the optimizer: the folder is for use, and momentum alone would double its size.
        checkpoints.Checkpoints(str(temporary), run, variables, {}).save(step)
        shutil.copyfile(detector, temporary / detector_files.FILE_NAME)
        (temporary / pretrained.CARD).write_text(card, encoding="utf-8")
        # Last: it hashes what lies there.
        pretrained.write_sums(temporary)


def _model_card(name, run, step, detector, num_correct, num_images, data_note):
    made, rates = provenance.provenance(), detector["false_refusal_rates"]
    thresholds = [[score, *(f"{value:.6g}" for value in values)]
                  for score, values in zip(detector["scores"], detector["thresholds"], strict=True)]
    table = [["score", *(f"T for {100 * rate:g} % refused" for rate in rates)],
             ["---"] * (1 + len(rates)), *thresholds]
    shape, fields = " x ".join(map(str, run.image_shape)), dataclasses.asdict(run).items()
    return "\n".join([
        f"# {name}", "",
        f"A network for {run.dataset} ({run.num_classes} classes, {shape}) and its detector, made on "
        f"{made['date'][:10]}:",
        f"commit {made['git_revision']}, TensorFlow {made['versions']['tensorflow']}, "
        f"{made['hardware']}.", "",
        *([f"- Data: {data_note}"] if data_note else []),
        f"- {num_correct} of {num_images} test images right: {100 * num_correct / num_images:.2f} %.",
        f"- Objective {run.objective.upper()}, {step} steps of {run.batch_size} training images, "
        f"--seed={run.seed}.",
        f"- detector.npz: {len(detector['kernels'])} kernels per class. Its thresholds were fitted on "
        f"{len(detector['fitted_on'])} of the",
        "  test images (`fitted_on` in it), which no judgement may use again. It answers for an image",
        "  whose score is at least T:", "",
        *("| " + " | ".join(row) + " |" for row in table), "",
        "The checkpoint holds the network alone: no training goes on from it. Its run:", "",
        "```", "{", ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in fields), "}",
        "```", ""])

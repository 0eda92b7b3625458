"""A trained network for others: `.keras` and SavedModel, which need nothing of this project, and the
folders of pretrained/."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

import inference
import resnet_model
from data import checkpoints, detector_files, files, pretrained, run_records
from defenses.detector import SCORES
from errors import InputError

KERAS_FILE = "model.keras"
SAVED_MODEL = "saved_model"


def portable_model(network: inference.Network) -> keras.Model:
    """The network rebuilt from layers that Keras itself has, with equal weights.

    Args:
      network: to copy, from `inference.build_network`.

    Returns:
      A model from "images" float32 [n, h, w, c] in [-0.5, 0.5] to a dict: "logits" float32 [n, L],
      sign-adjusted; "probabilities" float32 [n, L], their softmax; "features" float32 [n, d].
    """
    twin = inference.build_model(
        network.expected, batch_norm=_keras_batch_norm, dropout=_no_dropout)
    source = resnet_model.named_variables(network.model)
    for name, variable in resnet_model.named_variables(twin).items():
        variable.assign(source[name].numpy())
    raw_logits, features = twin.outputs
    # A custom layer would need this project at load time: the sign as a factor, of Keras's own.
    sign = float(network.objective.attack_logits(tf.ones([])))
    logits = layers.Rescaling(sign, name="logits")(raw_logits)
    probabilities = layers.Softmax(name="probabilities")(logits)
    outputs = {"probabilities": probabilities, "features": features, "logits": logits}
    return keras.Model(twin.input, outputs, name=twin.name)


def save(model: keras.Model, folder: str) -> None:
    """Writes `<folder>/model.keras` and the SavedModel `<folder>/saved_model`, both or none."""
    with files.atomic_folder(folder) as temporary:
        model.save(temporary / KERAS_FILE)
        model.export(temporary / SAVED_MODEL, verbose=False)


def check_detector(path: Path, network: inference.Network) -> None:
    """Raises an InputError when there is no detector at `path`, or one of another network."""
    wanted, found = network.weights_sha256(), detector_files.load(path)["network"]["weights_sha256"]
    if found != wanted:
        raise InputError(f"expected {path} to be of this network, with weights of SHA-256 "
                         f"{wanted[:12]}…. Received: a detector of {found[:12]}….")


def save_pretrained(folder: str, network: inference.Network, run: checkpoints.RunRecord, step: int,
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
    variables = resnet_model.named_variables(network.model)
    card = _model_card(Path(folder).name, run, step, detector_files.load(detector), num_correct,
                       num_images, data_note)
    with files.atomic_folder(folder) as temporary:
        checkpoints.Checkpoints(str(temporary), run, variables, {}).save(step)
        shutil.copyfile(detector, temporary / detector_files.FILE_NAME)
        (temporary / pretrained.CARD).write_text(card, encoding="utf-8")
        pretrained.write_sums(temporary)


def _model_card(name, run, step, detector, num_correct, num_images, data_note):
    made, rates = run_records.provenance(), detector["false_refusal_rates"]
    thresholds = [[score, *(f"{value:.6g}" for value in values)]
                  for score, values in zip(SCORES, detector["thresholds"], strict=True)]
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


def _keras_batch_norm(name):
    return layers.BatchNormalization(
        momentum=resnet_model.BATCH_NORM_MOMENTUM, epsilon=resnet_model.BATCH_NORM_EPSILON, name=name)


def _no_dropout(seed, name):
    del seed  # for use, not for training
    return layers.Identity(name=name)

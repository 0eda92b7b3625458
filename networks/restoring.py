"""Networks built, and restored from checkpoints, ours and the original's."""

import dataclasses
import functools
import os
from collections.abc import Callable

import keras
import tensorflow as tf

import resnet_model
from errors import InputError
from files import checkpoints, tf1_checkpoints
from networks import NETWORKS, get_network, heads
from networks.network import Network, ensemble
from networks.spec import NetworkSpec, spec_of


def build_model(run, *, seed: int = 0, **layers) -> keras.Model:
    """The Keras model of `run`, a `NetworkSpec` or a `files.checkpoints.TrainingRun`.

    Args:
      run: whose `model` is the name of a row of `NETWORKS`.
      seed: of the initial weights.
      **layers: batch_norm, dropout and mixed_precision, as of `networks.v1.build_simple_cnn`; those of
        layers that the network lacks do nothing.

    Returns:
      As of `networks.v1.build_simple_cnn`.
    """
    row = get_network(run.model)
    taken = {name: layers[name] for name in row.keywords(run.image_shape[-1]) if name in layers}
    if row.has_residual_units:
        taken["blocks_per_stage"] = run.blocks_per_stage
    return row.load_builder()(run.image_shape, run.num_classes, seed=seed, **taken)


def build_network(strategy: tf.distribute.Strategy, run, *, seed: int = 0,
                  sync_batch_norm: bool = False, mixed_precision: str = "") -> Network:
    """A freshly initialised network for `run`, a `NetworkSpec` or a `files.checkpoints.TrainingRun`.

    What it is computed in, and whether training shares its batch statistics among the replicas,
    belongs to a training run: see `resnet_model.build_resnet` and `FusedBatchNorm`.
    """
    batch_norm = functools.partial(resnet_model.FusedBatchNorm, synchronized=sync_batch_norm)
    with strategy.scope():
        # In the scope, or the variables would lie on one device only.
        model = build_model(run, seed=seed, batch_norm=batch_norm, mixed_precision=mixed_precision)
    return Network(model, heads.get(run.objective), spec_of(run))


def load_weights(network: Network, path: str, expected: NetworkSpec,
                 note: Callable[[str], None] = lambda sentence: None
                 ) -> checkpoints.TrainingRun | None:
    """Restores the network from the checkpoint at `path`, ours or the original's.

    Args:
      network: built for `expected`.
      path: prefix of the checkpoint.
      expected: what it must be of.
      note: told of a checkpoint of the original, whose objective nothing can check.

    Returns:
      The run record; None of a checkpoint of the original.

    Raises:
      InputError: the checkpoint is unreadable or contradicts `expected`.
    """
    variables = resnet_model.named_variables(network.model)
    if tf1_checkpoints.is_tf1(path):
        check_tf1(path, expected.model)
        step = tf1_checkpoints.restore_network(path, variables)
        note(tf1_note(path, step, expected.objective))
        return None
    record, _ = checkpoints.read_record(path)
    # First the record: a wrong flag gets its sentence, not a mismatch of shapes.
    checkpoints.check_record(path, record, expected, checkpoints.NETWORK_FIELDS)
    checkpoints.restore_network(path, variables)
    return record


def check_tf1(path: str, model: str) -> None:
    """Raises an InputError unless `model` is what the original's checkpoint at `path` is of."""
    originals = [name for name, row in NETWORKS.items() if row.is_original]
    if model not in originals:
        raise InputError(f"--model contradicts the checkpoint {path}: expected model="
                         f"{' or '.join(map(repr, originals))}, as of every one of the original "
                         f"TensorFlow 1 code. Received: {model=}.")


def tf1_note(path: str, step: int, objective: str) -> str:
    """What the user should know of a checkpoint of the original, at `step`, taken for `objective`."""
    return (f"{path} is a checkpoint of the original TensorFlow 1 code, of step {step}. It does not "
            f"tell its objective: --RCE_train decides, here for {objective.upper()}.")


def folders_of(log_root: str) -> list[str]:
    """The folders of a --log_root, separated by commas; a folder of this very name is one network."""
    return [log_root] if os.path.isdir(log_root) else log_root.split(",")


def restore(strategy: tf.distribute.Strategy, log_root: str, expected: NetworkSpec,
            note: Callable[[str], None] = lambda sentence: None) -> Network:
    """The network of the newest whole checkpoint in `log_root`; InputError when there is none.

    Several folders, separated by commas, are restored as one `ensemble`. `note` is told what the user
    should know of the checkpoints that were found, a sentence each.
    """
    members = []
    for folder in folders_of(log_root):
        path = checkpoints.require_whole(folder, note)
        network = build_network(strategy, expected)
        record = load_weights(network, path, expected, note)
        minimised = {"training_objective": record.training_objective} if record else {}
        members.append(dataclasses.replace(network, source=path, **minimised))
    return members[0] if len(members) == 1 else ensemble(strategy, members)

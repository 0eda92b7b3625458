"""Checkpoints of a training run: every variable by name, with a record of what the run is.

A checkpoint is a `tf.train.Checkpoint` of nested dicts, so that its keys are the variables' own names
(`network/unit_1_0/sub1/conv1/kernel`), whatever the order of layers; a plain `Checkpoint(model=...)`
stores positions, which any refactoring breaks.
"""

import dataclasses
import json
import os
import re

import tensorflow as tf

from errors import InputError

_CHECKPOINT_NAME = "model.ckpt"
# What TensorFlow raises for damaged files (IndexError: a cut data file) and missing variables.
UNREADABLE = (tf.errors.OpError, ValueError, KeyError, IndexError, AssertionError)


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a training run is; stored in each of its checkpoints and checked before a restore.

    Attributes: as the flags of train.py they come from (`_FLAG_OF_FIELD`); `objective` is "ce" or
    "rce", `image_shape` (height, width, channels), `lr_boundaries` steps.
    """

    dataset: str
    image_shape: tuple[int, int, int]
    num_classes: int
    blocks_per_stage: int
    objective: str
    optimizer: str
    batch_size: int
    lr_boundaries: tuple[int, ...]
    total_steps: int
    seed: int


# What a script calls each field, for messages; the order is that of the checks.
_FLAG_OF_FIELD = {
    "objective": "--RCE_train",
    "dataset": "--dataset",
    "blocks_per_stage": "--num_residual_units",
    "image_shape": "the image shape",
    "num_classes": "the number of classes",
    "optimizer": "--Optimizer",
    "batch_size": "--batch_size",
    "seed": "--seed",
}
NETWORK_FIELDS = ("objective", "dataset", "blocks_per_stage", "image_shape", "num_classes")
# A run goes on exactly only with these unchanged; it may be given more steps or other boundaries.
RESUME_FIELDS = tuple(_FLAG_OF_FIELD)


class _RecordState(tf.train.experimental.PythonState):
    """The record and the step of a checkpoint, as JSON inside it."""

    def __init__(self, record=None, step=0):
        super().__init__()
        self.record = record
        self.step = step

    def serialize(self):
        return json.dumps({"step": self.step, "run": dataclasses.asdict(self.record)})

    def deserialize(self, string_value):
        self.record, self.step = _parse_record(string_value)


def _parse_record(text):
    stored = json.loads(text)
    run = stored["run"]
    for name in ("image_shape", "lr_boundaries"):
        run[name] = tuple(run[name])
    return RunRecord(**run), stored["step"]


class Checkpoints:
    """The checkpoints of one run in `log_root`: the network, the optimizer slots and the record.

    Args:
      log_root: folder, made when the first checkpoint is saved.
      record: of the run that saves.
      network: variables by name, as `resnet_model.named_variables` gives them.
      optimizer: variables of the optimizer by name.
      keep: how many of the newest stay.
    """

    def __init__(self, log_root, record, network, optimizer, *, keep=5):
        self._state = _RecordState(record)
        self._checkpoint = tf.train.Checkpoint(
            record=self._state, network=_nested(network), optimizer=_nested(optimizer))
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, log_root, max_to_keep=keep, checkpoint_name=_CHECKPOINT_NAME)

    def save(self, step: int) -> str:
        """Saves everything under `step` and returns the path."""
        self._state.step = step
        return self._manager.save(checkpoint_number=step)

    def resume(self) -> int:
        """Restores the newest checkpoint of log_root, if any; returns its step, else 0.

        Raises:
          InputError: the checkpoint is of another run (`RESUME_FIELDS` differ).
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return 0
        wanted = self._state.record
        found, step = read_record(path)
        check_record(path, found, wanted, RESUME_FIELDS)
        _restore(self._checkpoint, path)
        self._state.record = wanted
        return step


def latest(log_root: str) -> str | None:
    """Path of the newest checkpoint in `log_root`, None when there is none."""
    return tf.train.latest_checkpoint(log_root) if os.path.isdir(log_root) else None


def require_latest(log_root: str) -> str:
    """Path of the newest checkpoint in `log_root`; InputError when there is none."""
    path = latest(log_root)
    if path is None:
        raise InputError("expected a folder with a checkpoint written by train.py. "
                         f"Received: log_root={log_root!r}.")
    return path


def step_of(path: str) -> int:
    """The step in a checkpoint's name, e.g. 2500 of `model.ckpt-2500`."""
    return int(re.search(r"-(\d+)$", path).group(1))


def read_record(path: str) -> tuple[RunRecord, int]:
    """The run record and the step of the checkpoint at `path`.

    Raises:
      InputError: the checkpoint cannot be read, or holds no record.
    """
    try:
        reader = tf.train.load_checkpoint(path)
        text = reader.get_tensor("record/.ATTRIBUTES/py_state")
        return _parse_record(text.decode())
    # A record with other fields, of another version, is a TypeError.
    except (*UNREADABLE, TypeError) as error:
        raise _unreadable(path, error) from error


def check_record(path: str, found: RunRecord, wanted, fields: tuple[str, ...]) -> None:
    """Raises an InputError that names both values of the first of `fields` that differs.

    Args:
      path: of the checkpoint, for the message.
      found: the record in the checkpoint.
      wanted: anything with the attributes `fields`.
      fields: names of `RunRecord` fields.
    """
    for field in fields:
        stored, asked = getattr(found, field), getattr(wanted, field)
        if stored != asked:
            raise InputError(
                f"{_FLAG_OF_FIELD[field]} contradicts the checkpoint {path}: expected "
                f"{field}={stored!r}, with which it was trained. Received: {field}={asked!r}.")


def restore_network(path: str, network: dict[str, tf.Variable]) -> None:
    """Reads the variables of the network, by name, from the checkpoint at `path`."""
    _restore(tf.train.Checkpoint(network=_nested(network)), path)


def _restore(checkpoint, path):
    try:
        checkpoint.restore(path).expect_partial().assert_existing_objects_matched()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError("expected a whole checkpoint written by train.py. "
                      f"Received: {path!r} ({reason}).")


def _nested(variables):
    """{"a/b": v} as {"a": {"b": v}}, which tf.train.Checkpoint stores under the key a/b."""
    tree = {}
    for name, variable in variables.items():
        *scopes, leaf = name.split("/")
        node = tree
        for scope in scopes:
            node = node.setdefault(scope, {})
        node[leaf] = variable
    return tree

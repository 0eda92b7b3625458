"""Checkpoints of a training run: every variable by name, with a record of what the run is.

A checkpoint is a `tf.train.Checkpoint` of nested dicts, so that its keys are the variables' own names
(`network/unit_1_0/sub1/conv1/kernel`), whatever the order of layers; a plain `Checkpoint(model=...)`
stores positions, which any refactoring breaks.

One trade, whatever its length: what may be restored or deleted, and under which record, hangs on the
order in which a save writes, so that both stand where they can be read together.
"""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from errors import InputError, RunError, first_line
from files import atomic, pretrained
from files.tf_paths import literal_folder

_CHECKPOINT_NAME = "model.ckpt"
_RECORD = "record/.ATTRIBUTES/py_state"
# Folders in which a checkpoint is written before it gets its name.
_UNFINISHED = ".saving-"
# Seconds between two looks for a new checkpoint.
_LOOK_EVERY = 1
# What TensorFlow raises for damaged files (IndexError: a cut data file) and missing variables.
UNREADABLE = (tf.errors.OpError, ValueError, KeyError, IndexError, AssertionError)


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a training run is; stored in each of its checkpoints and checked before a restore.

    Attributes: as the flags of train.py they come from (`_FLAG_OF_FIELD`); `objective` is the head,
    "ce" or "rce", `image_shape` (height, width, channels), `lr_boundaries` steps; `training_objective`
    is what was minimised with the head, `objective_weights` the (term, weight) of each of its terms,
    `attack_...` the attack of terms that look at attacked images. `augment` is None where the data set
    decides. Of a model without residual units `blocks_per_stage` is 0.
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
    # Older checkpoints lack the fields from here on: the defaults are what was trained before there
    # was a choice.
    sync_batch_norm: bool = False
    mixed_precision: str = ""
    model: str = "resnet"
    learning_rate: float = 0.1
    adam_epsilon: float = 1.0
    weight_decay: float = 0.0002
    lr_schedule: str = "step"
    training_objective: str = "plain"
    objective_weights: tuple[tuple[str, float], ...] = (("head_loss", 1.0),)
    noise_std: float = 0.0
    attack_eps: float = 0.0
    attack_step_size: float = 0.0
    attack_iterations: int = 0
    augment: bool | None = None


# What a script calls each field, for messages; the order is that of the checks.
_FLAG_OF_FIELD = {
    # First, as a network restored under the wrong sign computes on without an error.
    "objective": "--RCE_train",
    "training_objective": "--objective",
    "objective_weights": "the weights of --objective",
    "dataset": "--dataset",
    "model": "--model",
    "blocks_per_stage": "--num_residual_units",
    "image_shape": "the image shape",
    "num_classes": "the number of classes",
    "optimizer": "--Optimizer",
    "batch_size": "--batch_size",
    "seed": "--seed",
    "sync_batch_norm": "--sync_batch_norm",
    "mixed_precision": "--mixed_precision",
    "learning_rate": "--learning_rate",
    "adam_epsilon": "the epsilon of Adam",
    "weight_decay": "the weight decay",
    "lr_schedule": "--lr_schedule",
    "noise_std": "--noise_std",
    "attack_eps": "--train_attack_eps",
    "attack_step_size": "--train_attack_step_size",
    "attack_iterations": "--train_attack_iterations",
    "augment": "--augment",
    "total_steps": "--total_steps",
}

NETWORK_FIELDS = (
    "objective", "dataset", "model", "blocks_per_stage", "image_shape", "num_classes")
# A run goes on exactly only with these unchanged; it may be given more steps or other boundaries,
# unless its learning rate is a function of them.
RESUME_FIELDS = tuple(field for field in _FLAG_OF_FIELD if field != "total_steps")


def resume_fields(run: "TrainingRun") -> tuple[str, ...]:
    """The fields that must be unchanged for `run` to go on from a checkpoint."""
    return RESUME_FIELDS if run.lr_schedule == "step" else tuple(_FLAG_OF_FIELD)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainingRun)}
# Not in the record of a plain training, so that it stays what every version of this project reads.
_LEFT_OUT = ("training_objective", "objective_weights", "noise_std", "attack_eps",
             "attack_step_size", "attack_iterations", "augment")


# Inside the checkpoint, not a file beside it: weights and what they are cannot be copied apart.
class _RecordState(tf.train.experimental.PythonState):
    """The record and the step of a checkpoint, as JSON inside it."""

    def __init__(self, record=None, step=0):
        super().__init__()
        self.record = record
        self.step = step

    def serialize(self):
        run = dataclasses.asdict(self.record)
        if all(run[name] == _DEFAULTS[name] for name in _LEFT_OUT):
            run = {name: value for name, value in run.items() if name not in _LEFT_OUT}
        return json.dumps({"step": self.step, "run": run})

    def deserialize(self, string_value):
        self.record, self.step = _parse_record(string_value)


def _parse_record(text):
    stored = json.loads(text)
    run = stored["run"]
    # JSON knows lists only, and a list equals no tuple: every check of the record would fail.
    for name in ("image_shape", "lr_boundaries"):
        run[name] = tuple(run[name])
    if "objective_weights" in run:
        run["objective_weights"] = tuple((term, weight) for term, weight in run["objective_weights"])
    return TrainingRun(**run), stored["step"]


class DamagedCheckpoint(InputError):
    """A checkpoint whose files cannot be read to the end."""


class Resumed(NamedTuple):
    """Where a run goes on.

    Attributes:
      step: of the checkpoint; 0 without one.
      path: of the checkpoint; None without one.
      damaged: one sentence per newer checkpoint that was passed over.
    """

    step: int
    path: str | None
    damaged: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one run in `log_root`: the network, the optimizer slots and the record.

    A checkpoint is written under another name, read back and then renamed, so that whatever carries
    the name of one was whole; the older ones go only after that. (tf.train.CheckpointManager deletes
    them unread.)

    Args:
      log_root: folder, made when the first checkpoint is saved.
      record: of the run that saves.
      network: variables by name, as `resnet_model.named_variables` gives them.
      optimizer: variables of the optimizer by name.
      keep: how many of the newest stay.

    Attributes:
      log_root: as given.
      origin: path of a checkpoint of the original that the run went on from; to be set.
    """

    def __init__(self, log_root, record, network, optimizer, *, keep=5):
        self.log_root, self._keep = log_root, keep
        self._state = _RecordState(record)
        self._variables = {**network, **optimizer}
        self._checkpoint = tf.train.Checkpoint(
            record=self._state, network=_nested(network), optimizer=_nested(optimizer))
        self._paths = []
        self.origin = None

    @property
    def newest(self) -> str | None:
        """The newest good checkpoint; None before the first."""
        return self._paths[-1] if self._paths else None

    def save(self, step: int) -> str:
        """Saves everything under `step` and returns the path.

        Raises:
          RunError: a variable is not finite, or the disk refuses; the older checkpoints stay.
        """
        path = os.path.join(self.log_root, f"{_CHECKPOINT_NAME}-{step}")
        if path == self.newest:
            return path
        self._state.step = step
        # The loss that the loop has looked at was that before the last update.
        for name, variable in self._variables.items():
            if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
                raise RunError(f"{name} is not finite at step {step}: the training has diverged. "
                               f"{self.last_good()}")
        try:
            os.makedirs(self.log_root, exist_ok=True)
            # In log_root itself: only within a file system is a rename atomic.
            with tempfile.TemporaryDirectory(dir=self.log_root, prefix=_UNFINISHED) as folder:
                written = os.path.join(folder, _CHECKPOINT_NAME)
                with literal_folder(folder) as literal:
                    self._checkpoint.write(os.path.join(literal, _CHECKPOINT_NAME))
                _read_all(written)
                _rename(written, path)
            kept = [*self._paths, path][-self._keep:]
            write_state(self.log_root, kept)
        except (*UNREADABLE, OSError) as error:
            raise RunError(f"could not save step {step} in {self.log_root} ({first_line(error)}). "
                           f"{self.last_good()}") from error
        # After the state file: a kill before this leaves a checkpoint too many, never a name
        # without files.
        for old in set(self._paths) - set(kept):
            _delete(old)
        self._paths = kept
        return path

    def resume(self) -> Resumed:
        """Restores the newest checkpoint of log_root that is whole, if there is any.

        Raises:
          InputError: the checkpoint is of another run (its `resume_fields` differ).
          DamagedCheckpoint: there are checkpoints, but none is whole.
        """
        path, damaged = newest_whole(self.log_root)
        if path is None:
            return Resumed(0, None, damaged)
        wanted = self._state.record
        # Compared before a variable is touched: the sentence names a flag, not a shape.
        found, step = read_record(path)
        check_record(path, found, wanted, resume_fields(wanted))
        self._refuse_newer_others(step, wanted)
        _restore(self._checkpoint, path)
        check_finite(path, self._variables)
        # Restoring has put the old record there, and this run may have more steps or other
        # boundaries.
        self._state.record = wanted
        # What may be deleted in time: never the original's or another run's, and no damaged newer one,
        # which would count among those to keep and push out a good one.
        older = [p for p in all_paths(self.log_root) if step_of(p) < step and _is_of(p, wanted)]
        self._paths = [*sorted(older, key=step_of), path]
        return Resumed(step, path, damaged)

    def _refuse_newer_others(self, step, wanted):
        """A run that goes on from `step` would write over checkpoints that bear its later steps."""
        for path in all_paths(self.log_root):
            if step_of(path) > step and _is_of(path, wanted) is False:
                raise InputError(f"log_root must hold the checkpoints of one run. Received: {path}, of "
                                 f"another than that of step {step}, which would go on.")

    def remove_unfinished(self) -> None:
        """Deletes what runs that were killed while they saved have left; only for the one that
        writes here."""
        for unfinished in Path(self.log_root).glob(f"{_UNFINISHED}*"):
            # By the names of what a save writes: anything else in there is not ours.
            for file in [*unfinished.glob(f"{_CHECKPOINT_NAME}.*"),
                         *unfinished.glob(f"{_CHECKPOINT_NAME}_temp/part-*")]:
                file.unlink()
            for folder in (unfinished / f"{_CHECKPOINT_NAME}_temp", unfinished):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def last_good(self) -> str:
        """A sentence that names the newest good checkpoint."""
        if self._paths:
            return f"The last good checkpoint is {self._paths[-1]}."
        if self.origin:
            return f"The last good checkpoint is {self.origin}, of the original code."
        return "There is no checkpoint yet."


def newest_whole(log_root: str) -> tuple[str | None, tuple[str, ...]]:
    """The newest checkpoint in `log_root` that can be read to the end, None without any checkpoint.

    Returns:
      Its path, and one sentence for each newer one that is damaged.

    Raises:
      DamagedCheckpoint: there are checkpoints, but none is whole; the sentence is the newest's.
      InputError: it is a pretrained one whose files are not those that were shipped.
    """
    damaged = []
    for path in all_paths(log_root):
        pretrained.check(path)
        try:
            _read_all(path)
            return path, tuple(map(str, damaged))
        except UNREADABLE as error:
            damaged.append(_unreadable(path, error))
    if damaged:
        raise damaged[0]
    return None, ()


def latest(log_root: str) -> str | None:
    """Path of the newest checkpoint in `log_root`, whole or not; None when there is none."""
    return next(iter(all_paths(log_root)), None)


def as_they_come(log_root: str, timeout: float | None) -> Iterator[str]:
    """Path of the newest checkpoint in `log_root` each time there is another, until `timeout` seconds
    have brought none (None: for ever)."""
    # Not tf.train.checkpoints_iterator, which takes the name of the folder for a pattern.
    seen, waiting_since = None, time.monotonic()
    while timeout is None or time.monotonic() - waiting_since < timeout:
        # The newest only: a training may save faster than they are used.
        newest = latest(log_root)
        if newest != seen:
            yield newest
            seen, waiting_since = newest, time.monotonic()
        time.sleep(_LOOK_EVERY)


def require_whole(log_root: str, note: Callable[[str], None]) -> str:
    """Path of the newest whole checkpoint in `log_root`; InputError when there is none.

    Args:
      log_root: folder.
      note: told one sentence for each newer checkpoint that is damaged.
    """
    path, damaged = newest_whole(log_root)
    if path is None:
        raise InputError("expected a folder with a checkpoint written by train.py. "
                         f"Received: log_root={log_root!r}.")
    for sentence in damaged:
        note(f"{sentence} Using {path} instead.")
    return path


def all_paths(log_root: str) -> list[str]:
    """Paths of the checkpoints, the one that the state file names first, then from the newest on.

    One whose index is missing counts if the state file lists it; otherwise its save was cut short.
    """
    listed = _listed(log_root)
    indices = (str(path.with_suffix("")) for path in Path(log_root).glob(f"{_CHECKPOINT_NAME}-*.index")
               if path.is_file())
    paths = {path for path in (*listed, *indices) if re.search(r"-\d+$", path)}
    ordered = sorted(paths, key=step_of, reverse=True)
    return sorted(ordered, key=lambda path: path not in listed[:1])


def _listed(log_root):
    """The paths in the state file, the newest first; none without one that can be read."""
    # TensorFlow would wait for a FIFO.
    if not os.path.isfile(os.path.join(log_root, "checkpoint")):
        return []
    try:
        # A state file that was cut raises; the names of the files then tell as much.
        with literal_folder(log_root) as folder:
            state = tf.train.get_checkpoint_state(folder)
    except ValueError:
        state = None
    if state is None:
        return []
    # By their last part: the folder may have been moved since.
    return [os.path.join(log_root, os.path.basename(path)) for path in (
        state.model_checkpoint_path, *state.all_model_checkpoint_paths)]


def write_state(folder: str, paths: Sequence[str]) -> None:
    """Writes the file that tf.train.latest_checkpoint reads; the last of `paths` is the newest."""
    # Without their folder, so that log_root can be moved.
    names = [os.path.basename(path) for path in paths]
    lines = [f'model_checkpoint_path: "{names[-1]}"',
             *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
    with atomic.atomic_path(os.path.join(folder, "checkpoint")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def opened(path: str) -> Iterator["tf.train.CheckpointReader"]:
    """TensorFlow's reader of the checkpoint at `path`, for use within the block."""
    with literal_folder(os.path.dirname(path) or ".") as folder:
        # It opens the file of the data when the first tensor is asked for, so folder must last.
        yield tf.train.load_checkpoint(os.path.join(folder, os.path.basename(path)))


def _read_all(path):
    """Reads every tensor of a checkpoint, which compares its checksums."""
    with opened(path) as reader:
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)


def _is_of(path, run):
    """Whether train.py wrote it in this run; None of what cannot be read, or names no run as those of
    the original."""
    try:
        found, _ = read_record(path)
    except InputError:
        return None
    return all(getattr(found, field) == getattr(run, field) for field in resume_fields(run))


def _rename(written, path):
    """Moves the files of a checkpoint; its index last, without which it is none."""
    moved = Path(written).parent.glob(f"{_CHECKPOINT_NAME}.*")
    for file in sorted(moved, key=lambda file: file.suffix == ".index"):
        with open(file, "rb") as opened:
            # On the disk before the index is: after a power cut a name may else stand for an empty
            # file.
            os.fsync(opened.fileno())
        os.replace(file, path + file.name.removeprefix(_CHECKPOINT_NAME))


def _delete(path):
    # The index first: what a kill leaves then is no checkpoint. One that cannot be deleted costs
    # space only.
    for file in (Path(f"{path}.index"), *Path(path).parent.glob(f"{Path(path).name}.data-*")):
        with contextlib.suppress(OSError):
            file.unlink()


def step_of(path: str) -> int:
    """The step in a checkpoint's name, e.g. 2500 of `model.ckpt-2500`."""
    return int(re.search(r"-(\d+)$", path).group(1))


def read_record(path: str) -> tuple[TrainingRun, int]:
    """The run record and the step of the checkpoint at `path`.

    Raises:
      DamagedCheckpoint: the checkpoint cannot be read, or holds no record.
      InputError: it is a pretrained one whose files are not those that were shipped.
    """
    pretrained.check(path)
    try:
        with opened(path) as reader:
            text = reader.get_tensor(_RECORD)
        return _parse_record(text.decode())
    # A record with other fields, of another version, is a TypeError.
    except (*UNREADABLE, TypeError) as error:
        raise _unreadable(path, error) from error


def check_record(path: str, found: TrainingRun, wanted, fields: tuple[str, ...]) -> None:
    """Raises an InputError that names both values of the first of `fields` that differs.

    Args:
      path: of the checkpoint, for the message.
      found: the record in the checkpoint.
      wanted: anything with the attributes `fields`.
      fields: names of `TrainingRun` fields.
    """
    for field in fields:
        stored, asked = getattr(found, field), getattr(wanted, field)
        if stored != asked:
            raise InputError(
                f"{_FLAG_OF_FIELD[field]} contradicts the checkpoint {path}: expected "
                f"{field}={stored!r}, with which it was trained. Received: {field}={asked!r}.")


def restore_network(path: str, network: dict[str, tf.Variable]) -> None:
    """Reads the variables of the network, by name, from the checkpoint at `path`.

    Raises:
      InputError: it is damaged, or holds numbers that are not finite.
    """
    _restore(tf.train.Checkpoint(network=_nested(network)), path)
    check_finite(path, network)


def check_finite(path: str, variables: dict[str, tf.Variable]) -> None:
    """Raises an InputError when one of the variables, read from `path`, is not finite: every output of
    such a network would be nonsense."""
    for name, variable in variables.items():
        if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
            raise InputError(f"expected finite weights in the checkpoint {path}. "
                             f"Received: NaN or infinity in {name}.")


def _restore(checkpoint, path):
    try:
        # Partial, since the network alone is read from a checkpoint that holds slots, too; but
        # whatever is asked for must be in it.
        with literal_folder(os.path.dirname(path) or ".") as folder:
            literal = os.path.join(folder, os.path.basename(path))
            checkpoint.read(literal).expect_partial().assert_existing_objects_matched()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    return DamagedCheckpoint("expected a whole checkpoint written by train.py. "
                             f"Received: {path!r} ({first_line(error)}).")


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

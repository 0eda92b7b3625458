"""The scalars of a training run: TensorBoard events and one CSV, cut to the step a run resumes at."""

import contextlib
import csv
import json
import os
from collections.abc import Sequence

import tensorflow as tf

from errors import InputError, RunError, first_line
from files import atomic, paths, provenance

_CSV = "training.csv"
# In a folder that is not below the checkpoints': whose figures these are.
_OWNER = "training_of.json"
_COLUMNS = ("step", "cost", "learning_rate", "test_precision")


class TrainingLog:
    """Writes scalars of a step to TensorBoard and to `training.csv` in `folder`.

    Args:
      folder: made if missing.
      resume_step: rows of the CSV beyond this step, written by a run that was killed before its next
        checkpoint, are removed, so that each step has one row.
      log_root: of the run, which `refuse_others` is to know again.
      more: names of scalars that this training has besides those of every one.

    Raises:
      RunError: TensorBoard's file finds no room, here or later.
    """

    def __init__(self, folder: str, resume_step: int, log_root: str, more: Sequence[str] = ()):
        os.makedirs(folder, exist_ok=True)
        self._folder, path = folder, os.path.join(folder, _CSV)
        if not _is_below(folder, log_root):
            atomic.write_json(os.path.join(folder, _OWNER), {"log_root": os.path.realpath(log_root)})
        self._columns = (*_COLUMNS, *more)
        atomic.write_csv(path, self._columns, _rows_up_to(path, resume_step, len(self._columns)))
        self._file = open(path, "a", newline="")  # noqa: SIM115 closed in close()
        self._csv = csv.writer(self._file)
        with self._told_where():
            self._events = tf.summary.create_file_writer(folder)

    def write(self, step: int, **scalars: float) -> None:
        """One row: the named scalars (`cost`, `learning_rate`, `test_precision`, ...) at `step`."""
        with self._told_where():
            self._csv.writerow([step, *(scalars.get(name, "") for name in self._columns[1:])])
            # A kill may come at any time, and a resumed run keeps the rows that are there.
            self._file.flush()
            with self._events.as_default(step=step):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)

    def close(self) -> None:
        """Flushes and closes both."""
        with self._told_where():
            self._file.close()
            self._events.close()

    @contextlib.contextmanager
    def _told_where(self):
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"could not write to train_dir={self._folder!r} ({first_line(error)}). "
                           "The checkpoints that there are stay.") from error


def refuse_others(folder: str, log_root: str, *, fresh: bool) -> None:
    """Raises an InputError when the figures in a folder are of another training and would be lost.

    Args:
      folder: of the figures.
      log_root: of the run that is to write there.
      fresh: whether it begins; one that goes on may find its own.
    """
    _refuse_another_table(folder)
    record = provenance.read(folder, "train")
    has_figures = record is not None or os.path.exists(os.path.join(folder, _CSV))
    owner = _owner(folder, record)
    # One that goes on may have been moved since, under its own name: of any other the figures may be
    # all that is left.
    moved = (not fresh and owner is not None and not os.path.exists(owner)
             and os.path.basename(owner) == os.path.basename(os.path.realpath(log_root)))
    own = moved or _is_below(folder, log_root) or owner == os.path.realpath(log_root)
    # Of a run that has ended and whose checkpoints are gone, the figures are all that is left.
    if (has_figures and not own) or (fresh and record is not None):
        found = _CSV if record is None else "train_run.json"
        raise InputError(f"train_dir must not hold the record of another training, {found}, whose "
                         f"figures would be lost. Received: train_dir={folder!r}.")


def _refuse_another_table(folder):
    """It would be cut, row by row, to those of a training."""
    path = os.path.join(folder, _CSV)
    begin = ",".join(_COLUMNS).encode()
    if os.path.lexists(path):
        paths.require_file(path)
        with open(path, "rb") as file:
            found = file.readline().rstrip()
        # A training of several terms has more.
        if found != begin and not found.startswith(begin + b","):
            raise InputError(f"train_dir must not hold a {_CSV} of another program, which would be "
                             f"lost. Received: train_dir={folder!r}.")


def _owner(folder, record):
    """The log_root of the training whose figures are in a folder; None where nothing tells."""
    try:
        with open(os.path.join(folder, _OWNER), encoding="utf-8") as file:
            return json.load(file)["log_root"]
    except (OSError, ValueError, KeyError, TypeError):
        # An earlier version's: it says so once it has ended.
        given = record and record["flags"].get("log_root")
        return os.path.realpath(given) if given else None


def _is_below(folder, log_root):
    return os.path.realpath(folder).startswith(os.path.join(os.path.realpath(log_root), ""))


def _rows_up_to(path, last_step, num_columns):
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        # A kill may have cut the last row.
        rows = [row for row in csv.reader(file) if len(row) == num_columns]
    return [row for row in rows if _is_up_to(row[0], last_step)]


def _is_up_to(text, last_step):
    try:
        return int(text) <= last_step
    except ValueError:  # the heading
        return False

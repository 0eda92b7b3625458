"""The scalars of a training run: TensorBoard events and one CSV, cut to the step a run resumes at."""

import csv
import os

import tensorflow as tf

from files import atomic

_COLUMNS = ("step", "cost", "learning_rate", "test_precision")


class TrainingLog:
    """Writes scalars of a step to TensorBoard and to `training.csv` in `folder`.

    Args:
      folder: made if missing.
      resume_step: rows of the CSV beyond this step, written by a run that was killed before its next
        checkpoint, are removed, so that each step has one row.
    """

    def __init__(self, folder: str, resume_step: int):
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "training.csv")
        atomic.write_csv(path, _COLUMNS, _rows_up_to(path, resume_step))
        self._file = open(path, "a", newline="")  # noqa: SIM115 closed in close()
        self._csv = csv.writer(self._file)
        self._events = tf.summary.create_file_writer(folder)

    def write(self, step: int, **scalars: float) -> None:
        """One row: the named scalars (`cost`, `learning_rate`, `test_precision`) at `step`."""
        self._csv.writerow([step, *(scalars.get(name, "") for name in _COLUMNS[1:])])
        # A kill may come at any time, and a resumed run keeps the rows that are there.
        self._file.flush()
        with self._events.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._events.close()


def _rows_up_to(path, last_step):
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        # A kill may have cut the last row.
        rows = [row for row in csv.reader(file) if len(row) == len(_COLUMNS)]
    return [row for row in rows if row[0].isdigit() and int(row[0]) <= last_step]

"""A function of tensors over arrays of any length: fixed chunks, one trace, every replica busy."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from errors import InputError

# Images per call of the network outside training.
CHUNK_SIZE = 200


class RowsPerGradient(NamedTuple):
    """How many images share a gradient in an attack that crafts at once, and in one that searches."""

    call: int
    search: int


# On a CPU the measured sizes at which a row's place does not change its bits (attacks/loops/); on a GPU
# such small ones would leave most of it idle.
ROWS_PER_GRADIENT = {"CPU": RowsPerGradient(call=100, search=16),
                     "GPU": RowsPerGradient(call=1024, search=512)}


def device_kind(strategy: tf.distribute.Strategy) -> str:
    """CPU or GPU: what the replicas of a strategy run on."""
    return "GPU" if "GPU" in strategy.extended.worker_devices[0].upper() else "CPU"


def padded_chunks(array: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (chunk of exactly `size` rows, number of valid rows); the last is zero-padded.

    Args:
        array: [n, ...].
        size: rows per chunk, at least 1. One shape means that a traced function traces once.

    Raises:
        InputError: size below 1.
    """
    if size < 1:
        raise InputError(f"size must be at least 1. Received: {size=}")
    for start in range(0, len(array), size):
        chunk = array[start : start + size]
        valid = len(chunk)
        if valid < size:
            chunk = np.concatenate([chunk, np.zeros((size - valid, *chunk.shape[1:]), chunk.dtype)])
        yield chunk, valid


class ChunkedFunction:
    """A function of tensors over arrays of any length: fixed chunks, one trace, every replica busy.

    Args:
      strategy: each of its replicas is given a chunk of its own.
      fn: called as fn(*rows, *constants); rows are tensors of `chunk_size` rows, zero-padded at the
        end; returns a tuple of tensors with as many rows.
      chunk_size: rows per replica and call.
      prepare: applied to each chunk of the first array, on the host.
    """

    def __init__(self, strategy: tf.distribute.Strategy, fn: Callable, *,
                 chunk_size: int = CHUNK_SIZE, prepare: Callable | None = None):
        self._strategy = strategy
        # Of a cluster those of this host: the others are not asked.
        self._replicas = len(strategy.extended.worker_devices)
        self._chunk_size = chunk_size
        self._prepare = prepare or (lambda chunk: chunk)
        # Around strategy.run, which without it would run op by op.
        self._step = tf.function(lambda rows, constants: strategy.run(fn, (*rows, *constants)))

    def __call__(self, *arrays, constants=(), on_rows_done=None) -> tuple[np.ndarray, ...]:
        """Runs over all rows.

        Args:
          *arrays: NumPy arrays with the same number of rows, at least one.
          constants: tensors, the same for every call.
          on_rows_done: called with the number of rows that each call has finished.

        Returns:
          The outputs of `fn` as NumPy arrays with the rows of `arrays`.
        """
        outputs = []
        chunks = zip(*(padded_chunks(a, self._chunk_size) for a in arrays), strict=True)
        for group in _grouped(chunks, self._replicas):
            valid = [chunk[0][1] for chunk in group]
            rows = [[part for part, _ in chunk] for chunk in group]
            for row in rows:
                row[0] = self._prepare(row[0])
            results = self._run(rows, constants)
            outputs += [[part[:n] for part in r] for r, n in zip(results, valid, strict=True)]
            if on_rows_done:
                on_rows_done(sum(valid))
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))

    def _run(self, rows, constants):
        """One call; `rows[r]` are the arrays of replica r. Returns each replica's outputs."""
        # A last group that is not full repeats its first chunk on the idle replicas.
        padded = rows + [rows[0]] * (self._replicas - len(rows))
        outputs = self._step([spread(self._strategy, parts) for parts in zip(*padded, strict=True)],
                             tuple(constants))
        collected = [collect(self._strategy, out) for out in outputs]
        return [[out[r] for out in collected] for r in range(len(rows))]


def spread(strategy: tf.distribute.Strategy, arrays: Sequence[np.ndarray]):
    """One array per replica as the value that `strategy.run` hands to each."""
    if len(arrays) == 1:
        return tf.convert_to_tensor(arrays[0])
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.convert_to_tensor(arrays[context.replica_id_in_sync_group]))


def collect(strategy: tf.distribute.Strategy, value) -> list[np.ndarray]:
    """The array of each replica, of a value that `strategy.run` returned."""
    # Of this host: another one's arrays cannot be read here.
    return [part.numpy() for part in strategy.experimental_local_results(value)]


def _grouped(items, size):
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group

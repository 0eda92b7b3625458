"""A stage of a search on every replica: batches of any number of images, watched while they run."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from attacks.loops.search import Search
from networks.running import collect, spread

# Between two looks at a running search: progress, and a chance to interrupt it.
SECONDS_PER_CALL = 1.0


class StageRunner:
    """One stage of a search over arrays of any length, in batches of one size.

    Args:
      strategy: whose replicas share the images.
      stage: of `Search.stages`.
      batch_size: images per batch, over all replicas; made whole chunks of each.
    """

    def __init__(self, strategy: tf.distribute.Strategy, stage: Search, batch_size: int):
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        # Whole chunks, so that neighbours that share the abort rule stay together.
        self._rows = -(-batch_size // self._replicas // stage.chunk) * stage.chunk
        self._start = tf.function(lambda inputs_: strategy.run(stage.start, kwargs=inputs_))
        # Around strategy.run, which without it would run op by op.
        self._advance = tf.function(
            lambda state, num_steps: strategy.run(stage.advance, (state, num_steps)))
        self._finish = tf.function(lambda state: strategy.run(stage.finish, (state,)))
        self._steps_per_call = 1

    def __call__(self, arrays: Mapping[str, np.ndarray], constants: Mapping[str, tf.Tensor],
                 rows_done: Callable[[int, int], None]) -> dict[str, np.ndarray]:
        """Attacks images.

        Args:
          arrays: what `stage.start` takes of each image, "x" float32 [n, h, w, c] among it.
          constants: what else it takes, the same for all.
          rows_done: told how many images have ended, and how many of them successfully.

        Returns:
          The results of `stage.finish`, arrays of n rows.
        """
        per_batch = self._rows * self._replicas
        batches = [self._run({name: array[i:i + per_batch] for name, array in arrays.items()},
                             constants, rows_done)
                   for i in range(0, len(arrays["x"]), per_batch)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _run(self, arrays, constants, rows_done):
        count = len(arrays["x"])
        # The padding is not valid: it is never active and costs no gradient.
        arrays = arrays | {"valid": np.ones(count, bool)}
        state = self._start({name: self._spread(array) for name, array in arrays.items()} | constants)
        left, won = count, 0
        while left:
            began = time.perf_counter()
            # The number is a tensor: for every other Python number tf.function would trace anew.
            state = self._advance(state, tf.constant(self._steps_per_call))
            active = self._collect(state["active"])[:count]
            self._pace(time.perf_counter() - began)
            # C&W may succeed and still look for a closer image: only ended ones are told.
            success = np.count_nonzero(self._collect(state["success"])[:count] & ~active)
            now_left = int(np.count_nonzero(active))
            rows_done(left - now_left, success - won)
            left, won = now_left, success
        return {name: self._collect(value)[:count] for name, value in self._finish(state).items()}

    def _pace(self, seconds):
        """Steps per call so that one takes about SECONDS_PER_CALL; no influence on results."""
        # Bounded: the first call's seconds are mostly tracing, and a call gets cheaper as images end.
        factor = np.clip(SECONDS_PER_CALL / max(seconds, 1e-3), 0.5, 4.0)
        self._steps_per_call = max(1, int(self._steps_per_call * factor))

    def _spread(self, array):
        padding = self._rows * self._replicas - len(array)
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return spread(self._strategy, np.split(padded, self._replicas))

    def _collect(self, value):
        return np.concatenate(collect(self._strategy, value))

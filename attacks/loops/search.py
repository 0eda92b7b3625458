"""Attacks that move images step by step and end each image on its own: batches that lose members."""

from collections.abc import Callable

import tensorflow as tf

# Images per gradient on a CPU. Fixed and padded, so that an image's result depends neither on the
# batch it came in nor on who is still in it. Its place in a chunk must not matter either, and not every
# size does that: of 20 rows some tensors leave a remainder to scalar code, whose logarithm rounds
# differently; of 32 rows oneDNN's matrix product treats the last two otherwise. 16 and 48 pass.
# Of 16, 32 and 48 rows, all active, ResNet-32 takes 0.90, 1.06 and 1.11 of the gradients/s of a
# batch of 200; when few are left, or few asked for, the smallest costs least.
SEARCH_CHUNK = 16
# An image has the same bits in a chunk of 48 as in one of 16 (tests/attacks/test_searches.py), so that
# a batch may take as many wide ones as it fills and the rest in narrow ones. Only batches that gain
# from it do: each size is traced.
WIDE_CHUNK, WIDE_FROM = 48, 96

State = dict[str, tf.Tensor]


class Search:
    """An attack over images that end one by one, as three traced functions.

    Call it to attack a batch from beginning to end; or call `start`, then `advance` until no image
    is active, then `finish`, with whatever is to happen in between.

    Args:
      start: keyword inputs to the state, tensors of n rows each. "active" bool [n] says which
        images are still being worked on, "success" bool [n] which have been successful so far.
      step: one step on `chunk` rows of the state, one gradient; returns the entries it changes,
        as "active".
      changes: names of the entries that `step` returns; the others stay as they are.
      finish: the state to the results, a dict with "adversarial" like x, "success" bool [n],
        "iterations" int32 [n].
      first: the search whose adversarial images are this one's input "begin".
      compact: False computes the gradients of ended images too, for nothing; results are the same.
      chunk: rows per call of `step`.
    """

    def __init__(self, start: Callable[..., State], step: Callable[[State], State],
                 changes: tuple[str, ...], finish: Callable[[State], State], *,
                 first: "Search | None" = None, compact: bool = True, chunk: int = SEARCH_CHUNK):
        self.chunk = chunk
        self._step = step
        self._changes = changes
        self._compact = compact
        self.stages = (*first.stages, self) if first else (self,)
        # Functions of the instance: a search that is kept is traced once, whatever calls it.
        self.start = tf.function(start)
        self.advance = tf.function(self._advance)
        self.finish = tf.function(finish)

    def __call__(self, x: tf.Tensor, target: tf.Tensor, **inputs: tf.Tensor) -> State:
        """Attacks a batch.

        Args:
          x: images float32 [n, h, w, c] in the attack's box.
          target: class to reach, int32 [n]; of an untargeted attack the class to leave.
          **inputs: what else `start` takes, e.g. eps.

        Returns:
          The results of the last stage.
        """
        valid = tf.ones(x.shape[0], bool)
        result = {}
        for stage in self.stages:
            begin = {"begin": result["adversarial"]} if result else {}
            state = stage.start(x=x, target=target, valid=valid, **begin, **inputs)
            result = stage.finish(stage.advance(state, tf.int32.max))
        return result

    def _advance(self, state, num_steps):
        """At most `num_steps` steps of every active image."""
        _, state = tf.while_loop(
            lambda i, s: tf.logical_and(i < num_steps, tf.reduce_any(s["active"])),
            lambda i, s: (i + 1, self._step_all(s)), (0, state), parallel_iterations=1)
        return state

    def _step_all(self, state):
        """One step of every active image, in chunks of rows wherever in the batch they are."""
        chosen = state["active"] if self._compact else tf.ones_like(state["active"])
        index = tf.cast(tf.where(chosen)[:, 0], tf.int32)
        if self.chunk != SEARCH_CHUNK or state["active"].shape[0] < WIDE_FROM:
            return state | _written(state, index, self._stepped(state, index, self.chunk))
        num_wide = tf.size(index) // WIDE_CHUNK * WIDE_CHUNK
        # Of different rows: the second does not wait for the first.
        wide = self._stepped(state, index[:num_wide], WIDE_CHUNK)
        narrow = self._stepped(state, index[num_wide:], self.chunk)
        return state | _written(state, index, {
            name: tf.concat([wide[name], narrow[name]], axis=0) for name in self._changes})

    def _stepped(self, state, index, size):
        """What one step changes of the rows `index`, in chunks of `size`."""
        # The number of chunks is a tensor, so that a batch shrinks without a new trace.
        count = tf.size(index)
        padding = -count % size
        # The last chunk is filled up with row 0, whose results are dropped.
        chunks = tf.reshape(tf.pad(index, [[0, padding]]), [-1, size])
        used = tf.reshape(tf.range(count + padding) < count, [-1, size])

        def step_chunk(rows_and_use):
            rows, is_used = rows_and_use
            part = {name: tf.gather(tensor, rows) for name, tensor in state.items()}
            # Row 0 as filling must not count in the sums of the chunk it fills, as of the abort rule.
            part["active"] = tf.logical_and(part["active"], is_used)
            changed = self._step(part)
            # An ended image must stay as it is also where its gradient was computed (compact=False).
            return {name: keep_rows(part["active"], changed[name], part[name])
                    for name in self._changes}

        # Two chunks at a time fill the cores where one op cannot.
        changed = tf.map_fn(step_chunk, (chunks, used), parallel_iterations=2, fn_output_signature={
            # map_fn takes the outputs to be like the inputs unless it is told.
            name: tf.TensorSpec([size, *state[name].shape[1:]], state[name].dtype)
            for name in self._changes})
        return {name: tf.reshape(tensor, [-1, *state[name].shape[1:]])[:count]
                for name, tensor in changed.items()}


def _written(state, index, changed):
    """The entries that a step changes, with new rows at `index`: targets and anchors are not copied."""
    return {name: tf.tensor_scatter_nd_update(state[name], index[:, None], rows)
            for name, rows in changed.items()}


def keep_rows(condition: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """Rows of `new` where the condition bool [n] holds, else of `old`; both [n, ...]."""
    return tf.where(tf.reshape(condition, [-1] + [1] * (new.shape.rank - 1)), new, old)

"""Searches for the smallest change, over several targets and confidences of an image."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from attacks.loops.search import Search
from evaluation.listener import NOBODY, Listener
from evaluation.search_runner import StageRunner


class Searches:
    """The search of an attack, of one stage or two, for each target and each confidence.

    Args:
      strategy: whose replicas share the images.
      make: keywords "kappa" to the search; other keywords are bound.
      batch_size: images per batch.
      kappas: confidences of the last stage, each of which is tried from one first stage; (): the
        attack's own.

    Attributes:
      unit: images that share a gradient.
    """

    def __init__(self, strategy: tf.distribute.Strategy, make: Callable[..., Search],
                 batch_size: int, kappas: Sequence[float] = ()):
        searches = [make(kappa=_with_last(_default(make, "kappa"), kappa)) for kappa in kappas] or [
            make()]
        self._kappas = kappas
        self._targeted = make.keywords.get("targeted", True)
        stages = [search.stages for search in searches]
        # The confidence is of the last one: what comes before is the same for all of them.
        self._first = [StageRunner(strategy, stage, batch_size) for stage in stages[0][:-1]]
        self._last = [StageRunner(strategy, of_search[-1], batch_size) for of_search in stages]
        self.unit = math.lcm(*(stage.chunk for of_search in stages for stage in of_search))

    def __call__(self, x: np.ndarray, targets: Sequence[np.ndarray],
                 constants: Mapping[str, tf.Tensor], listener: Listener) -> dict[str, np.ndarray]:
        """The successful result of the smallest L2 distance from x, over all of them.

        Args:
          x: float32 [n, h, w, c].
          targets: classes int [n], one array or several.
          constants: what else a stage takes.
          listener: told of progress.

        Returns:
          As of `Crafter`; "kappa" float32 [n] where several were tried. Where nothing succeeds the
          first one's.
        """
        if len(targets) == 1 and len(self._last) == 1:
            return next(self._results(x, targets[0], constants, listener))
        best = None
        for target in targets:
            # Told to nobody: each image comes by several times, and counts once.
            for result in self._results(x, target, constants, NOBODY):
                best = result if best is None else _smaller_success(x, best, result)
        listener.tell_of(best)
        return best

    def _results(self, x, target, constants, listener):
        """The results for one target, by confidence."""
        target = target.astype(np.int32)
        begin, earlier = {}, {}
        for number, stage in enumerate(self._first, 1):
            result = stage({"x": x, "target": target}, constants, NOBODY.rows_done)
            listener.stage_done(number, result["success"])
            begin = {"begin": result["adversarial"]}
            earlier = {"first_success": result["success"], "iterations": result["iterations"]}
        for number, stage in enumerate(self._last):
            # An image counts as finished with its last stage only.
            result = stage({"x": x, "target": target, **begin}, constants, listener.rows_done)
            listener.stage_done(len(self._first) + 1, result["success"])
            kappa = {"kappa": np.full(len(x), self._kappas[number], np.float32)} if self._kappas else {}
            # Of the first stage, which was run once, the first one tells.
            iterations = result["iterations"] + earlier.pop("iterations", 0)
            # Untargeted, the class given is the one to leave.
            told = target if self._targeted else np.full_like(target, -1)
            yield {**result, **earlier, **kappa, "iterations": iterations, "target": told}


def _default(function, name):
    return inspect.signature(function).parameters[name].default


def _with_last(pair, kappa):
    """The confidences of both stages, or of the only one."""
    return (pair[0], kappa) if isinstance(pair, tuple) else kappa


def _smaller_success(x, best, other):
    """Per image whichever is successful, of two successes the one closer to x."""
    def rank(result):
        # In float64: of nearly equal successes float32 would rank the rounding of the sum.
        distance = np.square(result["adversarial"] - x).sum(axis=(1, 2, 3), dtype=np.float64)
        return np.where(result["success"], distance, np.inf)

    # Of equal ones, and where none succeeds, the earlier one's stays.
    return _rows_where(rank(other) < rank(best), other, best) | {
        "iterations": best["iterations"] + other["iterations"]}


def _rows_where(condition, chosen, default):
    """Of arrays of the same names the rows of `chosen` where the condition bool [n] holds."""
    return {name: np.where(condition.reshape(-1, *[1] * (default[name].ndim - 1)), chosen[name],
                           default[name]) for name in default}

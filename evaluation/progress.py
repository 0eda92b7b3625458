"""How an attack gets on: a progress bar over all rounds, and the original's lines above it."""

import contextlib
import time
from collections.abc import Callable, Mapping

import numpy as np
from tqdm import tqdm

from attacks import Attack

# Points of a stream between two lines.
_LINE_EVERY = 10


class Silent(contextlib.nullcontext):
    """Tells nobody; what `Progress` is otherwise."""

    def rows_done(self, eps: float | None, rows: int, successes: int | None) -> None:
        """`rows` images more are finished at eps, `successes` of them (None: not known yet)."""

    def stage_done(self, stage: int, success: np.ndarray) -> None:
        """Stage `stage` of a search, from 1, is finished with success bool [m] of its images."""

    def restarts_done(self, restarts: int, left: int, images: int) -> None:
        """So many restarts of `images` images are done, of which `left` are not broken."""

    def round_done(self, averages: Mapping[str, float | None]) -> None:
        """A round is finished; its averages as `run_sweep` gives them."""


NOBODY = Silent()


class Progress(Silent):
    """The original's lines, and a bar where the output is a terminal.

    Args:
      num_per_eps: images per round.
      num_rounds: rounds.
      attack: whose batches and stages are counted.
      note: told the lines.
    """

    def __init__(self, num_per_eps: int, num_rounds: int, attack: Attack,
                 note: Callable[[str], None]):
        self._num_per_eps, self._attack, self._note = num_per_eps, attack, note
        self._num_batches = -(-num_per_eps // attack.count_batch)
        self._rows, self._successes = 0, 0
        self._stage_rows = [0] * attack.stages
        self._started = time.perf_counter()
        # disable=None: no bar where the output is not a terminal.
        self._bar = tqdm(total=num_per_eps * num_rounds, unit="image", disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def rows_done(self, eps, rows, successes):
        """As of `Silent`: one line per batch of the original."""
        batch = self._attack.count_batch
        before, self._rows = self._rows, self._rows + rows
        # The last batch of a round may be a short one.
        finished = (self._num_batches if self._rows == self._num_per_eps else self._rows // batch)
        at_eps = "" if eps is None else f", the eps = {eps:f} "
        for number in range(before // batch, finished):
            self._note(f"The {number} batch in total {self._num_batches}{at_eps}"
                       f"({self._seconds():f} sec)")
        if successes is not None:
            self._successes += successes
            self._bar.set_postfix(successes=self._successes, refresh=False)
        self._bar.update(rows)

    def stage_done(self, stage, success):
        """As of `Silent`: one line per image of an attack of two stages."""
        if self._attack.stages < 2:
            return
        for is_success in success:
            self._note(f"Finish attack {stage}. The {self._stage_rows[stage - 1]} batch in total "
                       f"{self._num_batches}({self._seconds():f} sec) "
                       f"{'Success' if is_success else 'Fail'}")
            self._stage_rows[stage - 1] += 1

    def restarts_done(self, restarts, left, images):
        """As of `Silent`: a line."""
        self._note(f"{restarts} restarts: {left} of {images} images left ({self._seconds():f} sec)")

    def round_done(self, averages):
        """As of `Silent`: the averages in the original's words."""
        a = averages
        for words, name in (("Precision", "accuracy"), ("Confidence", "confidence"),
                            ("non-ME", "non_me")):
            self._note(f"{words} on nor images is {a[name + '_before']:f}, "
                       f"on adv images is {a[name + '_after']:f}")
        # The original's words for a root MEAN square. Differs from the original: of this eps, where it
        # averages all eps so far.
        self._note(f"Average L2-distance between nor and adv imgs is {a['rms_perturbation']:f}")
        if a["eps"] is None:
            # Differs from the original: the number, where it prints 0 always.
            first = a.get("num_first_success", a["num_success"])
            self._note(f"Num of attacking success is {a['num_success']}")
            self._note(f"Total success num of attack 1 is {first}")
            self._note(f"Total efficient num of attack 1 is {a['num_kept']}")
            if not a["num_success"]:
                self._note("Nothing has succeeded: give more --attack_iterations, a larger "
                           "--attack_initial_const or --attack_learning_rate.")
        if "log_density_ratio" in a:
            self._note("Log-density-ratio in attacking function of nor/adv is "
                       f"{a['log_density_ratio']:f}")
        if "num_evaded" in a:
            self._note(f"Wrong and accepted are {a['num_evaded']} images, {a['num_natural']} of them "
                       "without an attack")
        # The original counts its batches anew for each eps.
        self._rows = 0
        self._started = time.perf_counter()

    def _seconds(self):
        return time.perf_counter() - self._started


class StreamProgress:
    """Points of a stream: a line every ten, and a bar where the output is a terminal.

    Args:
      title: which stream.
      number: of points.
      note: told the lines.
    """

    def __init__(self, title: str, number: int, note: Callable[[str], None]):
        self._title, self._number, self._note = title, number, note
        self._told = []
        self._bar = tqdm(total=number, desc=title, unit="point", disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def point_done(self, arrays: Mapping[str, np.ndarray]) -> None:
        """One point more, as `evaluation.streams.answer` tells of it."""
        right = arrays["label"] == np.array([arrays[name] for name in ("predicted", "webnn", "deepnn")])
        self._told.append((*right.ravel(), arrays["seconds"].item()))
        shares = 100 * np.mean(self._told, axis=0)
        self._bar.set_postfix(right=f"{shares[0]:.1f} %", refresh=False)
        self._bar.update(1)
        done = len(self._told)
        if done % _LINE_EVERY and done < self._number:
            return
        a_point = shares[3] / 100
        self._note(f"{self._title}, {done} of {self._number}: right {shares[0]:.1f} %, WebNN "
                   f"{shares[1]:.1f} %, DeepNN {shares[2]:.1f} %; {a_point:.1f} s a point, "
                   f"{a_point * (self._number - done) / 60:.1f} min left")

"""The worst of many restarts of an attack: a restart is a row (image, restart), and rows fill calls.

Mosbach et al. 2018 (arXiv 1810.12042) need thousands of restarts, and nearly all images are broken by
the first few: those leave, and the restarts of the few that are left share a call. A row's result
depends on its image and its number alone, so that who shares a call shows nowhere.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

# From more restarts on broken images leave, where nobody says otherwise.
MANY_RESTARTS = 100
# Between two savings of what an unfinished part has come to.
SECONDS_PER_SAVING = 60.0
# After which restarts it is told how many images are left.
TOLD = (1, 10, 100, 1000, 10_000)


@dataclasses.dataclass(frozen=True)
class Saver:
    """Where an unfinished attack keeps what it has come to; by default nowhere.

    Attributes:
      load: gives what `save` was last given; None where there is nothing.
      save: told the state, arrays by name.
    """

    load: Callable[[], Mapping[str, np.ndarray] | None] = lambda: None
    save: Callable[[Mapping[str, np.ndarray]], None] = lambda state: None


NOWHERE = Saver()


@dataclasses.dataclass(frozen=True)
class Restarts:
    """How often an attack starts, and when it stops.

    Attributes:
      number: restarts of each image, at least 1.
      drop: whether an image that a restart has broken is left alone from then on; else the worst of all
        restarts is found.
      rows_per_call: rows that are attacked together. No influence on results.
      losses: whether the cross entropy of each restart is kept.
    """

    number: int
    drop: bool
    rows_per_call: int
    losses: bool = False


def worst_of_restarts(attack_rows: Callable, x: np.ndarray, restarts: Restarts, *,
                      settled: np.ndarray | None = None, saver: Saver = NOWHERE,
                      images_done: Callable[[int], None] = lambda count: None,
                      restarts_done: Callable[[int, int], None] = lambda number, left: None
                      ) -> dict[str, np.ndarray]:
    """Attacks images from many starts and keeps the worst for each.

    Args:
      attack_rows: from images int [m] and their restarts int [m] to arrays of m rows: "adversarial",
        "merit" float and "wrong" bool; "evaded" bool where being wrong is not enough to be broken.
        Worse is what is wrong where the other is not, of two alike what has the larger merit, of equal
        ones what came first.
      x: clean images float32 [n, h, w, c].
      restarts: how many, and whether broken images leave.
      settled: bool [n], images that are broken before any attack; where broken images leave, they are
        not attacked.
      saver: of what an unfinished run has come to.
      images_done: told how many images more are finished.
      restarts_done: where broken images leave, told one of TOLD when all images have had so many
        restarts, and how many images are left.

    Returns:
      The arrays of `attack_rows`, n rows; "restart" int32 [n], the start that is kept; "first_broken"
      int32 [n], the first restart that broke the image, −1 where none did; "num_broken" int32 [n], how
      many did; "num_restarts" int32 [n], those until it left; where they are kept "losses" float32
      [n, restarts].
    """
    settled = (np.zeros(len(x), bool) if settled is None else settled) & restarts.drop
    state = _State(x, settled, restarts)
    cursor = state.restore(saver.load())
    queue, saved = _Queue(restarts.number, *cursor), time.monotonic()
    images_done(state.num_ended())
    milestones = [number for number in TOLD if queue.restart < number <= restarts.number]
    while len((rows := queue.take(~state.done(), restarts.rows_per_call))[0]):
        before = state.num_ended()
        state.add(*rows, attack_rows(*rows))
        images_done(state.num_ended() - before)
        while restarts.drop and milestones and milestones[0] <= queue.restart:
            number = milestones.pop(0)
            restarts_done(number, int(left_after(state.arrays["first_broken"], number).sum()))
        if time.monotonic() - saved > SECONDS_PER_SAVING:
            saver.save(state.saved(queue.restart, queue.image))
            saved = time.monotonic()
    if not state.arrays:  # nothing to attack: a row tells which arrays there are
        state.begin(attack_rows(*np.zeros((2, 1), np.int64)))
    return state.arrays | {"num_restarts": state.num_restarts()}


def left_after(first_broken: np.ndarray, restarts: int) -> np.ndarray:
    """bool [n]: images that the first so many restarts have not broken; `first_broken` int [n] is the
    restart that did, −1 where none did."""
    return (first_broken < 0) | (first_broken >= restarts)


class _Queue:
    """Which rows come next: restart by restart those of the images that are left, in order."""

    def __init__(self, number: int, restart: int = 0, image: int = 0):
        self._number, self.restart, self.image = number, restart, image

    def take(self, left, most):
        """Images int [m] and their restarts int [m], m ≤ most; none when all is done."""
        rows, room, left = [], most, np.flatnonzero(left)
        while room and self.restart < self._number and len(left):
            rest = left[left >= self.image]
            chosen = rest[:room]
            rows.append((chosen, np.full(len(chosen), self.restart)))
            room -= len(chosen)
            if len(chosen) < len(rest):
                self.image = int(rest[len(chosen)])
            else:
                self.restart, self.image = self.restart + 1, 0
        return tuple(np.concatenate([np.zeros(0, np.int64), *part])
                     for part in (zip(*rows, strict=True) if rows else ((), ())))


class _State:
    """The worst of each image so far."""

    def __init__(self, x, settled, restarts):
        self._x, self._settled, self._restarts = x, settled, restarts
        self._ended = settled.copy()
        self.arrays = {}

    def restore(self, saved):
        """Takes up what was saved; the cursor of the queue."""
        if saved is None:
            return 0, 0
        saved = dict(saved)
        cursor = int(saved.pop("next_restart")), int(saved.pop("next_image"))
        self._ended = saved.pop("ended")
        self.arrays = saved
        return cursor

    def saved(self, next_restart, next_image):
        """What `restore` takes."""
        return self.arrays | {"ended": self._ended, "next_restart": np.array(next_restart),
                              "next_image": np.array(next_image)}

    def begin(self, result):
        """Before the first rows, whose arrays tell the names: nothing is worse than what comes."""
        num = len(self._x)
        self.arrays = {name: np.zeros((num, *rows.shape[1:]), rows.dtype)
                       for name, rows in result.items()}
        self.arrays |= {"adversarial": self._x.copy(), "wrong": self._settled.copy(),
                        "restart": np.zeros(num, np.int32), "num_broken": np.zeros(num, np.int32),
                        "first_broken": np.where(self._settled, 0, -1).astype(np.int32)}
        if "evaded" in result:
            self.arrays["evaded"] = self._settled.copy()
        if "cross_entropy" in result:  # nobody looks at that of images that were settled before
            self.arrays["cross_entropy"] = np.full(num, np.nan, result["cross_entropy"].dtype)
        self.arrays["merit"] = np.full(num, -np.inf, result["merit"].dtype)
        if self._restarts.losses:
            self.arrays["losses"] = np.zeros((num, self._restarts.number), np.float32)

    def add(self, images, numbers, result):
        """The results of some rows, in the order of their restarts."""
        if not self.arrays:
            self.begin(result)
        # Restart by restart: a call may hold several of one image.
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            # Broken by an earlier restart of this very call: this one was for nothing.
            rows = rows[~self.done()[images[rows]]]
            self._keep_worse(images[rows], int(number), {n: a[rows] for n, a in result.items()})
        self._ended[images[numbers == self._restarts.number - 1]] = True
        self._ended |= self.done()

    def _keep_worse(self, images, number, result):
        best = self.arrays
        result = result | {"restart": np.full(len(images), number, np.int32)}
        wrong, was_wrong = result["wrong"], best["wrong"][images]
        worse = (wrong & ~was_wrong) | (
            (wrong == was_wrong) & (result["merit"] > best["merit"][images]))
        for name, rows in result.items():
            best[name][images[worse]] = rows[worse]
        broken = result.get("evaded", wrong)
        best["num_broken"][images] += broken
        best["first_broken"][images[broken & (best["first_broken"][images] < 0)]] = number
        if self._restarts.losses:
            best["losses"][images, number] = result["cross_entropy"]

    def done(self):
        """bool [n]: images that have left."""
        if not (self._restarts.drop and self.arrays):
            return self._settled
        return self.arrays["first_broken"] >= 0

    def num_ended(self):
        """Images that have left or had their last restart."""
        return int(self._ended.sum())

    def num_restarts(self):
        """Restarts of each image until it left, int32 [n]."""
        left = self._restarts.drop & (self.arrays["first_broken"] >= 0)
        tried = np.where(left, self.arrays["first_broken"] + 1, self._restarts.number)
        return np.where(self._settled, 0, tried).astype(np.int32)

"""What restarts add: accuracy after so many of them, by which one broke each image."""

import dataclasses

import numpy as np

from evaluation.aims import broken
from evaluation.restarts import TOLD, left_after
from evaluation.success import Share, share
from evaluation.sweep import Sweep, of_restarts
from files.attack_results import Attacked


@dataclasses.dataclass(frozen=True)
class RestartCurve:
    """How an attack with restarts got on, at one eps.

    Attributes:
      first_broken: the restart that broke each image, int [n]; −1 where none did.
      num_broken: how many of its restarts broke it, int [n].
      num_restarts: of each image.
      num_steps: gradients of a restart.
      dropped: whether images left once they were broken.
      settled: how many were broken before any attack.
      seconds: all restarts together.
      at_detector: whether an image is broken only where it is accepted, too.
    """

    first_broken: np.ndarray
    num_broken: np.ndarray
    num_restarts: int
    num_steps: int
    dropped: bool
    settled: int
    seconds: float
    at_detector: bool = False

    def left(self, restarts: int) -> np.ndarray:
        """bool [n]: images that the first so many restarts have not broken."""
        return left_after(self.first_broken, restarts)

    def accuracy(self, restarts: int) -> Share:
        """Worst-case accuracy after so many restarts, with Wilson's 95 % interval."""
        return share(self.left(restarts))

    def gradients(self, restarts: int) -> int:
        """Gradients that the first so many restarts took."""
        tried = np.full(len(self.first_broken), restarts)
        if self.dropped:
            tried = np.where(self.left(restarts), restarts, self.first_broken + 1)
            # Broken before the attack: their restart 0 was never run.
            return int(self.num_steps * (tried.sum() - self.settled))
        return int(self.num_steps * tried.sum())

    def lines(self) -> list[str]:
        """What is told on screen."""
        kept, broken_before = (("right or refused", "wrong and accepted") if self.at_detector else
                               ("accuracy", "wrong"))
        found = []
        for number in dict.fromkeys((*TOLD, self.num_restarts)):
            if number <= self.num_restarts:
                value, low, high, _ = self.accuracy(number)
                found.append(
                    f"After {number} restarts: {kept} {100 * value:.1f} % [{100 * low:.1f}, "
                    f"{100 * high:.1f}], {self.left(number).sum()} images left, "
                    f"{self.gradients(number):,} gradients.")
        rate = self.gradients(self.num_restarts) / max(self.seconds, 1e-9)
        found.append(f"{self.settled} images were {broken_before} before any attack; "
                     f"{rate:,.0f} gradients/s.")
        if not self.dropped:
            # Of images that have left nobody knows.
            mean = 1 - self.num_broken.mean() / self.num_restarts
            found.append(f"Mean {kept} over the restarts: {100 * mean:.1f} %.")
        return found


def of_sweep(work: Sweep, attacked: Attacked, num_steps: int) -> dict[str, RestartCurve]:
    """Of each eps, in words, how the restarts of a finished sweep got on.

    Args:
      work: the sweep, of an attack with restarts.
      attacked: what came of it.
      num_steps: gradients of a restart.
    """
    restarts, curves, num_images = work.crafter.restarts, {}, len(work.labels)
    for round_number, eps in enumerate(work.eps_values):
        found = of_restarts(work, round_number)
        rows = slice(round_number * num_images, (round_number + 1) * num_images)
        settled = broken(work.aim, attacked.normal.rows(rows), work.labels)
        # Broken before is broken from the start, whatever an attack on its prediction makes of it.
        curves[f"eps {eps:g}"] = RestartCurve(
            np.where(settled, 0, found["first_broken"]),
            np.where(settled, restarts.number, found["num_broken"]), restarts.number, num_steps,
            restarts.drop, int(settled.sum()), float(found["seconds"].sum()), work.aim is not None)
    return curves

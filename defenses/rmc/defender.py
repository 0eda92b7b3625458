"""A network that adapts to the neighbours of each image, answers, and cleanses itself.

Source: model.py of github.com/nthu-datalab/Runtime-Masking-and-Cleansing (`evaluate`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from data.pipeline import NO_CROP, NUM_CROPS
from defenses.rmc import neighbors
from defenses.rmc.adapter import Adapter, History, Rows, State
from files.rmc import AugmentedSet


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a defender goes about it.

    Attributes:
      k: neighbours.
      state: of `defenses.rmc.STATES`: whether weights and optimizer carry over to the next image
        (sequential), go back (reset), or never move (frozen).
      neighbors: of `defenses.rmc.NEIGHBORS`: what it adapts to, the nearest rows or any.
      calibrate: of `defenses.rmc.CALIBRATIONS`: rows it is fitted to after it has answered.
    """

    k: int
    state: str = "sequential"
    neighbors: str = "nearest"
    calibrate: str = "all"

    @property
    def adapts(self) -> bool:
        """Whether it learns at all."""
        return self.state != "frozen"

    @property
    def carries_over(self) -> bool:
        """Whether an answer depends on the images before."""
        return self.state == "sequential"

    @property
    def calibrates(self) -> bool:
        """Whether it is fitted after it has answered."""
        # Under reset the effect would be thrown away with the state.
        return self.carries_over and self.calibrate != "none"


class Point(NamedTuple):
    """One image.

    Attributes:
      x: network input float32 [h, w, c].
      query: its features float32 [d] by the network as it was trained.
      chance: whole numbers that decide, with nothing else, what is drawn for it.
    """

    x: np.ndarray
    query: np.ndarray
    chance: tuple[int, ...]


class Answer(NamedTuple):
    """What a defender makes of a point.

    Attributes:
      logits: sign-adjusted, float32 [L].
      features: float32 [d].
      nearest: the k nearest rows of the augmented set, int [k], whatever it adapted to.
      webnn: class of most of these.
      deepnn: class of most of the k nearest clean rows, or of all where there are fewer.
      adapted: how the fit before the answer went; None where there was none.
    """

    logits: np.ndarray
    features: np.ndarray
    nearest: np.ndarray
    webnn: int
    deepnn: int
    adapted: History | None


class Defender:
    """Answers one image after the other.

    Args:
      adapter: of the network, which a frozen defender only asks.
      augmented: the rows it adapts to, with features.
      settings: how it goes about it.
    """

    def __init__(self, adapter: Adapter, augmented: AugmentedSet, settings: Settings):
        self.adapter, self.augmented, self.settings = adapter, augmented, settings
        self._num_classes = adapter.network.model.outputs[0].shape[-1]

    def start(self, state: State | None = None) -> None:
        """Goes to a state; None: as the network was trained."""
        self.adapter.restore(state or self.adapter.initial)

    def answer(self, point: Point) -> Answer:
        """Adapts to a point and answers it; `finish` follows before the next."""
        found, settings, rng = self.augmented, self.settings, _rng(point, 0)
        nearest = neighbors.nearest(found.features, point.query, settings.k)
        first_clean = len(found.labels) - found.num_clean
        clean = first_clean + neighbors.nearest(
            found.features[first_clean:], point.query, min(settings.k, found.num_clean))
        adapted = None
        if settings.adapts:
            rows = nearest if settings.neighbors == "nearest" else rng.choice(
                len(found.labels), settings.k, replace=False)
            adapted = self._fit(neighbors.split(
                rows, rng.permutation(neighbors.num_top(settings.k))), rng, augment=False)
        logits, features = self.adapter.outputs(point.x[None])
        votes = (neighbors.vote(found.labels[rows], self._num_classes) for rows in (nearest, clean))
        return Answer(logits[0], features[0], nearest, *votes, adapted)

    def finish(self, point: Point) -> History | None:
        """Readies it for the next point: calibrates, goes back, or neither; how the calibration
        went."""
        if not self.settings.calibrates:
            if self.settings.adapts and not self.settings.carries_over:
                self.start()
            return None
        rng, found, k = _rng(point, 1), self.augmented, self.settings.k
        number = len(found.labels) if self.settings.calibrate == "all" else found.num_clean
        # The clean rows come last.
        drawn = len(found.labels) - number + rng.integers(number, size=k)
        return self._fit(neighbors.split_calibration(drawn, rng.permutation(k)), rng, augment=True)

    def _fit(self, split, rng, *, augment):
        rows = [Rows(self.augmented.images[part], self.augmented.labels[part]) for part in split]
        number = len(split.train)

        def draw(_):
            order = rng.permutation(number)
            # What adapts is not cropped.
            crops = rng.integers(NUM_CROPS, size=number) if augment else np.full(number, NO_CROP)
            return order, crops

        return self.adapter.fit(*rows, draw)


def _rng(point, phase):
    return np.random.default_rng((*point.chance, phase))


def identity(settings: Settings) -> Mapping[str, Any]:
    """The settings as JSON values."""
    return dataclasses.asdict(settings)

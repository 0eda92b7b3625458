"""Images that trained generators make of others, the one of each image's class."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from attacks.dgn.generate import project
from attacks.dgn.networks import build_generator
from files import dgn as dgn_files
from files.arrays import sha256
from networks.running import ChunkedFunction


class Generators:
    """The generators of all classes on one device, one trace for all of them.

    Args:
      strategy: of the devices.
      folders: of `files.dgn.find_generators`, by class.
      image_shape: (h, w, c).
    """

    def __init__(self, strategy: tf.distribute.Strategy, folders: Sequence[dgn_files.GeneratorFolder],
                 image_shape: tuple[int, int, int]):
        with strategy.scope():
            self._model = build_generator(tuple(image_shape))
        self._weights = [folder.read_generator(self._model) for folder in folders]
        # Inference mode: the averages of its batch norm stay.
        self._run = ChunkedFunction(strategy, lambda u: (self._model(u, training=False),))

    @property
    def sha256(self) -> str:
        """Of all weights."""
        return sha256(*(array for weights in self._weights for array in weights))

    def __call__(self, u: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What the generator of each image's class makes of it.

        Args:
          u: float32 [n, h, w, c] in [0, 1].
          labels: classes int [n].

        Returns:
          float32 like u, in [0, 1].
        """
        generated = np.empty_like(u)
        for label in np.unique(labels):
            self._model.set_weights(self._weights[label])
            rows = labels == label
            generated[rows], = self._run(u[rows])
        return generated


@dataclasses.dataclass(frozen=True)
class Known:
    """Generators as an attack of `evaluation.jobs.Job` knows them.

    Attributes:
      generators: of the network under attack.
    """

    generators: Generators

    def keywords(self) -> dict[str, Any]:
        """What the crafter is given."""
        return {"generators": self.generators}

    def identity(self) -> dict[str, Any]:
        """What decides the results, as JSON values."""
        return {"generators_sha256": self.generators.sha256}


class Adversarial(NamedTuple):
    """Generated images of a split.

    Attributes:
      x_adv: network inputs float32 [m, h, w, c].
      labels: of the images, int32 [m].
      index: which image of the split each is, int32 [m].
      pred_clean: predicted class of the image itself, int32 [m].
      pred_adv: and of what was made of it.
    """

    x_adv: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    pred_clean: np.ndarray
    pred_adv: np.ndarray


def pixels_of(images: np.ndarray) -> np.ndarray:
    """Images as stored, uint8 or float in [0, 1], as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


def generate(generators: Generators, forward: ChunkedFunction, images: np.ndarray, labels: np.ndarray,
             eps: float | None, *, changed_only: bool) -> Adversarial:
    """Generates from images and looks at what the target says of them.

    Args:
      generators: of the target.
      forward: its `Network.forward`.
      images: as stored [n, h, w, c].
      labels: their classes int [n].
      eps: largest change of a pixel; None: not projected.
      changed_only: whether only images stay whose prediction has changed, whatever their class.
    """
    u = pixels_of(images)
    x_adv = project(u, generators(u, labels), eps).numpy() - np.float32(0.5)
    before, after = (forward(x)[0].argmax(axis=-1) for x in (u - np.float32(0.5), x_adv))
    kept = np.flatnonzero(before != after) if changed_only else np.arange(len(labels))
    return Adversarial(x_adv[kept], *(values[kept].astype(np.int32) for values in (
        labels, np.arange(len(labels)), before, after)))


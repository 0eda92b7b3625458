"""Images that trained generators make of others, the one of each image's class."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import attacks
from attacks.dgn.generate import project
from attacks.dgn.networks import build_generator
from errors import InputError
from evaluation.crafter import Crafter
from evaluation.listener import NOBODY, Listener
from files import dgn as dgn_files
from files.arrays import sha256
from networks.network import Network
from networks.running import ChunkedFunction

_HALF = np.float32(0.5)


class Generators:
    """The generators of all classes on one device, one trace for all of them.

    Args:
      strategy: of the devices.
      folders: of `files.dgn.find_generators`, by class.
      image_shape: (h, w, c).
    """

    def __init__(self, strategy: tf.distribute.Strategy,
                 folders: Mapping[int, dgn_files.GeneratorFolder],
                 image_shape: tuple[int, int, int]):
        with strategy.scope():
            self._model = build_generator(tuple(image_shape))
        self._weights = {label: folder.read_generator(self._model)
                         for label, folder in folders.items()}
        # Inference mode: the averages of its batch norm stay.
        self._run = ChunkedFunction(strategy, lambda u: (self._model(u, training=False),))

    @property
    def sha256(self) -> str:
        """Of all weights."""
        return sha256(*(array for weights in self._weights.values() for array in weights))

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


def projected(generators: Generators, images: np.ndarray, labels: np.ndarray, eps: float | None
              ) -> tuple[np.ndarray, np.ndarray]:
    """What generators make of images, and that within `eps` of them (None: in the box alone); network
    inputs float32 [n, h, w, c].

    Args:
      generators: of the target.
      images: as stored [n, h, w, c].
      labels: their classes int [n].
      eps: largest change of a pixel.
    """
    u = pixels_of(images)
    made = generators(u, labels)
    return made - _HALF, project(u, made, eps).numpy() - _HALF


def attacked(network: Network, strategy: tf.distribute.Strategy, method: str, images: np.ndarray,
             eps: float, *, settings: Mapping[str, Any], seed: int,
             listener: Listener = NOBODY) -> np.ndarray:
    """What an attack makes of images against a network, whose own predictions it leaves behind.

    Args:
      network: under attack.
      strategy: of its devices.
      method: name of an attack without stages that needs no labels.
      images: as stored [n, h, w, c].
      eps: largest change of a pixel.
      settings: keywords of `Crafter`.
      seed: of what it draws.
      listener: told of progress.

    Returns:
      Network inputs float32 like the images.
    """
    crafter = Crafter(network, strategy, attacks.get(method), seed=seed, settings=settings,
                      most_rows=len(images))
    # Differs from the original: of several starts each image keeps its own worst, and not all images
    # the start that is the worst of the whole set.
    x = pixels_of(images) - _HALF
    return crafter(x, np.arange(len(x)), eps=eps, listener=listener)["adversarial"]


def looked_at(forward: ChunkedFunction, images: np.ndarray, labels: np.ndarray, index: np.ndarray,
              x_adv: np.ndarray, *, changed_only: bool = False) -> Adversarial:
    """Images beside what was made of them, and what a network says of both.

    Args:
      forward: `Network.forward`.
      images: of the split, as stored [n, h, w, c].
      labels: their classes int [n].
      index: which of them were taken, int [m].
      x_adv: what was made of those, network inputs float32 [m, h, w, c].
      changed_only: whether only images stay whose prediction has changed, whatever their class.
    """
    before, after = (forward(x)[0].argmax(axis=-1)
                     for x in (pixels_of(images[index]) - _HALF, x_adv))
    kept = np.flatnonzero(before != after) if changed_only else np.arange(len(index))
    return Adversarial(x_adv[kept], *(values[kept].astype(np.int32) for values in (
        labels[index], index, before, after)))


def distances(images: np.ndarray, x_adv: np.ndarray) -> dict[str, float]:
    """How far images are from what was made of them: the largest "linf", and means over the images of
    "l2", of "l1", the mean change of a pixel, and of "l0", pixels that have changed.

    Args:
      images: as stored [n, h, w, c].
      x_adv: network inputs like them.
    """
    change = np.abs(x_adv - (pixels_of(images) - _HALF)).reshape(len(images), -1)
    return {"linf": float(change.max()), "l2": float(np.linalg.norm(change, axis=1).mean()),
            "l1": float(change.mean()), "l0": float(np.count_nonzero(change, axis=1).mean())}


def load(path: str | os.PathLike, network: Mapping[str, Any]) -> tuple[Adversarial, dict[str, Any]]:
    """Images that dgn.py --mode=generate has stored, and what they are of.

    Args:
      path: of the file.
      network: that they were made against, as `Network.digests` tells it.

    Raises:
      InputError: there is none, it is another file, or one of another network.
    """
    arrays, identity = dgn_files.load_arrays(path, network, "--mode=generate")
    if set(arrays) != set(Adversarial._fields) or not isinstance(identity.get("source"), str) or (
            not _fit_together(Adversarial(**arrays))):
        raise InputError(f"expected images of dgn.py --mode=generate in {path}. "
                         "Received: something else.")
    return Adversarial(**arrays), identity


def _fit_together(made):
    """Whether the arrays are of the same images, one at least, and what they should be."""
    x_adv, *others = made
    return (x_adv.ndim == 4 and len(x_adv) > 0 and x_adv.dtype == np.float32
            and bool(np.abs(x_adv).max() <= _HALF)  # of NaN false
            and all(array.shape == x_adv.shape[:1] and array.dtype == np.int32 and array.min() >= 0
                    for array in others))


class Wanted(NamedTuple):
    """Which stored images a grid takes.

    Attributes:
      sources: custom losses and attacks.
      data_sha256: of the test images with their labels, all of them.
      eps: at which the other columns of the grid are.
      number: of test images, the first so many.
    """

    sources: Sequence[str]
    data_sha256: str
    eps: float
    number: int


def load_all(folder: str | os.PathLike, network: Mapping[str, Any], wanted: Wanted,
             warn: Callable[[str], None]) -> dict[str, Adversarial]:
    """Source → what it made of test images, of the sources that there are.

    Args:
      folder: of the target.
      network: as of `load`.
      wanted: which of them.
      warn: told of what was made at another eps.

    Raises:
      InputError: as of `load`, or they were made of other images.
    """
    found = {}
    for source in wanted.sources:
        path = dgn_files.adversarial_path(folder, source, "test")
        if not path.is_file():
            continue
        made, identity = load(path, network)
        if identity.get("data_sha256") != wanted.data_sha256:
            raise InputError(f"{path} was made of other test images: --mode=generate makes it anew. "
                             "Received: --eval_data_path with another SHA-256.")
        if identity.get("eps") != wanted.eps:
            warn(f"{path} was made at eps {identity.get('eps')}, and the white-box columns at "
                 f"{wanted.eps:g}.")
        first = made.index < wanted.number
        found[source] = Adversarial(*(values[first] for values in made))
    return found

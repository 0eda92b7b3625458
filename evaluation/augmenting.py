"""Crafts the augmented set of runtime masking and cleansing: PGD against the network as it was trained.

Source: prepare/augment_dataset.py of github.com/nthu-datalab/Runtime-Masking-and-Cleansing.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import attacks
from data.pixels import from_network_input, to_network_input
from evaluation import checks
from evaluation.crafter import CLIP_MAX, CLIP_MIN, Crafter
from files import attack_parts
from networks.network import Network

# Images that are crafted and saved together, whatever the number of shards.
PART_SIZE = 1000


class Variant(NamedTuple):
    """A block of the set: steps of PGD, and the length of all together in units of eps."""

    num_steps: int
    travel: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is crafted.

    Attributes:
      network: as it was trained.
      strategy: whose replicas share the images.
      images: training images as stored [n, h, w, c].
      labels: int [n].
      image_index: which image of the data set each is, int [n].
      variants: a block each, in order; the images themselves follow.
      eps: largest change of a pixel.
      seed: of the random starts.
      parts: where finished parts are.
      num_shards: machines that share the work.
    """

    network: Network
    strategy: tf.distribute.Strategy
    images: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    variants: Sequence[Variant]
    eps: float
    seed: int
    parts: attack_parts.Parts
    num_shards: int = 1

    @property
    def pieces(self) -> list[attack_parts.Piece]:
        """All that is crafted."""
        return attack_parts.cut(len(self.variants), len(self.labels), PART_SIZE, self.num_shards)

    @property
    def missing(self) -> list[attack_parts.Piece]:
        """The pieces that are not finished yet."""
        finished = set(self.parts.names())
        return [piece for piece in self.pieces if piece.name not in finished
                or self.parts.load(piece.name) is None]

    def all_labels(self) -> np.ndarray:
        """Labels of all rows of the set, int32 [M]."""
        return np.tile(self.labels, len(self.variants) + 1).astype(np.int32)

    def blocks(self) -> Iterator[np.ndarray]:
        """The images of the set in order, uint8 [m, h, w, c] at a time; every piece must be there."""
        for piece in self.pieces:
            yield self.parts.load(piece.name)["images"]
        for start in range(0, len(self.images), PART_SIZE):
            # Of float images the nearest grey levels, as of the crafted ones.
            yield from_network_input(to_network_input(self.images[start:start + PART_SIZE]))


def craft(work: Augmentation, pieces: Sequence[attack_parts.Piece],
          rows_done: Callable[[int], None] = lambda rows: None,
          crafters: dict[int, Crafter] | None = None) -> None:
    """Crafts and saves pieces.

    Each attacks the network's own prediction, from a random start; the last point counts.

    Differs from the original: its gradient is taken at an image that the network does not see (label
    and gradient scale it differently), and of softmax outputs as if they were logits. Ours is the
    attack that its name says; which code made the published numbers nobody can tell.

    Args:
      work: all that is to be crafted.
      pieces: those to craft now.
      rows_done: told how many images more are done.
      crafters: of each block, traced once; further calls may be given the same ones.

    Raises:
      InputError: images that are unfit, or a network whose logits are not finite, or probabilities.
    """
    crafters = {} if crafters is None else crafters
    for piece in pieces:
        number = piece.round_number
        x = to_network_input(work.images[piece.rows])
        checks.check_images(x, CLIP_MIN, CLIP_MAX)
        if number not in crafters:
            checks.check_logits(work.network.forward(work.strategy)(x)[0])
            crafters[number] = _crafter(work, number)
        crafted = crafters[number](x, work.image_index[piece.rows], eps=work.eps)
        # Rounded, as the original's PNG files are.
        work.parts.save(piece.name, {"images": from_network_input(crafted["adversarial"])})
        rows_done(len(x))


def _crafter(work, number):
    variant = work.variants[number]
    # A generator a block: its starts have nothing in common with those of the others.
    seed = int(np.random.SeedSequence((work.seed, number)).generate_state(1)[0] >> 1)
    return Crafter(work.network, work.strategy, attacks.get("pgd"), seed=seed, settings={
        "num_steps": variant.num_steps, "num_restarts": 1, "drop_broken": False,
        "step_size": step_size(variant, work.eps)}, most_rows=len(work.labels))


def step_size(variant: Variant, eps: float) -> float:
    """Change of a pixel per step."""
    return variant.travel * eps / variant.num_steps

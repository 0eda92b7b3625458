"""An attack made on one network, tried on another: does it carry over?"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.inputs import ImageSet
from data.pixels import to_network_input
from errors import InputError
from evaluation.crafter import CLIP_MAX, CLIP_MIN
from evaluation.listener import Listener
from files import attack_results, provenance, result_files
from files.attack_results import digests_of
from files.names import transferred

# What else of a source's results.npz says how its images were made.
_KEPT = ("target", "iterations")
NONE_LEFT_OUT = np.zeros(0, np.uint64)


@dataclasses.dataclass(frozen=True)
class Source:
    """Finished results of an attack on another network, the rounds one after the other.

    Attributes:
      attack: name of the attack's row.
      variant: what the results here are called.
      norm: in which eps bounds the change; "" where the record tells none.
      network: which network it was made on, JSON values.
      eps_values: one a round; (None,) for an attack without.
      x: the normal images of a round, network inputs float32 [n, h, w, c].
      labels: their classes, int [n].
      image_index: which image of this data set each is, int [n].
      rounds: of each round arrays of n rows as of `evaluation.crafter.Crafter`.
    """

    attack: str
    variant: str
    norm: str
    network: Mapping[str, object]
    eps_values: Sequence[float | None]
    x: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    rounds: Sequence[Mapping[str, np.ndarray]]

    def craft(self, number: int, logits: np.ndarray, features: np.ndarray, listener: Listener
              ) -> dict[str, np.ndarray]:
        """What `evaluation.sweep.score_rounds` asks for: the images of a round are there already."""
        listener.rows_done(len(self.labels), None)
        return dict(self.rounds[number])

    def knowledge(self) -> dict[str, object]:
        """What the attacker knew, for the run record."""
        return {"knowledge": "transfer", "norm": self.norm, "transferred_from": dict(self.network)}


def load(folder: str | os.PathLike, image_set: ImageSet, network: Mapping[str, object],
         left_out: np.ndarray) -> Source:
    """Reads the results of an attack on another network of the same data.

    Args:
      folder: where test_adv.py left them.
      image_set: the images of this run, in whatever order.
      network: identity of this network.
      left_out: digests of images that are not taken, those that a detector was fitted on.

    Raises:
      InputError: no such results, those of this very network, or of other images.
    """
    source = read(folder, image_set, "transfer_from", left_out)
    if provenance.digest_that_differs(source.network, network) is None:
        raise InputError("transfer_from must hold the results of another network. Received: "
                         f"transfer_from={str(folder)!r}, of this one.")
    return dataclasses.replace(
        source, variant=transferred(source.variant, source.network["weights_sha256"]))


def read(folder: str | os.PathLike, image_set: ImageSet, flag: str,
         left_out: np.ndarray = NONE_LEFT_OUT) -> Source:
    """As `load`, of whatever network and under the attack's own name; `flag` named the folder."""
    folder = Path(folder)
    record = provenance.read(folder, "test_adv")
    found = record and record["metrics"].get("network")
    if not found:
        raise InputError(f"{flag} must be a folder of results that this version of test_adv.py "
                         f"wrote, with test_adv_run.json. Received: {flag}={str(folder)!r}.")
    metrics = record["metrics"]
    results = attack_results.load(found["objective"], folder)
    images = result_files.load_adversarial_images(folder)
    num = results.num_per_eps
    here = _places(image_set, results.image_digests[:num], folder, flag)
    if images.shape != (results.num_rows, *image_set.images.shape[1:]) or (
            not np.all((images >= CLIP_MIN) & (images <= CLIP_MAX))):
        raise InputError(f"expected {results.num_rows} images of {image_set.images.shape[1:]} in "
                         f"[{CLIP_MIN}, {CLIP_MAX}] in adv_img.npy of {folder}. Received: shape "
                         f"{images.shape}, from {np.min(images):g} to {np.max(images):g}.")
    taken = np.flatnonzero(~np.isin(results.image_digests[:num], left_out))
    if not len(taken):
        raise InputError(f"expected images in {folder} that the detector was not fitted on. "
                         "Received: none.")
    rounds = [_round(images, results.per_image, start + taken)
              for start in range(0, results.num_rows, num)]
    attack = record["flags"]["attack_method"]
    return Source(attack, metrics.get("variant", attack), metrics.get("norm", ""), found,
                  results.eps_values,
                  # Theirs, from which they are distant by eps: float images may differ below a level.
                  result_files.open_normal_images(folder)[taken].astype(np.float32),
                  image_set.labels[here[taken]], here[taken], rounds)


def _places(image_set, digests, folder, flag):
    """Where images with these digests lie in a data set, int [n]."""
    own = digests_of(to_network_input(image_set.images))
    order = np.argsort(own, kind="stable")
    places = np.searchsorted(own[order], digests).clip(max=len(own) - 1)
    same = own[order[places]] == digests
    if not same.all():
        raise InputError(f"{flag} must hold results of the images that this run is given. "
                         f"Received: {folder}, of which {np.count_nonzero(~same)} of {len(same)} are "
                         "others.")
    return order[places]


def _round(images, per_image, rows):
    kept = {name: per_image[name][rows] for name in _KEPT}
    return {"adversarial": images[rows].astype(np.float32), **kept, "seconds": np.zeros(1)}

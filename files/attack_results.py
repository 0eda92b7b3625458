"""The results of an attack as values: what a network made of the images, their sweep, whose they are.

The files themselves are in result_files.py. Only NumPy is needed.
"""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.pixels import from_network_input
from errors import InputError
from files import attack_parts, provenance, result_files
from files.names import IMAGE_GRID, RESULT_TEXTS, head_of_tag, tag_of_network

# Averages of a round → what the run record calls them, in the original's words; others keep their name.
AVERAGES = {"accuracy_before": "precision_nor", "accuracy_after": "precision_adv",
            "confidence_before": "confidence_nor", "confidence_after": "confidence_adv",
            "non_me_before": "non_me_nor", "non_me_after": "non_me_adv",
            "rms_perturbation": "L2_distance"}
# The original's sweep, for files without a run record.
_ORIGINAL_ROUNDS = 10
ORIGINAL_EPS_STEP = 0.02
# --attack_cost of files without a run record, and where it is not given.
USUAL_COST = "ce"
# Run records beside result files: of a network as it was trained, and of one that rmc.py defends.
_TRAINED, _DEFENDED = "test_adv", "rmc"
# --rmc_stream of a folder that is but half of what is judged → what it holds.
_HALVES = {"clean": "clean images only", "adv": "attacked images only"}
_WHOLE = "both"
# Images whose grey levels are held at a time.
_CHUNK_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a network makes of n images, and the scores are computed from.

    Attributes:
      confidence: largest probability, float [n].
      non_me: non-maximal entropy, float [n]; NaN where the original's files hold it.
      features: of the penultimate layer, float [n, d].
      predicted: classes, int [n].
    """

    confidence: np.ndarray
    non_me: np.ndarray
    features: np.ndarray
    predicted: np.ndarray

    def rows(self, chosen: np.ndarray | slice) -> "Outputs":
        """Those of some images: bool [n], int [m] or a slice."""
        return Outputs(self.confidence[chosen], self.non_me[chosen], self.features[chosen],
                       self.predicted[chosen])


def recorded(averages: Mapping[str, Any]) -> dict[str, Any]:
    """The averages of a round under the names of the run record."""
    return {AVERAGES.get(name, name): value for name, value in averages.items()}


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Those of several groups of images as one."""
    return Outputs(*(np.concatenate([getattr(part, field.name) for part in parts])
                     for field in dataclasses.fields(Outputs)))


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack has made, the rounds one after the other.

    Attributes:
      labels: true classes, int [rows].
      x: the normal images, network inputs float32 [rows, h, w, c].
      x_adv: the adversarial ones, like x.
      normal: what the network makes of x.
      adversarial: what it makes of x_adv.
      per_image: arrays [rows] under the names PER_IMAGE and any of PER_IMAGE_OPTIONAL of
        result_files.py.
    """

    labels: np.ndarray
    x: np.ndarray
    x_adv: np.ndarray
    normal: Outputs
    adversarial: Outputs
    per_image: Mapping[str, np.ndarray]

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the result files, as `result_files.save_attack_results`."""
        sides = {"nor": (self.normal, self.x), "adv": (self.adversarial, self.x_adv)}
        results = {"labels_true": self.labels, "L2_distance": self.per_image["rms"]}
        for side, (outputs, images) in sides.items():
            results |= {f"confidence_{side}": outputs.confidence, f"entropy_{side}": outputs.non_me,
                        f"logits_{side}": outputs.features, f"labels_{side}": outputs.predicted,
                        f"{side}_img": images}
        result_files.save_attack_results(folder, results, self.per_image)


@dataclasses.dataclass(frozen=True)
class AttackResults:
    """One attack on one network, the rounds one after the other.

    Attributes:
      tag: of the network, as `names.tag_of` makes it.
      folder: where the files lie.
      normal: of the images before the attack, a row per image and round.
      adversarial: of the same after it.
      labels: true classes, int [rows].
      eps_values: of each round; None for an attack without.
      num_per_eps: rows per round.
      network: which network was attacked, JSON values; None where no run record tells.
      cost: which cost the attack raises or lowers, "ce" or "rce" (--attack_cost).
      defense: what defended the network while it answered, JSON values of rmc.py; None of a network as
        it was trained. Its outputs are then those of the network as it had become.
    """

    tag: str
    folder: Path
    normal: Outputs
    adversarial: Outputs
    labels: np.ndarray
    eps_values: Sequence[float | None]
    num_per_eps: int
    network: Mapping[str, Any] | None
    cost: str = USUAL_COST
    defense: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """What lines and titles call the network: its tag, and what defends it."""
        return self.tag + under(self.defense)

    @property
    def defended_network(self) -> Mapping[str, Any] | None:
        """`network` and, where there is one, its "defense": what a detector fitted on these results
        belongs to."""
        return self.network if self.defense is None else {**self.network, "defense": self.defense}

    @property
    def head(self) -> str:
        """"ce" or "rce"."""
        return head_of_tag(self.tag)

    @property
    def right_normal(self) -> np.ndarray:
        """Whether each normal image is classified correctly, bool [rows]."""
        return self.normal.predicted == self.labels

    @property
    def right_adversarial(self) -> np.ndarray:
        """Whether each adversarial image is, bool [rows]."""
        return self.adversarial.predicted == self.labels

    @functools.cached_property
    def per_image(self) -> Mapping[str, np.ndarray] | None:
        """Arrays of `result_files.load_per_image`, read when asked for; None for the original's."""
        return result_files.load_per_image(self.folder, self.num_rows)

    def check_classes(self, num_classes: float) -> None:
        """Raises an InputError that names file and row of a class that there is not."""
        for name, labels in (("labels_true", self.labels), ("labels_nor", self.normal.predicted),
                             ("labels_adv", self.adversarial.predicted)):
            beyond = np.flatnonzero(labels >= num_classes)
            if beyond.size:
                raise InputError(f"expected classes below {num_classes}, as many as there are, in "
                                 f"{self.folder / name}. Received: row {beyond[0] + 1}="
                                 f"{labels[beyond[0]]}.")

    @property
    def num_rows(self) -> int:
        """Rows of all rounds together."""
        return len(self.labels)

    @property
    def num_nan(self) -> int:
        """NaN among the non-ME, which the original's files can hold."""
        return sum(int(np.isnan(outputs.non_me).sum()) for outputs in (self.normal, self.adversarial))

    @property
    def image_index(self) -> np.ndarray:
        """Which image of the data set each row is, int [rows]; InputError for the original's files,
        which do not tell."""
        if self.per_image is None:
            raise InputError(f"expected results.npz in {self.folder}, which this version of "
                             "test_adv.py writes, to tell which images these are. Received: none.")
        return self.per_image["image_index"]

    @functools.cached_property
    def image_digests(self) -> np.ndarray:
        """Which picture each row is, in whatever file and order: the first 8 bytes of the SHA-256 of
        the normal image's grey levels, uint64 [rows]."""
        images = result_files.open_normal_images(self.folder)
        if len(images) != self.num_rows:
            raise InputError(f"expected {self.num_rows} images in nor_img.npy of {self.folder}, one a "
                             f"row of the other files. Received: {len(images)}.")
        return digests_of(images)


def digests_of(images: np.ndarray) -> np.ndarray:
    """uint64 [n] as of `AttackResults.image_digests`, of network inputs float [n, h, w, c]."""
    digests = [hashlib.sha256(image).digest()[:8]
               for start in range(0, len(images), _CHUNK_IMAGES)
               for image in from_network_input(images[start:start + _CHUNK_IMAGES])]
    return np.frombuffer(b"".join(digests), np.uint64)


def under(defense: Mapping[str, Any] | None) -> str:
    """What follows the name of a network: " under rmc sequential nearest"; "" without a defense."""
    return f" under {defense['name']} {defense['state']} {defense['neighbors']}" if defense else ""


def read_record(folder: str | os.PathLike) -> dict[str, Any] | None:
    """The run record of the results in a folder, its "name" that of the script that wrote it; None for
    the original's files.

    Raises:
      InputError: it is damaged, there are two, or a defended network answered one side alone.
    """
    found = {name: record for name in (_TRAINED, _DEFENDED)
             if (record := provenance.read(folder, name)) is not None}
    if len(found) > 1:
        # Of one of the two the files have been replaced, and nothing tells which.
        raise InputError(f"{folder} holds run records of two: move {_TRAINED}_run.json or "
                         f"{_DEFENDED}_run.json, whichever is not of the files beside it. "
                         "Received: both.")
    for name, record in found.items():
        if name == _DEFENDED:
            _check_defended(record, folder)
        return record | {"name": name}
    return None


def defense_of(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What defended the network of the results that a record of `read_record` is of; None where nothing
    did."""
    return record["metrics"]["defense"] if record["name"] == _DEFENDED else None


def _check_defended(record, folder):
    """What is said and printed of a defended network before its results are looked at."""
    defense, variant, stream = (record["metrics"].get(name)
                                for name in ("defense", "variant", "stream"))
    _refuse_wrong(folder, _DEFENDED, {
        "defense": (isinstance(defense, dict) and all(
            _is_name(defense.get(key)) for key in ("name", "state", "neighbors")), defense),
        "variant": (_is_name(variant), variant),
        "stream": (isinstance(stream, str) and stream in (_WHOLE, *_HALVES), stream)})
    if stream != _WHOLE:
        raise InputError(f"{folder} holds {_HALVES[stream]} (--rmc_stream={stream}): detect.py needs "
                         f"both. Received: rmc_stream={stream!r}.")


def _is_name(value):
    # It becomes part of file names.
    return isinstance(value, str) and re.fullmatch(r"[\w+]+", value) is not None


def load(network: str, folder: str | os.PathLike, num_per_eps: int = 0) -> AttackResults:
    """Reads and checks the results of an attack, the original's included.

    Args:
      network: tag of the attacked network, or its head where training was plain.
      folder: of the result files.
      num_per_eps: rows per round; 0: what the run record says, without one ten equal rounds.

    Raises:
      InputError: as `read_record` and `result_files.load_attack_results`; or num_per_eps does not
        divide the rows.
    """
    folder = Path(folder)
    # First: half of what is judged comes without the files that are read next.
    record = read_record(folder)
    arrays = result_files.load_attack_results(folder)
    metrics = record["metrics"] if record else {}
    if record:
        _check_record(record, folder)
        sweep = metrics["eps"], num_per_eps or metrics["num_per_eps"]
    else:
        sweep = _original_sweep(folder, len(arrays["labels_true"]), num_per_eps)
    cost = record["flags"].get("attack_cost", USUAL_COST) if record else USUAL_COST
    normal, adversarial = (Outputs(arrays[f"confidence_{side}"], arrays[f"entropy_{side}"],
                                   arrays[f"logits_{side}"], arrays[f"labels_{side}"])
                           for side in ("nor", "adv"))
    found = AttackResults(tag_of_network(network), folder, normal, adversarial, arrays["labels_true"],
                          *sweep, metrics.get("network"), cost, record and defense_of(record))
    found.check_classes((found.network or {}).get("num_classes", np.inf))
    return found


def _check_record(record, folder):
    """Half a record is not none: what it lacks would be taken for the original's."""
    metrics, cost = record["metrics"], record["flags"].get("attack_cost", USUAL_COST)
    eps, num, network = (metrics.get(name) for name in ("eps", "num_per_eps", "network"))
    # Earlier versions of test_adv.py told none; of rmc.py there are none.
    untold = network is None and record["name"] == _TRAINED
    _refuse_wrong(folder, record["name"], {
        "eps": (isinstance(eps, list) and eps and all(
            value is None or (_is_number(value) and 0 < value <= 1) for value in eps), eps),
        "num_per_eps": (isinstance(num, int) and not isinstance(num, bool) and num > 0, num),
        "network": (untold or (isinstance(network, dict) and _is_network(network)), network),
        "attack_cost": (isinstance(cost, str), cost)})


def _refuse_wrong(folder, script, told):
    """An InputError at the first name → (whether it is good, value) that is not good."""
    wrong = next((name for name, (good, _) in told.items() if not good), None)
    if wrong:
        raise InputError(f"expected {wrong} of an attack in {Path(folder) / f'{script}_run.json'}, as "
                         f"this version of {script}.py writes it. "
                         f"Received: {wrong}={str(told[wrong][1])[:80]}.")


def _is_network(network):
    """Little may be told of a network, as by earlier versions, but nothing of another type."""
    classes = network.get("num_classes", 2)
    texts = (network.get(key) for key in (*provenance.DIGESTS, "dataset", "objective"))
    return (isinstance(classes, int) and not isinstance(classes, bool) and classes >= 2
            and all(text is None or isinstance(text, str) for text in texts))


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _original_sweep(folder, num_rows, num_per_eps):
    num_rounds = num_rows // num_per_eps if num_per_eps else _ORIGINAL_ROUNDS
    if num_rounds == 0 or num_rows % num_rounds or (num_per_eps and num_rows % num_per_eps):
        raise InputError(f"num_per_eps must divide the {num_rows} rows in {folder}; where there is "
                         f"no test_adv_run.json, 0 means {_ORIGINAL_ROUNDS} equal rounds. "
                         f"Received: num_per_eps={num_per_eps}.")
    eps_values = [round(ORIGINAL_EPS_STEP * k, 10) for k in range(1, num_rounds + 1)]
    return eps_values, num_rows // num_rounds


def is_unfinished(folder: str | os.PathLike) -> bool:
    """Whether an attack has left parts in a folder, and no results yet."""
    has_results = (Path(folder) / RESULT_TEXTS[0]).is_file()
    return (Path(folder) / attack_parts.FOLDER).is_dir() and not has_results


def refuse_others(folder: str | os.PathLike, network: Mapping[str, Any], *,
                  goes_on: bool = False) -> None:
    """Raises an InputError when the finished results in a folder are of another network.

    Args:
      folder: of an attack's result files.
      network: as `networks.network.Network.identity` tells it.
      goes_on: whether parts of this very attack are there, as of one killed between its results and
        their record.
    """
    if provenance.read(folder, _DEFENDED):
        raise InputError(f"{folder} holds what came of a defended network: give another --save_pwd. "
                         f"Received: {_DEFENDED}_run.json.")
    record = provenance.read(folder, _TRAINED)
    taken = next((name for name in (*result_files.WRITTEN, IMAGE_GRID)
                  if os.path.lexists(Path(folder) / name)), None)
    if taken and record is None and not goes_on:
        raise InputError(
            f"{folder} holds files of an attack's results without test_adv_run.json, which are not of "
            "this version and may be the only ones: give --overwrite=True to replace them, or another "
            f"--save_pwd. Received: {taken}.")
    found = record and record["metrics"].get("network")
    digest = found and provenance.digest_that_differs(found, network)
    if digest and (Path(folder) / RESULT_TEXTS[0]).is_file():
        raise InputError(
            f"{folder} holds the results of another network, with {provenance.DIGESTS[digest]} of "
            f"SHA-256 {provenance.shown(found, digest)}: give --overwrite=True to replace them, or "
            f"another --save_pwd. Received: a network with {provenance.shown(network, digest)}.")

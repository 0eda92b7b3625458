"""What learned data-generation networks leave on disk, each with the digest of its target.

In `<dgn_dir>/<data set>_<model>_<tag>/`: `relevance.npz` and `suspicion.npz`; `<loss>/class_<c>/`, a
generator's checkpoint, its identity and the mean loss of its epochs; `<loss>/adv_<split>.npz`, also of
an attack in place of a loss; `robust/<source>_<type>/`, a hardened network; `grid.*`.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from errors import InputError, first_line
from files import atomic, provenance
from files.arrays import read_arrays
from files.tf_paths import literal_folder

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_IDENTITY, _LOSSES = "generator.json", "training.csv"
_ROBUST, _HARDENED = "robust", "hardened.json"
_INDEX = re.compile(r"model\.ckpt-\d{1,12}\.index")
# Of tempfile, in `atomic.atomic_folder`.
_UNFINISHED = re.compile(r"\.tmp-[a-z0-9_]{8}")
# Under the arrays of a file: JSON of whose they are.
_OF_WHAT = "identity"


def target_dir(dgn_dir: str | os.PathLike, dataset: str, model: str, tag: str) -> Path:
    """Folder of all that belongs to a target."""
    return Path(dgn_dir) / f"{dataset}_{model}_{tag}"


@dataclasses.dataclass(frozen=True)
class GeneratorFolder:
    """Where the generator of one class lies.

    Attributes:
      path: the folder.
      identity: what decides its weights, JSON values, "weights_sha256" of the target among them.
    """

    path: Path
    identity: Mapping[str, Any]

    def check(self) -> None:
        """Raises an InputError when a generator that was made otherwise lies there."""
        _refuse_another(self.path, "a generator", self._identity(), self.identity)

    def _identity(self):
        return _read_json(self.path / _IDENTITY)

    def restore(self, variables: Mapping[str, list["tf.Variable"]]) -> list[float]:
        """Reads what was saved into the variables, where there is something: mean losses of the epochs
        so far."""
        self.check()
        path = self.checkpoint
        if path is None:
            return []
        import tensorflow as tf

        checkpoint = tf.train.Checkpoint(**variables)
        with self._reading() as literal:
            checkpoint.read(f"{literal}/{path}").assert_consumed()
        return self.losses()

    def losses(self) -> list[float]:
        """Mean loss of each epoch that the newest checkpoint has seen."""
        with self._reading():
            rows = np.loadtxt(self.path / _LOSSES, delimiter=",", skiprows=1, ndmin=2)
            # A kill may have come between the losses and the checkpoint.
            return rows[rows[:, 1] <= self.step, 2].tolist()

    @contextlib.contextmanager
    def _reading(self):
        """Yields the folder as TensorFlow takes it; what is damaged in it becomes an InputError."""
        try:
            with literal_folder(self.path) as literal:
                yield literal
        # TensorFlow and NumPy raise whatever they have for a damaged file.
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"expected a whole generator in {self.path}: remove the folder to train "
                             f"it anew. Received: {first_line(error)}.") from None

    def save(self, variables: Mapping[str, list["tf.Variable"]], step: int,
             losses: Sequence[float]) -> None:
        """Saves the variables after so many steps and the mean loss of each epoch; what was there
        goes."""
        import tensorflow as tf

        self.path.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(self.path)
        if self._identity() is None:
            atomic.write_json(self.path / _IDENTITY, self.identity)
        per_epoch = step // len(losses)
        atomic.write_csv(self.path / _LOSSES, ("epoch", "step", "loss"), (
            (number, number * per_epoch, loss) for number, loss in enumerate(losses, 1)))
        checkpoint = tf.train.Checkpoint(**variables)
        before = self._checkpoints()
        with atomic.atomic_folder(self.path) as temporary, literal_folder(temporary) as literal:
            checkpoint.write(f"{literal}/model.ckpt-{step}")
        for old in before:
            if old != self.path / f"model.ckpt-{step}.index":
                # The index last: with it the next run finds what a kill leaves.
                for file in sorted(path for path in self.path.iterdir()
                                   if path.name.startswith(f"{old.stem}.")):
                    file.unlink()

    def read_generator(self, model: "keras.Model") -> list[np.ndarray]:
        """The weights of the generator that is there, as `model.set_weights` takes them."""
        import tensorflow as tf

        with self._reading() as literal:
            reader = tf.train.load_checkpoint(f"{literal}/{self.checkpoint}")
            return [reader.get_tensor(f"generator/{number}/.ATTRIBUTES/VARIABLE_VALUE")
                    for number in range(len(model.weights))]

    def _checkpoints(self):
        files = self.path.iterdir() if self.path.is_dir() else ()
        found = [path for path in files if _INDEX.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))

    @property
    def checkpoint(self) -> str | None:
        """Name of the newest checkpoint in the folder; None without one."""
        found = self._checkpoints()
        return found[-1].stem if found else None

    @property
    def step(self) -> int:
        """Steps of the newest checkpoint; 0 without one."""
        return int(self.checkpoint.rpartition("-")[2]) if self.checkpoint else 0

    @property
    def is_finished(self) -> bool:
        """Whether a generator is there that has had all its steps."""
        return self.step == self.identity.get("total_steps")


def _refuse_another(path, what, found, identity):
    """An InputError where what `found` tells of is not what the identity does; None: nothing is."""
    wanted = json.loads(json.dumps(identity))
    name = found and next((key for key in {**found, **wanted} if found.get(key) != wanted.get(key)),
                          None)
    if name:
        raise InputError(
            f"{path} holds {what} with {name}={str(found.get(name))[:20]}: give another --dgn_dir, or "
            f"remove it. Received: {name}={str(wanted.get(name))[:20]}.")


def _remove_unfinished(folder):
    """What killed runs have left of `atomic.atomic_folder`; the lock of the folder is held."""
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path)


def _read_json(path):
    if not path.is_file():
        return None
    found = atomic.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("total_steps"), int) or not all(
            isinstance(found.get(key, ""), str) for key in provenance.DIGESTS):
        raise InputError(f"expected what a generator was made of in {path}. Received: something else.")
    return found


def claim_robust(folder: str | os.PathLike, identity: Mapping[str, Any]) -> None:
    """Writes what a hardened network is made of, before it is; an InputError where another lies."""
    path = Path(folder) / _HARDENED
    found = atomic.read_json(path) if path.is_file() else None
    if found is not None and not isinstance(found, dict):
        raise InputError(f"expected what a network was hardened with in {path}. "
                         "Received: something else.")
    _refuse_another(folder, "a network", found, identity)
    if found is None:
        atomic.write_json(path, identity)


def robust_dir(folder: str | os.PathLike, source: str, kind: str) -> Path:
    """Folder of a network that was hardened with the images of a source."""
    return Path(folder) / _ROBUST / f"{source}_{kind}"


def find_robust(folder: str | os.PathLike, network: Mapping[str, Any], warn: Callable[[str], None]
                ) -> dict[str, tuple[Path, str]]:
    """The hardened networks of a target: name → folder, and the source of its images.

    Args:
      folder: of the target.
      network: the target, as `Network.digests` tells it.
      warn: told of those whose training is not finished, which are left out.

    Raises:
      InputError: one was hardened for another target.
    """
    found = {}
    for path in sorted((Path(folder) / _ROBUST).glob(f"*/{_HARDENED}")):
        identity = atomic.read_json(path)
        source, steps = (identity.get(name) if isinstance(identity, dict) else None
                         for name in ("source", "total_steps"))
        if not isinstance(source, str) or not isinstance(steps, int):
            raise InputError(f"expected what a network was hardened with in {path}. "
                             "Received: something else.")
        check_network(path.parent, identity, network)
        if (path.parent / f"model.ckpt-{steps}.index").is_file():
            found[path.parent.name] = path.parent, source
        else:
            warn(f"{path.parent} is left out: its training is not finished.")
    return found


def adversarial_path(folder: str | os.PathLike, source: str, split: str) -> Path:
    """File of what a source, a custom loss or an attack, has made of a split."""
    return Path(folder) / source / f"adv_{split}.npz"


def generator_dir(folder: str | os.PathLike, loss: str, label: int) -> Path:
    """Folder of the generator of a class."""
    return Path(folder) / loss / f"class_{label}"


def find_generators(folder: str | os.PathLike, loss: str, network: Mapping[str, Any],
                    classes: Sequence[int]) -> dict[int, GeneratorFolder]:
    """The finished generators of some classes.

    Raises:
      InputError: some are missing, not finished, or of another target.
    """
    found = dict(zip(classes, _generators(folder, loss, classes), strict=True))
    for one in found.values():
        if one.identity:
            check_network(one.path, one.identity, network)
    missing = [str(label) for label, one in found.items() if not one.is_finished]
    if missing:
        told = (f"{classes[0]} to {classes[-1]}" if len(classes) == classes[-1] - classes[0] + 1
                else ", ".join(map(str, classes)))
        raise InputError(
            f"expected generators of classes {told} in {Path(folder) / loss}, and those of "
            f"{', '.join(missing)} are missing; dgn.py --mode=train --custom_loss={loss} "
            f"--classes={','.join(missing)} makes them. "
            f"Received: {len(found) - len(missing)} generators.")
    return found


def has_generators(folder: str | os.PathLike, loss: str, num_classes: int,
                   warn: Callable[[str], None]) -> bool:
    """Whether there are finished generators of all classes; `warn` is told of some that are not."""
    found = _generators(folder, loss, range(num_classes))
    finished = sum(one.is_finished for one in found)
    if finished < num_classes and any(one.path.is_dir() for one in found):
        warn(f"{Path(folder) / loss} is left out where generators of all classes are needed: "
             f"{finished} of {num_classes} are finished.")
    return finished == num_classes


def _generators(folder, loss, classes):
    """The folders of generators, whatever is in them."""
    paths = [generator_dir(folder, loss, label) for label in classes]
    return [GeneratorFolder(path, _read_json(path / _IDENTITY) or {}) for path in paths]


def check_network(path: str | os.PathLike, identity: Mapping[str, Any],
                  network: Mapping[str, Any]) -> None:
    """Raises an InputError unless what lies at `path` was made for this network."""
    digest = provenance.digest_that_differs(identity, network)
    if digest:
        raise InputError(f"{path} was made for another network: expected {digest}="
                         f"{provenance.shown(network, digest)}. "
                         f"Received: {provenance.shown(identity, digest)}.")


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray],
                identity: Mapping[str, Any]) -> None:
    """Writes arrays as .npz with what they are of; an InputError where the file is there and of
    something else than `save_arrays` wrote."""
    if Path(path).is_file() and _OF_WHAT not in read_arrays(Path(path)):
        raise InputError(f"expected no other file at {path}: move it. Received: one.")
    with atomic.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, **{_OF_WHAT: np.array(json.dumps(identity))})


def load_arrays(path: str | os.PathLike, network: Mapping[str, Any], made_by: str
                ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `save_arrays` wrote, and what it is of.

    Args:
      path: of the file.
      network: its target, as `Network.digests` tells it.
      made_by: flags of dgn.py that make it.

    Raises:
      InputError: there is none, or one of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"dgn_dir has no {path.name} of this network; dgn.py {made_by} makes it. "
                         f"Received: {path}.")
    arrays = read_arrays(path)
    try:
        identity = json.loads(str(arrays.pop(_OF_WHAT)))
    except (KeyError, ValueError, RecursionError):
        identity = None
    if not isinstance(identity, dict):
        raise InputError(f"expected what the arrays of {path} are of. Received: none.")
    check_network(path, identity, network)
    return arrays, identity

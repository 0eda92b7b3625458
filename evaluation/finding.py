"""Which results and detectors lie on disk, and whether they are of one network."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from defenses import detector as detectors
from errors import InputError
from evaluation.rounds import Round, check_rounds, rounds_of
from files import attack_results, provenance
from files import detectors as detector_files
from files.attack_results import AttackResults
from files.names import (
    OBJECTIVE_OF_TAG,
    PLAIN,
    kernel_dir,
    results_dir,
    tag_of,
    tag_of_network,
)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which results are asked for.

    Attributes:
      dataset: name of the data set.
      attack: name of the attack in `save_pwd`.
      attacks: names of all attacks, in the order of tables.
      tag: of the networks, see `tags`.
      save_pwd: the only folder; None: those where test_adv.py writes.
      num_per_eps: rows per round; 0: what the run record says.
      warn: is told what is left out or odd, in a sentence.
      every: whether attacks count that were told to do something, in folders of their own, too.
      defended: whether the networks are to be defended ones, of rmc.py, or to be none; None: either.
    """

    dataset: str
    attack: str
    attacks: Sequence[str]
    tag: str = ""
    save_pwd: str | None = None
    num_per_eps: int = 0
    warn: Callable[[str], None] = lambda sentence: None
    every: bool = False
    defended: bool | None = False


@contextlib.contextmanager
def naming(where: str | os.PathLike) -> Iterator[None]:
    """Puts the place at fault before the sentence of an InputError."""
    try:
        yield
    except InputError as error:
        # From None: the new sentence holds the old one.
        raise InputError(f"{where}: {error}") from None


def tags(tag: str) -> tuple[str, ...]:
    """The tag alone; of "" those of both heads after plain training."""
    return (tag,) if tag else tuple(OBJECTIVE_OF_TAG)


def find(attack: str, dataset: str, tag: str = "",
         save_pwd: str | os.PathLike | None = None) -> dict[str, Path]:
    """Where the results of an attack lie: tag → folder.

    Args:
      attack: name of the attack.
      dataset: name of the data set.
      tag: as of `tags`.
      save_pwd: the only folder, where test_adv.py was told one.

    Raises:
      InputError: there are none, or nothing tells which network those in `save_pwd` are of.
    """
    if save_pwd:
        save_pwd = Path(save_pwd)
        return {tag or _recorded_tag(save_pwd): save_pwd}
    folders = {name: results_dir(attack, dataset, name) for name in tags(tag)}
    found = {name: folder for name, folder in folders.items() if folder.is_dir()}
    if not found:
        raise InputError(
            f"expected result files in {' or '.join(map(str, folders.values()))}, which `python "
            f"test_adv.py --mode=attack --attack_method={attack} --dataset={dataset} "
            "--log_root=... --RCE_train=...` writes. Received: no such folder.")
    return found


def _recorded_tag(folder):
    record = attack_results.read_record(folder)
    if record is None or "RCE_train" not in record["flags"]:
        raise InputError("objective_tag must be RCE or CE where no test_adv_run.json tells whose "
                         f"files they are: save_pwd={str(folder)!r}. Received: objective_tag=''.")
    # Records of older versions name no network: theirs was trained plainly.
    network = record["metrics"].get("network")
    # What is damaged is told when the results are loaded.
    network = network if isinstance(network, dict) else {}
    head = "rce" if record["flags"]["RCE_train"] else "ce"
    return tag_of(head, network.get("training_objective", PLAIN))


def load(tag: str, folder: Path, wanted: Wanted) -> AttackResults:
    """The results of an attack in a folder; tells how many NaN they hold. InputError also where the
    network is defended and must not be, or the other way."""
    results = attack_results.load(tag, folder, wanted.num_per_eps)
    check_defended(folder, results.defense, wanted.defended)
    if results.num_nan:
        wanted.warn(f"{results.num_nan} NaN in entropy_nor and entropy_adv of {folder} count as the "
                    "highest non-ME, as in the original.")
    return results


def finished(wanted: Wanted, tag: str, work: Path | None = None) -> list[tuple[str, Path]]:
    """Attack and folder of the results there are of a network; tells which attacks are unfinished.

    Args:
      wanted: which are asked for.
      tag: of the network.
      work: where the folders lie; None: here, or where `wanted` says.
    """
    if wanted.save_pwd and work is None:
        found = find(wanted.attack, wanted.dataset, wanted.tag, wanted.save_pwd)
        return [(wanted.attack, found[tag])] if tag in found else []
    there = []
    told = _variants(wanted, tag, work or Path()) if wanted.every else []
    for attack in (*wanted.attacks, *told):
        folder = (work or Path()) / results_dir(attack, wanted.dataset, tag)
        # Loading it would fail as a damaged folder does, and with it the attacks that are finished.
        if attack_results.is_unfinished(folder):
            wanted.warn(f"{folder} is left out: its attack is unfinished; the same command of "
                        "test_adv.py goes on with it.")
        elif folder.is_dir():
            there.append((attack, folder))
    return there


def _variants(wanted, tag, work):
    """Attacks that were told what to aim at, or made on another network, by the folders of their
    results."""
    end = f"_{wanted.dataset}"
    found = sorted(path.parent.parent.name for path in work.glob(f"*{end}/{tag}/test_adv_run.json"))
    names = [name.removesuffix(end) for name in found]
    return [name for name in names if name not in wanted.attacks and any(
        name.startswith(f"{attack}_") for attack in wanted.attacks)]


def judged(wanted: Wanted, tag: str, detector: detectors.Detector, work: Path | None = None
           ) -> Iterator[tuple[str, AttackResults, list[Round]]]:
    """The results there are of a network, as `finished` finds them, scored by its detector.

    Yields:
      Attack, results, and its rounds without the images that the detector was fitted on.

    Raises:
      InputError: results of another network, or of no other images.
    """
    for attack, folder in finished(wanted, tag, work):
        results = load(tag, folder, wanted)
        require_network(results.network, folder / "test_adv_run.json")
        check_same_network("results", folder, results.defended_network, detector.network,
                           "the detector")
        with naming(folder):
            # By their pixels: a place in a file says nothing once the file comes in another order.
            if np.isin(results.image_digests, detector.fitted_images).all():
                raise InputError("expected images that the detector was not fitted on. Received: none.")
            check_rounds(results)
            rounds = rounds_of(attack, results, detector.score_names, detector.reference,
                               image=results.image_digests)
        yield attack, results, [r.where(~np.isin(r.image, detector.fitted_images)) for r in rounds]


def fitted_detectors(tag: str, kernel_folder: Path, given: str = "") -> dict[str, detectors.Detector]:
    """Tag → the detector of a network.

    Args:
      tag: as of `tags`: those that there are, but one that is asked for must be there.
      kernel_folder: where `detect.py --mode=fit` leaves them.
      given: the only file to look at.

    Raises:
      InputError: there is none, or the one given is of another tag.
    """
    paths = [Path(given)] if given else [
        path for name in tags(tag)
        # One that is asked for is taken even unseen: loading it names the missing file.
        if (path := detector_files.default_path(kernel_folder, name)).is_file() or tag]
    if not paths:
        raise InputError(f"expected detector_RCE.npz or detector_CE.npz in {kernel_folder}, which "
                         "`python detect.py --mode=fit` writes. Received: no such file.")
    found = [detectors.load(path) for path in paths]
    fitted = {tag_of(detector.network["objective"], detector.network.get("training_objective", PLAIN)):
              detector for detector in found}
    if tag and tag not in fitted:
        raise InputError(f"objective_tag must be that of the detector, {paths[0]}. "
                         f"Received: objective_tag={tag!r}.")
    return fitted


def beside(wanted: Wanted, work: Path) -> dict[str, dict[str, list[Round]]]:
    """Name of another network → attack → its rounds in order of eps.

    Args:
      wanted: which attacks.
      work: the folder in which it was attacked and its detector fitted.

    Raises:
      InputError: there is none.
    """
    found = {}
    for tag in tags(""):
        path = detector_files.default_path(work / kernel_dir(wanted.dataset), tag)
        if path.is_file():
            detector = detectors.load(path)
            found[f"{tag} of {work.name}"] = {
                attack: sorted(rounds, key=lambda r: r.eps or 0)
                for attack, _, rounds in judged(wanted, tag, detector, work)}
    if not any(found.values()):
        raise InputError("beside must be a folder with results of test_adv.py and a detector of "
                         f"detect.py for {wanted.dataset}. Received: beside={str(work)!r}.")
    return found


def no_results(dataset: str, names: Iterable[str]) -> InputError:
    """The error that says where results of the networks of these tags would lie."""
    return InputError(f"expected result files of test_adv.py in <attack>_{dataset}/"
                      f"{' or '.join(names)}. Received: none.")


# --- Whose they are ---

def features_network(kernel_folder: str | os.PathLike, network: str) -> Mapping[str, Any] | None:
    """Which network the training features in a folder are of; None where no run record tells.
    `network` is a tag or a head."""
    record = provenance.read(kernel_folder, f"kernel_para_{tag_of_network(network)}")
    return record and record["metrics"].get("network")


def check_features(results: AttackResults,
                   kernel_folder: str | os.PathLike) -> Mapping[str, Any] | None:
    """The network of the training features in a folder, as `features_network`; an InputError when it is
    known to be another than that of the results."""
    network = features_network(kernel_folder, results.tag)
    check_network(results, network, f"the training features in {kernel_folder}")
    return network


def check_defended(folder: str | os.PathLike, defense: Mapping[str, Any] | None,
                   defended: bool | None) -> None:
    """Raises an InputError where the results in a folder are of a defended network and are to be of
    none, or the other way.

    Args:
      folder: of the results.
      defense: of their network.
      defended: as of `Wanted`.
    """
    if defended is None or bool(defense) == defended:
        return
    if defense:
        raise InputError(f"{folder} holds the results of a network{attack_results.under(defense)}, "
                         "which is no longer the one that was trained: give --defended=True to judge "
                         "it. Received: defended=False.")
    raise InputError(f"{folder} holds the results of a network as it was trained: --defended=True "
                     "takes those of rmc.py alone, from the folder of --save_pwd. "
                     "Received: defended=True.")


def check_one_kind(found: Sequence[AttackResults]) -> None:
    """Raises an InputError when some of these results are of defended networks and others are not."""
    kinds = {bool(results.defense): results for results in found}
    if len(kinds) > 1:
        raise InputError("expected results of defended networks or of others, not side by side "
                         f"{kinds[True].label} in {kinds[True].folder} and {kinds[False].label} in "
                         f"{kinds[False].folder}: give --objective_tag. Received: both.")


def check_trained(path: str | os.PathLike, detector: detectors.Detector) -> None:
    """Raises an InputError when the detector in a file is of a defended network: the network that would
    answer for new images is the one as it was trained."""
    defense = detector.network.get("defense")
    if defense:
        raise InputError(f"expected a detector of a network as it was trained at {path}, as that one "
                         "answers for new images. "
                         f"Received: one of a network{attack_results.under(defense)}.")


def check_network(results: AttackResults, network: Mapping[str, Any] | None, whose: str) -> None:
    """Raises an InputError when both networks are known, and the results are of another.

    Args:
      results: of an attack.
      network: the other network; None where nothing tells.
      whose: what that is the network of, for the message.
    """
    check_same_network("results", results.folder, results.network, network, whose)


def check_same_network(what: str, folder: str | os.PathLike, found: Mapping[str, Any] | None,
                       wanted: Mapping[str, Any] | None, whose: str) -> None:
    """Raises an InputError when both networks are known, and are two.

    Args:
      what: what lies in the folder, for the message.
      folder: where.
      found: its network; None where nothing tells.
      wanted: the other network; None where nothing tells.
      whose: what that is the network of, for the message.
    """
    # The original's files tell no network: they are taken at the user's word.
    digest = found and wanted and provenance.digest_that_differs(found, wanted)
    if digest:
        raise InputError(f"expected {what} in {folder} of the network of {whose}, with "
                         f"{provenance.DIGESTS[digest]} of SHA-256 {provenance.shown(wanted, digest)}. "
                         f"Received: {what} of {provenance.shown(found, digest)}.")
    if found and wanted:
        _check_same_defense(what, folder, found.get("defense"), wanted.get("defense"), whose)


def _check_same_defense(what, folder, found, wanted, whose):
    """A network that adapts is another one than as it was trained, or as it adapts otherwise."""
    if found == wanted:
        return
    words = [attack_results.under(defense).strip() or "as it was trained"
             for defense in (wanted, found)]
    if found and wanted:
        # Names alone may be the same.
        key = next(key for key in {**wanted, **found} if wanted.get(key) != found.get(key))
        words = [f"{told} with {key}={str(defense.get(key))[:20]}"
                 for told, defense in zip(words, (wanted, found), strict=True)]
    raise InputError(f"expected {what} in {folder} of the network of {whose}, {words[0]}. "
                     f"Received: {what} of it {words[1]}.")


def require_network(network: Mapping[str, Any] | None, path: str | os.PathLike) -> None:
    """Raises an InputError when the run record at `path` names no network."""
    if not network:
        raise InputError(f"expected a run record that names the network at {path}, which this version "
                         "of test_adv.py and others.py writes. Received: none.")

"""Flags of detect.py, which reads files only, and the plain values they become."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flags

from absl import flags as absl_flags

from attacks import ATTACKS
from data import DATASETS
from defenses import SCORES
from defenses.kernels import ATTACK_KERNELS
from errors import InputError
from evaluation import finding
from evaluation.finding import Wanted
from evaluation.fitting import Draw, Fit
from files import attack_results, judgements, paths
from files import detectors as detector_files
from files.names import OBJECTIVE_OF_TAG, attack_dir, is_tag, kernel_dir
from networks import title_of
from options import network as network_options


def define() -> None:
    """All flags of detect.py, which reads files only."""
    absl_flags.DEFINE_string("dataset", "", f"Data set: {', '.join(DATASETS)}.")
    flags.define_mode(
        "auc", "auc, select_kernel, select_kernel_for_attack, median_for_attack, fit, evaluate, "
        "figures or apply")
    flags.define_attack()
    absl_flags.DEFINE_integer(
        "num_kernels", 1000,
        "Training features per class kept as kernels; of select_kernel_for_attack 100 if not given.")
    absl_flags.DEFINE_integer("eps_round", 0, "Round of the eps sweep, from 1. 0: all.")
    absl_flags.DEFINE_integer("num_per_eps", 0, "Images per eps. 0: as the run record says.")
    absl_flags.DEFINE_bool(
        "matlab_ties", False,
        "auc and evaluate count equal scores against detection, as the original's AUC.m.")
    flags.define_kernel_dir()
    absl_flags.DEFINE_string(
        "objective_tag", "", "RCE or CE; of another training objective with it, as RCE_at50. "
        "Empty: RCE and CE, where they exist.")
    define_detector()
    absl_flags.DEFINE_bool(
        "defended", False, "Takes the results of a network that rmc.py defends, in --save_pwd, for "
        "those of a network of its own; auc then tells all their scores.")
    flags.define_seed()


def define_detector() -> None:
    """Flags of detect.py's modes fit, evaluate, figures and apply."""
    flags.define_path(
        "detector", "", "The detector.npz. Empty: <kernel_dir>/detector_<RCE or CE>.npz.", paths.FILE)
    absl_flags.DEFINE_list(
        "false_refusal_rate", ["0.01", "0.05"],
        "Shares of normal images that fit lets the detector refuse; apply takes the first.")
    absl_flags.DEFINE_float("eta", 1.0, "eta of the kernel non-ME and so of the J-score.")
    absl_flags.DEFINE_float(
        "holdout_share", 0.5, "Share of an attack's normal images that fit takes; evaluate the rest.")
    absl_flags.DEFINE_string(
        "score", "k_density", f"Score by which apply decides: {', '.join(SCORES)}.")
    flags.define_path(
        "beside", "", "Folder in which another network was attacked and its detector fitted: figures "
        "draws its answers and refusals against T beside ours (figure 7 of arXiv v1).")
    absl_flags.DEFINE_list(
        "tsne_attack", [], "Attacks, or all, of whose features figures draws a t-SNE. It takes "
        "5 to 30 seconds per objective. Empty: none.")
    flags.define_path("images", "", "Images for apply: a .npy file or a folder of PNG files.",
                      paths.EITHER)
    flags.define_path("log_root", "", "Network for apply. Empty: where the detector lies.")
    flags.define_path(
        "model", "", "Network for apply, a file of Keras. Empty: <its name>.keras where the detector "
        "lies, of a detector of one.", paths.EITHER)
    network_options.define_trust_model()
    flags.define_path("answers", "answers.csv", "File that apply writes.", paths.FILE)
    flags.define_path(
        "output_dir", "", "Folder that evaluate and figures write. Empty: detection_<dataset>.")


# Modes that read a detector, which says for which data set it is.
_OF_A_DETECTOR = ("evaluate", "figures", "apply")


def dataset(mode: str) -> str:
    """--dataset, or what the detector of a mode that reads one is for."""
    F = flags.FLAGS
    if F.detector and not F.dataset and mode in _OF_A_DETECTOR:
        return detector_files.load(F.detector)["network"]["dataset"]
    return flags.check_choice("dataset", DATASETS)


def objective_tag() -> str:
    """--objective_tag, a tag or ""."""
    # Tags with a training objective cannot be listed: they are recognised by their form.
    tag = flags.FLAGS.objective_tag
    return tag if is_tag(tag) else flags.check_choice("objective_tag", ("", *OBJECTIVE_OF_TAG))


def kernel_folder(of_dataset: str) -> Path:
    """Folder of training features, kernels and fitted detectors."""
    return Path(flags.FLAGS.kernel_dir or kernel_dir(of_dataset))


def auc_folder(of_dataset: str) -> Path:
    """Folder of the AUCs of --attack_method."""
    return Path(flags.FLAGS.save_pwd or attack_dir(flags.FLAGS.attack_method, of_dataset))


def output_folder(of_dataset: str) -> Path:
    """Folder that evaluate and figures write."""
    return Path(flags.FLAGS.output_dir or f"detection_{of_dataset}")


def detector_path(folder: Path, tag: str) -> Path:
    """--detector, or where fit leaves that of a network."""
    return Path(flags.FLAGS.detector or detector_files.default_path(folder, tag))


def check_new_detector(folder: Path) -> None:
    """Raises an InputError where fit could not write --detector, or would replace another file."""
    given = flags.FLAGS.detector
    paths.require_folder(Path(given).parent if given else folder)
    for path in [Path(given)] if given else [
            detector_files.default_path(folder, tag) for tag in OBJECTIVE_OF_TAG]:
        if path.exists():
            # Whatever else it is, it may be the only copy.
            detector_files.load(path)


def check_answers() -> None:
    """Raises an InputError where apply could not write --answers, or would replace another file."""
    answers = flags.require("answers")
    paths.require_folder(Path(answers).parent, "answers")
    judgements.refuse_others(answers)


def wanted(of_dataset: str, *, all_attacks: bool = False, variants: bool = False,
           either: bool = False) -> Wanted:
    """The results that are asked for.

    Args:
      of_dataset: name of the data set.
      all_attacks: whether those of every attack are where --attack_method is not given.
      variants: with them those in folders of their own, too.
      either: whether those of defended networks are welcome without --defended, too.

    Raises:
      InputError: those in --save_pwd are damaged, or of a defended network and not to be, or the other
        way.
    """
    F = flags.FLAGS
    # The default, fgsm, is the choice of auc and fit; those that judge take it for no choice.
    is_chosen = F["attack_method"].present
    every, attack, defended = all_attacks and not is_chosen, F.attack_method, F.defended
    if either and not defended:
        defended = None
    record = attack_results.read_record(F.save_pwd) if F.save_pwd else None
    if record:
        # Here, before anything else is read, or missing.
        defense = attack_results.defense_of(record)
        finding.check_defended(F.save_pwd, defense, defended)
        # The usual fgsm is what rmc.py never runs of its own.
        attack = record["metrics"]["variant"] if defense and not is_chosen else attack
    return Wanted(of_dataset, attack, tuple(ATTACKS) if every else (attack,), F.objective_tag,
                  F.save_pwd, flags.check_at_least("num_per_eps", 0), flags.warn, every and variants,
                  defended)


def require_own(name: str) -> None:
    """Raises an InputError where --defended=True is given without the flag `name` of what is written:
    where that is empty lies what belongs to the network as it was trained."""
    F = flags.FLAGS
    if F.defended and not F[name].value:
        raise InputError(f"{name} must be given with --defended=True, as what lies there otherwise is "
                         f"of the network as it was trained. Received: {name}=''.")


def draw(kind: str = "kernels") -> Draw:
    """How kernels of a kind of `names.KERNEL_NAMES` are drawn."""
    F = flags.FLAGS
    given = F["num_kernels"].present
    # The original has two scripts with a number each, and here one flag serves both.
    default = ATTACK_KERNELS if kind == "attack_kernels" else F.num_kernels
    return Draw(F.num_kernels if given else default, F.seed, given)


def rates() -> tuple[float, ...]:
    """--false_refusal_rate, each in [0, 1); else InputError."""
    values = flags.numbers("false_refusal_rate", float, 0.0)
    if not values or max(values) >= 1:
        raise InputError("false_refusal_rate must be numbers in [0, 1), separated by commas. "
                         f"Received: false_refusal_rate={','.join(flags.FLAGS.false_refusal_rate)!r}.")
    return values


def check_tsne(attacks: Iterable[str]) -> None:
    """Raises an InputError when --tsne_attack names another attack than these with results."""
    asked, attacks = flags.FLAGS.tsne_attack, list(attacks)
    if set(asked) - {*attacks, "all"}:
        raise InputError("tsne_attack must be all or of the attacks with results, "
                         f"{', '.join(attacks)}. Received: tsne_attack={','.join(asked)!r}.")


def network_names(of_dataset: str, networks: Iterable[Mapping[str, Any]]) -> str:
    """Data set and networks as titles call them: mnist, ResNet-32.

    Args:
      of_dataset: name of the data set.
      networks: JSON values of detectors; one of an older version names no model.
    """
    names = [title_of(network["model"], network.get("blocks_per_stage", 0))
             + attack_results.under(network.get("defense"))
             for network in networks if "model" in network]
    return ", ".join(dict.fromkeys([of_dataset, *names]))


def fit() -> Fit:
    """The numbers of a fit; InputError when one is out of range."""
    F, checked = flags.FLAGS, rates()
    if not 0 < F.holdout_share < 1:
        raise InputError("holdout_share must lie in (0, 1). "
                         f"Received: holdout_share={F.holdout_share}.")
    if not 0 < F.eta < math.inf:
        raise InputError(f"eta must be finite and above 0. Received: eta={F.eta}.")
    return Fit(checked, F.holdout_share, F.eta, F.seed)

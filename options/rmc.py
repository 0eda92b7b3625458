"""Flags of rmc.py, and the plain values they become."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import flags

from absl import flags as absl_flags

import attacks
from data import DATASETS
from defenses.rmc import CALIBRATIONS, NEIGHBORS, STATES
from defenses.rmc.neighbors import FEWEST
from errors import InputError
from evaluation.model_space import KINDS, Numbers
from networks import FEATURE_LAYERS
from options import attack as attack_options
from options import network as network_options

if TYPE_CHECKING:
    from defenses.rmc.adapter import Adapter
    from defenses.rmc.defender import Settings
    from evaluation.augmenting import Variant
    from evaluation.greedy import GreedyAttack
    from networks.network import Network

MODES = "augment, merge, features, eval or table"
# The attack that is made on the network as it was trained, and those that follow the defender.
TRANSFER = "transfer"
STREAMS = ("both", "clean", "adv")
ORDERS = ("shuffled", "file", "by_class")
# Of Keras at the authors' time.
_ADAM_EPSILON = 1e-7


class Published(NamedTuple):
    """Numbers of the attack by data set: largest change of a pixel, and the length of all steps in
    units of it."""

    eps: float
    travel: float


# MNIST: 40 steps of 0.01 at 0.3. Others as Chen et al. 2022: 40 steps of 1/255 at 8/255.
_PUBLISHED = {"mnist": Published(0.3, 40 * 0.01 / 0.3)}
_PUBLISHED_ELSE = Published(8 / 255, 5.0)


def define() -> None:
    """Flags of rmc.py alone."""
    flags.define_mode("eval", MODES)
    flags.define_path("rmc_dir", "", "Folder of the augmented set. Empty: rmc_<dataset>.")
    flags.define_path("save_pwd", None, "Folder of the results of eval. None: "
                      "rmc_<attack>_<dataset>/<RCE or CE>/<state>_<neighbors>.")
    _define_augmentation()
    _define_defender()
    _define_stream()
    _define_attack()
    attack_options.define_shards()


def _define_augmentation():
    absl_flags.DEFINE_integer(
        "rmc_num_train", -1, "Training images that augment takes, the first so many of an order drawn "
        "by --seed; -1: all.")
    absl_flags.DEFINE_string(
        "rmc_augment", "10:1.6,30:2.4,100:1.6", "Blocks of the augmented set, steps of PGD and the "
        "length of all together in units of eps. The images themselves are the last block.")
    absl_flags.DEFINE_float("rmc_augment_eps", None, "Largest change of a pixel in the augmented set. "
                            "None: 0.3 for mnist, else 8/255.")
    absl_flags.DEFINE_string(
        "rmc_feature_layer", FEATURE_LAYERS[0], "What neighbours are near in: final, the features, or "
        "stage3, the pooled batch norm that opens the last stage of a ResNet.")


def _define_defender():
    absl_flags.DEFINE_integer("rmc_k", 1024, "Neighbours that the network adapts to.")
    absl_flags.DEFINE_integer("rmc_epochs", 100, "Epochs of an adaptation at most.")
    absl_flags.DEFINE_integer("rmc_patience", 5, "Epochs without a better validation loss that end it.")
    absl_flags.DEFINE_float("rmc_lr", 2.5e-5, "Learning rate of its Adam.")
    absl_flags.DEFINE_integer("rmc_batch_size", 128, "Images of a step of it.")
    absl_flags.DEFINE_string(
        "rmc_state", STATES[0], "sequential: what is learned stays; reset: it is thrown away after "
        "each image; frozen: nothing is learned.")
    absl_flags.DEFINE_string("rmc_neighbors", NEIGHBORS[0],
                             "What the network adapts to: nearest rows, or random ones.")
    absl_flags.DEFINE_string(
        "rmc_calibrate", CALIBRATIONS[0], "Rows that calibration after an answer draws from: all, "
        "clean, or none. Only a sequential defender is calibrated.")


def _define_stream():
    absl_flags.DEFINE_integer("rmc_num_eval", 100, "Images of a stream.")
    absl_flags.DEFINE_integer(
        "rmc_num_heldout", 400, "Further images on which the network of a sequential defender is "
        "looked at after the last.")
    absl_flags.DEFINE_string("rmc_stream", STREAMS[0], "Which streams: both, clean or adv.")
    absl_flags.DEFINE_string("rmc_order", ORDERS[0], "Order of the images: shuffled, file or by_class.")


def _define_attack():
    absl_flags.DEFINE_string(
        "rmc_attack", TRANSFER, "Who attacks: transfer, PGD on the network as it was trained, or who "
        f"knows the defender: {', '.join(KINDS)}.")
    absl_flags.DEFINE_string("attack_method", "pgd", "The attack of --rmc_attack=transfer; of others "
                             "than pgd --rmc_from has the images.")
    flags.define_path("rmc_from", "", "Folder of finished results of test_adv.py whose images are "
                      "the transfer attack.")
    absl_flags.DEFINE_integer("rmc_rounds", 10, "Adaptations that fpa and gmsa look at for an image.")
    absl_flags.DEFINE_float("eps", None, "Largest change of a pixel by the attack. None: 0.3 for "
                            "mnist, else 8/255; of --rmc_from what its results have.")
    absl_flags.DEFINE_integer("attack_iterations", 40, "Steps of the attack.")
    absl_flags.DEFINE_float("attack_step_size", None, "Change of a pixel per step. None: 4/3 of eps "
                            "over all steps for mnist, else 5 times eps.")
    absl_flags.DEFINE_string("target", "none", "Class that the transfer attack aims at: none or "
                             "random, a wrong one of each image.")


def check() -> None:
    """Looks at the flags before anything is loaded; InputError where one is wrong or contradicts."""
    F = flags.FLAGS
    if F.mode == "table":
        flags.check_choice("dataset", DATASETS)
        return
    if "," in F.log_root and not Path(F.log_root).is_dir():
        raise InputError(f"log_root must be one network for rmc.py. Received: log_root={F.log_root!r}.")
    if F["Optimizer"].present:
        flags.warn("--Optimizer does nothing here: adaptations take Adam.")
    flags.check_choice("rmc_feature_layer", FEATURE_LAYERS)
    _check_shards()
    if F.mode in ("augment", "merge"):
        _check_augmentation()
    if F.mode == "eval":
        _check_defender()
        _check_stream()
        _check_attack()


def _check_shards():
    attack_options.check_shards()
    if flags.FLAGS.mode == "features" and flags.FLAGS.num_shards > 1:
        raise InputError(f"features must be one run. Received: num_shards={flags.FLAGS.num_shards}.")


def _check_augmentation():
    if flags.FLAGS.rmc_num_train != -1:
        flags.check_at_least("rmc_num_train", 1, or_all=True)
    variants()
    augment_eps()


def _check_defender():
    F = flags.FLAGS
    for name in ("rmc_epochs", "rmc_patience", "rmc_batch_size"):
        flags.check_at_least(name, 1)
    flags.check_number("rmc_lr", 0.0, above=True)
    for name, allowed in (("rmc_state", STATES), ("rmc_neighbors", NEIGHBORS),
                          ("rmc_calibrate", CALIBRATIONS)):
        flags.check_choice(name, allowed)
    if F.rmc_k < FEWEST:
        raise InputError(f"rmc_k must be at least {FEWEST}, so that a fifth of it can be "
                         f"split. Received: rmc_k={F.rmc_k}.")
    if F.num_shards > 1 and F.rmc_state == "sequential":
        raise InputError("a sequential stream must be one run: --num_shards=1, or --rmc_state=reset. "
                         f"Received: num_shards={F.num_shards}.")
    if F.num_gpus > 1 or F.num_cpu_replicas > 1:
        raise InputError("eval must run on one device: a batch of an adaptation is too small to share. "
                         f"Received: num_gpus={F.num_gpus}, num_cpu_replicas={F.num_cpu_replicas}.")
    if F.rmc_state == "reset" and F["rmc_calibrate"].present:
        flags.warn("--rmc_calibrate does nothing with --rmc_state=reset, which throws its effect away.")


def _check_stream():
    flags.check_at_least("rmc_num_eval", 1)
    flags.check_at_least("rmc_num_heldout", 0)
    flags.check_choice("rmc_stream", STREAMS)
    flags.check_choice("rmc_order", ORDERS)


def _check_attack():
    F = flags.FLAGS
    flags.check_choice("rmc_attack", (TRANSFER, *KINDS))
    flags.check_choice("target", ("none", "random"))
    flags.check_at_least("attack_iterations", 1)
    flags.check_at_least("rmc_rounds", 1)
    knows = F.rmc_attack != TRANSFER
    if not attacks.get(F.attack_method).has_step_size and not F.rmc_from:
        raise InputError("rmc.py crafts pgd alone: attack with test_adv.py and give its folder as "
                         f"--rmc_from. Received: attack_method={F.attack_method!r}.")
    if knows and F.rmc_from:
        raise InputError(f"rmc_attack={F.rmc_attack} crafts its own images and takes no --rmc_from. "
                         f"Received: rmc_from={F.rmc_from!r}.")
    if knows:
        flags.refuse(f"rmc_attack={F.rmc_attack}", ("target",))
        if F.rmc_stream == "clean":
            raise InputError(f"rmc_attack={F.rmc_attack} needs the attacked stream: --rmc_stream=both "
                             f"or adv. Received: rmc_stream={F.rmc_stream!r}.")
        if F.num_shards > 1:
            raise InputError(f"rmc_attack={F.rmc_attack} must be one run: its images are answered when "
                             f"all are there. Received: num_shards={F.num_shards}.")
    else:
        flags.refuse("rmc_attack=transfer", ("rmc_rounds",))
    if F.rmc_from:
        flags.refuse("--rmc_from", ("attack_iterations", "attack_step_size", "target"))
    for name in ("eps", "attack_step_size"):
        if F[name].present:
            _check_share(name)


def _check_share(name):
    # Written so that NaN fails.
    if not 0 < flags.FLAGS[name].value <= 1:
        raise InputError(f"{name} must lie in (0, 1]. Received: {name}={flags.FLAGS[name].value}.")


def folder() -> Path:
    """Folder of the augmented set."""
    return Path(flags.FLAGS.rmc_dir or f"rmc_{flags.FLAGS.dataset}")


def variants() -> "tuple[Variant, ...]":
    """--rmc_augment."""
    return variants_of(flags.FLAGS.rmc_augment)


def variants_of(text: str) -> "tuple[Variant, ...]":
    """The variants of a text as in 10:1.6,30:2.4; InputError where it is none."""
    from evaluation.augmenting import Variant  # TensorFlow, which define() does not need

    try:
        pairs = [part.split(":") for part in text.split(",")]
        found = tuple(Variant(int(steps), float(travel)) for steps, travel in pairs)
    except ValueError:
        found = ()
    if not found or not all(
            0 < v.num_steps <= flags.LARGEST_NUMBER and 0 < v.travel <= 10 for v in found):
        raise InputError("rmc_augment must be steps:travel pairs separated by commas, steps whole and "
                         f"positive, travel in (0, 10]. Received: rmc_augment={text!r}.")
    return found


def augment_eps() -> float:
    """--rmc_augment_eps, or the data set's."""
    if flags.FLAGS.rmc_augment_eps is None:
        return _published().eps
    _check_share("rmc_augment_eps")
    return flags.FLAGS.rmc_augment_eps


def _published():
    return _PUBLISHED.get(flags.FLAGS.dataset, _PUBLISHED_ELSE)


def numbers() -> Numbers:
    """How hard the attack tries."""
    F, published = flags.FLAGS, _published()
    eps = published.eps if F.eps is None else F.eps
    step_size = published.travel * eps / F.attack_iterations
    return Numbers(eps, step_size if F.attack_step_size is None else F.attack_step_size,
                   F.attack_iterations, F.rmc_rounds)


def settings() -> "Settings":
    """How the defender goes about it."""
    from defenses.rmc.defender import Settings  # TensorFlow

    F = flags.FLAGS
    return Settings(F.rmc_k, F.rmc_state, F.rmc_neighbors, F.rmc_calibrate)


def adapter(opened: network_options.Opened) -> "Adapter":
    """The network as it adapts; its variables move."""
    from defenses.rmc.adapter import Adapter  # TensorFlow
    from training.optimizers import make_optimizer

    F = flags.FLAGS
    with opened.strategy.scope():
        # Not the epsilon of 1.0 that training has, with which it would hardly move.
        optimizer = make_optimizer("adam", F.rmc_lr, adam_epsilon=_ADAM_EPSILON)
        optimizer.build(opened.network.model.trainable_variables)
    return Adapter(opened.network, optimizer, batch_size=F.rmc_batch_size, epochs=F.rmc_epochs,
                   patience=F.rmc_patience, augment=DATASETS[F.dataset].augment)


def defense() -> Mapping[str, Any]:
    """What decides how the defender answers, besides network and augmented set, as JSON values."""
    from defenses.rmc.defender import identity  # TensorFlow

    F, chosen = flags.FLAGS, settings()
    return {"name": "rmc", **identity(chosen),
            "calibrate": chosen.calibrate if chosen.carries_over else "none",
            "epochs": F.rmc_epochs, "patience": F.rmc_patience, "learning_rate": F.rmc_lr,
            "batch_size": F.rmc_batch_size, "feature_layer": F.rmc_feature_layer}


def defender_name() -> str:
    """What the folder of its results is called."""
    told = defense()
    # Only where it is not the usual.
    calibration = (f"_calibrate_{told['calibrate']}" if told["state"] == "sequential"
                   and told["calibrate"] != CALIBRATIONS[0] else "")
    return f"{told['state']}_{told['neighbors']}{calibration}"


def attack_numbers() -> dict[str, Any]:
    """What decides the images of an attack that follows the defender, and those of the network as it
    has become, as JSON values."""
    return {"attack": dataclasses.asdict(numbers()), "rmc_attack": flags.FLAGS.rmc_attack}


def attacker(network: "Network") -> "GreedyAttack | None":
    """The attack that follows the defender; None of --rmc_attack=transfer."""
    from evaluation.greedy import GreedyAttack  # TensorFlow

    F = flags.FLAGS
    if F.rmc_attack == TRANSFER:
        return None
    return GreedyAttack(network, KINDS[F.rmc_attack], numbers(), F.seed)


def check_rows(number: int) -> None:
    """Raises an InputError when the augmented set has fewer rows than --rmc_k."""
    if flags.FLAGS.rmc_k > number:
        raise InputError(f"rmc_k must be at most the {number} rows of {folder()}. "
                         f"Received: rmc_k={flags.FLAGS.rmc_k}.")


def check_points(number: int) -> None:
    """Raises an InputError when there are fewer images than --rmc_num_eval."""
    # Differs from the original: it draws with replacement, and a picture that comes back has been
    # adapted to.
    if flags.FLAGS.rmc_num_eval > number:
        raise InputError(f"rmc_num_eval must be at most the {number} test images. "
                         f"Received: rmc_num_eval={flags.FLAGS.rmc_num_eval}.")

"""Flags of what generators stand beside in dgn.py: attacks, and training with adversarial images."""

from typing import TYPE_CHECKING, Any, NamedTuple

import flags

from absl import flags as absl_flags

from attacks import ATTACKS
from errors import InputError
from files import paths
from training import ADVERSARIAL_TYPES, TrainingAttack

if TYPE_CHECKING:
    from training.mixed import Recipe

OF_TRAINING = ("adv_data", "adv_type", "adv_ratio", "adv_epochs", "adv_lr", "adv_batch", "adv_shuffle")
OF_PGD = ("attack_iterations", "attack_step_size", "num_restarts")
# Attacks that dgn.py makes images with, in place of generators.
BASELINES = ("fgsm", "pgd")
# The one of adv_type=online.
ONLINE = "pgd"


class Steps(NamedTuple):
    """Numbers of PGD: change of a pixel per step, steps, and random starts; 0: from the image."""

    step_size: float
    num_steps: int
    num_restarts: int


class Published(NamedTuple):
    """Numbers of the original's configurations for a training: of Adam, and over the images."""

    learning_rate: float
    epochs: int


# By whether images have one channel.
_STEPS = {True: Steps(0.01, 20, 10), False: Steps(0.0078, 20, 0)}
# Of gf, by (what made the images, whether they have one channel).
_PUBLISHED = {
    ("lrp", True): Published(1e-3, 10), ("nce", True): Published(1e-3, 10),
    ("susp", True): Published(1e-4, 50), ("fgsm", True): Published(1e-3, 20),
    ("pgd", True): Published(1e-3, 20), ("lrp", False): Published(1e-4, 100),
    ("nce", False): Published(1e-4, 50), ("susp", False): Published(1e-4, 50),
    ("fgsm", False): Published(1e-4, 80), ("pgd", False): Published(1e-4, 50)}
# Of default. Differs from the original: of three channels its configuration has no epochs, and it ends.
_PUBLISHED_DEFAULT = {True: Published(1e-3, 20), False: Published(1e-3, 50)}
_BATCH_SIZE = {"gf": 100, "default": 128, "online": 100}


def define() -> None:
    """Flags of dgn.py alone."""
    absl_flags.DEFINE_string(
        "attack_method", "", f"Who makes images in place of generators: {' or '.join(BASELINES)}.")
    absl_flags.DEFINE_integer("attack_iterations", None, "Steps of pgd. None: the original's 20.")
    absl_flags.DEFINE_float(
        "attack_step_size", None, "Change of a pixel per step of pgd. None: 0.01, of colours 0.0078.")
    absl_flags.DEFINE_integer("num_restarts", None, "Random starts of pgd; 0: it starts at the image. "
                              "None: 10, of colours 0.")
    flags.define_path("adv_data", "", "adv_train.npz of generate that adv_train takes.", paths.FILE)
    absl_flags.DEFINE_string(
        "adv_type", "gf", "gf: a fresh network, on the mean of two losses. default: the network goes "
        "on, half of each batch attacked. online: a fresh network, attacked anew by pgd.")
    absl_flags.DEFINE_float("adv_ratio", 0.5, "Of gf and online the weight of the clean loss, of "
                            "default the share of a batch that is attacked.")
    absl_flags.DEFINE_integer("adv_epochs", None, "Epochs of adv_train. None: the original's.")
    absl_flags.DEFINE_float("adv_lr", None, "Learning rate of it. None: the original's.")
    absl_flags.DEFINE_integer("adv_batch", None, "Images of a step of it. None: the original's.")
    absl_flags.DEFINE_bool("adv_shuffle", False, "Whether epochs of gf have orders of their own.")


def check() -> None:
    """Looks at the flags before anything is loaded; InputError where one is wrong."""
    F = flags.FLAGS
    for name, smallest in (("attack_iterations", 1), ("num_restarts", 0), ("adv_epochs", 1),
                           ("adv_batch", 1)):
        if F[name].value is not None:
            flags.check_at_least(name, smallest)
    for name in ("attack_step_size", "adv_lr"):
        if F[name].value is not None:
            flags.check_number(name, 0.0, above=True)
    if F.mode == "adv_train":
        return _check_training()
    if F.attack_method:
        flags.check_choice("attack_method", BASELINES)
    if F.mode == "generate" and not (F.attack_method and _takes_steps(F.attack_method)):
        flags.refuse(f"--mode=generate of {F.attack_method or 'generators'}", OF_PGD)


def _takes_steps(method):
    """Whether one of BASELINES has the numbers of `Steps`."""
    return ATTACKS[method].has_step_size


def _check_training():
    F = flags.FLAGS
    flags.check_choice("adv_type", ADVERSARIAL_TYPES)
    if not 0 <= F.adv_ratio <= 1:  # written so that NaN fails
        raise InputError(f"adv_ratio must lie in [0, 1]. Received: adv_ratio={F.adv_ratio}.")
    if F.adv_type == "online":
        return flags.refuse("--adv_type=online", ("adv_data", "adv_shuffle", "num_restarts"))
    flags.require("adv_data")
    # default has an order of its own in each epoch anyway.
    shuffle = ("adv_shuffle",) if F.adv_type == "default" else ()
    flags.refuse(f"--adv_type={F.adv_type}", (*OF_PGD, *shuffle))


def settings(method: str, channels: int) -> dict[str, Any]:
    """Keywords of one of BASELINES for images of so many channels."""
    if not _takes_steps(method):
        return {}
    numbers = _steps(channels)
    return {"step_size": numbers.step_size, "num_steps": numbers.num_steps,
            "num_restarts": max(1, numbers.num_restarts), "random_start": numbers.num_restarts > 0}


def online(eps: float, channels: int) -> TrainingAttack:
    """The attack that adv_type=online trains on."""
    numbers = _steps(channels)
    return TrainingAttack(eps, numbers.step_size, numbers.num_steps)


def _steps(channels):
    F, usual = flags.FLAGS, _STEPS[channels == 1]
    given = (F.attack_step_size, F.attack_iterations, F.num_restarts)
    return Steps(*(own if value is None else value for value, own in zip(given, usual, strict=True)))


def recipe(attack: str, channels: int) -> "Recipe":
    """How adv_train trains: what is given, else the original's.

    Args:
      attack: what made the images, a custom loss or one of BASELINES.
      channels: of the images.
    """
    from training.mixed import Recipe  # TensorFlow, which define() does not need

    F = flags.FLAGS
    published = (_PUBLISHED_DEFAULT[channels == 1] if F.adv_type == "default"
                 else _PUBLISHED[attack, channels == 1])
    rate, epochs, batch_size = (own if given is None else given for given, own in (
        (F.adv_lr, published.learning_rate), (F.adv_epochs, published.epochs),
        (F.adv_batch, _BATCH_SIZE[F.adv_type])))
    return Recipe(F.adv_type, F.adv_ratio, rate, epochs, batch_size, F.adv_shuffle, F.seed)

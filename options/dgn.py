"""Flags of dgn.py, and the plain values they become."""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import flags

from absl import flags as absl_flags

from attacks.dgn import ANALYSES
from errors import InputError
from files import dgn as dgn_files
from networks import NETWORKS
from options import hardening
from options import network as network_options

if TYPE_CHECKING:
    from evaluation.generated import Generators
    from networks.network import Network
    from training.generators import Recipe

MODES = "analyze, train, generate, adv_train or evaluate"
SPLITS = ("train", "test")
# Images that one of --eval_batch_count stands for.
EVAL_BATCH = 200
_DECAYS = {"auto": None, "on": True, "off": False}


class Published(NamedTuple):
    """Numbers of the original's configurations for a loss and images of so many channels.

    Attributes:
      learning_rate: of Adam.
      epochs: of each class.
      alpha: custom_loss_constant; of NCE it does nothing.
      k: relevant pixels; suspicious units are the network's.
      decays: whether the rate falls: it does where the original advances its counter of steps.
    """

    learning_rate: float
    epochs: int
    alpha: float = 0.5
    k: int | None = None
    decays: bool = False


# By (loss, whether images have one channel).
_PUBLISHED = {
    ("lrp", True): Published(1e-4, 150, k=20), ("nce", True): Published(1e-4, 100),
    ("susp", True): Published(1e-5, 600, 0.8, decays=True),
    ("lrp", False): Published(1e-4, 80, k=80), ("nce", False): Published(1e-4, 100),
    ("susp", False): Published(1e-3, 60, 0.9)}
_BATCH_SIZE = 100
_EPS = {True: 0.3, False: 0.0313}


# Flag → the modes that it does something in.
_MODES_OF = {
    **dict.fromkeys(("k", "dgn_lr", "dgn_epochs", "dgn_batch", "custom_loss_constant", "dgn_lr_decay",
                     "dgn_init"), ("train",)),
    **dict.fromkeys(("activation_threshold", "analysis_split", "lrp_eps"), ("analyze",)),
    **dict.fromkeys(("attack_method", "splits", "mis_classification_check", "clipping"), ("generate",)),
    **dict.fromkeys(hardening.OF_TRAINING, ("adv_train",)),
    **dict.fromkeys(hardening.OF_PGD, ("generate", "adv_train", "evaluate")),
    "custom_loss": ("analyze", "train", "generate"), "classes": ("train", "generate"),
    "eval_batch_count": ("evaluate",)}


def define() -> None:
    """Flags of dgn.py alone."""
    flags.define_mode("", MODES)
    absl_flags.DEFINE_string("custom_loss", "", f"What trains a generator: {', '.join(ANALYSES)}.")
    absl_flags.DEFINE_string("classes", "", "Classes, 0,3,7 or 0-4. Empty: all.")
    flags.define_dgn_dir()
    absl_flags.DEFINE_float("eps", None, "Largest change of a pixel. None: 0.3, of colours 0.0313.")
    absl_flags.DEFINE_integer("k", None, "Relevant pixels, or suspicious units. None: the original's.")
    _define_training()
    _define_analysis()
    absl_flags.DEFINE_bool("clipping", True, "Project what is generated on the ball of --eps.")
    absl_flags.DEFINE_bool(
        "mis_classification_check", False, "Keep only images whose prediction has changed.")
    absl_flags.DEFINE_list("splits", list(SPLITS), "Which splits generate makes: train, test.")
    flags.define_eval_batches(-1)


def _define_training():
    absl_flags.DEFINE_float("dgn_lr", None, "Learning rate of a generator. None: the original's.")
    absl_flags.DEFINE_integer("dgn_epochs", None, "Epochs of a generator. None: the original's.")
    absl_flags.DEFINE_integer("dgn_batch", _BATCH_SIZE, "Images of a step of a generator.")
    absl_flags.DEFINE_float(
        "custom_loss_constant", None, "Weight of the first part of the loss. None: the original's.")
    absl_flags.DEFINE_string(
        "dgn_lr_decay", "auto", "Whether the rate falls by a tenth every 1,000 steps: auto (as the "
        "original's does), on or off.")
    absl_flags.DEFINE_string("dgn_init", "original", "How kernels start: original or he.")


def _define_analysis():
    absl_flags.DEFINE_float("activation_threshold", 0.0, "Above it a unit is active.")
    absl_flags.DEFINE_string("analysis_split", "test", "Images that analyze looks at: test, as the "
                             "original, or train.")
    absl_flags.DEFINE_float("lrp_eps", 0.01, "Stabiliser of the relevance.")


def check() -> None:
    """Looks at the flags before anything is loaded; InputError where one is wrong."""
    F = flags.FLAGS
    flags.check_choice("dgn_lr_decay", _DECAYS)
    flags.check_choice("analysis_split", SPLITS)
    flags.check_number("lrp_eps", 0.0, above=True)
    if F.eps is not None and not 0 < F.eps <= 1:  # written so that NaN fails
        raise InputError(f"eps must lie in (0, 1]. Received: eps={F.eps}.")
    for name in ("dgn_epochs", "dgn_batch", "k"):
        if F[name].value is not None:
            flags.check_at_least(name, 1)
    if F.dgn_lr is not None:
        flags.check_number("dgn_lr", 0.0, above=True)
    if F.custom_loss_constant is not None and not 0 <= F.custom_loss_constant <= 1:
        raise InputError("custom_loss_constant must lie in [0, 1]. "
                         f"Received: custom_loss_constant={F.custom_loss_constant}.")
    if not F.splits or set(F.splits) - set(SPLITS):
        raise InputError(f"splits must be of train, test. Received: splits={','.join(F.splits)!r}.")
    if F.mode == "evaluate":
        flags.check_at_least("eval_batch_count", 1, or_all=True)
    _check_source()
    for name in ("Optimizer", "train_dir"):
        if F[name].present:
            flags.warn(f"--{name} does nothing here.")


def _check_source():
    """What trains generators, or who makes images in their place."""
    F = flags.FLAGS
    hardening.check()
    flags.refuse(f"--mode={F.mode}",
                 [name for name, modes in _MODES_OF.items() if F.mode not in modes])
    if F.attack_method:
        flags.refuse("--attack_method", ("custom_loss", "clipping"))
    elif F.mode in _MODES_OF["custom_loss"]:
        flags.check_choice("custom_loss", ANALYSES)


def folder() -> Path:
    """--dgn_dir, or the data set's."""
    return Path(flags.FLAGS.dgn_dir or f"dgn_{flags.FLAGS.dataset}")


def target_folder(network: "Network") -> Path:
    """Folder of all that belongs to a target."""
    return dgn_files.target_dir(folder(), flags.FLAGS.dataset, network.expected.model, network.tag)


def num_images(available: int) -> int:
    """Test images that evaluate takes, as --eval_batch_count says."""
    return flags.num_images(flags.FLAGS.eval_batch_count, EVAL_BATCH, available, "each is taken once")


def generators(opened: network_options.Opened, loss: str) -> "Generators":
    """The trained generators of a custom loss for the images of a target; InputError where some are
    missing."""
    from evaluation.generated import Generators  # TensorFlow, which define() does not need

    network, images = opened.network, opened.image_set
    found = dgn_files.find_generators(
        target_folder(network), loss, network.digests(), sorted(set(images.labels.tolist())))
    return Generators(opened.strategy, found, images.images.shape[1:])


def classes(num_classes: int) -> list[int]:
    """--classes; InputError unless they are different classes that there are."""
    text = flags.FLAGS.classes
    if not text:
        return list(range(num_classes))
    span = re.fullmatch(r"(\d{1,6})-(\d{1,6})", text)
    parts = range(int(span[1]), int(span[2]) + 1) if span else map(flags.whole, text.split(","))
    found = list(parts)
    if not found or None in found or len(set(found)) < len(found) or max(found) >= num_classes:
        raise InputError(f"classes must be different classes below {num_classes}, separated by commas, "
                         f"or a range a-b. Received: classes={text}.")
    return found


def eps(channels: int) -> float:
    """--eps, or that of images of so many channels."""
    return _EPS[channels == 1] if flags.FLAGS.eps is None else flags.FLAGS.eps


def k(channels: int) -> int | None:
    """--k, or the original's; None of suspicious units where it does not know the network."""
    F = flags.FLAGS
    row = NETWORKS.get(F.model)  # none of a network that another hand has built
    of_network = row.num_suspicious or None if row else None
    published = _published(channels).k or of_network
    return published if F.k is None else F.k


def _published(channels):
    return _PUBLISHED[flags.FLAGS.custom_loss, channels == 1]


def recipe(channels: int) -> "Recipe":
    """How a generator is trained: what is given, else the original's."""
    from training.generators import Recipe  # TensorFlow, which define() does not need

    F, published = flags.FLAGS, _published(channels)
    decays = _DECAYS[F.dgn_lr_decay]
    return Recipe(
        *(own if given is None else given for given, own in (
            (F.dgn_lr, published.learning_rate), (F.dgn_epochs, published.epochs))),
        F.dgn_batch, published.alpha if F.custom_loss_constant is None else F.custom_loss_constant,
        k(channels), eps(channels), published.decays if decays is None else decays, F.dgn_init)


def analysis() -> dict[str, Any]:
    """What decides an analysis, as JSON values."""
    F = flags.FLAGS
    numbers = {"relevance": {"rule": "epsilon", "stabiliser": F.lrp_eps, "start": "predicted"},
               "suspicion": {"activation_threshold": F.activation_threshold}}
    return {"analysis_split": F.analysis_split, **numbers[ANALYSES[F.custom_loss]]}


def training(of_recipe: "Recipe") -> dict[str, Any]:
    """What decides a generator, besides target, images and class, as JSON values."""
    F = flags.FLAGS
    return {"custom_loss": F.custom_loss, "seed": F.seed, **dataclasses.asdict(of_recipe)}

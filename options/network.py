"""Flags of the network and its images, and how they become a network."""

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import flags

from absl import flags as absl_flags

from data import DATASETS, inputs
from errors import InputError
from files import paths
from networks import NETWORKS
from networks.spec import NetworkSpec, Opening
from options import devices
from training import OPTIMIZERS

if TYPE_CHECKING:
    import tensorflow as tf

    from networks.network import Network


def define() -> None:
    """Flags of every script that reads images or a network."""
    absl_flags.DEFINE_string("dataset", "", f"Data set: {', '.join(DATASETS)}.")
    flags.define_path(
        "train_data_path", "",
        "Training images: file, glob or folder (.bin, IDX, .npz). Empty: the data set's source.",
        paths.EITHER, pattern=True)
    flags.define_path("eval_data_path", "", "Test images, as --train_data_path.", paths.EITHER,
                      pattern=True)
    flags.define_path("data_dir", "", "Folder of tensorflow-datasets. Empty: its default.")
    absl_flags.DEFINE_integer(
        "num_classes", 0, "Classes of --dataset=npz. 0: largest label + 1.")
    flags.define_path(
        "log_root", "", "Folder of the checkpoints. test_adv.py and others.py --mode=kernel_para take "
        "several, a,b,c: the deep ensemble of their networks.", separator=",")
    absl_flags.DEFINE_integer(
        "num_gpus", 0, "0: CPU. 1: the GPU, or the CPU where there is none. N: N replicas.")
    absl_flags.DEFINE_integer(
        "num_cpu_replicas", 1, "With --num_gpus=0: replicas on the CPU, as on so many GPUs.")
    flags.define_path(
        "model", "resnet", f"Network: {', '.join(NETWORKS)}. Of the others than resnet training "
        "has a recipe, which the flags that are given override.", paths.EITHER)
    absl_flags.DEFINE_integer(
        "num_residual_units", 5, "n of ResNet-(6n+2): 5, 9, 18 give ResNet-32, 56, 110.")
    absl_flags.DEFINE_bool("RCE_train", False, "The network is trained with RCE (False: CE).")
    absl_flags.DEFINE_string("Optimizer", "mom", f"Optimizer: {', '.join(OPTIMIZERS)}.")
    flags.define_path("train_dir", "", "TensorBoard summaries and CSV of training.")
    flags.define_seed()


def define_keras() -> None:
    """Flags of the scripts whose --model may be a file of Keras."""
    absl_flags.DEFINE_string(
        "model_input", "", "Pixels of a --model=<file>.keras: 0..1, 0..255, -1..1 or -0.5..0.5. Empty: "
        "what its first Rescaling layer tells.")
    absl_flags.DEFINE_string(
        "logits_layer", "", "Layer of a --model=<file>.keras whose output the logits are. Empty: the "
        "last one. A softmax is left out.")
    absl_flags.DEFINE_string(
        "features_layer", "", "Layer of a --model=<file>.keras whose output the features are. Empty: "
        "they are the input of its last dense or convolutional layer.")
    define_trust_model()


def define_trust_model() -> None:
    """--trust_model."""
    absl_flags.DEFINE_bool(
        "trust_model", False, "Run the code of a --model=<file>.keras: its Lambda layers, and classes "
        "of modules beside it.")


class Opened(NamedTuple):
    """What a script works with: a network, on which devices, and its images."""

    network: "Network"
    strategy: "tf.distribute.Strategy"
    image_set: inputs.ImageSet


def open_network(split: str = "test", path: str | None = None, log_root: str = "",
                 image_set: inputs.ImageSet | None = None) -> Opened:
    """The network of the flags, restored or a Keras model from its file, and images for it.

    Args:
      split: of the data set.
      path: as of `data.inputs.load`; None: --eval_data_path.
      log_root: of the checkpoint; "": --log_root.
      image_set: images that are there already; None: those of `split`.

    Raises:
      InputError: flags that contradict each other, no network there, or images it does not take.
    """
    F = flags.FLAGS
    # Flags are refused before devices are claimed, and images before weights: what is wrong is to
    # be said before what takes long.
    units = blocks_per_stage()
    is_file = names_a_file()
    if is_file:
        _check_file_flags()
    else:
        flags.require("log_root")
    strategy = devices.make_strategy(F.num_gpus, F.num_cpu_replicas)
    image_set = image_set or inputs.load(
        F.dataset, F.eval_data_path if path is None else path, split, data_dir=F.data_dir,
        num_classes=F.num_classes, any_size=is_file)
    if is_file:
        return _with_classes(_open_file(strategy, image_set), strategy, image_set)
    from networks import restoring  # TensorFlow, which define() does not need

    network = restoring.restore(strategy, log_root or F.log_root, spec_of_flags(
        image_set.images.shape[1:], image_set.num_classes, units), flags.warn)
    return Opened(network, strategy, image_set)


def open_each() -> tuple[dict[str, "Network"], Opened]:
    """The networks of all folders of --log_root, by folder and not as one ensemble, and what
    `open_network` gives of the first; of a file of Keras that one, by its path."""
    F = flags.FLAGS
    if names_a_file():
        opened = open_network()
        return {F.model: opened.network}, opened
    from networks import restoring  # TensorFlow

    folders = restoring.folders_of(flags.require("log_root"))
    if len(set(folders)) < len(folders):
        raise InputError("log_root must be different folders, separated by commas. "
                         f"Received: log_root={F.log_root!r}.")
    first, *others = folders
    opened = open_network(log_root=first)
    spec = spec_of_flags(opened.image_set.images.shape[1:], opened.image_set.num_classes,
                         blocks_per_stage())
    return {first: opened.network, **{
        folder: restoring.restore(opened.strategy, folder, spec, flags.warn) for folder in others}
    }, opened


def spec_of_flags(image_shape: tuple[int, int, int], num_classes: int, units: int) -> NetworkSpec:
    """What flags and data say of the network; `units` is `blocks_per_stage()`."""
    from networks import heads  # TensorFlow

    F = flags.FLAGS
    return NetworkSpec(F.dataset, tuple(image_shape), num_classes, units, heads.name_of(F.RCE_train),
                       F.model)


def names_a_file() -> bool:
    """Whether --model is a file of Keras and no network of this project."""
    return flags.is_model_file(flags.FLAGS.model)


def refuse_a_file() -> None:
    """Raises an InputError where --model is a file of Keras and --mode needs a --log_root of ours."""
    if names_a_file():
        raise InputError(f"--mode={flags.FLAGS.mode} expected a network of train.py, of --log_root. "
                         f"Received: model={flags.FLAGS.model!r}.")


def trusts_model() -> bool:
    """--trust_model, with a warning where it is given."""
    if flags.FLAGS.trust_model:
        flags.warn("--trust_model=True runs whatever code the file of --model holds or names.")
    return flags.FLAGS.trust_model


def _check_file_flags():
    from networks import portable  # TensorFlow

    F = flags.FLAGS
    if F.log_root:
        raise InputError("--log_root must not be given beside the file of a --model, which holds its "
                         f"weights. Received: log_root={F.log_root!r}, model={F.model!r}.")
    portable.check_model_file(F.model)


def _open_file(strategy, image_set):
    from networks import heads, portable  # TensorFlow

    F = flags.FLAGS
    opening = Opening(F.model_input, F.logits_layer, F.features_layer)
    return portable.open_model(
        strategy, F.model, opening, trust_model=trusts_model(), note=print, dataset=F.dataset,
        head=heads.name_of(F.RCE_train), image_shape=image_set.images.shape[1:])


def _with_classes(network, strategy, image_set):
    """All, the images with as many classes as the network where their file leaves that open."""
    wanted, found = network.expected.num_classes, image_set.num_classes
    # An .npz tells its largest label only, and images may lack the last classes.
    is_open = DATASETS[flags.FLAGS.dataset].num_classes is None and not flags.FLAGS.num_classes
    if found > wanted or (found < wanted and not is_open):
        raise InputError(f"expected images of the {wanted} classes of {flags.FLAGS.model}. "
                         f"Received: {found} classes of {image_set.source}.")
    return Opened(network, strategy, dataclasses.replace(image_set, num_classes=wanted))


def blocks_per_stage() -> int:
    """--num_residual_units; 0, with a warning where it was given, of a --model without them."""
    units = flags.check_at_least("num_residual_units", 1)
    row = NETWORKS.get(flags.FLAGS.model)  # none of a network that another hand has built
    if row and row.has_residual_units:
        return units
    if flags.FLAGS["num_residual_units"].present:
        flags.warn(f"--num_residual_units does nothing for --model={flags.FLAGS.model}.")
    return 0

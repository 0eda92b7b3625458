"""Flags of the network and its images, and how they become a network."""

import flags

from absl import flags as absl_flags

from data import DATASETS
from networks import NETWORKS
from training import OPTIMIZERS


def define() -> None:
    """Flags of every script that reads images or a network."""
    absl_flags.DEFINE_string("dataset", "", f"Data set: {', '.join(DATASETS)}.")
    absl_flags.DEFINE_string(
        "train_data_path", "",
        "Training images: file, glob or folder (.bin, IDX, .npz). Empty: the data set's source.")
    absl_flags.DEFINE_string("eval_data_path", "", "Test images, as --train_data_path.")
    absl_flags.DEFINE_string("data_dir", "", "Folder of tensorflow-datasets. Empty: its default.")
    absl_flags.DEFINE_integer(
        "num_classes", 0, "Classes of --dataset=npz. 0: largest label + 1.")
    absl_flags.DEFINE_string(
        "log_root", "", "Folder of the checkpoints. test_adv.py and others.py --mode=kernel_para take "
        "several, a,b,c: the deep ensemble of their networks.")
    absl_flags.DEFINE_integer(
        "num_gpus", 0, "0: CPU. 1: the GPU, or the CPU where there is none. N: N replicas.")
    absl_flags.DEFINE_integer(
        "num_cpu_replicas", 1, "With --num_gpus=0: replicas on the CPU, as on so many GPUs.")
    absl_flags.DEFINE_string(
        "model", "resnet", f"Network: {', '.join(NETWORKS)}. Of the others than resnet training "
        "has a recipe, which the flags that are given override.")
    absl_flags.DEFINE_integer(
        "num_residual_units", 5, "n of ResNet-(6n+2): 5, 9, 18 give ResNet-32, 56, 110.")
    absl_flags.DEFINE_bool("RCE_train", False, "The network is trained with RCE (False: CE).")
    absl_flags.DEFINE_string("Optimizer", "mom", f"Optimizer: {', '.join(OPTIMIZERS)}.")
    absl_flags.DEFINE_string("train_dir", "", "TensorBoard summaries and CSV of training.")
    flags.define_seed()


def blocks_per_stage() -> int:
    """--num_residual_units; 0, with a warning where it was given, of a --model without them."""
    units = flags.check_at_least("num_residual_units", 1)
    row = NETWORKS.get(flags.FLAGS.model)  # none of a network that another hand has built
    if row and row.has_residual_units:
        return units
    if flags.FLAGS["num_residual_units"].present:
        flags.warn(f"--num_residual_units does nothing for --model={flags.FLAGS.model}.")
    return 0

"""Every command-line flag, once; the start of every script; the devices to run on.

Scripts write `import flags` and read `flags.FLAGS.<name>`; nothing else in the project does. A
script names the groups it takes in `flags.run(main, flags.define_common, ...)`, so importing it
defines nothing. TensorFlow is imported inside `make_strategy` only.
"""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable

import environment  # noqa: F401 before TensorFlow

from absl import app
from absl import flags as absl_flags
from absl import logging as absl_logging

from errors import InputError, RunError

FLAGS = absl_flags.FLAGS

# In the order of the README; tests hold them against data.inputs.DATASETS, attacks.ATTACKS
# and inference.BUILDERS.
DATASETS = ("mnist", "cifar10", "cifar100", "digits", "npz")
ATTACK_METHODS = ("random", "fgsm", "bim", "tgsm", "jsma", "smda", "carliniL2", "carliniL2_highcon",
                  "carliniL2_highden", "carliniL2_specific", "pgd")
MODELS = ("resnet", "simple_cnn", "mlp")
OPTIMIZERS = ("sgd", "mom", "adam", "rmsprop")
LR_SCHEDULES = ("step", "cosine", "one_cycle")
MIXED_PRECISIONS = ("bfloat16", "float16")

# What a disk or a folder can refuse: not a defect of ours, so no traceback.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST,
               errno.ENOTDIR, errno.EISDIR)

# In the order of tables; a test holds them against defenses.detector.SCORES.
DETECTOR_SCORES = ("confidence", "non_me", "kernel_non_me", "j_score", "k_density")

# Of the flags that set an attack's numbers.
LARGEST_NUMBER = 10**7

# The original's sweep of test_adv.py, used when --eps is not given.
SWEEP_EPS = tuple(round(0.02 * k, 2) for k in range(1, 11))


def define_common() -> None:
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
        "model", "resnet", f"Network: {', '.join(MODELS)}. Of the others than resnet training has a "
        "recipe, which the flags that are given override.")
    absl_flags.DEFINE_integer(
        "num_residual_units", 5, "n of ResNet-(6n+2): 5, 9, 18 give ResNet-32, 56, 110.")
    absl_flags.DEFINE_bool("RCE_train", False, "The network is trained with RCE (False: CE).")
    absl_flags.DEFINE_string("Optimizer", "mom", f"Optimizer: {', '.join(OPTIMIZERS)}.")
    absl_flags.DEFINE_string("train_dir", "", "TensorBoard summaries and CSV of training.")
    _define_seed()


def define_train() -> None:
    """Flags of train.py alone."""
    _define_mode("train", "train")
    _define_total_steps(90000)
    _define_lr_decay()
    absl_flags.DEFINE_integer("batch_size", 128, "Images per step, over all replicas.")
    absl_flags.DEFINE_list(
        "lr_boundaries", [],
        "Steps at which the learning rate falls tenfold, e.g. 10000,15000,20000. Empty: the "
        "original's for the data set; digits and npz: 1/2, 3/4 and all of --total_steps.")
    absl_flags.DEFINE_float(
        "learning_rate", None, "First learning rate; of cosine and one_cycle the largest. None: 0.1, "
        "or the recipe's of --model.")
    absl_flags.DEFINE_string(
        "lr_schedule", "step", "step: falls at --lr_boundaries. cosine: to 0 over --total_steps. "
        "one_cycle: up from a tenth and down again, the momentum of mom and the beta_1 of adam the "
        "other way round.")
    absl_flags.DEFINE_integer("checkpoint_every", 2500, "Steps between checkpoints.")
    absl_flags.DEFINE_integer("keep_checkpoints", 5, "Newest checkpoints that are kept.")
    absl_flags.DEFINE_integer(
        "steps_per_loop", 20, "Steps per call of the traced loop; no influence on results.")
    absl_flags.DEFINE_bool(
        "sync_batch_norm", False, "Batch-norm statistics of the global batch, not per replica.")
    absl_flags.DEFINE_string(
        "mixed_precision", "", f"Compute in {' or '.join(MIXED_PRECISIONS)}. Empty: float32.")
    absl_flags.DEFINE_bool("jit_compile", False, "Compile the gradients with XLA.")
    absl_flags.DEFINE_bool(
        "deterministic", False, "Only deterministic kernels: the same bytes on a GPU, too, slower.")


def define_test_nor() -> None:
    """Flags of test_nor.py alone."""
    _define_mode("train", "eval (train is the same thing)")
    _define_total_steps(100000)
    _define_lr_decay()
    _define_eval_batches(50)
    _define_eval_once()
    absl_flags.DEFINE_string("eval_dir", "", "TensorBoard summaries of evaluation.")
    absl_flags.DEFINE_integer(
        "eval_timeout", None, "Seconds to wait for a new checkpoint before ending. None: for ever.")


def define_test_adv() -> None:
    """Flags of test_adv.py alone."""
    _define_mode("train", "attack, merge or tSNE_logits")
    _define_eval_batches(10)
    absl_flags.DEFINE_string("eval_dir", "", "Accepted for the original's commands; not used.")
    _define_attack()
    absl_flags.DEFINE_float(
        "eps", 0.01,
        "Largest change of a pixel, in (0, 1]. Not given: attack sweeps 0.02, ..., 0.20.")
    absl_flags.DEFINE_list(
        "eps_sweep", [], "Values of eps that attack sweeps. Empty: 0.02, 0.04, ..., 0.20.")
    absl_flags.DEFINE_integer(
        "attack_batch_size", 0,
        "Images per call of the attack; 0: the fastest measured. No influence on results.")
    absl_flags.DEFINE_string(
        "target", "", "random, least_likely, all (the smallest success), none (untargeted) or a "
        "class. Empty: the original's for the attack.")
    _define_attack_numbers()
    absl_flags.DEFINE_bool("jsma_pair", False, "jsma raises the best pair of pixels per step.")
    absl_flags.DEFINE_integer("num_restarts", 1, "Random starts of pgd.")
    absl_flags.DEFINE_string(
        "attack_cost", "ce", "What fgsm ascends: ce, or rce of the raw logits (figure 4 of arXiv v1).")
    absl_flags.DEFINE_string(
        "cw_abort", "image", "Which images of C&W share the abort rule: image (each its own) or "
        "batch (the original's ten).")
    absl_flags.DEFINE_string(
        "density_form", "log", "Density of the white-box attacks: log (logsumexp) or original.")
    absl_flags.DEFINE_string(
        "distance_from", "attack1", "Where the white-box attacks measure distance from: attack1 "
        "(the result of their first stage) or clean.")
    _define_kernel_dir()
    absl_flags.DEFINE_bool("overwrite", False, "Delete unfinished parts of another run.")
    _define_shards()


def _define_shards():
    absl_flags.DEFINE_integer(
        "num_shards", 1,
        "Runs of --mode=attack that share one attack, each with its --shard_index; --mode=merge joins "
        "what they leave in <results>/parts. Runs elsewhere leave it in a folder of their own: copy "
        "the files of all into one first, no two parts have one name.")
    absl_flags.DEFINE_integer("shard_index", 0, "Which of --num_shards this run is, from 0.")


def define_others() -> None:
    """Flags of others.py alone."""
    _define_mode("train", "kernel_para, tSNE_logits, export_bin, export_png, info, import_checkpoint, "
                 "export_checkpoint, export_model or export_pretrained")
    _define_total_steps(100000)
    _define_lr_decay()
    _define_eval_batches(50)
    _define_eval_once()
    absl_flags.DEFINE_string("eval_dir", "", "Accepted for the original's commands; not used.")
    absl_flags.DEFINE_string(
        "output_dir", "", "Folder that export_png, export_model, export_pretrained, import_checkpoint "
        "and export_checkpoint write.")
    absl_flags.DEFINE_string(
        "images", "", "An attack's nor_img.npy or adv_img.npy for export_png. Empty: the test images.")
    absl_flags.DEFINE_integer("num_images", 10, "Images that export_png writes, from the first on.")
    absl_flags.DEFINE_string(
        "data_note", "", "What the model card of export_pretrained says of the data, e.g. where from.")


def define_detect() -> None:
    """All flags of detect.py, which reads files only."""
    absl_flags.DEFINE_string("dataset", "", f"Data set: {', '.join(DATASETS)}.")
    _define_mode("auc", "auc, select_kernel, select_kernel_for_attack, median_for_attack, fit, "
                 "evaluate, figures or apply")
    _define_attack()
    absl_flags.DEFINE_integer(
        "num_kernels", 1000,
        "Training features per class kept as kernels; of select_kernel_for_attack 100 if not given.")
    absl_flags.DEFINE_integer("eps_round", 0, "Round of the eps sweep, from 1. 0: all.")
    absl_flags.DEFINE_integer("num_per_eps", 0, "Images per eps. 0: as the run record says.")
    absl_flags.DEFINE_bool(
        "matlab_ties", False,
        "auc and evaluate count equal scores against detection, as the original's AUC.m.")
    _define_kernel_dir()
    absl_flags.DEFINE_string("objective_tag", "", "RCE or CE. Empty: both, where they exist.")
    _define_detector()
    _define_seed()


def _define_detector():
    """Flags of detect.py's modes fit, evaluate, figures and apply."""
    absl_flags.DEFINE_string(
        "detector", "", "The detector.npz. Empty: <kernel_dir>/detector_<RCE or CE>.npz.")
    absl_flags.DEFINE_list(
        "false_refusal_rate", ["0.01", "0.05"],
        "Shares of normal images that fit lets the detector refuse; apply takes the first.")
    absl_flags.DEFINE_float("eta", 1.0, "eta of the kernel non-ME and so of the J-score.")
    absl_flags.DEFINE_float(
        "holdout_share", 0.5, "Share of an attack's normal images that fit takes; evaluate the rest.")
    absl_flags.DEFINE_string(
        "score", "k_density", f"Score by which apply decides: {', '.join(DETECTOR_SCORES)}.")
    absl_flags.DEFINE_string(
        "beside", "", "Folder in which another network was attacked and its detector fitted: figures "
        "draws its answers and refusals against T beside ours (figure 7 of arXiv v1).")
    absl_flags.DEFINE_list(
        "tsne_attack", [], "Attacks, or all, of whose features figures draws a t-SNE. It takes "
        "5 to 30 seconds per objective. Empty: none.")
    absl_flags.DEFINE_string("images", "", "Images for apply: a .npy file or a folder of PNG files.")
    absl_flags.DEFINE_string("log_root", "", "Network for apply. Empty: where the detector lies.")
    absl_flags.DEFINE_string("answers", "answers.csv", "File that apply writes.")
    absl_flags.DEFINE_string(
        "output_dir", "", "Folder that evaluate and figures write. Empty: detection_<dataset>.")


def _define_mode(default, modes):
    absl_flags.DEFINE_string("mode", default, f"What to do: {modes}.")


def _define_seed():
    absl_flags.DEFINE_integer("seed", 0, "Seed of everything drawn at random.")


def _define_total_steps(default):
    absl_flags.DEFINE_integer("total_steps", default, "Training steps of the whole run.")


def _define_lr_decay():
    absl_flags.DEFINE_bool("lr_decay", False, "Does nothing, as in the original.")


def _define_eval_batches(default):
    absl_flags.DEFINE_integer("eval_batch_count", default, "Batches to evaluate; -1: all images.")


def _define_eval_once():
    absl_flags.DEFINE_bool("eval_once", False, "Evaluate the newest checkpoint once and end.")


def _define_kernel_dir():
    absl_flags.DEFINE_string("kernel_dir", "", "Folder of kernels. Empty: kernel_para_<dataset>.")


def _define_attack_numbers():
    """Numbers of an attack; the white-box attacks take one, or two for their two stages."""
    for name, what in (("attack_confidence", "Confidence (kappa) of C&W"),
                       ("attack_iterations", "Steps per image; of C&W per search step"),
                       ("attack_learning_rate", "Learning rate of C&W"),
                       ("attack_search_steps", "Binary search steps of C&W"),
                       ("attack_initial_const", "First tradeoff constant of C&W")):
        absl_flags.DEFINE_list(
            name, [], f"{what}; white-box: one for both stages or two, a,b. Empty: the original's.")


def _define_attack():
    absl_flags.DEFINE_string("attack_method", "fgsm", f"Attack: {', '.join(ATTACK_METHODS)}.")
    absl_flags.DEFINE_string(
        "save_pwd", None, "Folder of the results. None: <attack>_<dataset>/<RCE or CE>.")


def run(main: Callable[[], int | None], *groups: Callable[[], None]) -> None:
    """Defines the flag groups, parses the command line, checks the choices and runs `main`.

    Args:
      main: called without arguments; what it returns is the exit code (None: 0).
      *groups: the `define_...` functions of this module that the script takes.

    A value that the user can mend (`InputError`) or a run that cannot go on (`RunError`) ends the
    program with its message on standard error and exit code 1, without a traceback.
    """
    # Library notes at level INFO are not for the user, whose lines they would interrupt.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    absl_logging.set_verbosity(absl_logging.WARNING)
    for define in groups:
        define()
    # Without this `--help` of the script would list no flag: they are all defined in this module.
    for flag in FLAGS.get_flags_for_module(__name__):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(lambda argv: _guarded(main, argv))


def _guarded(main, argv):
    try:
        _check_command_line(argv)
        code = main()
        sys.stdout.flush()
        return code
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our lines, `head` for one, has gone: nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell reports for SIGPIPE
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        print(f"error: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it can.", file=sys.stderr)
        return 130  # what a shell reports for SIGINT


def _check_command_line(argv):
    if len(argv) > 1:
        raise InputError(f"expected flags only, each as --name=value. Received: {argv[1]!r}.")
    for name, allowed in (("dataset", DATASETS), ("attack_method", ATTACK_METHODS),
                          ("Optimizer", OPTIMIZERS), ("model", MODELS),
                          ("lr_schedule", LR_SCHEDULES)):
        # No data set is one only to the modes that load images: they say so.
        if name in FLAGS and (FLAGS[name].value or name != "dataset"):
            check_choice(name, allowed)
    if not 0 <= FLAGS.seed < 2**32:
        raise InputError(f"seed must lie in [0, 2**32). Received: seed={FLAGS.seed}.")
    if "lr_decay" in FLAGS and FLAGS.lr_decay:
        warn("--lr_decay does nothing, as in the original; the rate falls at --lr_boundaries.")


def check_choice(name: str, allowed: Iterable[str]) -> str:
    """Value of the flag `name`; raises InputError listing `allowed` when it is none of them."""
    value = FLAGS[name].value
    if value not in allowed:
        raise InputError(
            f"{name} must be one of [{', '.join(allowed)}]. Received: {name}={value!r}.")
    return value


def check_at_least(name: str, smallest: int, *, or_all: bool = False) -> int:
    """Value of the integer flag `name`; below `smallest` (but −1 if `or_all`) an InputError."""
    value = FLAGS[name].value
    if value >= smallest or (or_all and value == -1):
        return value
    also = " (or -1 for all)" if or_all else ""
    raise InputError(f"{name} must be at least {smallest}{also}. Received: {name}={value}.")


def blocks_per_stage() -> int:
    """--num_residual_units; 0, with a warning where it was given, of a --model without them."""
    units = check_at_least("num_residual_units", 1)
    if FLAGS.model == "resnet":
        return units
    if FLAGS["num_residual_units"].present:
        warn(f"--num_residual_units does nothing for --model={FLAGS.model}.")
    return 0


def resnet_name(blocks_per_stage: int) -> str:
    """The name by its depth of a ResNet of --num_residual_units: ResNet-32 of 5."""
    return f"ResNet-{6 * blocks_per_stage + 2}"


def numbers(name: str, kind: type, smallest: float, *, above: bool = False) -> tuple:
    """Values of the list flag `name` as int or float from `smallest` (not itself if `above`) to
    LARGEST_NUMBER, else InputError."""
    received = FLAGS[name].value
    try:
        values = tuple(kind(text) for text in received)
    except ValueError:
        values = (float("nan"),)
    if all((value > smallest if above else value >= smallest) and value <= LARGEST_NUMBER
           for value in values):
        return values
    what = "whole numbers" if kind is int else "numbers"
    raise InputError(f"{name} must be {what} {'above' if above else 'of at least'} {smallest} and at "
                     f"most {LARGEST_NUMBER:g}. Received: {name}={','.join(received)}.")


def require(name: str) -> str:
    """Value of the string flag `name`; InputError when it is empty."""
    if not FLAGS[name].value:
        raise InputError(f"--{name} must be given. Received: {name}=''.")
    return FLAGS[name].value


def num_images(batches: int, batch_size: int, available: int, once: str) -> int:
    """How many images --eval_batch_count means: its batches, −1 or too many of them all there are.

    Args:
      batches: value of the flag, or a script's own number of batches.
      batch_size: images that one batch counts for.
      available: images there are.
      once: end of the line that says so when more are asked for than there are.
    """
    wanted = available if batches == -1 else batches * batch_size
    if wanted > available:
        print(f"{wanted} images asked for, {available} found: {once}.")
    return min(wanted, available)


def as_dict() -> dict[str, object]:
    """Every flag of this project with its value, for the run record."""
    return {flag.name: flag.value for flag in FLAGS.get_flags_for_module(__name__)}


def warn(message: str) -> None:
    """One warning line on standard error."""
    print(f"warning: {message}", file=sys.stderr)


def make_strategy(num_gpus: int, num_cpu_replicas: int = 1):
    """The tf.distribute strategy on the devices of this host.

    Args:
      num_gpus: 0 is the CPU; 1 the GPU, or with a warning the CPU where there is none (the original
        places softly); N ≥ 2 is MirroredStrategy on the first N GPUs.
      num_cpu_replicas: with num_gpus = 0, N ≥ 2 is MirroredStrategy on N logical CPUs: what N GPUs
        compute, on a machine without any.

    Returns:
      A tf.distribute.Strategy.

    Raises:
      InputError: num_gpus is negative, or at least 2 and larger than the number of GPUs found;
        num_cpu_replicas is below 1, or above 1 beside GPUs.
    """
    if num_gpus < 0:
        raise InputError(
            f"num_gpus must be 0 (CPU) or the number of GPUs. Received: num_gpus={num_gpus}.")
    if num_cpu_replicas < 1 or (num_gpus and num_cpu_replicas > 1):
        raise InputError("num_cpu_replicas must be at least 1, and 1 unless --num_gpus=0. "
                         f"Received: num_cpu_replicas={num_cpu_replicas}, num_gpus={num_gpus}.")
    if num_gpus == 0:
        return _cpu_strategy(num_cpu_replicas)
    return _gpu_strategy(num_gpus)


def _cpu_strategy(num_replicas):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")  # or TensorFlow takes their memory unused
    if num_replicas == 1:
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [cpu]) < num_replicas:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * num_replicas)
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(num_replicas)])


def _gpu_strategy(num_gpus):
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if num_gpus == 1 and not gpus:
        warn("--num_gpus=1 but no GPU was found: running on the CPU.")
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if num_gpus > len(gpus):
        raise InputError(f"num_gpus must be at most the number of GPUs found here, {len(gpus)}. "
                         f"Received: num_gpus={num_gpus}.")
    if num_gpus == 1:
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    return tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(num_gpus)])

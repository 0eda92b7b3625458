"""Trains a network with cross entropy or reverse cross-entropy, as the original's train.py.

    python train.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --total_steps=1000 --RCE_train=True
"""


import flags

import tensorflow as tf
from tqdm import tqdm

from data import inputs
from errors import InputError
from files import checkpoints, pretrained, provenance
from networks import heads, recipes
from options import devices
from options import network as network_options
from options import training as training_options
from training import cluster, loop, optimizers

MODES = ("train",)


def main() -> int:
    """Turns the flags into a run and trains it."""
    F = flags.FLAGS
    flags.check_choice("mode", MODES)
    for name in ("total_steps", "batch_size", "checkpoint_every", "keep_checkpoints",
                 "steps_per_loop"):
        flags.check_at_least(name, 1)
    blocks_per_stage = network_options.blocks_per_stage()
    log_root = flags.require("log_root")
    train_dir = F.train_dir or f"{log_root}/train"
    for name, folder in (("log_root", log_root), ("train_dir", train_dir)):
        if pretrained.is_pretrained(folder):
            raise InputError(f"{name} must be a folder of your own: what is pretrained stays as it is. "
                             f"Received: {name}={folder!r}.")
    strategy = _strategy()
    train_set, test_set = inputs.load_for_training(
        F.dataset, F.train_data_path, F.eval_data_path, data_dir=F.data_dir,
        num_classes=F.num_classes)
    if test_set is None:
        print("No --eval_data_path: no test precision during training.")
    run = _run(train_set, blocks_per_stage, strategy.num_replicas_in_sync)
    exit_code, figures = loop.train(run, strategy, train_set, test_set, loop.Options(
        log_root, train_dir, F.checkpoint_every, F.keep_checkpoints, F.steps_per_loop, F.jit_compile,
        note=tqdm.write, warn=flags.warn))  # over a progress bar print would leave pieces of it
    # A run that was killed behind its last checkpoint is recorded by the next; one that was recorded
    # keeps its figures.
    if figures and not (figures.get("found_finished") and provenance.read(train_dir, "train")):
        provenance.write(train_dir, "train", flags=flags.as_dict(), metrics=figures)
    return exit_code


def _run(train_set, blocks_per_stage, num_replicas):
    """The record of the run that the flags and the recipe of --model describe."""
    F = flags.FLAGS
    recipe = recipes.get(F.model, train_set.images.shape[-1])
    if recipe:
        _check_layers(train_set)
        F.set_default("Optimizer", recipe.optimizer)
        F.set_default("batch_size", recipe.batch_size)
        F.set_default("total_steps", recipe.total_steps(len(train_set.labels), F.batch_size))
    if F.batch_size % num_replicas:
        raise InputError(f"batch_size must be divisible by the {num_replicas} replicas. "
                         f"Received: batch_size={F.batch_size}.")
    numbers = recipe.numbers(F.Optimizer) if recipe else {}
    if F.learning_rate is not None:
        numbers["learning_rate"] = _learning_rate()
    return checkpoints.TrainingRun(
        dataset=F.dataset, image_shape=train_set.images.shape[1:],
        num_classes=train_set.num_classes, blocks_per_stage=blocks_per_stage,
        objective=heads.name_of(F.RCE_train), optimizer=F.Optimizer,
        batch_size=F.batch_size, lr_boundaries=_boundaries(F.lr_boundaries, recipe),
        total_steps=F.total_steps, seed=F.seed, sync_batch_norm=F.sync_batch_norm,
        mixed_precision=F.mixed_precision, model=F.model, lr_schedule=F.lr_schedule, **numbers)


def _learning_rate():
    """--learning_rate, above 0."""
    rate = flags.FLAGS.learning_rate
    if not 0 < rate < float("inf"):
        raise InputError(f"learning_rate must be a number above 0. Received: learning_rate={rate}.")
    return rate


def _check_layers(train_set):
    """Refuses what asks for layers that the networks of arXiv v1 lack."""
    F, channels = flags.FLAGS, train_set.images.shape[-1]
    lacking = {"sync_batch_norm": (F.model == "mlp" or channels == 1, "batch norm"),
               "mixed_precision": (F.model == "mlp", "convolutions")}
    for name, (lacks, layers) in lacking.items():
        if F[name].value and lacks:
            raise InputError(f"{name} expected a network with {layers}. Received: model={F.model!r}, "
                             f"channels={channels}.")


def _strategy():
    """The strategy of the flags and of TF_CONFIG, and how its devices compute."""
    F = flags.FLAGS
    if F.mixed_precision:
        flags.check_choice("mixed_precision", flags.MIXED_PRECISIONS)
    if F.jit_compile and F.sync_batch_norm:
        raise InputError("jit_compile and sync_batch_norm exclude each other: XLA cannot wait for "
                         "other replicas. Received: both.")
    if F.deterministic:
        tf.random.set_seed(F.seed)  # op determinism asks for one; ours are drawn from --seed anyway
        tf.config.experimental.enable_op_determinism()
    if cluster.is_configured():
        if F.num_cpu_replicas > 1:
            raise InputError("num_cpu_replicas must be 1 where TF_CONFIG names several hosts. "
                             f"Received: num_cpu_replicas={F.num_cpu_replicas}.")
        print("Waiting for the other hosts of TF_CONFIG.", flush=True)
        return cluster.make_strategy(F.num_gpus)
    return devices.make_strategy(F.num_gpus, F.num_cpu_replicas)


def _boundaries(texts, recipe):
    """--lr_boundaries as increasing steps; when not given the recipe's, or the data set's default.
    None of a schedule that has no steps."""
    if flags.FLAGS.lr_schedule != "step":
        if texts:
            raise InputError("lr_boundaries are of --lr_schedule=step alone. Received: lr_boundaries="
                             f"{','.join(texts)!r}, lr_schedule={flags.FLAGS.lr_schedule!r}.")
        return ()
    if not texts and recipe:
        return recipe.boundaries(flags.FLAGS.total_steps)
    if not texts:
        return optimizers.default_boundaries(flags.FLAGS.dataset, flags.FLAGS.total_steps)
    steps = [int(text) if text.strip().isdigit() else 0 for text in texts]
    if min(steps) < 1 or sorted(set(steps)) != steps:
        raise InputError("lr_boundaries must be increasing steps of at least 1, separated by commas. "
                         f"Received: lr_boundaries={','.join(texts)!r}.")
    return tuple(steps)


if __name__ == "__main__":
    flags.run(main, network_options.define, training_options.define)

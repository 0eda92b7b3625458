"""Flags of train.py, and of test_nor.py, which follows it; how they become a run.

TensorFlow is imported where it is used.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import flags

from absl import flags as absl_flags

from data import get_spec, inputs
from errors import InputError
from networks import BATCH_NORM, CONVOLUTIONS, get_network
from options import devices
from options import network as network_options
from training import (
    MIXED_PRECISIONS,
    NOISE_STD,
    OBJECTIVES,
    TERM_OF_FLAG,
    TRAINING_ATTACKS,
    get_objective,
    is_attacked,
    weighed,
)

if TYPE_CHECKING:
    import tensorflow as tf

    from files.checkpoints import TrainingRun
    from training.loop import Options

SHORTEST = "python train.py --dataset=digits --model=mlp --log_root=models/mlp"


def define() -> None:
    """Flags of train.py alone."""
    flags.define_mode("train", "train")
    flags.define_total_steps(90000)
    flags.define_lr_decay()
    absl_flags.DEFINE_string(
        "objective", "plain", f"What is minimised with the head: {', '.join(OBJECTIVES)}. plain: its "
        "loss, CE or, with --RCE_train, RCE; at50, at100: of attacked images; alp, clp, lsq: logit "
        "pairing.")
    _define_objective()
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


def _define_objective():
    """Flags of the terms of an objective; None: what its row, or the images' channels, say."""
    for flag, term in TERM_OF_FLAG.items():
        absl_flags.DEFINE_float(flag, None, f"Weight of {term} in an --objective. None: its own.")
    absl_flags.DEFINE_float(
        "noise_std", None, "Gaussian noise on training images of [0, 1], then clipped. None: of clp "
        "and lsq 0.5 for one channel, 0.06 for three; else 0.")
    absl_flags.DEFINE_float(
        "train_attack_eps", None, "Largest change of a pixel by the training attack. None: 0.3 for one "
        "channel, 16/255 for three.")
    absl_flags.DEFINE_float(
        "train_attack_step_size", None, "Change of a pixel per step of it. None: 0.01, or 2/255.")
    absl_flags.DEFINE_integer("train_attack_iterations", None, "Its steps. None: 40, or 10.")
    absl_flags.DEFINE_bool(
        "augment", None, "Crops and flips of training images. None: as the data set or the recipe of "
        "--model.")


def define_test_nor() -> None:
    """Flags of test_nor.py alone."""
    flags.define_mode("train", "eval (train is the same thing)")
    flags.define_total_steps(100000)
    flags.define_lr_decay()
    flags.define_eval_batches(50)
    flags.define_eval_once()
    flags.define_path("eval_dir", "", "TensorBoard summaries of evaluation.")
    absl_flags.DEFINE_integer(
        "eval_timeout", None, "Seconds to wait for a new checkpoint before ending. None: for ever.")


def check() -> None:
    """Refuses what no images are needed to refuse; InputError."""
    F = flags.FLAGS
    # Neither is a first try, which a command that works helps more than the name of one flag.
    if not (F.dataset or F.log_root):
        raise InputError("--dataset and --log_root must be given; the shortest command that trains is "
                         f"`{SHORTEST}`. Received: neither.")
    for name in ("total_steps", "batch_size", "checkpoint_every", "keep_checkpoints",
                 "steps_per_loop", "num_residual_units"):
        flags.check_at_least(name, 1)
    _weights()
    _check_terms()


def loop_options(note: Callable[[str], None]) -> "Options":
    """Where the run is kept, and how it is computed.

    Args:
      note: told what happens, a sentence each.

    Raises:
      InputError: no --log_root, or a folder of what is pretrained.
    """
    from files import paths, pretrained
    from training import loop

    F = flags.FLAGS
    log_root = flags.require("log_root")
    # Differs from the original: there it is the empty path where it is not given.
    train_dir = F.train_dir or f"{log_root}/train"
    for name, folder in (("log_root", log_root), ("train_dir", train_dir)):
        paths.require_folder(folder, name)
        if pretrained.is_pretrained(folder):
            raise InputError(f"{name} must be a folder of your own: what is pretrained stays as it is. "
                             f"Received: {name}={folder!r}.")
    return loop.Options(log_root, train_dir, F.checkpoint_every, F.keep_checkpoints, F.steps_per_loop,
                        F.jit_compile, note=note, warn=flags.warn)


def make_strategy(note: Callable[[str], None]) -> "tf.distribute.Strategy":
    """The strategy of the flags and of TF_CONFIG; sets how its devices compute.

    Args:
      note: told before it waits for other hosts.

    Raises:
      InputError: flags that exclude each other, or devices that are not there.
    """
    import tensorflow as tf

    from training import cluster

    F = flags.FLAGS
    if F.mixed_precision:
        flags.check_choice("mixed_precision", MIXED_PRECISIONS)
    if F.jit_compile and F.sync_batch_norm:
        raise InputError("jit_compile and sync_batch_norm exclude each other: XLA cannot wait for "
                         "other replicas. Received: both.")
    if F.deterministic:
        tf.random.set_seed(F.seed)  # op determinism asks for one; ours are drawn from --seed anyway
        tf.config.experimental.enable_op_determinism()
    if not cluster.is_configured():
        return devices.make_strategy(F.num_gpus, F.num_cpu_replicas)
    if F.num_cpu_replicas > 1:
        raise InputError("num_cpu_replicas must be 1 where TF_CONFIG names several hosts. "
                         f"Received: num_cpu_replicas={F.num_cpu_replicas}.")
    note("Waiting for the other hosts of TF_CONFIG.")
    return cluster.make_strategy(F.num_gpus)


def run_of(train_set: inputs.ImageSet, num_replicas: int) -> "TrainingRun":
    """The run that the flags and the recipe of --model describe.

    Args:
      train_set: what it trains on.
      num_replicas: which share a batch.

    Raises:
      InputError: numbers out of range, or flags of layers that the network lacks.
    """
    from files.checkpoints import TrainingRun
    from networks import heads

    F = flags.FLAGS
    recipe = _check_layers(train_set.images.shape[-1]).recipe
    batch_size = _given("batch_size", recipe and recipe.batch_size)
    # Every replica takes as many: each divides its loss by the global batch.
    if batch_size % num_replicas:
        raise InputError(f"batch_size must be divisible by the {num_replicas} replicas. "
                         f"Received: batch_size={batch_size}.")
    total_steps = _given(
        "total_steps", recipe and recipe.total_steps(len(train_set.labels), batch_size))
    optimizer = _given("Optimizer", recipe and recipe.optimizer)
    return TrainingRun(
        dataset=F.dataset, image_shape=train_set.images.shape[1:],
        num_classes=train_set.num_classes, blocks_per_stage=network_options.blocks_per_stage(),
        objective=heads.name_of(F.RCE_train), optimizer=optimizer, batch_size=batch_size,
        lr_boundaries=_boundaries(recipe, total_steps), total_steps=total_steps, seed=F.seed,
        sync_batch_norm=F.sync_batch_norm, mixed_precision=F.mixed_precision, model=F.model,
        lr_schedule=F.lr_schedule, training_objective=F.objective, objective_weights=_weights(),
        **_terms(train_set.images.shape[-1], batch_size, num_replicas), **_augment(recipe),
        **_numbers(recipe, optimizer))


def as_recorded(run: "TrainingRun") -> dict[str, object]:
    """Every flag with its value, for the run record; of those that a recipe decides, the run's."""
    weights = dict(run.objective_weights)
    attack = {f"train_attack_{name}": getattr(run, f"attack_{name}") or None
              for name in ("eps", "step_size", "iterations")}
    return flags.as_dict() | {
        "Optimizer": run.optimizer, "batch_size": run.batch_size, "total_steps": run.total_steps,
        "noise_std": run.noise_std, **attack,
        **{flag: weights.get(term, 0.0) for flag, term in TERM_OF_FLAG.items()}}


def told_of_objective(run: "TrainingRun") -> str:
    """One line: what is minimised, with weights, noise and training attack; "" of the head's loss."""
    if set(dict(run.objective_weights)) == {"head_loss"} and not run.noise_std:
        return ""
    weights = ", ".join(f"{weight:g} {term}" for term, weight in run.objective_weights)
    attack = (f"; attacked images: {run.attack_iterations} steps of {run.attack_step_size:.4g} within "
              f"{run.attack_eps:.4g}" if run.attack_iterations else "")
    return f"Objective {run.training_objective}: {weights}; noise {run.noise_std:g}{attack}."


def _weights():
    """The weights of --objective."""
    F = flags.FLAGS
    given = {flag: F[flag].value for flag in TERM_OF_FLAG if F[flag].value is not None}
    return weighed(get_objective(F.objective), given)


def _check_terms():
    """Refuses numbers of the noise and of the training attack that are out of range or for nothing."""
    F = flags.FLAGS
    if F.noise_std is not None and not 0 <= F.noise_std <= 10:
        raise InputError(f"noise_std must be in [0, 10]. Received: noise_std={F.noise_std}.")
    for name, most in (("train_attack_eps", 1.0), ("train_attack_step_size", float("inf")),
                       ("train_attack_iterations", float("inf"))):
        value = F[name].value
        if value is None:
            continue
        if not is_attacked(_weights()):
            raise InputError(f"{name} does nothing without attacked images: an --objective of at50, "
                             f"at100 or alp, or --at_lambda, --alp_lambda. Received: {name}={value}.")
        if not 0 < value <= most or value == float("inf"):
            bound = f" and at most {most:g}" if most < float("inf") else ""
            raise InputError(f"{name} must be above 0{bound}. Received: {name}={value}.")


def _terms(channels, batch_size, num_replicas):
    """Noise and training attack as fields of a TrainingRun; refuses what they cannot be computed in."""
    F, weights = flags.FLAGS, _weights()
    kind = channels if channels in NOISE_STD else 3
    if dict(weights).get("clp") and batch_size % (2 * num_replicas):
        raise InputError(f"clp pairs images: batch_size must be a multiple of {2 * num_replicas}. "
                         f"Received: batch_size={batch_size}.")
    noise = F.noise_std
    if noise is None:
        noise = NOISE_STD[kind] if get_objective(F.objective).noisy else 0.0
    if not is_attacked(weights):
        return {"noise_std": noise}
    if F.mixed_precision == "float16":
        raise InputError("mixed_precision must not be float16 where training attacks images: their "
                         "gradients vanish in it. Received: mixed_precision='float16', "
                         f"objective={F.objective!r}.")
    usual = TRAINING_ATTACKS[kind]
    given = {name: F[f"train_attack_{name}"].value for name in ("eps", "step_size", "iterations")}
    return {"noise_std": noise} | {
        f"attack_{name}": getattr(usual, name) if value is None else value
        for name, value in given.items()}


def _augment(recipe):
    """--augment as a field of a TrainingRun: none where it is what the data set does."""
    spec = get_spec(flags.FLAGS.dataset)
    wanted = _given("augment", recipe and recipe.augment)
    if wanted and spec.has_mirror_classes:
        raise InputError(f"augment must not be true of {spec.name}: a flipped image may be of another "
                         "class, or of none. Received: augment=True.")
    return {} if wanted is None or wanted == spec.augment else {"augment": wanted}


def _given(name, of_recipe):
    """The flag where it was given or no recipe decides it."""
    flag = flags.FLAGS[name]
    # Given with its own default it is given all the same, and overrides the recipe.
    return flag.value if of_recipe is None or not flag.using_default_value else of_recipe


def _numbers(recipe, optimizer):
    """What the recipe and --learning_rate say beside the flags, as fields of a TrainingRun."""
    numbers = recipe.numbers(optimizer) if recipe else {}
    rate = flags.FLAGS.learning_rate
    if rate is None and recipe and optimizer != recipe.optimizer:
        flags.warn(f"--Optimizer={optimizer} trains --model={flags.FLAGS.model} at a rate of its own, "
                   f"not at that of its recipe ({recipe.optimizer}): --learning_rate says which.")
    if rate is None:
        return numbers
    if not 0 < rate < float("inf"):
        raise InputError(f"learning_rate must be a number above 0. Received: learning_rate={rate}.")
    return numbers | {"learning_rate": rate}


def _check_layers(channels):
    """The variant of --model for so many channels; refuses what asks for layers that it lacks."""
    F = flags.FLAGS
    variant = get_network(F.model).variant(channels)
    for name, layers in (("sync_batch_norm", BATCH_NORM), ("mixed_precision", CONVOLUTIONS)):
        if F[name].value and layers not in variant.layers:
            raise InputError(f"{name} expected a network with {layers}. Received: model={F.model!r}, "
                             f"channels={channels}.")
    return variant


def _boundaries(recipe, total_steps):
    """--lr_boundaries as increasing steps; when not given the recipe's, or the data set's default.
    None of a schedule that has no steps."""
    from training import optimizers

    texts, schedule = flags.FLAGS.lr_boundaries, flags.FLAGS.lr_schedule
    if schedule != "step":
        if texts:
            raise InputError("lr_boundaries are of --lr_schedule=step alone. Received: lr_boundaries="
                             f"{','.join(texts)!r}, lr_schedule={schedule!r}.")
        return ()
    if not texts and recipe:
        return recipe.boundaries(total_steps)
    if not texts:
        return optimizers.default_boundaries(flags.FLAGS.dataset, total_steps)
    # What is no number becomes 0, which is refused below.
    steps = [flags.whole(text) or 0 for text in texts]
    if min(steps) < 1 or sorted(set(steps)) != steps:
        raise InputError("lr_boundaries must be increasing steps of at least 1, separated by commas. "
                         f"Received: lr_boundaries={','.join(texts)!r}.")
    return tuple(steps)

"""The training loop: from the newest whole checkpoint to the last step, a signal, or an error."""

import contextlib
import dataclasses
import functools
import signal
from collections.abc import Callable, Mapping

import tensorflow as tf

from data import get_spec, inputs, pipeline
from errors import RunError
from files import checkpoints, provenance, run_lock, tf1_checkpoints, training_log
from networks import heads, restoring
from networks.network import Network
from resnet_model import WEIGHT_DECAY, named_variables, weight_decay_loss
from training import (
    NO_ATTACK,
    OBJECTIVES,
    TrainingAttack,
    adversarial,
    cluster,
    is_attacked,
    losses,
    optimizers,
)
from training.reporter import TEST_EVERY, Reporter, Silent, summary_every

# No training that goes on comes near it; one that diverges passes it within a few steps.
LARGEST_COST = 1e6


def make_train_loop(strategy, model, optimizer, head: heads.Head, batch_size: int,
                    *, weights: tuple[tuple[str, float], ...] = OBJECTIVES["plain"].weights,
                    attack: TrainingAttack | None = NO_ATTACK,
                    weight_decay: float = WEIGHT_DECAY, jit_compile: bool = False):
    """The traced training loop.

    Args:
      strategy: tf.distribute strategy in whose scope model and optimizer were made.
      model: from images to (logits, features).
      optimizer: built for the model's trainable variables.
      head: of the model.
      batch_size: images per step over all replicas.
      weights: of the terms of `training.losses.TERMS` that are minimised, with weight decay.
      attack: of terms that look at attacked images; None: the iterator gives those.
      weight_decay: its factor.
      jit_compile: whether XLA compiles the gradients.

    Returns:
      A tf.function (iterator, num_steps int32 scalar) → (cost float32 scalar, good_steps int32
      scalar, parts float32 [terms]). The cost is loss and weight decay before a step's update: of the
      last step, or of the first one that is NaN or above LARGEST_COST; good_steps is the number of
      steps before that. The parts are the terms of the same step as they are, means over the batch;
      none of an objective of one term. The iterator gives images and labels, where attacked images are
      looked at also the start of their attack, or themselves.
    """
    attacked = is_attacked(weights)

    def attacked_images(images, labels, given):
        if attack is None:
            return given
        return adversarial.craft(model, head, images, labels, given, attack)

    # 100 % adversarial training looks at no clean image, and its batch norm at none either.
    clean = any(name != "adversarial_loss" for name, _ in weights)

    def gradients(images, labels, *made):
        with tf.GradientTape() as tape:
            outputs = model(images, training=True) if clean else (None, None)
            logits = [model(x, training=True)[0] for x in made]
            batch = losses.Batch(images, labels, *outputs, model, head, *logits)
            terms = losses.parts(weights, batch)
            # Replicas' gradients are summed: each divides by the global batch, and the decay, which
            # every replica has in full, by their number.
            loss = tf.reduce_sum(losses.total(weights, terms)) / batch_size
            cost = loss + weight_decay_loss(model, weight_decay) / strategy.num_replicas_in_sync
            scaled = optimizer.scale_loss(cost)
        told = [tf.reduce_sum(term) / batch_size for term in terms] if len(terms) > 1 else []
        return cost, told, tape.gradient(scaled, model.trainable_variables)

    if jit_compile:
        # Without the update: XLA cannot wait for the gradients of other replicas.
        gradients = tf.function(gradients, jit_compile=True)

    def replica_step(images, labels, *given):
        # Outside the tape, so that what it makes is a constant.
        made = [attacked_images(images, labels, *given)] if attacked else []
        cost, told, slopes = gradients(images, labels, *made)
        optimizer.apply(slopes, model.trainable_variables)
        return cost, told

    @tf.function
    def train_loop(iterator, num_steps):
        cost, good_steps = tf.constant(0.0), tf.constant(0)
        parts = [tf.constant(0.0)] * (len(weights) if len(weights) > 1 else 0)
        for _ in tf.range(num_steps):
            per_replica = strategy.run(replica_step, args=next(iterator))
            new, new_parts = tf.nest.map_structure(
                lambda value: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None),
                per_replica)
            # Kept on the device: looking at it on the host would halt a GPU at every step.
            is_good = _is_good(cost)
            cost = tf.where(is_good, new, cost)
            parts = [tf.where(is_good, *pair) for pair in zip(new_parts, parts, strict=True)]
            good_steps += tf.cast(is_good & _is_good(new), tf.int32)
        return cost, good_steps, parts

    return train_loop


def _is_good(cost):
    return cost <= LARGEST_COST  # false of NaN, too


class _StopSignal:
    """Remembers SIGINT or SIGTERM while active, so that the loop can save and end in order."""

    def __init__(self):
        # Remembered only: a handler runs between any two lines, in the middle of a save for one.
        self.number = 0

    def __enter__(self):
        self._previous = {s: signal.signal(s, self._remember)
                          for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        # Whoever trains from Python has handlers of their own.
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number, _):
        self.number = number

    @property
    def name(self):
        """Name of the signal; that of another worker's is not known."""
        return signal.Signals(self.number).name if self.number else "a signal to another host"

    @property
    def exit_code(self):
        """What a shell reports for the signal."""
        return 128 + (self.number or signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class Options:
    """Where a run is kept, and how it is computed: nothing here changes what is trained.

    Attributes:
      log_root: folder of the checkpoints; of a cluster on a file system that all hosts share.
      train_dir: folder of TensorBoard events and training.csv.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest stay.
      steps_per_loop: steps per call of the traced loop.
      jit_compile: whether XLA compiles the gradients.
      note: told what happened in the order of things, a sentence each.
      warn: told what the user should look at.
    """

    log_root: str
    train_dir: str
    checkpoint_every: int = 2500
    keep_checkpoints: int = 5
    steps_per_loop: int = 20
    jit_compile: bool = False
    note: Callable[[str], None] = lambda sentence: None
    warn: Callable[[str], None] = lambda sentence: None


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a run has its first weights and its batches from, in place of its seed and its images.

    Attributes:
      initialise: sets the weights of the network that was built.
      batches: from the first step to a dataset of global batches: images, labels and, where attacked
        images are looked at, those.
    """

    initialise: Callable[[Network], None]
    batches: Callable[[int], tf.data.Dataset]


def train(run: checkpoints.TrainingRun, strategy: tf.distribute.Strategy,
          train_set: inputs.ImageSet, test_set: inputs.ImageSet | None,
          options: Options, source: Source | None = None) -> tuple[int, dict | None]:
    """Trains up to `run.total_steps`, from the newest whole checkpoint in log_root if there is one.

    Args:
      run: what is trained, and how; stored in every checkpoint.
      strategy: from `options.devices` or `cluster.make_strategy`; of a cluster only the chief writes.
      train_set: images to train on.
      test_set: images for the test precision every 500 steps, or None.
      options: where it is kept.
      source: of its batches, on one host; None: they are drawn from `train_set`.

    Returns:
      Exit code (0, or 128 + the number of the signal that stopped the run) and the last figures,
      "step" and "found_finished" of a run that was finished already, None when they are another
      worker's to report.

    Raises:
      InputError: log_root or train_dir holds another run, or another process trains there.
      RunError: the loss is not finite or explodes, the disk is full, or a worker is lost.
    """
    network, optimizer = _build(run, strategy)
    if source:
        source.initialise(network)
    store = checkpoints.Checkpoints(
        options.log_root, run, named_variables(network.model), named_variables(optimizer),
        keep=options.keep_checkpoints)
    workers = cluster.Workers(strategy)
    with contextlib.ExitStack() as stack:
        stack.enter_context(workers.loss_reported(options.log_root))
        if workers.is_chief:
            taken_over = stack.enter_context(run_lock.hold(options.log_root))
            if taken_over:
                options.warn(taken_over)
            # Under the lock: what looks unfinished could be another run's that is saving just now.
            store.remove_unfinished()
        start = _resume(store, workers, run, network, optimizer, options)
        if start >= run.total_steps:
            # Before the log is opened, which would cut and write files of a run that is complete.
            return 0, {"step": start, "found_finished": True} if workers.is_chief else None
        if workers.is_chief:
            training_log.refuse_others(options.train_dir, options.log_root, fresh=not start)
        reporter = stack.enter_context(
            Reporter(run, network, strategy, test_set, options, start)
            if workers.is_chief else Silent())
        loop = make_train_loop(
            strategy, network.model, optimizer, network.head, run.batch_size,
            weights=run.objective_weights, attack=None if source else TrainingAttack(
                run.attack_eps, run.attack_step_size, run.attack_iterations),
            weight_decay=run.weight_decay, jit_compile=options.jit_compile)
        batches = (strategy.experimental_distribute_dataset(source.batches(start)) if source
                   else _batches(strategy, run, train_set, start))
        advance = functools.partial(loop, iter(batches))
        exit_code = _run_steps(advance, start, run, store, workers, reporter, options)
    return exit_code, reporter.figures


def record(options: Options, flags: Mapping[str, object], figures: Mapping[str, object] | None) -> None:
    """Writes the run record of what `train` returned `figures` of.

    A run that was killed behind its last checkpoint is recorded by the next; one that was recorded
    keeps its figures.
    """
    if figures and not (figures.get("found_finished") and provenance.read(options.train_dir, "train")):
        provenance.write(options.train_dir, "train", flags=flags, metrics=figures)


def _run_steps(advance, start, run, store, workers, reporter, options):
    """The steps from `start` on; ends with the last or with a signal. Returns the exit code."""
    # A call ends wherever something is due, so that --steps_per_loop has no influence on what is
    # told or saved.
    periods = (summary_every(run.total_steps), TEST_EVERY, options.checkpoint_every)
    step, stopped = start, False
    with _StopSignal() as stop:
        # Differs from the original: its loop makes total_steps + 1 updates.
        while step < run.total_steps and not stopped:
            ahead = min(step + options.steps_per_loop, run.total_steps,
                        *(step - step % period + period for period in periods))
            cost, good_steps, parts = advance(tf.constant(ahead - step))
            # Looked at once a call, and before anything of it is reported or saved.
            bad_step = step + int(good_steps) + 1
            if bad_step <= ahead:
                raise RunError(f"the training has diverged: the loss of step {bad_step} is "
                               f"{float(cost):g}. {store.last_good()}")
            step = ahead
            reporter.report(step, cost, parts)
            # Asked before the save: the chief saves for whichever worker was told to stop.
            stopped = workers.any(stop.number)
            if workers.is_chief and (
                    step % options.checkpoint_every == 0 or step == run.total_steps or stopped):
                store.save(step)
    if not stopped:
        return 0
    options.note(f"Stopped by {stop.name} at step {step}; saved in {store.log_root}. "
                 "The same command goes on from there.")
    return stop.exit_code


def _build(run, strategy):
    """A fresh network and its optimizer."""
    network = restoring.build_network(
        strategy, run, seed=run.seed, sync_batch_norm=run.sync_batch_norm,
        mixed_precision=run.mixed_precision)
    return network, optimizers.build_for(run, strategy, network.model)


def _resume(store, workers, run, network, optimizer, options):
    """Restores the newest whole checkpoint, ours or the original's; says so; returns its step."""
    # Differs from the original: it begins anew every time.
    newest, damaged = checkpoints.newest_whole(store.log_root)
    for sentence in damaged:
        options.warn(f"{sentence} Using {newest} instead.")
    if newest and tf1_checkpoints.is_tf1(newest):
        restoring.check_tf1(newest, run.model)
        variables = named_variables(network.model)
        start = tf1_checkpoints.restore_network(newest, variables)
        store.origin = newest
        tf1_checkpoints.restore_optimizer(newest, variables, named_variables(optimizer), run.optimizer)
        options.warn(restoring.tf1_note(newest, start, run.objective))
    else:
        start = store.resume().step
    workers.check_same(start, f"the step of the newest checkpoint in {store.log_root}")
    if start >= run.total_steps:
        options.note(f"{store.log_root} has a checkpoint at step {start}: nothing left of the "
                     f"{run.total_steps} steps of --total_steps.")
    elif start:
        options.note(f"Resuming at step {start} from {store.log_root}.")
    return start


def _batches(strategy, run, train_set, start):
    """The rest of the training batches; each worker of a cluster makes those of its replicas."""
    def dataset(context):
        # All workers know the same global batch; each makes the part of its replicas.
        local = strategy.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return pipeline.train_dataset(
            train_set, batch_size=run.batch_size, seed=run.seed, start_step=start,
            num_steps=run.total_steps, noise_std=run.noise_std, start_eps=run.attack_eps,
            augment=get_spec(run.dataset).augment if run.augment is None else run.augment,
            num_replicas=strategy.num_replicas_in_sync, replica_ids=range(first, first + local))

    return strategy.distribute_datasets_from_function(dataset)

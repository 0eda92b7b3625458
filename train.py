"""Trains a network with cross entropy or reverse cross-entropy, as the original's train.py.

    python train.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --total_steps=1000 --RCE_train=True
"""

import contextlib
import signal
import time

import flags

import tensorflow as tf
from tqdm import tqdm

import cluster
import inference
import optimizers
import recipes
from data import checkpoints, inputs, pretrained, run_lock, run_records, tf1_checkpoints
from data.training_log import TrainingLog
from defenses import objectives
from errors import InputError, RunError
from resnet_model import WEIGHT_DECAY, named_variables, weight_decay_loss

# No training that goes on comes near it; one that diverges passes it within a few steps.
LARGEST_COST = 1e6
TEST_EVERY = 500
TEST_IMAGES = 50 * 200
MODES = ("train",)


def make_train_loop(strategy, model, optimizer, objective: objectives.Objective, batch_size: int,
                    *, weight_decay: float = WEIGHT_DECAY, jit_compile: bool = False):
    """The traced training loop.

    Args:
      strategy: tf.distribute strategy in whose scope model and optimizer were made.
      model: from images to (logits, features).
      optimizer: built for the model's trainable variables.
      objective: whose loss is minimised, with weight decay.
      batch_size: images per step over all replicas.
      weight_decay: its factor.
      jit_compile: whether XLA compiles the gradients.

    Returns:
      A tf.function (iterator, num_steps int32 scalar) → (cost float32 scalar, good_steps int32
      scalar). The cost is loss and weight decay before a step's update: of the last step, or of the
      first one that is NaN or above LARGEST_COST; good_steps is the number of steps before that.
    """
    def gradients(images, labels):
        with tf.GradientTape() as tape:
            logits, _ = model(images, training=True)
            # Replicas' gradients are summed: each divides by the global batch, and the decay, which
            # every replica has in full, by their number.
            loss = tf.reduce_sum(objective.loss(labels, logits)) / batch_size
            cost = loss + weight_decay_loss(model, weight_decay) / strategy.num_replicas_in_sync
            scaled = optimizer.scale_loss(cost)
        return cost, tape.gradient(scaled, model.trainable_variables)

    if jit_compile:
        gradients = tf.function(gradients, jit_compile=True)

    def replica_step(images, labels):
        cost, slopes = gradients(images, labels)
        optimizer.apply(slopes, model.trainable_variables)
        return cost

    @tf.function
    def train_loop(iterator, num_steps):
        cost, good_steps = tf.constant(0.0), tf.constant(0)
        for _ in tf.range(num_steps):
            per_replica = strategy.run(replica_step, args=next(iterator))
            new = strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
            # Kept on the device: looking at it on the host would halt a GPU at every step.
            is_good = _is_good(cost)
            cost = tf.where(is_good, new, cost)
            good_steps += tf.cast(is_good & _is_good(new), tf.int32)
        return cost, good_steps

    return train_loop


def _is_good(cost):
    return cost <= LARGEST_COST  # false of NaN, too


class _StopSignal:
    """Remembers SIGINT or SIGTERM while active, so that the loop can save and end in order."""

    def __init__(self):
        self.number = 0

    def __enter__(self):
        self._previous = {s: signal.signal(s, self._remember)
                          for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
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


def train(run: checkpoints.RunRecord, strategy: tf.distribute.Strategy,
          train_set: inputs.ImageSet, test_set: inputs.ImageSet | None, *, log_root: str,
          train_dir: str, checkpoint_every: int = 2500, keep_checkpoints: int = 5,
          steps_per_loop: int = 20, jit_compile: bool = False) -> tuple[int, dict | None]:
    """Trains up to `run.total_steps`, from the newest whole checkpoint in log_root if there is one.

    Args:
      run: what is trained, and how; stored in every checkpoint.
      strategy: from `flags.make_strategy` or `cluster.make_strategy`; of a cluster only the chief
        writes.
      train_set: images to train on.
      test_set: images for the test precision every 500 steps, or None.
      log_root: folder of the checkpoints; of a cluster on a file system that all hosts share.
      train_dir: folder of TensorBoard events and training.csv.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest stay.
      steps_per_loop: steps per call of the traced loop; no influence on results.
      jit_compile: whether XLA compiles the gradients.

    Returns:
      Exit code (0, or 128 + the number of the signal that stopped the run) and the last figures,
      "step" and "found_finished" of a run that was finished already, None when they are another
      worker's to report.

    Raises:
      InputError: log_root or train_dir holds another run, or another process trains there.
      RunError: the loss is not finite or explodes, the disk is full, or a worker is lost.
    """
    network, optimizer = _build(run, strategy)
    store = checkpoints.Checkpoints(
        log_root, run, named_variables(network.model), named_variables(optimizer),
        keep=keep_checkpoints)
    workers = cluster.Workers(strategy)
    with contextlib.ExitStack() as stack:
        stack.enter_context(workers.loss_reported(log_root))
        if workers.is_chief:
            taken_over = stack.enter_context(run_lock.hold(log_root))
            if taken_over:
                flags.warn(taken_over)
            store.remove_unfinished()
        start = _resume(store, workers, run, network, optimizer)
        if start >= run.total_steps:
            return 0, {"step": start, "found_finished": True} if workers.is_chief else None
        if not start and workers.is_chief and run_records.read(train_dir, "train"):
            raise InputError("train_dir must not hold the record of another training, train_run.json, "
                             f"whose figures would be lost. Received: train_dir={train_dir!r}.")
        reporter = stack.enter_context(
            _Reporter(run, network, strategy, test_set, train_dir, start) if workers.is_chief
            else _Silent())
        loop = make_train_loop(strategy, network.model, optimizer, network.objective,
                               run.batch_size, weight_decay=run.weight_decay,
                               jit_compile=jit_compile)
        iterator = iter(_batches(strategy, run, train_set, start))
        exit_code = _run_steps(loop, iterator, start, run, store, workers, reporter,
                               checkpoint_every=checkpoint_every, steps_per_loop=steps_per_loop)
    return exit_code, reporter.figures


def _run_steps(loop, iterator, start, run, store, workers, reporter, *, checkpoint_every,
               steps_per_loop):
    """The steps from `start` on; ends with the last or with a signal. Returns the exit code."""
    periods = (_summary_every(run.total_steps), TEST_EVERY, checkpoint_every)
    step, stopped = start, False
    with _StopSignal() as stop:
        while step < run.total_steps and not stopped:
            ahead = min(step + steps_per_loop, run.total_steps,
                        *(step - step % period + period for period in periods))
            cost, good_steps = loop(iterator, tf.constant(ahead - step))
            bad_step = step + int(good_steps) + 1
            if bad_step <= ahead:
                raise RunError(f"the training has diverged: the loss of step {bad_step} is "
                               f"{float(cost):g}. {store.last_good()}")
            step = ahead
            reporter.report(step, cost)
            stopped = workers.any(stop.number)
            if workers.is_chief and (
                    step % checkpoint_every == 0 or step == run.total_steps or stopped):
                store.save(step)
    if not stopped:
        return 0
    print(f"Stopped by {stop.name} at step {step}; saved in {store.log_root}. "
          "The same command goes on from there.")
    return stop.exit_code


def _summary_every(total_steps):
    return max(1, total_steps // 200)


def _build(run, strategy):
    """A fresh network and its optimizer."""
    network = inference.build_network(
        strategy, run, seed=run.seed, sync_batch_norm=run.sync_batch_norm,
        mixed_precision=run.mixed_precision)
    return network, optimizers.build_for(run, strategy, network.model)


def _resume(store, workers, run, network, optimizer):
    """Restores the newest whole checkpoint, ours or the original's; says so; returns its step."""
    newest, damaged = checkpoints.newest_whole(store.log_root)
    for sentence in damaged:
        flags.warn(f"{sentence} Using {newest} instead.")
    if newest and tf1_checkpoints.is_tf1(newest):
        inference.check_tf1(newest, run.model)
        variables = named_variables(network.model)
        start = tf1_checkpoints.restore_network(newest, variables)
        store.origin = newest
        tf1_checkpoints.restore_optimizer(newest, variables, named_variables(optimizer), run.optimizer)
        flags.warn(inference.tf1_note(newest, start, run.objective))
    else:
        start = store.resume().step
    workers.check_same(start, f"the step of the newest checkpoint in {store.log_root}")
    if start >= run.total_steps:
        print(f"{store.log_root} has a checkpoint at step {start}: nothing left of the "
              f"{run.total_steps} steps of --total_steps.")
    elif start:
        print(f"Resuming at step {start} from {store.log_root}.")
    return start


def _batches(strategy, run, train_set, start):
    """The rest of the training batches; each worker of a cluster makes those of its replicas."""
    def dataset(context):
        local = strategy.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return inputs.train_dataset(
            train_set, batch_size=run.batch_size, seed=run.seed, start_step=start,
            num_steps=run.total_steps, augment=inputs.get_spec(run.dataset).augment,
            num_replicas=strategy.num_replicas_in_sync, replica_ids=range(first, first + local))

    return strategy.distribute_datasets_from_function(dataset)


class _Silent(contextlib.nullcontext):
    """In place of a `_Reporter`, on the workers that write nothing."""

    figures = None

    def __enter__(self):
        return self

    def report(self, step, cost):
        """Says nothing."""


class _Reporter:
    """Progress bar, scalars and the original's test precision lines of one run."""

    def __init__(self, run, network, strategy, test_set, train_dir, start):
        self._run = run
        self._schedule = optimizers.rate_of(run)
        self._model = network.model
        self._forward = network.forward_stored(strategy)
        self._test_set = test_set
        self._summary_every = _summary_every(run.total_steps)
        self._log = TrainingLog(train_dir, start)
        # disable=None: no bar where the output is not a terminal.
        self._bar = tqdm(total=run.total_steps, initial=start, unit="step", disable=None)
        self._started = (start, time.perf_counter())
        self.figures = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()
        self._log.close()

    def report(self, step, cost):
        scalars = {}
        if step % self._summary_every == 0 or step == self._run.total_steps:
            # The rate of the step whose cost this is.
            scalars = {"cost": float(cost), "learning_rate": float(self._schedule(step - 1))}
            self._bar.set_postfix(
                loss=f"{scalars['cost']:.4f}", lr=f"{scalars['learning_rate']:g}",
                images_per_s=f"{self._images_per_second(step):.0f}", refresh=False)
        if self._test_set is not None and (
                step % TEST_EVERY == 0 or step == self._run.total_steps):
            scalars["test_precision"] = self._test_precision()
            tqdm.write(f"Step: {step} Test precision: {scalars['test_precision']:.5f}")
        if scalars:
            self._log.write(step, **scalars)
            self.figures.update(scalars, step=step)
        self._bar.update(step - self._bar.n)

    def _images_per_second(self, step):
        first_step, started = self._started
        return (step - first_step) * self._run.batch_size / (time.perf_counter() - started)

    def _test_precision(self):
        for variable in self._model.non_trainable_variables:
            # Each replica has moving averages of its own; a checkpoint holds those of the first.
            variable.assign(variable.value)
        num_images = min(TEST_IMAGES, len(self._test_set.labels))
        return inference.count_correct(self._forward, self._test_set, num_images) / num_images


def main() -> int:
    """Turns the flags into a run and trains it."""
    F = flags.FLAGS
    flags.check_choice("mode", MODES)
    for name in ("total_steps", "batch_size", "checkpoint_every", "keep_checkpoints",
                 "steps_per_loop"):
        flags.check_at_least(name, 1)
    blocks_per_stage = flags.blocks_per_stage()
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
    exit_code, figures = train(
        run, strategy, train_set, test_set, log_root=log_root, train_dir=train_dir,
        checkpoint_every=F.checkpoint_every, keep_checkpoints=F.keep_checkpoints,
        steps_per_loop=F.steps_per_loop, jit_compile=F.jit_compile)
    # A run that was killed behind its last checkpoint is recorded by the next; one that was recorded
    # keeps its figures.
    if figures and not (figures.get("found_finished") and run_records.read(train_dir, "train")):
        run_records.write(train_dir, "train", flags=flags.as_dict(), metrics=figures)
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
    return checkpoints.RunRecord(
        dataset=F.dataset, image_shape=train_set.images.shape[1:],
        num_classes=train_set.num_classes, blocks_per_stage=blocks_per_stage,
        objective=objectives.name_of(F.RCE_train), optimizer=F.Optimizer,
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
    return flags.make_strategy(F.num_gpus, F.num_cpu_replicas)


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
    flags.run(main, flags.define_common, flags.define_train)

"""Trains a ResNet with cross entropy or reverse cross-entropy, as the original's train.py.

    python train.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --total_steps=1000 --RCE_train=True
"""

import signal
import time

import flags

import tensorflow as tf
from tqdm import tqdm

import inference
from data import artifacts, checkpoints, inputs
from data.training_log import TrainingLog
from defenses import objectives
from errors import InputError
from optimizers import default_boundaries, learning_rate_schedule, make_optimizer
from resnet_model import named_variables, weight_decay_loss

TEST_EVERY = 500
TEST_IMAGES = 50 * 200
MODES = ("train",)


def make_train_loop(strategy, model, optimizer, objective: objectives.Objective, batch_size: int):
    """The traced training loop.

    Args:
      strategy: tf.distribute strategy in whose scope model and optimizer were made.
      model: from images to (logits, features).
      optimizer: built for the model's trainable variables.
      objective: whose loss is minimised, with weight decay.
      batch_size: images per step over all replicas.

    Returns:
      A tf.function (iterator, num_steps int32 scalar) → cost of the last step, float32 scalar: loss
      and weight decay, before that step's update.
    """
    def replica_step(images, labels):
        with tf.GradientTape() as tape:
            logits, _ = model(images, training=True)
            # Replicas' gradients are summed: each divides by the global batch, and the decay, which
            # every replica has in full, by their number.
            loss = tf.reduce_sum(objective.loss(labels, logits)) / batch_size
            cost = loss + weight_decay_loss(model) / strategy.num_replicas_in_sync
        gradients = tape.gradient(cost, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return cost

    @tf.function
    def train_loop(iterator, num_steps):
        cost = tf.constant(0.0)
        for _ in tf.range(num_steps):
            per_replica = strategy.run(replica_step, args=next(iterator))
            cost = strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
        return cost

    return train_loop


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


def train(run: checkpoints.RunRecord, strategy: tf.distribute.Strategy,
          train_set: inputs.ImageSet, test_set: inputs.ImageSet | None, *, log_root: str,
          train_dir: str, checkpoint_every: int = 2500, keep_checkpoints: int = 5,
          steps_per_loop: int = 20) -> tuple[int, dict | None]:
    """Trains up to `run.total_steps`, from the newest checkpoint in log_root if there is one.

    Args:
      run: what is trained, and how; stored in every checkpoint.
      strategy: from `flags.make_strategy`.
      train_set: images to train on.
      test_set: images for the test precision every 500 steps, or None.
      log_root: folder of the checkpoints.
      train_dir: folder of TensorBoard events and training.csv.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest stay.
      steps_per_loop: steps per call of the traced loop; no influence on results.

    Returns:
      Exit code (0, or 128 + the number of the signal that stopped the run) and the last figures,
      None when the run was already finished.
    """
    network = inference.build_network(strategy, run, seed=run.seed)
    with strategy.scope():
        optimizer = make_optimizer(run.optimizer, learning_rate_schedule(run.lr_boundaries))
        optimizer.build(network.model.trainable_variables)
    store = checkpoints.Checkpoints(
        log_root, run, named_variables(network.model), named_variables(optimizer),
        keep=keep_checkpoints)
    start = store.resume()
    if start >= run.total_steps:
        print(f"{log_root} has a checkpoint at step {start}: nothing left of the "
              f"{run.total_steps} steps of --total_steps.")
        return 0, None
    if start:
        print(f"Resuming at step {start} from {log_root}.")
    batches = strategy.distribute_datasets_from_function(lambda _: inputs.train_dataset(
        train_set, batch_size=run.batch_size, seed=run.seed, start_step=start,
        num_steps=run.total_steps, augment=inputs.get_spec(run.dataset).augment,
        num_replicas=strategy.num_replicas_in_sync))
    train_loop = make_train_loop(
        strategy, network.model, optimizer, network.objective, run.batch_size)
    summary_every = max(1, run.total_steps // 200)
    periods = (summary_every, TEST_EVERY, checkpoint_every)
    reporter = _Reporter(run, network, strategy, test_set, train_dir, start, summary_every)
    iterator = iter(batches)
    step = start
    with _StopSignal() as stop:
        while step < run.total_steps and not stop.number:
            ahead = min(step + steps_per_loop, run.total_steps,
                        *(step - step % period + period for period in periods))
            cost = train_loop(iterator, tf.constant(ahead - step))
            step = ahead
            reporter.report(step, cost)
            if step % checkpoint_every == 0 or step == run.total_steps or stop.number:
                store.save(step)
    reporter.close()
    if stop.number:
        print(f"Stopped by {signal.Signals(stop.number).name} at step {step}; saved in {log_root}. "
              "The same command goes on from there.")
    return (128 + stop.number if stop.number else 0), reporter.figures


class _Reporter:
    """Progress bar, scalars and the original's test precision lines of one run."""

    def __init__(self, run, network, strategy, test_set, train_dir, start, summary_every):
        self._run = run
        self._schedule = learning_rate_schedule(run.lr_boundaries)
        self._forward = network.forward_stored(strategy)
        self._test_set = test_set
        self._summary_every = summary_every
        self._log = TrainingLog(train_dir, start)
        # disable=None: no bar where the output is not a terminal.
        self._bar = tqdm(total=run.total_steps, initial=start, unit="step", disable=None)
        self._started = (start, time.perf_counter())
        self.figures = {}

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
        num_images = min(TEST_IMAGES, len(self._test_set.labels))
        return inference.count_correct(self._forward, self._test_set, num_images) / num_images

    def close(self):
        self._bar.close()
        self._log.close()


def main() -> int:
    """Turns the flags into a run and trains it."""
    F = flags.FLAGS
    flags.check_choice("mode", MODES)
    for name in ("total_steps", "batch_size", "checkpoint_every", "keep_checkpoints",
                 "steps_per_loop", "num_residual_units"):
        flags.check_at_least(name, 1)
    log_root = flags.require("log_root")
    strategy = flags.make_strategy(F.num_gpus)
    if F.batch_size % strategy.num_replicas_in_sync:
        raise InputError(f"batch_size must be divisible by the {strategy.num_replicas_in_sync} "
                         f"replicas of --num_gpus. Received: batch_size={F.batch_size}.")
    train_set, test_set = inputs.load_for_training(
        F.dataset, F.train_data_path, F.eval_data_path, data_dir=F.data_dir,
        num_classes=F.num_classes)
    if test_set is None:
        print("No --eval_data_path: no test precision during training.")
    run = checkpoints.RunRecord(
        dataset=F.dataset, image_shape=train_set.images.shape[1:],
        num_classes=train_set.num_classes, blocks_per_stage=F.num_residual_units,
        objective=objectives.name_of(F.RCE_train), optimizer=F.Optimizer,
        batch_size=F.batch_size, lr_boundaries=_boundaries(F.lr_boundaries),
        total_steps=F.total_steps, seed=F.seed)
    train_dir = F.train_dir or f"{log_root}/train"
    exit_code, figures = train(
        run, strategy, train_set, test_set, log_root=log_root, train_dir=train_dir,
        checkpoint_every=F.checkpoint_every, keep_checkpoints=F.keep_checkpoints,
        steps_per_loop=F.steps_per_loop)
    if figures is not None:
        artifacts.write_run_record(train_dir, "train", flags=flags.as_dict(), metrics=figures)
    return exit_code


def _boundaries(texts):
    """--lr_boundaries as increasing steps; the data set's default when not given."""
    if not texts:
        return default_boundaries(flags.FLAGS.dataset, flags.FLAGS.total_steps)
    steps = [int(text) if text.strip().isdigit() else 0 for text in texts]
    if min(steps) < 1 or sorted(set(steps)) != steps:
        raise InputError("lr_boundaries must be increasing steps of at least 1, separated by commas. "
                         f"Received: lr_boundaries={','.join(texts)!r}.")
    return tuple(steps)


if __name__ == "__main__":
    flags.run(main, flags.define_common, flags.define_train)

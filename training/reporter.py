"""How a training run is told of: progress bar, scalars, and the original's test precision lines."""

import contextlib
import time
from collections.abc import Sequence

from tqdm import tqdm

from files.training_log import TrainingLog
from networks.network import count_correct
from training import optimizers

# The original's: every 500 steps, 50 batches of 200 images.
TEST_EVERY = 500
TEST_IMAGES = 50 * 200


def summary_every(total_steps: int) -> int:
    """Steps between two rows of the log: two hundred in a run."""
    return max(1, total_steps // 200)


class Silent(contextlib.nullcontext):
    """In place of a `Reporter`, on the workers that write nothing."""

    figures = None

    def __enter__(self):
        return self

    def report(self, step, cost, parts):
        """Says nothing."""


class Reporter:
    """Progress bar, scalars and the original's test precision lines of one run.

    Args:
      run: the `TrainingRun`.
      network: which is trained.
      strategy: whose replicas share the test images.
      test_set: images for the test precision, or None.
      options: where the run is kept, and who is told the lines of the test precision.
      start: step that the run goes on from.

    Attributes:
      figures: the last of each scalar, and its "step".
    """

    def __init__(self, run, network, strategy, test_set, options, start):
        self._run = run
        self._schedule = optimizers.rate_of(run)
        self._model = network.model
        self._forward = network.forward_stored(strategy)
        self._test_set, self._note = test_set, options.note
        self._summary_every = summary_every(run.total_steps)
        # Of one term there is nothing to tell apart.
        self._terms = [name for name, _ in run.objective_weights[1:] and run.objective_weights]
        self._log = TrainingLog(options.train_dir, start, options.log_root, self._terms)
        # disable=None: no bar where the output is not a terminal.
        self._bar = tqdm(total=run.total_steps, initial=start, unit="step", disable=None)
        # From the step it goes on at: those before took time of another run.
        self._started = (start, time.perf_counter())
        self.figures = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()
        self._log.close()

    def report(self, step: int, cost: float, parts: Sequence[float]) -> None:
        """What is due at a step, whose cost before its update is given, and each of its terms."""
        scalars = {}
        if step % self._summary_every == 0 or step == self._run.total_steps:
            # The rate of the step whose cost this is.
            scalars = {"cost": float(cost), "learning_rate": float(self._schedule(step - 1)),
                       **dict(zip(self._terms, map(float, parts), strict=True))}
            self._bar.set_postfix(
                loss=f"{scalars['cost']:.4f}", lr=f"{scalars['learning_rate']:g}",
                images_per_s=f"{self._images_per_second(step):.0f}", refresh=False)
        # Differs from the original: also at the last step, whose figures the run record takes.
        if self._test_set is not None and (
                step % TEST_EVERY == 0 or step == self._run.total_steps):
            scalars["test_precision"] = self._test_precision()
            self._note(f"Step: {step} Test precision: {scalars['test_precision']:.5f}")
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
        return count_correct(self._forward, self._test_set, num_images) / num_images

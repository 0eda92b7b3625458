"""Fine-tunes a whole network on a few hundred images, again and again, without tracing anew.

Source: model.py of github.com/nthu-datalab/Runtime-Masking-and-Cleansing (`adapt`, `calibrate`).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data.pipeline import crop_and_flip, scaled
from errors import RunError
from networks.network import Network

# Arrays of a `State` by name, as files hold them.
_WEIGHT, _SLOT = "weight_", "slot_"


class State(NamedTuple):
    """What an adapter knows: trained weights and the optimizer's variables, NumPy arrays."""

    weights: Sequence[np.ndarray]
    slots: Sequence[np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """As arrays by name, which `state_of` takes back."""
        return {f"{prefix}{number:04d}": array for prefix, arrays in ((_WEIGHT, self.weights),
                (_SLOT, self.slots)) for number, array in enumerate(arrays)}


def state_of(arrays: dict[str, np.ndarray]) -> State:
    """The state whose `arrays` these are."""
    return State(*([arrays[name] for name in sorted(arrays) if name.startswith(prefix)]
                   for prefix in (_WEIGHT, _SLOT)))


class StopRule:
    """Ends a fit when the validation loss has not fallen below its best for `patience` epochs, or after
    `epochs`. An equal loss has not fallen."""

    def __init__(self, epochs: int, patience: int):
        self._epochs, self._patience = epochs, patience
        self._best, self._seen, self._bad = math.inf, 0, 0

    def ends_after(self, loss: float) -> bool:
        """Whether the epoch with this validation loss is the last one."""
        self._seen += 1
        self._bad = 0 if loss < self._best else self._bad + 1
        self._best = min(self._best, loss)
        return self._bad == self._patience or self._seen == self._epochs


class Rows(NamedTuple):
    """Images as they are stored, uint8 [n, h, w, c], and their labels int32 [n]."""

    images: np.ndarray
    labels: np.ndarray


class History(NamedTuple):
    """How a fit went: loss of each step, float32 [steps], and after each epoch that of the validation
    rows, float32 [epochs]."""

    step_losses: np.ndarray
    validation_losses: np.ndarray

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.validation_losses)


class Adapter:
    """A network whose weights move, and the optimizer that moves them.

    Args:
      network: on one device; its variables are changed in place.
      optimizer: with `build` called for the network's trainable variables.
      batch_size: rows per step; the last of an epoch may be smaller.
      epochs: of a fit at most.
      patience: of `StopRule`.
      augment: whether `fit` takes draws for random crops and flips.
    """

    def __init__(self, network: Network, optimizer: keras.optimizers.Optimizer, *, batch_size: int,
                 epochs: int, patience: int, augment: bool = False):
        self.network = network
        self._model, self._optimizer = network.model, optimizer
        self._batch_size, self._epochs, self._patience = batch_size, epochs, patience
        self._augment = augment
        image = tf.TensorSpec([None, *self._model.inputs[0].shape[1:]], tf.uint8)
        label, row = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)
        # One trace for fits of every length, their short last batches included, and one call an epoch.
        self._run_epoch = tf.function(self._epoch, input_signature=[
            image, label, row, row, image, label])
        self._run_outputs = tf.function(network.logits_and_features, input_signature=[
            tf.TensorSpec(image.shape, tf.float32)])
        self.initial = self.snapshot()

    def fit(self, train: Rows, validation: Rows, draw: Callable[[int], tuple[np.ndarray, np.ndarray]]
            ) -> History:
        """Fine-tunes all trained weights; those of the last epoch stay, not the best ones.

        Batch normalisation keeps its statistics, as in the authors' code; its scale and shift learn.

        Args:
          train: what is fitted.
          validation: what says when to stop.
          draw: from the number of an epoch to the order of the training rows int [n], and draws of
            `data.pipeline.crop_and_flip` int [n], which an adapter without `augment` ignores.

        Raises:
          RunError: a loss that is not finite.
        """
        rule, step_losses, validation_losses = StopRule(self._epochs, self._patience), [], []
        fixed = [tf.constant(array) for array in (*train, *validation)]
        ended = False
        while not ended:
            order, crops = draw(len(validation_losses))
            losses, loss = self._run_epoch(
                *fixed[:2], tf.constant(order, tf.int32), tf.constant(crops, tf.int32), *fixed[2:])
            step_losses.append(losses.numpy())
            validation_losses.append(loss.numpy())
            # Differs from the original: there NaN counts as no better, and what has diverged answers.
            if not (np.isfinite(step_losses[-1]).all() and np.isfinite(validation_losses[-1])):
                raise RunError(f"has diverged: its loss is {validation_losses[-1]:g}")
            ended = rule.ends_after(float(validation_losses[-1]))
        return History(np.concatenate(step_losses), np.array(validation_losses))

    def _epoch(self, images, labels, order, crops, validation_images, validation_labels):
        """Loss of each step, and that of the validation rows after the last."""
        starts = tf.range(0, tf.size(order), self._batch_size)
        losses = tf.TensorArray(tf.float32, tf.size(starts))

        def step(number, losses):
            rows = order[starts[number]:starts[number] + self._batch_size]
            batch = tf.gather(images, rows)
            if self._augment:
                batch = crop_and_flip(batch, tf.gather(crops, rows))
            return number + 1, losses.write(number, self._step(batch, tf.gather(labels, rows)))

        _, losses = tf.while_loop(lambda number, _: number < tf.size(starts), step, (0, losses),
                                  parallel_iterations=1)
        # Differs from the original: the mean over rows and not over batch means; equal where all
        # validation rows are one batch or two full ones, as at every default.
        return losses.stack(), self._loss(validation_images, validation_labels)

    def _step(self, images, labels):
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(images, labels)
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def _loss(self, images, labels):
        raw_logits, _ = self._model(scaled(images), training=False)
        return tf.reduce_mean(self.network.head.loss(labels, raw_logits))

    def outputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sign-adjusted logits [n, L] and features [n, d] of network inputs float32 [n, h, w, c]."""
        logits, features = self._run_outputs(tf.constant(x))
        return logits.numpy(), features.numpy()

    def snapshot(self) -> State:
        """A copy of what it knows."""
        return State(*([variable.numpy() for variable in variables] for variables in (
            self._model.trainable_variables, self._optimizer.variables)))

    def restore(self, state: State) -> None:
        """Goes back to a state of `snapshot`."""
        # By value, never by making variables anew: the traced epoch knows these.
        for variables, values in zip((self._model.trainable_variables, self._optimizer.variables),
                                     state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def drift(self) -> float:
        """L2 distance of the trained weights from where they began."""
        squares = [np.square(variable.numpy().astype(np.float64) - value).sum() for variable, value in
                   zip(self._model.trainable_variables, self.initial.weights, strict=True)]
        return float(np.sqrt(np.sum(squares)))

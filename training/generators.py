"""Trains the generators of learned data-generation networks, one for each class.

Source: DataGeneratorNetwork.train of the original: rows of a class in file order, none shuffled, a
remainder that fills no batch left out. Differs from the original: it runs a test batch through batch
norm in training mode at every step, so that test images move the averages; here none does.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from attacks.dgn.losses import lrp_loss, nce_loss, susp_conv_loss, susp_dense_loss
from attacks.dgn.networks import build_generator
from attacks.dgn.suspicion import map_scores, most_suspicious, most_suspicious_of_layer, tarantula
from attacks.dgn.target import Target
from errors import InputError, RunError
from files import dgn as dgn_files
from networks.network import Network
from training.optimizers import make_optimizer

# Of TensorFlow 1, as in the original.
_ADAM_EPSILON = 1e-8
_DECAY_STEPS, _DECAY_RATE = 1000, 0.9
# Suspicious units of the original's targets, whose largest convolution has 64 maps.
_USUAL_K = 20
# Steps of one call, after which it is saved that many have been.
_STEPS_PER_CALL = 100
# Suspiciousness and NCE fall without bound; what rises so far has diverged.
_HIGHEST_LOSS = 1e6


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Numbers of a training, as the original's configuration has them.

    Attributes:
      learning_rate: of Adam.
      epochs: over the images of a class.
      batch_size: images per step.
      alpha: custom_loss_constant, weight of the first part of the loss.
      k: relevant pixels, or suspicious units; None: as `suspicious_of` says.
      eps: change of a pixel that LRP aims at.
      decays: whether the rate falls by a tenth every 1,000 steps.
      init: of `attacks.dgn.networks.INITIALIZERS`.
    """

    learning_rate: float
    epochs: int
    batch_size: int
    alpha: float
    k: int | None
    eps: float
    decays: bool
    init: str


# In custom losses, from u and g in [0, 1], [b, h, w, c], to a scalar.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def lrp(network: Network, label: int, recipe: Recipe, relevant: np.ndarray) -> Loss:
    """The loss that darkens the relevant pixels of a class, int [k], and brightens all others."""
    del network, label
    return lambda u, g: lrp_loss(u, g, tf.constant(relevant), eps=recipe.eps, alpha=recipe.alpha)


def nce(network: Network, label: int, recipe: Recipe, chosen: None) -> Loss:
    """The loss that leaves the class of the images behind."""
    del recipe, chosen
    return lambda u, g: nce_loss(u, g, network.logits(g - 0.5), tf.fill(tf.shape(u)[:1], label))


def susp(network: Network, label: int, recipe: Recipe, suspicious: list[np.ndarray]) -> Loss:
    """The loss that raises suspicious units: of a network with convolutions a list a site, else one."""
    del label
    target = Target(network)

    def before(images):
        return target.pre_activations(images - 0.5)

    if any(site.is_convolutional for site in target.sites):
        return lambda u, g: susp_conv_loss(u, g, before(u), before(g), suspicious, alpha=recipe.alpha)
    return lambda u, g: susp_dense_loss(u, g, tf.concat(before(u), 1), tf.concat(before(g), 1),
                                        suspicious[0], alpha=recipe.alpha)


LOSSES = {"lrp": lrp, "nce": nce, "susp": susp}


def check_batch(recipe: Recipe, smallest: int) -> None:
    """Raises an InputError when the smallest class has fewer images than a batch."""
    if recipe.batch_size > smallest:
        raise InputError("dgn_batch must be at most the images of the smallest class, "
                         f"{smallest}. Received: dgn_batch={recipe.batch_size}.")


class Trainer:
    """One generator in training.

    Args:
      images: of one class in file order, uint8 or float32 in [0, 1], [n, h, w, c].
      loss: of `LOSSES`, bound to a target.
      recipe: the numbers.
      seed: of the initial weights.

    Raises:
      InputError: a shape without a generator, or a batch larger than the images.
    """

    def __init__(self, images: np.ndarray, loss: Loss, recipe: Recipe, seed: int):
        check_batch(recipe, len(images))
        self.model = build_generator(tuple(images.shape[1:]), seed=seed, init=recipe.init)
        rate = recipe.learning_rate
        if recipe.decays:
            rate = keras.optimizers.schedules.ExponentialDecay(
                rate, _DECAY_STEPS, _DECAY_RATE, staircase=True)
        self.optimizer = make_optimizer("adam", rate, adam_epsilon=_ADAM_EPSILON)
        self.optimizer.build(self.model.trainable_variables)
        self.steps_per_epoch = len(images) // recipe.batch_size
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self._images, self._loss, self._batch_size = tf.constant(images), loss, recipe.batch_size
        self._run = tf.function(self._steps, input_signature=[tf.TensorSpec([], tf.int32)] * 2)

    @property
    def variables(self) -> Mapping[str, list[tf.Variable]]:
        """All that a checkpoint holds."""
        return {"generator": [variable.value for variable in self.model.variables],
                "optimizer": [variable.value for variable in self.optimizer.variables]}

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.optimizer.iterations.numpy())

    def run(self, until: int) -> np.ndarray:
        """Trains up to a step; the loss of each step, float32.

        Raises:
          RunError: a loss that is not finite, or above 1e6.
        """
        losses = self._run(tf.constant(self.step), tf.constant(until)).numpy()
        # Written so that NaN is found.
        bad = np.flatnonzero(~(np.isfinite(losses) & (losses <= _HIGHEST_LOSS)))
        finite = all(np.isfinite(value.numpy()).all() for value in self.model.weights)
        if bad.size or not finite:
            told = f"loss is {losses[bad[0]]:g}" if bad.size else "weights are not finite"
            raise RunError(f"training of the generator has diverged before step {until}: its {told}; a "
                           "smaller --dgn_lr may help.")
        return losses

    def _steps(self, first, until):
        losses = tf.TensorArray(tf.float32, until - first)

        def step(number, losses):
            start = number % self.steps_per_epoch * self._batch_size
            u = self._pixels(self._images[start:start + self._batch_size])
            return number + 1, losses.write(number - first, self._step(u))

        return tf.while_loop(lambda number, _: number < until, step, (first, losses),
                             parallel_iterations=1)[1].stack()

    def _pixels(self, images):
        # From a table: not the network's input plus 0.5, and in a graph x / 255 becomes a product; each
        # is another number in a quarter or half of the grey levels.
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        return tf.gather(levels, tf.cast(images, tf.int32)) if images.dtype == tf.uint8 else images

    def _step(self, u):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(u, self.model(u, training=True))
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss


def train(trainer: Trainer, folder: dgn_files.GeneratorFolder,
          steps_done: Callable[[int], None] = lambda steps: None) -> None:
    """Trains a generator to its end, saving it on the way; what is there goes on.

    Args:
      trainer: freshly made.
      folder: of the generator.
      steps_done: told of steps, of those of an earlier run too.

    Raises:
      RunError: it has diverged.
    """
    epochs = folder.restore(trainer.variables)
    steps_done(trainer.step)
    while (step := trainer.step) < trainer.total_steps:
        # To the end of an epoch, whose mean loss is told.
        until = min(step + trainer.steps_per_epoch, trainer.total_steps)
        losses = np.concatenate([trainer.run(min(start + _STEPS_PER_CALL, until))
                                 for start in range(step, until, _STEPS_PER_CALL)])
        epochs.append(float(losses.mean()))
        steps_done(len(losses))
        folder.save(trainer.variables, trainer.step, epochs)


def suspicious_of(spectra: Sequence[np.ndarray], k: int | None) -> list[list[np.ndarray]]:
    """The k most suspicious units of each class, from hit spectra of all sites.

    Args:
      spectra: int32 [L, 4, units], or [L, 4, height, width, maps] of a convolutional site.
      k: of all sites together, or, of a network with convolutions, of each; None: 20, or as 20 are to
        64 of each.

    Returns:
      Of each class a list: int32 [k] over all units, or of each site its own.
    """
    scores = [tarantula(spectrum) for spectrum in spectra]
    if not any(score.ndim > 2 for score in scores):
        return [[most_suspicious([score[label] for score in scores], k or _USUAL_K)]
                for label in range(len(scores[0]))]
    by_site = [map_scores(score) if score.ndim > 2 else score for score in scores]
    return [[most_suspicious_of_layer(score[label], k or max(1, round(_USUAL_K / 64 * score.shape[1])))
             for score in by_site] for label in range(len(by_site[0]))]

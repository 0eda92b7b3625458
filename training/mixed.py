"""Hardens a network with adversarial images that are stored: of generators, or of an attack.

Source: MnistAdversarialTrainerGF of the original, which mixes two losses, and its use of ART's
AdversarialTrainer, which mixes batches. What is stored was made once, against the network as it was.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from keras import layers

from attacks.dgn.networks import INITIALIZERS
from data import inputs, pipeline
from errors import InputError
from files.checkpoints import TrainingRun
from networks import get_network
from networks.network import Network
from networks.spec import NetworkSpec
from resnet_model import kernel_seed
from training import ADVERSARIAL_TYPES, OBJECTIVES, TrainingAttack
from training.loop import Source

# Of TensorFlow 1's Adam, in which the original's gf runs, and of Keras's, in which the others do.
_TF1_EPSILON, _KERAS_EPSILON = 1e-8, 1e-7
_FIRST_BIAS = 0.1
GF, DEFAULT, ONLINE = ADVERSARIAL_TYPES


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Numbers of a training with adversarial images.

    Attributes:
      kind: of ADVERSARIAL_TYPES. gf: a fresh network, the loss of a batch and that of the batch
        attacked, weighed. default: the network itself goes on, with attacked images in place of some of
        each batch. online: a fresh network, attacked anew at every step.
      ratio: of gf and online the weight of the clean loss; of default the share that is attacked.
      learning_rate: of Adam.
      epochs: over the images.
      batch_size: images per step, of gf besides as many attacked ones.
      shuffle: of gf, whether each epoch has an order of its own.
      seed: of weights and orders.
    """

    kind: str
    ratio: float
    learning_rate: float
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int


def run_of(recipe: Recipe, spec: NetworkSpec, attack: str, num_images: int, online: TrainingAttack, *,
           num_replicas: int = 1) -> TrainingRun:
    """The training as a checkpoint records it.

    Args:
      recipe: its numbers.
      spec: of the network.
      attack: what the images were made by; its name and the kind are that of the objective.
      num_images: pairs that are stored; of online, training images.
      online: attack of that kind.
      num_replicas: that share a batch.

    Raises:
      InputError: fewer pairs than a batch has, or a batch that cannot be shared evenly.
    """
    if recipe.batch_size % num_replicas:
        raise InputError(f"adv_batch must be divisible by the {num_replicas} replicas. "
                         f"Received: adv_batch={recipe.batch_size}.")
    if recipe.batch_size > num_images:
        raise InputError(f"adv_batch must be at most the {num_images} images that it trains on. "
                         f"Received: adv_batch={recipe.batch_size}.")
    steps = recipe.epochs * (num_images // recipe.batch_size)
    epsilon = _TF1_EPSILON if recipe.kind == GF else _KERAS_EPSILON
    attacked = {f"attack_{name}": value for name, value in dataclasses.asdict(online).items()}
    return TrainingRun(
        **dataclasses.asdict(spec), optimizer="adam", batch_size=recipe.batch_size,
        lr_boundaries=(steps,), total_steps=steps, seed=recipe.seed,
        learning_rate=recipe.learning_rate, adam_epsilon=epsilon, weight_decay=0.0,
        objective_weights=_weights(recipe), augment=False,
        training_objective="at50" if recipe.kind == ONLINE else f"{attack}_{recipe.kind}",
        **(attacked if recipe.kind == ONLINE else {}))


def _weights(recipe):
    if recipe.kind == DEFAULT:
        return OBJECTIVES["plain"].weights
    pairs = ("head_loss", recipe.ratio), ("adversarial_loss", 1.0 - recipe.ratio)
    return tuple(pair for pair in pairs if pair[1])


def source(recipe: Recipe, run: TrainingRun, target: Network, image_set: inputs.ImageSet,
           index: np.ndarray, attacked: np.ndarray) -> Source:
    """First weights and batches of gf and default.

    Args:
      recipe: its numbers.
      run: of `run_of`.
      target: the network that the images were made against.
      image_set: the training images.
      index: which of them each attacked image is of, int [m].
      attacked: network inputs float32 [m, h, w, c].
    """
    # Differs from the original: its last batch of an epoch, of default, is a smaller one.
    seed = recipe.seed if recipe.shuffle or recipe.kind == DEFAULT else None

    def batches(start):
        pairs = pipeline.paired_dataset(image_set, index, attacked, batch_size=recipe.batch_size,
                                        start_step=start, num_steps=run.total_steps, seed=seed)
        return pairs.map(_replacing(recipe)) if recipe.kind == DEFAULT else pairs

    return Source(_initialiser(recipe, target), batches)


def _replacing(recipe) -> Callable:
    """Attacked images in place of the first of a batch, whose order is drawn anyway."""
    # 0.55 of 100 are 55, and not the 56 that its product in float64 rounds up to.
    number = math.ceil(round(recipe.ratio * recipe.batch_size, 6))
    return lambda images, labels, attacked: (
        tf.concat([attacked[:number], images[number:]], axis=0), labels)


def _initialiser(recipe, target):
    if recipe.kind == DEFAULT:
        return lambda network: network.model.set_weights(target.model.get_weights())
    if get_network(target.expected.model).num_suspicious:
        return lambda network: start_as_original(network, recipe.seed)
    # The original knows no other network: theirs is the start that they always have.
    return lambda network: None


def start_as_original(network: Network, seed: int) -> None:
    """Sets kernels and biases as the original's fresh networks start: normal, cut at two deviations,
    of √(2 / fan-in), where it takes the height of a kernel for the fan-in; 0.1."""
    for number, layer in enumerate(network.model.layers):
        if isinstance(layer, layers.Dense | layers.Conv2D):
            initializer = INITIALIZERS["original"](kernel_seed(seed, number), layer.kernel.shape[0])
            layer.kernel.assign(initializer(layer.kernel.shape))
            layer.bias.assign(np.full(layer.bias.shape, _FIRST_BIAS))

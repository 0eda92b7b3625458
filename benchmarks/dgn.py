"""What learned data-generation networks (DGN) cost, and their speed against FGSM and PGD.

    python -m benchmarks.dgn --parts=step,projection,generation,analysis,table --out=speed.json

CPUs alone, images of noise, random weights: times depend on neither. Medians of the rounds are printed
beside their bars, which nothing enforces; --out keeps every figure with its bar, target and batch.

- step: a training step of a generator, NCE against mnist_5x30, batch 100. Keras's `fit` of the same
  network, loss and optimizer alternates with it, as compile() leaves it and with 20 steps per
  execution: ours takes at least 1.15 and 1.0 of its images/s. Its Adam and its batch norm are its own;
  with our batch norm, the fused kernel, there is no bar.
- projection: 60,000 MNIST images as dgn.py generates them, but for its networks: that is the projection
  and the choice of those whose prediction has changed, at most 2 s.
- generation: all of it, ten generators on both splits of MNIST: at most 30 s.
- analysis: relevance and suspicious units of 10,000 images for mnist_5x30: at most 10 s together.
- table: ms per image of DGN (generator and projection), FGSM, PGD-20 from one start and PGD-20x10, of
  whose ten starts in one call the worst is kept. Each is one traced function of exactly the batch; that
  of a DGN is of one class, images of ten classes are ten calls. Slow cells are timed on fewer images,
  as is told then: chunks of 100 share a gradient, one after the other, however many there are. Beside
  each cell the number of images from which on a DGN has earned its training. On ResNet-32 at batch 100
  a DGN makes at least 3 times the images/s of FGSM and 40 times those of PGD-20.

Over 280 lines, but one trade: every speed of a DGN.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flags  # noqa: F401 sets TensorFlow's environment

import keras
import numpy as np
import tensorflow as tf

from attacks.dgn.generate import project
from attacks.dgn.networks import build_generator
from attacks.dgn.relevance import relevance
from attacks.dgn.target import Target
from attacks.fgsm import fgsm
from attacks.pgd import pgd
from benchmarks.timing import median_seconds
from data.pixels import to_network_input
from evaluation import generated
from files import atomic, provenance
from networks import restoring, title_of
from networks.network import Network
from networks.running import ROWS_PER_GRADIENT
from networks.spec import NetworkSpec
from options import devices
from resnet_model import FusedBatchNorm
from training import generators

ROUNDS = 5
DENSE = NetworkSpec("mnist", (28, 28, 1), 10, 1, "ce", "mnist_5x30")
NUM_CLASSES = 10
# Published: of the training, and the largest change of a pixel of MNIST.
BATCH, RATE, EPS = 100, 1e-4, 0.3
# Images of a class, an epoch of 60 steps.
CLASS_IMAGES = 6000


class KerasFit(NamedTuple):
    """How Keras trains the same network: with its own batch norm or ours, steps per call of it."""

    own_batch_norm: bool
    steps_per_execution: int


# Images/s of ours over those of Keras; None: no bar.
KERAS_BARS = {KerasFit(True, 1): 1.15, KerasFit(True, 20): 1.0, KerasFit(False, 1): None,
              KerasFit(False, 20): None}
# Means of an epoch's loss may differ by rounding alone.
SAME_LOSS = 1e-3
TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000
BATCHES = (1, 100, 1000)
NUM_STEPS = 20
# Attacks of NUM_STEPS → their starts.
STARTS = {"PGD-20": 1, "PGD-20x10": 10}
# Steps of a generator's training in one timed call.
TRAINING_STEPS = 5
# A call of part generation takes so long that a burst hardly shows.
MOST_ROUNDS_OF_GENERATION = 3
# A shorter call is timed several times in a row: the clock and the host's noise would show.
LEAST_SECONDS = 0.05
FORMULA = "N* = T_train / (t_attack - t_DGN)"


class Attacked(NamedTuple):
    """A target of the table.

    Attributes:
      spec: the network.
      eps: published largest change of a pixel.
      num_steps: published steps of ten trainings by NCE.
      most_rows: images times starts that a timed call of PGD has at most.
      bars: attack → images/s of the DGN over its own, at batch 100.
    """

    spec: NetworkSpec
    eps: float
    num_steps: int
    most_rows: int
    bars: Mapping[str, float] = {}

    @property
    def title(self) -> str:
        """Its name."""
        return title_of(self.spec.model, self.spec.blocks_per_stage)

    def num_timed(self, attack: str, batch: int) -> int:
        """Images of a timed call of an attack at a batch."""
        return min(batch, self.most_rows // STARTS[attack]) if attack in STARTS else batch


TARGETS = (
    Attacked(DENSE, EPS, 60_000, most_rows=10_000),
    Attacked(NetworkSpec("cifar10", (32, 32, 3), 10, 1, "ce", "cifar_cnn"), 0.0313, 50_000,
             most_rows=200),
    Attacked(NetworkSpec("mnist", (28, 28, 1), 10, 5, "ce"), EPS, 60_000, most_rows=100,
             bars={"FGSM": 3.0, "PGD-20": 40.0}),
)


class Figure(NamedTuple):
    """A number that was measured.

    Attributes:
      part: of `PARTS`.
      what: in words, or an attack of the table.
      value: the median of the rounds.
      unit: of it.
      target: name of the network.
      batch: images of a call, or of a step.
      at_least: its bar; None: another one, or none.
      at_most: as `at_least`.
      details: what else is known of it.
    """

    part: str
    what: str
    value: float
    unit: str
    target: str = DENSE.model
    batch: int | None = None
    at_least: float | None = None
    at_most: float | None = None
    details: Mapping[str, Any] = {}

    def __str__(self) -> str:
        bars = (("at least", self.at_least), ("at most", self.at_most))
        told = "".join(f" ({name} {bar:g})" for name, bar in bars if bar is not None)
        return f"{self.part}: {self.what}: {self.value:.4g} {self.unit}{told}"


def stored_images(count: int, shape: tuple[int, int, int] = DENSE.image_shape) -> np.ndarray:
    """Images of noise, uint8 [count, *shape]."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def labels_of(count: int) -> np.ndarray:
    """Classes of images, int32 [count]: as many of each."""
    return np.arange(count, dtype=np.int32) % NUM_CLASSES


def make_trainer(network: Network, images: np.ndarray) -> tuple[generators.Trainer, generators.Loss]:
    """A generator in training by NCE against a network, and its loss."""
    recipe = generators.Recipe(RATE, 100, BATCH, 0.5, None, EPS, decays=False, init="original")
    loss = generators.nce(network, 0, recipe, None)
    return generators.Trainer(images, loss, recipe, seed=0), loss


def train_steps(trainer: generators.Trainer, number: int) -> float:
    """Takes so many steps; their mean loss."""
    return float(trainer.run(trainer.step + number).mean())


# Part step.


def keras_model(trainer: generators.Trainer, loss: generators.Loss, variant: KerasFit) -> keras.Model:
    """The same network, compiled with the same loss and Keras's own Adam of the same numbers."""
    model = build_generator(DENSE.image_shape, seed=0)
    if variant.own_batch_norm:
        ours, model = model, keras.models.clone_model(model, clone_function=with_own_batch_norm)
        model.set_weights(ours.get_weights())
    optimizer = keras.optimizers.Adam.from_config(trainer.optimizer.get_config())
    # Keras calls a loss with what is expected and what the network makes: u and g, where u is both.
    model.compile(optimizer, loss=loss, steps_per_execution=variant.steps_per_execution)
    return model


def with_own_batch_norm(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer as Keras has it, with the momentum of a generator."""
    if isinstance(layer, FusedBatchNorm):
        return keras.layers.BatchNormalization(momentum=0.99, name=layer.name)
    return type(layer).from_config(layer.get_config())


def fit(model: keras.Model, u: np.ndarray) -> float:
    """Fits for an epoch in the order of the images; its mean loss."""
    return model.fit(u, u, batch_size=BATCH, shuffle=False, verbose=0).history["loss"][0]


def measure_step(strategy: tf.distribute.Strategy, rounds: int) -> list[Figure]:
    """Part step."""
    images = stored_images(CLASS_IMAGES)
    trainer, loss = make_trainer(restoring.build_network(strategy, DENSE), images)
    models = {variant: keras_model(trainer, loss, variant) for variant in KERAS_BARS}
    calls = {"ours": partial(train_steps, trainer, trainer.steps_per_epoch)} | {
        variant: partial(fit, model, generated.pixels_of(images)) for variant, model in models.items()}
    losses = {name: call() for name, call in calls.items()}  # this traces and warms up, too
    if not np.allclose(list(losses.values()), losses["ours"], rtol=SAME_LOSS, atol=0.0):
        raise RuntimeError(f"the losses of the first epoch are not the same: {losses}")
    median = median_seconds(calls, rounds, warm_up=False)
    figures = [Figure("step", "ours", CLASS_IMAGES / median["ours"], "images/s", batch=BATCH)]
    for variant, bar in KERAS_BARS.items():
        of_keras = variant._asdict() | {"jit_compile": models[variant].jit_compile}
        name = f"Keras's fit, {', '.join(f'{key}={value}' for key, value in of_keras.items())}"
        figures += [
            Figure("step", name, CLASS_IMAGES / median[variant], "images/s", batch=BATCH,
                   details=of_keras),
            Figure("step", f"ours / {name}", median[variant] / median["ours"], "of the images/s",
                   batch=BATCH, at_least=bar, details=of_keras)]
    return tell(figures)


# Parts projection and generation.


def generate(made: Callable, forward: Callable, images: np.ndarray, labels: np.ndarray, *,
             changed_only: bool = False) -> generated.Adversarial:
    """What --mode=generate of dgn.py makes of a split; arguments of `evaluation.generated`."""
    _, x_adv = generated.projected(made, images, labels, EPS)
    return generated.looked_at(
        forward, images, labels, np.arange(len(labels)), x_adv, changed_only=changed_only)


def measure_projection(strategy: tf.distribute.Strategy, rounds: int) -> list[Figure]:
    """Part projection."""
    del strategy
    random, labels = np.random.default_rng(0), labels_of(TRAIN_IMAGES)
    u, g = (random.random((TRAIN_IMAGES, *DENSE.image_shape), np.float32) for _ in range(2))
    # What a network says of the images and of what is made of them, by turns, without being asked.
    logits = itertools.cycle([random.random((TRAIN_IMAGES, NUM_CLASSES)) for _ in range(2)])
    median = median_seconds({"projection": lambda: generate(
        lambda *_: g, lambda _: (next(logits),), u, labels, changed_only=True)}, rounds)
    return tell([Figure("projection", f"projection and filter of {TRAIN_IMAGES} images",
                        median["projection"], "s", at_most=2.0)])


class Untrained:
    """Stands in for the folder of a trained generator.

    Args:
      seed: of the random weights.
    """

    def __init__(self, seed: int):
        self._seed = seed

    def read_generator(self, model: keras.Model) -> list[np.ndarray]:
        """Weights for the model."""
        return build_generator(model.input_shape[1:], seed=self._seed).get_weights()


def measure_generation(strategy: tf.distribute.Strategy, rounds: int) -> list[Figure]:
    """Part generation."""
    folders = {label: Untrained(label) for label in range(NUM_CLASSES)}
    made = generated.Generators(strategy, folders, DENSE.image_shape)
    forward = restoring.build_network(strategy, DENSE).forward(strategy)
    images = stored_images(TRAIN_IMAGES)

    def split(count):
        generate(made, forward, images[:count], labels_of(count))

    split(NUM_CLASSES)  # this traces: the networks are always called on as many images
    median = median_seconds({"splits": lambda: (split(TRAIN_IMAGES), split(TEST_IMAGES))},
                            min(rounds, MOST_ROUNDS_OF_GENERATION), warm_up=False)
    number = TRAIN_IMAGES + TEST_IMAGES
    return tell([Figure("generation", f"{number} images by {NUM_CLASSES} generators", median["splits"],
                        "s", at_most=30.0, details={"images_per_s": number / median["splits"]})])


# Part analysis.


def measure_analysis(strategy: tf.distribute.Strategy, rounds: int) -> list[Figure]:
    """Part analysis."""
    network = restoring.build_network(strategy, DENSE)
    x, labels = to_network_input(stored_images(TEST_IMAGES)), labels_of(TEST_IMAGES)
    # Anew at each call, as dgn.py has it: the traces count.
    median = median_seconds({
        "relevance": lambda: relevance(network, x, labels),
        "suspicious units": lambda: Target(network).hits(x, labels)}, rounds)
    figures = [Figure("analysis", f"{name} of {TEST_IMAGES} images", seconds, "s")
               for name, seconds in median.items()]
    return tell([*figures, Figure("analysis", "both", sum(median.values()), "s", at_most=10.0)])


# Part table.


def make_attacks(network: Network, generator: keras.Model, eps: float) -> dict[str, Callable]:
    """The attacks of the table by name.

    Each goes from network inputs float32 [n, h, w, c], n static, and how many rows share a gradient, to
    adversarial ones.
    """
    def dgn(x, chunk):
        del chunk  # it has no gradient
        u = x + 0.5
        return project(u, generator(u, training=False), eps) - 0.5

    def one_step(x, chunk):
        return fgsm(network.logits, x, eps=eps, chunk=chunk)

    return {"DGN": dgn, "FGSM": one_step} | {
        name: partial(worst_of_starts, network, eps=eps, starts=starts)
        for name, starts in STARTS.items()}


def worst_of_starts(network: Network, x: tf.Tensor, chunk: int, *, eps: float, starts: int
                    ) -> tf.Tensor:
    """PGD from several starts of each image, a row each; of each image what has the largest margin."""
    images = tf.constant(np.repeat(np.arange(x.shape[0], dtype=np.int32), starts))
    restarts = tf.constant(np.tile(np.arange(starts, dtype=np.int32), x.shape[0]))
    found = pgd(network.logits, tf.gather(x, images), eps=eps, seed=0, image_index=images,
                restart=restarts, num_steps=NUM_STEPS, chunk=chunk)
    worst = tf.argmax(tf.reshape(found["merit"], [-1, starts]), axis=1)
    by_image = tf.reshape(found["adversarial"], [-1, starts, *x.shape[1:]])
    return tf.gather(by_image, worst, axis=1, batch_dims=1)


def make_call(attack: Callable, x: np.ndarray, chunk: int) -> Callable[[], np.ndarray]:
    """An attack on images as one traced function."""
    # The images as an argument: a constant of the graph may be folded.
    traced, images = tf.function(partial(attack, chunk=chunk)), tf.constant(x)
    return lambda: traced(images).numpy()


def make_calls(target: Attacked, strategy: tf.distribute.Strategy) -> dict[Hashable, Callable]:
    """By (attack, images timed) a call; by "training" one of so many steps."""
    network = restoring.build_network(strategy, target.spec)
    images = stored_images(max(BATCHES), target.spec.image_shape)
    trainer, _ = make_trainer(network, images)
    x, most = to_network_input(images), ROWS_PER_GRADIENT["CPU"].call
    calls = {"training": partial(train_steps, trainer, TRAINING_STEPS)}
    for name, attack in make_attacks(network, trainer.model, target.eps).items():
        for batch in BATCHES:
            count, rows = target.num_timed(name, batch), batch * STARTS.get(name, 1)
            calls[name, count] = make_call(attack, x[:count], min(rows, most))
    return calls


def repeated(call: Callable, number: int) -> None:
    """Calls so many times."""
    for _ in range(number):
        call()


def seconds_per_call(calls: Mapping[Hashable, Callable], rounds: int) -> dict[Hashable, float]:
    """Median seconds of each call; short ones are called several times in a row."""
    numbers = {}
    for name, call in calls.items():
        call()  # this traces and warms up
        started = time.perf_counter()
        call()
        numbers[name] = math.ceil(LEAST_SECONDS / (time.perf_counter() - started))
    median = median_seconds({name: partial(repeated, call, numbers[name])
                             for name, call in calls.items()}, rounds, warm_up=False)
    return {name: seconds / numbers[name] for name, seconds in median.items()}


def measure_target(target: Attacked, strategy: tf.distribute.Strategy, rounds: int) -> list[Figure]:
    """The figures of a target: its training, the cells of its attacks, and its rates with bars."""
    seconds = seconds_per_call(make_calls(target, strategy), rounds)
    per_step = seconds["training"] / TRAINING_STEPS
    training = Figure("table", "T_train", per_step * target.num_steps, "s", target.title, BATCH,
                      details={"steps": target.num_steps, "s_per_step": per_step})

    def per_image(attack, batch):
        count = target.num_timed(attack, batch)
        return seconds[attack, count] / count

    def cell(attack, batch):
        slower_by = per_image(attack, batch) - per_image("DGN", batch)
        details = {"images_timed": target.num_timed(attack, batch)}
        if attack != "DGN":
            details["break_even_images"] = training.value / slower_by if slower_by > 0.0 else "never"
        return Figure("table", attack, 1000 * per_image(attack, batch), "ms per image", target.title,
                      batch, details=details)

    cells = [cell(attack, batch) for attack in ("DGN", "FGSM", *STARTS) for batch in BATCHES]
    rates = [Figure("table", f"DGN / {attack} on {target.title} at batch 100",
                    per_image(attack, 100) / per_image("DGN", 100), "of the images/s", target.title,
                    100, at_least=bar) for attack, bar in target.bars.items()]
    tell_target(training, cells)
    return [training, *cells, *tell(rates)]


def tell_target(training: Figure, cells: list[Figure]) -> None:
    """Prints the rows of a target, and which cells were timed on fewer images than their batch."""
    print(f"table: {training.target}: {training.details['s_per_step']:.3g} s per training step, of "
          f"{training.details['steps']} T_train = {training.value:.0f} s; ms per image, (N*):")
    print(" " * 11 + "".join(f"{f'batch {batch}':>26}" for batch in BATCHES))
    for attack in dict.fromkeys(figure.what for figure in cells):
        row = (cell_text(figure) for figure in cells if figure.what == attack)
        print(f"  {attack:9}" + "".join(f"{text:>26}" for text in row))
    fewer = [f"{figure.what} at batch {figure.batch} on {figure.details['images_timed']}"
             for figure in cells if figure.details["images_timed"] < figure.batch]
    if fewer:
        print(f"  timed on fewer images than the batch: {', '.join(fewer)}")


def cell_text(figure: Figure) -> str:
    """A cell of the table: ms, and the images from which on the DGN has earned its training."""
    images = figure.details.get("break_even_images")
    told = "" if images is None else f" ({images if isinstance(images, str) else f'{images:,.0f}'})"
    return f"{figure.value:.4g}{told}"


def measure_table(strategy: tf.distribute.Strategy, rounds: int) -> list[Figure]:
    """Part table."""
    print(f"table: {FORMULA}, the images from which on a DGN, its training counted, is the faster one; "
          "never: it is not faster. T_train: of ten generators by NCE, seconds per step times the "
          "published steps")
    return [figure for target in TARGETS for figure in measure_target(target, strategy, rounds)]


PARTS = {"step": measure_step, "projection": measure_projection, "generation": measure_generation,
         "analysis": measure_analysis, "table": measure_table}


def tell(figures: list[Figure]) -> list[Figure]:
    """Prints figures, a line each, and returns them."""
    for figure in figures:
        print(figure)
    return figures


def parse_arguments() -> argparse.Namespace:
    """The parts, rounds and file of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to run, with commas between")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed calls of each")
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"parts must be some of {','.join(PARTS)}. Received: parts={arguments.parts}.")
    if arguments.rounds < 1:
        parser.error(f"rounds must be at least 1. Received: rounds={arguments.rounds}.")
    return arguments


def main() -> None:
    """Runs the parts and writes their figures."""
    arguments, strategy = parse_arguments(), devices.make_strategy(0)
    machine, figures = provenance.provenance(), []
    print(f"{machine['hardware']}, {machine['threads']} threads, {arguments.rounds} rounds")
    for part in arguments.parts.split(","):
        figures += PARTS[part](strategy, arguments.rounds)
        if arguments.out:  # after each part: minutes would be lost
            atomic.write_json(arguments.out, {
                "name": "benchmarks.dgn", **machine, "rounds": arguments.rounds,
                "break_even": FORMULA, "figures": [figure._asdict() for figure in figures]})


if __name__ == "__main__":
    main()

"""Images/s of the input pipeline alone: what a GPU would wait for.

    python -m benchmarks.pipeline

Augmented CIFAR-10 size, batches of 128 as train.py asks for them, beside digits without augmentation
and our training step of ResNet-32 on this machine. All alternate in one process; medians and ratios.
"""

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf

from benchmarks.timing import median_seconds
from data import pipeline
from data.inputs import ImageSet
from files.checkpoints import TrainingRun
from networks import restoring
from training import loop, optimizers

BATCH, ROUNDS = 128, 7
BATCHES_PER_ROUND, STEPS_PER_ROUND = 200, 4
RUN = TrainingRun("cifar10", (32, 32, 3), 10, 5, "rce", "mom", BATCH, (10**6,), 10**6, 0)


def make_batches(image_shape: tuple[int, int, int], *, augment: bool):
    """A callable that draws BATCHES_PER_ROUND batches of 50,000 random images."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (50_000, *image_shape), np.uint8)
    image_set = ImageSet(images, draw.integers(0, 10, 50_000).astype(np.int32), 10, "random", True)
    batches = iter(pipeline.train_dataset(
        image_set, batch_size=BATCH, seed=0, start_step=0, num_steps=10**6, augment=augment))

    def run():
        for _ in range(BATCHES_PER_ROUND):
            next(batches)

    return run


def make_step():
    """A callable that runs STEPS_PER_ROUND training steps of one batch."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    network = restoring.build_network(strategy, RUN)
    optimizer = optimizers.build_for(RUN, strategy, network.model)
    step = loop.make_train_loop(strategy, network.model, optimizer, network.head, BATCH)
    images = tf.random.stateless_uniform([BATCH, *RUN.image_shape], [0, 1], -0.5, 0.5)
    labels = tf.random.stateless_uniform([BATCH], [0, 2], 0, 10, tf.int32)
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    return lambda: step(iterator, tf.constant(STEPS_PER_ROUND))[0].numpy()


def main():
    """Prints the three rates and how many times the step's each is."""
    works = {"augmented 32x32x3": (make_batches((32, 32, 3), augment=True), BATCHES_PER_ROUND),
             "plain 28x28x1": (make_batches((28, 28, 1), augment=False), BATCHES_PER_ROUND),
             "training step": (make_step(), STEPS_PER_ROUND)}
    median = median_seconds({name: work for name, (work, _) in works.items()}, ROUNDS)
    rates = {name: BATCH * batches / median[name] for name, (_, batches) in works.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} images/s, {rate / rates['training step']:.1f} times the step")


if __name__ == "__main__":
    main()

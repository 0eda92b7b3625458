"""Images/s of training and of BIM on 1, 2 and 4 CPU replicas, and what a strategy of one costs.

    python -m benchmarks.scaling --replicas=1,2,4

ResNet-32, MNIST size: training at a global batch of 128, BIM with 10 steps on 200 images. Replicas
are logical CPUs of this machine: more of them than it has cores cannot be faster. A process for each
number, one after the other: MirroredStrategies of different sizes cannot use collective operations
in one. Then the train loop under the strategy of one replica and without any alternate in one
process. Medians of the rounds and their ratios are printed.
"""

import argparse
import multiprocessing
import os

import numpy as np
import tensorflow as tf

import attacks
from benchmarks.timing import median_seconds
from evaluation.crafter import Crafter
from files import checkpoints
from networks import restoring
from options import devices
from training import loop as training_loop
from training import optimizers

BATCH = 128
BIM_IMAGES = 200
EPS = 0.1
MAX_OVERHEAD = 0.03
RUN = checkpoints.TrainingRun("mnist", (28, 28, 1), 10, 5, "rce", "mom", BATCH, (), 1, 0)


def make_training(strategy, steps):
    """A callable that runs `steps` training steps."""
    network = restoring.build_network(strategy, RUN)
    with strategy.scope():
        optimizer = optimizers.make_optimizer(RUN.optimizer, 0.01)
        optimizer.build(network.model.trainable_variables)
    loop = training_loop.make_train_loop(strategy, network.model, optimizer, network.head, BATCH)
    per_replica = BATCH // strategy.num_replicas_in_sync
    images = tf.random.stateless_uniform([per_replica, *RUN.image_shape], [0, 1], -0.5, 0.5)
    labels = tf.random.stateless_uniform([per_replica], [0, 2], 0, RUN.num_classes, tf.int32)
    # One batch for ever: the pipeline is not what is measured.
    iterator = iter(strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensors((images, labels)).repeat()))
    return lambda: loop(iterator, tf.constant(steps))[0].numpy()


def make_attack(strategy):
    """A callable that attacks `BIM_IMAGES` images, each replica its share of them at once."""
    crafter = Crafter(
        restoring.build_network(strategy, RUN), strategy, attacks.get("bim"), seed=0,
        batch_size=BIM_IMAGES // strategy.num_replicas_in_sync)
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (BIM_IMAGES, *RUN.image_shape))
    images, index = images.astype(np.float32), np.arange(BIM_IMAGES)
    return lambda: crafter(images, index, eps=EPS)


def images_per_second(replicas, rounds, steps):
    """{"training", "BIM"}: images/s on so many replicas."""
    strategy = devices.make_strategy(0, replicas)
    median = median_seconds(
        {"training": make_training(strategy, steps), "BIM": make_attack(strategy)}, rounds)
    return {"training": BATCH * steps / median["training"], "BIM": BIM_IMAGES / median["BIM"]}


def strategy_overhead(rounds, steps):
    """Median seconds of the train loop under the strategy of one replica and without any."""
    strategies = {"one replica": devices.make_strategy(0), "no strategy": tf.distribute.get_strategy()}
    return median_seconds({name: make_training(s, steps) for name, s in strategies.items()}, rounds)


def in_new_process(function, *arguments):
    """What the function returns, called in a process of its own."""
    # A fork would share the threads of a TensorFlow that has started, without running them.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def parse_arguments():
    """Numbers of replicas, rounds and steps per round of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", default="1,2,4", help="numbers of replicas, with commas between")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each")
    parser.add_argument("--steps", type=int, default=5, help="training steps per call")
    arguments = parser.parse_args()
    replicas = [int(text) for text in arguments.replicas.split(",")]
    if any(n < 1 or BATCH % n or BIM_IMAGES % n for n in replicas):
        parser.error(f"replicas must divide {BATCH} and {BIM_IMAGES}. Received: {arguments.replicas}.")
    return replicas, arguments.rounds, arguments.steps


def main():
    """Prints the rates of each number of replicas, and what a strategy costs."""
    replicas, rounds, steps = parse_arguments()
    print(f"{os.cpu_count()} cores, batch {BATCH}, {rounds} rounds of {steps} steps")
    rates = {n: in_new_process(images_per_second, n, rounds, steps) for n in replicas}
    first = replicas[0]
    for what in ("training", "BIM"):
        for n in replicas:
            ratio = rates[n][what] / rates[first][what]
            print(f"{what}, {n} replicas: {rates[n][what]:.0f} images/s; {n} / {first}: {ratio:.2f}")
    median = in_new_process(strategy_overhead, rounds, steps)
    overhead = median["one replica"] / median["no strategy"] - 1.0
    print(f"overhead of the strategy of one replica: {overhead:+.1%} (at most {MAX_OVERHEAD:.0%})")


if __name__ == "__main__":
    main()

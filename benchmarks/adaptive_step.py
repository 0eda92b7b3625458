"""What a step costs that climbs a detector's scores, against a step of plain PGD: at most 1.25 of it.

    python -m benchmarks.adaptive_step

ResNet-32, 200 images of MNIST size, 10 steps; confidence, non-ME, J-score and K-density at once, the
last over 1,000 kernels per class. All alternate in one process after a call each that traces and warms
up; medians of the rounds and their ratios are printed. Weights and kernels are random: they do not
change the arithmetic. orthogonal_pgd takes two backward passes per step, the others one.
"""

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf

import attacks
from benchmarks.attacked_network import BATCH, EPS, NUM_CLASSES, ROUNDS, make_images, make_network
from benchmarks.timing import median_seconds
from defenses import differentiable
from evaluation.crafter import Clean, Crafter

NUM_STEPS, NUM_KERNELS = 10, 1000
# The plain one, and those that are measured by it.
PLAIN, KNOWING = "pgd", ("selective_pgd", "apgd_detector", "orthogonal_pgd")


def make_slack(width: int):
    """All scores of a detector of random kernels, of features of so many numbers."""
    kernels = np.random.default_rng(0).normal(size=(NUM_KERNELS, width, NUM_CLASSES)).astype(np.float32)
    density = differentiable.log_density(kernels, 0.1 / 0.26)

    def slack(logits, features, classes):
        return tf.stack([
            differentiable.log_odds(logits, classes), -tf.math.log(
                differentiable.deficit(logits, classes) + differentiable.DEFICIT_FLOOR),
            differentiable.log_j(logits, classes, 0.1, 1.0), density(features, classes)], axis=1)

    return slack


def main():
    """Prints seconds per step and image of each, and how many steps of plain PGD one costs."""
    x = make_images()
    network = make_network(x)
    index, cpu = np.arange(BATCH), tf.distribute.OneDeviceStrategy("/cpu:0")
    clean = Clean(np.argmax(network.logits(x), axis=-1), np.zeros(BATCH, bool))
    slack = {"slack_fn": make_slack(network.model.outputs[1].shape[-1])}

    def call(name):
        crafter = Crafter(network, cpu, attacks.get(name), seed=0, batch_size=BATCH, settings={
            "num_steps": NUM_STEPS, **({} if name == PLAIN else slack)})
        return lambda: crafter(x, index, eps=EPS, clean=clean)

    median = median_seconds({name: call(name) for name in (PLAIN, *KNOWING)}, ROUNDS)
    for name, seconds in median.items():
        print(f"{name}: {seconds / NUM_STEPS / BATCH:.3g} s per step and image, "
              f"{seconds / median[PLAIN]:.2f} of plain PGD")


if __name__ == "__main__":
    main()

"""What leaving out ended images saves: JSMA and C&W with and without compaction, on a trained network.

    python -m benchmarks.compaction CHECKPOINT_FOLDER TEST_IMAGES.bin

A ResNet-8 trained on MNIST by RCE, its real images and the attacks' real stopping rules. The two
run in one process after a call each that traces and warms up; the medians of the rounds are printed.
Their results must be the same bytes.
"""

import argparse

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf

import attacks
from benchmarks.timing import median_seconds
from data import inputs
from data.pixels import to_network_input
from evaluation.crafter import Crafter
from evaluation.targets import choose_targets
from networks import restoring
from networks.spec import NetworkSpec

ROUNDS = 1
SEED = 0
# ResNet-8.
BLOCKS_PER_STAGE = 1
OBJECTIVE = "rce"
# Attack: images, eps, kind of target, settings. The images fill whole batches: without compaction
# the rows that pad a batch are computed too, which is not what is measured here.
RUNS = {
    "jsma": (192, 0.2, "least_likely", {"num_steps": 100}),
    "carliniL2": (32, None, "random", {"num_steps": 200, "num_search_steps": 3}),
}


def make_calls(name, network, strategy, image_set):
    """Callables that attack, with and without compaction, by whether they do."""
    count, eps, kind, settings = RUNS[name]
    index = inputs.subset_indices(len(image_set.labels), count, SEED)
    x, labels = to_network_input(image_set.images[index]), image_set.labels[index]
    logits, _ = network.forward(strategy)(x)
    targets = choose_targets(kind, labels, logits, index, SEED)

    def call(compact):
        crafter = Crafter(network, strategy, attacks.get(name), seed=SEED, batch_size=count,
                                   settings=settings | {"compact": compact})
        return lambda: crafter(x, index, eps=eps, targets=targets)

    return {compact: call(compact) for compact in (True, False)}


def check_same(result, reference):
    """Raises RuntimeError unless the two results hold the same bytes."""
    different = [name for name in reference if result[name].tobytes() != reference[name].tobytes()]
    if different:
        raise RuntimeError(f"compaction changes {different}")


def measure(name, network, strategy, image_set):
    """Prints seconds per image with and without compaction."""
    calls = make_calls(name, network, strategy, image_set)
    results = {compact: call() for compact, call in calls.items()}
    check_same(results[True], results[False])
    median = median_seconds(calls, ROUNDS, warm_up=False)
    count = len(results[True]["success"])
    compacted, full = (median[compact] / count for compact in (True, False))
    iterations = results[True]["iterations"]
    print(f"{name}: {compacted:.3g} s per image with compaction, {full:.3g} without; gain "
          f"{full / compacted:.2f} (same bytes; {count} images, "
          f"{np.mean(results[True]['success']):.0%} successful, "
          f"iterations mean {np.mean(iterations):.1f}, most {np.max(iterations)})")


def main():
    """Measures each of RUNS on the network that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log_root", help="checkpoint folder of an MNIST ResNet-8 trained by RCE")
    parser.add_argument("images", help="file of its test images")
    arguments = parser.parse_args()
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    image_set = inputs.load("mnist", arguments.images, "test")
    network = restoring.restore(strategy, arguments.log_root, NetworkSpec(
        "mnist", image_set.images.shape[1:], image_set.num_classes, BLOCKS_PER_STAGE, OBJECTIVE))
    for name in RUNS:
        measure(name, network, strategy, image_set)


if __name__ == "__main__":
    main()

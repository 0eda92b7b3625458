"""What runtime masking and cleansing costs against the work it is made of.

    python -m benchmarks.adaptation

ResNet-8 and 28 × 28 images, every core. What is compared alternates in one process; medians of the
rounds and their ratios are printed:

- an epoch of an adaptation, 973 images at batch 128, against steps of train.py on as many: at least 0.9
  of its images/s;
- crafting a block of the augmented set, with what rounds and saves it, against PGD of test_adv.py on
  the same images: at least 0.9 of its rate;
- the nearest 1,024 of 240,000 rows of 64 features: at most 60 ms;
- memory: what a stream of one point takes above the images of its augmented set, in a process of its
  own: below 1 GB.
"""

import resource
import subprocess
import sys
import tempfile

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf

import attacks
from benchmarks.timing import median_seconds
from data.pipeline import NO_CROP
from data.pixels import to_network_input
from defenses.rmc import neighbors
from defenses.rmc.adapter import Adapter, Rows
from defenses.rmc.defender import Defender, Point, Settings
from evaluation import augmenting
from evaluation.crafter import Crafter
from files import attack_parts
from files import rmc as rmc_files
from files.checkpoints import TrainingRun
from networks import restoring
from networks.spec import NetworkSpec
from training import loop, optimizers

ROUNDS = 7
SPEC = NetworkSpec("mnist", (28, 28, 1), 10, 1, "ce")
BATCH, TRAIN_ROWS, VALIDATION_ROWS = 128, 973, 51
NUM_CRAFTED, EPS = 400, 0.3
VARIANT = augmenting.Variant(10, 1.6)
ROWS, WIDTH, K = 240_000, 64, 1024
CPU = "/cpu:0"


def stored_images(count: int) -> np.ndarray:
    """Images of noise, uint8 [count, 28, 28, 1]."""
    return np.random.default_rng(0).integers(0, 256, (count, *SPEC.image_shape), np.uint8)


def make_adapter(strategy, epochs: int) -> Adapter:
    """An adapter of a network with random weights."""
    network = restoring.build_network(strategy, SPEC)
    optimizer = optimizers.make_optimizer("adam", 2.5e-5, adam_epsilon=1e-7)
    optimizer.build(network.model.trainable_variables)
    return Adapter(network, optimizer, batch_size=BATCH, epochs=epochs, patience=5)


def fit_of_one_epoch(strategy):
    """A callable that fits once over the rows."""
    adapter = make_adapter(strategy, 1)
    labels = np.arange(TRAIN_ROWS, dtype=np.int32) % 10
    train = Rows(stored_images(TRAIN_ROWS), labels)
    validation = Rows(train.images[:VALIDATION_ROWS], labels[:VALIDATION_ROWS])
    order, none = np.random.default_rng(0).permutation(TRAIN_ROWS), np.full(TRAIN_ROWS, NO_CROP)
    return lambda: adapter.fit(train, validation, lambda _: (order, none))


def training_steps(strategy):
    """A callable that takes train.py's steps over so many images, and how many images that are."""
    run = TrainingRun("mnist", SPEC.image_shape, 10, 1, "ce", "adam", BATCH, (10**6,), 1, 0)
    network = restoring.build_network(strategy, SPEC)
    optimizer = optimizers.build_for(run, strategy, network.model)
    steps = loop.make_train_loop(strategy, network.model, optimizer, network.head, BATCH)
    number = TRAIN_ROWS // BATCH
    x = to_network_input(stored_images(BATCH))
    iterator = iter(tf.data.Dataset.from_tensors(
        (x, np.arange(BATCH, dtype=np.int32) % 10)).repeat())
    return lambda: steps(iterator, tf.constant(number))[0].numpy(), number * BATCH


def augmentation(strategy, folder):
    """A callable that crafts a block and saves it."""
    network, images = restoring.build_network(strategy, SPEC), stored_images(NUM_CRAFTED)
    work = augmenting.Augmentation(
        network=network, strategy=strategy, images=images, labels=np.zeros(NUM_CRAFTED, int),
        image_index=np.arange(NUM_CRAFTED), variants=[VARIANT], eps=EPS, seed=0,
        parts=attack_parts.Parts(folder, {"benchmark": True}))
    crafters = {}
    return lambda: augmenting.craft(work, work.pieces, crafters=crafters)


def pgd(strategy):
    """A callable that attacks the same images as test_adv.py would."""
    network, x = restoring.build_network(strategy, SPEC), to_network_input(stored_images(NUM_CRAFTED))
    crafter = Crafter(network, strategy, attacks.get("pgd"), seed=0, most_rows=NUM_CRAFTED, settings={
        "num_steps": VARIANT.num_steps, "step_size": augmenting.step_size(VARIANT, EPS)})
    return lambda: crafter(x, np.arange(NUM_CRAFTED), eps=EPS)


def memory_of_a_stream() -> None:
    """Prints by how many MB a point of a defender takes more than its augmented set's images."""
    strategy = tf.distribute.OneDeviceStrategy(CPU)
    images = np.zeros((ROWS, *SPEC.image_shape), np.uint8)
    images[:] = stored_images(1)
    features = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    augmented = rmc_files.AugmentedSet(images, np.arange(ROWS, dtype=np.int32) % 10, ROWS // 4, {},
                                       features)
    defender = Defender(make_adapter(strategy, 2), augmented, Settings(K))
    point = Point(to_network_input(images[0]), features[0], (0, 0, 0))
    defender.answer(point)
    defender.finish(point)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    of_images = images.nbytes / 1e6
    print(f"memory: {used - of_images:.0f} MB above the {of_images:.0f} MB of images")


def main() -> None:
    """Prints rates, their ratios, and the search."""
    strategy = tf.distribute.OneDeviceStrategy(CPU)
    train, trained_images = training_steps(strategy)
    features = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        median = median_seconds({
            "fit": fit_of_one_epoch(strategy), "train": train,
            "augment": augmentation(strategy, folder), "pgd": pgd(strategy),
            "search": lambda: neighbors.nearest(features, features[7], K)}, ROUNDS)
    fit, steps = TRAIN_ROWS / median["fit"], trained_images / median["train"]
    print(f"adaptation: {fit:.0f} images/s, train.py {steps:.0f}: {fit / steps:.2f} of it")
    print(f"augmented set: {NUM_CRAFTED / median['augment']:.1f} images/s, PGD "
          f"{NUM_CRAFTED / median['pgd']:.1f}: {median['pgd'] / median['augment']:.2f} of it")
    print(f"search: {1000 * median['search']:.1f} ms among {ROWS} rows of {WIDTH}")
    subprocess.run([sys.executable, "-m", "benchmarks.adaptation", "memory"], check=True)


if __name__ == "__main__":
    memory_of_a_stream() if "memory" in sys.argv[1:] else main()

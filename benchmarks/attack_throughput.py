"""Speed of our attacks: against ART 1.20, Foolbox 3.3 and CleverHans 4.0, and against the gradient.

    pip install -e '.[bench]'
    python -m benchmarks.attack_throughput --only=fgsm,bim,R,cw,jsma

ResNet-32, 200 images of MNIST size. FGSM, BIM with 10 steps, and C&W and JSMA with 20 iterations that
nothing ends early are compared with the rivals. Ours is what test_adv.py runs. The rivals get
the same weights in the same graph with Keras's own batch norm, the labels (ours predicts them), and
tf.function where they take it. Part R compares our searches with R, the rate of batched input
gradients of the same network. All of a part alternate in one process after a call each that traces
and warms up; medians of the rounds and their ratios are printed. Weights are random: they do not
change the arithmetic. A rival that is not installed or does not run is named and left out.
"""

import argparse
import collections
import os
from collections.abc import Callable

import flags  # noqa: F401 sets TensorFlow's environment

import numpy as np
import tensorflow as tf

import attacks
from benchmarks.attack_rivals import RIVALS, SEARCH_RIVALS
from benchmarks.attacked_network import (
    BATCH,
    BOUNDS,
    EPS,
    ITERATIONS,
    LEARNING_RATE,
    PIXELS_PER_STEP,
    ROUNDS,
    THETA,
    TRADEOFF,
    make_images,
    make_network,
    make_plain_model,
    part_classes,
)
from benchmarks.search_rate import compare_with_gradient
from benchmarks.timing import median_seconds
from errors import named
from evaluation.crafter import Crafter

ATTACKS = ("fgsm", "bim")
PARTS = (*ATTACKS, "R", "cw", "jsma")
# Pixels of an FGSM image that may differ from ours: where the gradient is almost zero, rounding
# decides its sign.
MAX_DIFFERENT = 0.02


def ours(network, x):
    """Our FGSM and BIM, as test_adv.py runs them: by attack, a callable without arguments."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    index = np.arange(BATCH)

    def call(name):
        crafter = Crafter(network, strategy, attacks.get(name), seed=0, batch_size=BATCH)
        return lambda: crafter(x, index, eps=EPS)["adversarial"]

    return {name: call(name) for name in ATTACKS}


def check(name: str, adversarial: np.ndarray, reference: np.ndarray, x: np.ndarray,
          mean_loss: Callable) -> str:
    """Raises RuntimeError unless `adversarial` is an attack of x like `reference`; says how alike."""
    change = float(np.abs(adversarial - x).max())
    different = float(np.mean(np.abs(adversarial - reference) > 1e-5))
    raised = mean_loss(adversarial) - mean_loss(x)
    if change > EPS + 1e-5 or np.abs(adversarial).max() > BOUNDS[1] + 1e-6:
        raise RuntimeError(f"largest change {change} of {EPS}, largest {np.abs(adversarial).max()}")
    if raised <= 0.0:
        raise RuntimeError(f"the loss rises by {raised}")
    if name == "fgsm" and different > MAX_DIFFERENT:
        raise RuntimeError(f"{different:.2%} of the pixels are not those of our FGSM")
    return f"loss {raised:+.3f}, {different:.2%} of the pixels other than ours"


def compare_one_call(names, network, plain_model, x):
    """Parts fgsm and bim: prints images/s of ours and of the rivals."""
    labels = np.argmax(network.logits(x), axis=-1)

    @tf.function
    def loss(images):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network.logits(images))

    crafters = {"ours": ours(network, x)}
    for who, make in RIVALS.items():
        try:
            crafters[who] = make(plain_model, x, labels)
        except ImportError as error:
            print(f"{who}: not installed ({error})")
    for name in names:
        calls = {who: by_name[name] for who, by_name in crafters.items()}
        # This traces and warms up too.
        images = {who: call() for who, call in calls.items()}
        alike = {who: check(name, made, images["ours"], x, lambda i: float(np.mean(loss(i))))
                 for who, made in images.items()}
        median = median_seconds(calls, ROUNDS, warm_up=False)
        for who, seconds in median.items():
            ratio = "" if who == "ours" else f"; ours / {who}: {seconds / median['ours']:.2f}"
            print(f"{name} {who}: {BATCH / seconds:.0f} images/s{ratio} ({alike[who]})")


# Parts cw and jsma.


def our_search(name, network, x, target):
    """Ours, the whole attack as test_adv.py runs it."""
    attack, eps, settings = {
        "cw": ("carliniL2", None, {
            "num_search_steps": 1, "learning_rate": LEARNING_RATE, "initial_tradeoff": TRADEOFF}),
        "jsma": ("jsma", THETA, {"pair": True})}[name]
    crafter = Crafter(
        network, tf.distribute.OneDeviceStrategy("/cpu:0"), attacks.get(attack), seed=0,
        settings={"num_steps": ITERATIONS, **settings})
    index, targets, count = np.arange(len(x)), np.full(len(x), target), collections.Counter()

    def call():
        result = crafter(x, index, eps=eps, targets=[targets])
        if np.any(result["iterations"] != ITERATIONS):
            raise RuntimeError(f"{name}: an image ended after {np.min(result['iterations'])} of "
                               f"{ITERATIONS} iterations")
        count["iterations"] += int(result["iterations"].sum())
        return result["adversarial"]

    return call, count


def check_search(name, who, x, adversarial, count):
    """Raises RuntimeError unless a call took ITERATIONS of each image; says what they consisted of."""
    iterations = len(x) * ITERATIONS
    if count["iterations"] not in (0, iterations):
        raise RuntimeError(f"{name} {who}: {count['iterations']} image-iterations of {iterations}")
    taken = np.count_nonzero(adversarial != x, axis=(1, 2, 3))
    if name == "jsma" and np.any(taken != PIXELS_PER_STEP * ITERATIONS):
        raise RuntimeError(f"{name} {who}: from {taken.min()} to {taken.max()} pixels were changed")
    return "".join(f", {count[kind] / iterations:.2f} {kind} each"
                   for kind in ("gradients", "predictions") if count[kind])


def compare_search(name, network, plain_model, x, target):
    """Part cw or jsma: prints seconds per image-iteration of ours and of the rivals."""
    # One target class for all images: ART takes a pass for each class among the targets.
    made = {"ours": our_search(name, network, x, target)}
    calls, contents = {}, {}
    for who, make in SEARCH_RIVALS[name].items():
        try:
            made[who] = make(plain_model, x, target)
        except ImportError as error:
            print(f"{who}: not installed ({error})")
    for who, (call, count) in made.items():
        try:
            adversarial = call()  # this traces and warms up too
        # Rivals that nobody maintains meet a Keras that they do not know.
        except (AttributeError, TypeError, ValueError) as error:
            print(f"{name} {who}: does not run ({named(error)})")
            continue
        contents[who] = check_search(name, who, x, adversarial, count)
        calls[who] = call
    median = median_seconds(calls, ROUNDS, warm_up=False)
    for who, seconds in median.items():
        ratio = "" if who == "ours" else f"; ours / {who}: {seconds / median['ours']:.2f}"
        print(f"{name} {who}: {seconds / len(x) / ITERATIONS:.3g} s per image-iteration{ratio} "
              f"({len(x)} images, {ITERATIONS} iterations{contents[who]})")


def parse_arguments():
    """The parts that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, with commas between")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"only must name some of {','.join(PARTS)}. Received: only={arguments.only}.")
    return parts


def main():
    """Runs the parts, each of them with the same images and weights for all."""
    parts = parse_arguments()
    x = make_images()
    network = make_network(x)
    plain_model = make_plain_model(network)
    difference = np.abs(plain_model(x, training=False) - network.logits(x)).max()
    print(f"{os.cpu_count()} cores, batch {BATCH}, logits of the two graphs within {difference:.1e}")
    one_call = [name for name in ATTACKS if name in parts]
    if one_call:
        compare_one_call(one_call, network, plain_model, x)
    if "R" in parts:
        compare_with_gradient(network, x)
    searches = [name for name in SEARCH_RIVALS if name in parts]
    if searches:
        target = part_classes(network, x)
        # Anew: part_classes has moved the bias.
        plain_model = make_plain_model(network)
    for name in searches:
        compare_search(name, network, plain_model, x, target)


if __name__ == "__main__":
    main()

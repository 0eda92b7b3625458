"""Part R of attack_throughput.py: our searches against the rate of batched input gradients."""

import numpy as np
import tensorflow as tf

import attacks
from benchmarks.attacked_network import BATCH, NUM_CLASSES, ROUNDS
from benchmarks.timing import median_seconds
from defenses.kernels import KERNEL_BANDWIDTH

# Steps per timed call, most steps of a search, so many that none ends, and a change of a
# pixel that reaches no class.
RATE_STEPS = 20
ENDLESS = 10_000
TINY_EPS = 1e-6
NUM_KERNELS = 100


def gradient_steps(network, x):
    """A callable that takes RATE_STEPS input gradients of the whole batch, one after the other."""
    labels = np.argmax(network.logits(x), axis=-1)

    def step(i, images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network.logits(images))
        # Moves, so that no gradient is the one before.
        return i + 1, images + TINY_EPS * tf.sign(tape.gradient(loss, images))

    run = tf.function(lambda images: tf.while_loop(
        lambda i, _: i < RATE_STEPS, step, (0, images), parallel_iterations=1)[1])
    images = tf.constant(x)
    return lambda: run(images).numpy()


def bind_searches(network):
    """The searches, which do not end: by name, batch size and the search's last stage."""
    logits_width, features_width = (output.shape[-1] for output in network.model.outputs)
    kernels = np.random.default_rng(0).normal(size=(NUM_KERNELS, features_width, logits_width))
    settings = {
        "jsma": {"num_steps": ENDLESS},
        "carliniL2": {"num_steps": ENDLESS},
        "carliniL2_specific": {
            "num_steps": (ENDLESS, ENDLESS), "kernels": kernels,
            "density_medians": np.ones(logits_width),
            "bandwidth": KERNEL_BANDWIDTH[network.head.name]}}
    searches = {}
    for name, keywords in settings.items():
        attack = attacks.get(name)
        network_fn = network.logits_and_features if "features" in attack.takes else network.logits
        searches[name] = attack.batch_size, attack.function(network_fn, **keywords).stages[-1]
    return searches


def search_steps(name, search, x, target):
    """A callable that takes RATE_STEPS steps of every image; RuntimeError if an image ended."""
    eps = {"eps": tf.constant(TINY_EPS, tf.float64)} if attacks.get(name).uses_eps else {}
    state = search.start(x=tf.constant(x), target=tf.constant(target, tf.int32),
                         valid=tf.ones(len(x), bool), **eps)
    num_steps = tf.constant(RATE_STEPS)

    def call():
        end = search.advance(state, num_steps)
        if not np.all(end["active"]) or np.any(end["iterations"] != RATE_STEPS):
            raise RuntimeError(f"{name}: {np.count_nonzero(end['active'])} of {len(x)} images are "
                               f"active after {np.min(end['iterations'])} iterations or more")

    return call


def compare_with_gradient(network, x):
    """Prints our searches' image-steps/s, and R, gradients/s at the full batch."""
    target = (np.argmax(network.logits(x), axis=-1) + 1) % NUM_CLASSES
    calls, rows = {"R": gradient_steps(network, x)}, {"R": BATCH}
    for name, (count, search) in bind_searches(network).items():
        rows[name] = min(count, BATCH)
        calls[name] = search_steps(name, search, x[:rows[name]], target[:rows[name]])
    for call in calls.values():
        call()
    median = median_seconds(calls, ROUNDS, warm_up=False)
    rate = {name: rows[name] * RATE_STEPS / seconds for name, seconds in median.items()}
    print(f"R: {rate.pop('R'):.0f} gradients/s (batch {BATCH}, {RATE_STEPS} steps per call)")
    for name, steps_per_s in rate.items():
        ratio = steps_per_s * median["R"] / (BATCH * RATE_STEPS)
        print(f"{name}: {steps_per_s:.0f} image-steps/s (batch {rows[name]}); {name} / R: {ratio:.2f}")

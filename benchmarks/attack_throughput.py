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
import warnings
from collections.abc import Callable

import flags  # noqa: F401 sets TensorFlow's environment

import keras
import numpy as np
import tensorflow as tf

import attacks
import resnet_model
from benchmarks.timing import median_seconds
from benchmarks.train_throughput import keras_batch_norm
from defenses.kernels import KERNEL_BANDWIDTH
from evaluation.crafter import CLIP_MAX, CLIP_MIN, Crafter
from networks import heads
from networks.network import Network

BATCH = 200
ROUNDS = 5
IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
# ResNet-32.
BLOCKS_PER_STAGE = 5
EPS = 0.1
# The default of attacks.bim.
NUM_STEPS = 10
BOUNDS = (CLIP_MIN, CLIP_MAX)
ATTACKS = ("fgsm", "bim")
PARTS = (*ATTACKS, "R", "cw", "jsma")
# Forward passes that bring the moving averages of batch norm to the activations: with those of a
# fresh network the softmax saturates and gradients vanish.
CALIBRATION_PASSES = 60
# Pixels of an FGSM image that may differ from ours: where the gradient is almost zero, rounding
# decides its sign.
MAX_DIFFERENT = 0.02
# Part R: steps per timed call, most steps of a search, so many that none ends, and a change of a
# pixel that reaches no class.
RATE_STEPS = 20
ENDLESS = 10_000
TINY_EPS = 1e-6
NUM_KERNELS = 100
# Parts cw and jsma: iterations, and by how much the logit of the target class is lowered, so that
# nothing reaches it (which would end JSMA), and that of another is raised, so that it is the largest
# in all images: ART's C&W takes a pass for each class that is the largest in some image.
ITERATIONS = 20
LOGIT_SHIFT = 10.0
# C&W's. With a smaller tradeoff the weak gradients of random weights do not outweigh the distance:
# the loss stops falling, and our abort rule, which has no switch, ends images.
LEARNING_RATE = 0.01
TRADEOFF = 100.0
# JSMA's change of a pixel: the whole box, so that each iteration of ART's takes two new pixels. It
# has no limit of iterations, only one of pixels taken.
THETA = BOUNDS[1] - BOUNDS[0]
PIXELS_PER_STEP = 2
# An iteration of ART's C&W is two gradients, one by the target's logit and one by the largest
# other's (one pass through the network for each class among the latter), then a line search of
# forward passes: at least one halving, which is the step itself; a doubling, without which the step
# size halves at every iteration and the attack stops; and the loss at the place chosen.
ART_LINE_SEARCH = {"max_halving": 1, "max_doubling": 1}


def make_images() -> np.ndarray:
    """Images float32 [BATCH, h, w, c] in the box: smooth random fields."""
    coarse = tf.random.stateless_uniform([BATCH, 7, 7, 1], [0, 1], *BOUNDS)
    return tf.clip_by_value(tf.image.resize(coarse, IMAGE_SHAPE[:2], "bicubic"), *BOUNDS).numpy()


def make_network(x: np.ndarray) -> Network:
    """Our network with random weights, its batch norm averages those of `x`."""
    config = resnet_model.ResNetConfig(IMAGE_SHAPE, NUM_CLASSES, BLOCKS_PER_STAGE)
    model = resnet_model.build_resnet(config, seed=0)
    calibrate = tf.function(lambda: model(x, training=True)[0])
    for _ in range(CALIBRATION_PASSES):
        calibrate()
    return Network(model, heads.get("ce"))


def make_plain_model(network: Network) -> keras.Model:
    """The same network for the rivals: `keras.layers.BatchNormalization`, images to logits."""
    config = resnet_model.ResNetConfig(IMAGE_SHAPE, NUM_CLASSES, BLOCKS_PER_STAGE)
    model = resnet_model.build_resnet(config, batch_norm=keras_batch_norm)
    weights = resnet_model.named_variables(network.model)
    for name, variable in resnet_model.named_variables(model).items():
        variable.assign(weights[name])
    return keras.Model(model.input, model.output[0])


# Each of these returns, by attack, a callable without arguments that returns the adversarial images
# as a NumPy array. Rivals raise ImportError when they are not installed.


def import_art():
    """ART's attacks and classifiers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts for PyTorch
        from art.attacks import evasion
        from art.estimators import classification
    return evasion, classification


def ours(network, x):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    index = np.arange(BATCH)

    def call(name):
        crafter = Crafter(network, strategy, attacks.get(name), seed=0, batch_size=BATCH)
        return lambda: crafter(x, index, eps=EPS)["adversarial"]

    return {name: call(name) for name in ATTACKS}


def art_rival(model, x, labels):
    evasion, classification = import_art()
    # Called eagerly for gradients unless the model itself is a tf.function.
    logits = tf.function(lambda images, training: model(images, training=training))
    classifier = classification.TensorFlowV2Classifier(
        logits, nb_classes=NUM_CLASSES, input_shape=IMAGE_SHAPE, clip_values=BOUNDS,
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True))
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)[labels]
    fgsm = evasion.FastGradientMethod(classifier, eps=EPS, batch_size=BATCH)
    bim = evasion.BasicIterativeMethod(
        classifier, eps=EPS, eps_step=EPS / NUM_STEPS, max_iter=NUM_STEPS, batch_size=BATCH,
        verbose=False)
    return {"fgsm": lambda: fgsm.generate(x, one_hot), "bim": lambda: bim.generate(x, one_hot)}


def foolbox_rival(model, x, labels):
    import foolbox

    logits = tf.function(lambda images: model(images, training=False))
    target = foolbox.TensorFlowModel(logits, bounds=BOUNDS, device="/CPU:0")
    images, classes = tf.constant(x), tf.constant(labels)
    fgsm = foolbox.attacks.LinfFastGradientAttack()
    bim = foolbox.attacks.LinfBasicIterativeAttack(steps=NUM_STEPS, rel_stepsize=1 / NUM_STEPS)
    # `run` only crafts; calling the attack also classifies the result, which takes longer.
    return {"fgsm": lambda: fgsm.run(target, images, classes, epsilon=EPS).numpy(),
            "bim": lambda: bim.run(target, images, classes, epsilon=EPS).numpy()}


def cleverhans_rival(model, x, labels):
    from cleverhans.tf2.attacks import fast_gradient_method, projected_gradient_descent

    def logits(images):
        return model(images, training=False)

    images, classes = tf.constant(x), tf.constant(labels)
    box = {"clip_min": BOUNDS[0], "clip_max": BOUNDS[1]}

    @tf.function
    def fgsm():
        return fast_gradient_method.fast_gradient_method(
            logits, images, EPS, np.inf, y=classes, **box)

    # Its basic_iterative_method is this, but with checks that do not trace.
    @tf.function
    def bim():
        return projected_gradient_descent.projected_gradient_descent(
            logits, images, EPS, EPS / NUM_STEPS, NUM_STEPS, np.inf, y=classes, rand_init=False, **box)

    return {"fgsm": lambda: fgsm().numpy(), "bim": lambda: bim().numpy()}


RIVALS = {"ART": art_rival, "Foolbox": foolbox_rival, "CleverHans": cleverhans_rival}


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


# Part R.


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
    """Part R's searches, which do not end: by name, batch size and the search's last stage."""
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
    """Part R: prints our searches' image-steps/s, and R, gradients/s at the full batch."""
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


# Parts cw and jsma. Each of these returns a callable without arguments that attacks all of x, and a
# Counter of what it has done: "iterations" of an image, and where known "gradients" and
# "predictions", passes through the network per image. Without "iterations" the rival is taken at
# its word.


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


def traced_logits(model, shape):
    """The model as a function that is traced once, however many images it is given."""
    return tf.function(lambda images: model(images, training=False),
                       input_signature=[tf.TensorSpec([None, *shape], tf.float32)])


def counting_art_classifier(model, gradients_per_iteration):
    """ART's classifier, and a Counter of what attacks ask of it."""
    _, classification = import_art()
    logits = traced_logits(model, IMAGE_SHAPE)
    classifier = classification.TensorFlowV2Classifier(
        lambda images, training: logits(images), nb_classes=NUM_CLASSES, input_shape=IMAGE_SHAPE,
        clip_values=BOUNDS)
    count = collections.Counter()
    class_gradient, predict = classifier.class_gradient, classifier.predict

    def counted_gradient(images, label):
        count["iterations"] += len(images) / gradients_per_iteration
        # One pass of all images for each class among the labels.
        count["gradients"] += len(images) * len(np.unique(label))
        return class_gradient(images, label=label)

    def counted_predict(images, **keywords):
        count["predictions"] += len(images)
        return predict(images, **keywords)

    classifier.class_gradient, classifier.predict = counted_gradient, counted_predict
    return classifier, count


def art_cw(model, x, target):
    evasion, _ = import_art()
    classifier, count = counting_art_classifier(model, gradients_per_iteration=2)
    attack = evasion.CarliniL2Method(
        classifier, confidence=0.0, targeted=True, learning_rate=LEARNING_RATE,
        binary_search_steps=1, max_iter=ITERATIONS, initial_const=TRADEOFF, batch_size=len(x),
        verbose=False, **ART_LINE_SEARCH)
    targets = np.full(len(x), target)
    return lambda: attack.generate(x, targets), count


def art_jsma(model, x, target):
    evasion, _ = import_art()
    classifier, count = counting_art_classifier(model, gradients_per_iteration=1)
    # Goes on while the share of the pixels taken is at most gamma.
    gamma = (PIXELS_PER_STEP * ITERATIONS - 1) / x[0].size
    attack = evasion.SaliencyMapMethod(
        classifier, theta=THETA, gamma=gamma, batch_size=len(x), verbose=False)
    targets = np.full(len(x), target)
    return lambda: attack.generate(x, targets), count


def foolbox_cw(model, x, target):
    import foolbox

    # eagerpy, on which it is built, indexes by a function that NumPy 2 has removed.
    if not hasattr(np, "find_common_type"):
        np.find_common_type = lambda arrays, scalars: np.result_type(*arrays, *scalars)
    logits, count = traced_logits(model, IMAGE_SHAPE), collections.Counter()

    def counted_logits(images):
        count["iterations"] += len(images)
        return logits(images)

    attacked = foolbox.TensorFlowModel(counted_logits, bounds=BOUNDS, device="/CPU:0")
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=1, steps=ITERATIONS, stepsize=LEARNING_RATE, confidence=0.0,
        initial_const=TRADEOFF, abort_early=False)
    images = tf.constant(x)
    criterion = foolbox.criteria.TargetedMisclassification(tf.fill([len(x)], target))
    return lambda: attack.run(attacked, images, criterion).numpy(), count


def cleverhans_cw(model, x, target):
    from cleverhans.tf2.attacks import carlini_wagner_l2

    attack = carlini_wagner_l2.CarliniWagnerL2(
        traced_logits(model, IMAGE_SHAPE), y=tf.one_hot([target] * len(x), NUM_CLASSES), targeted=True,
        batch_size=len(x), clip_min=BOUNDS[0], clip_max=BOUNDS[1], binary_search_steps=1,
        max_iterations=ITERATIONS, abort_early=False, initial_const=TRADEOFF,
        learning_rate=LEARNING_RATE)
    return lambda: attack.attack(x), collections.Counter()


# CleverHans for TensorFlow 2 and Foolbox 3 have no JSMA.
SEARCH_RIVALS = {"cw": {"ART": art_cw, "Foolbox": foolbox_cw, "CleverHans": cleverhans_cw},
                 "jsma": {"ART": art_jsma}}


def part_classes(network, x):
    """Shifts one class out of reach and another to the top, see LOGIT_SHIFT; returns the former."""
    mean = np.mean(network.logits(x), axis=0)
    target = int(np.argmin(mean))
    signs = np.zeros(NUM_CLASSES, np.float32)
    signs[[np.argmax(mean), target]] = 1.0, -1.0
    bias = network.model.get_layer("logit").bias
    bias.assign(bias + LOGIT_SHIFT * signs)
    return target


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
        except (AttributeError, TypeError, ValueError) as error:
            print(f"{name} {who}: does not run ({type(error).__name__}: {str(error).splitlines()[0]})")
            continue
        contents[who] = check_search(name, who, x, adversarial, count)
        calls[who] = call
    median = median_seconds(calls, ROUNDS, warm_up=False)
    for who, seconds in median.items():
        ratio = "" if who == "ours" else f"; ours / {who}: {seconds / median['ours']:.2f}"
        print(f"{name} {who}: {seconds / len(x) / ITERATIONS:.3g} s per image-iteration{ratio} "
              f"({len(x)} images, {ITERATIONS} iterations{contents[who]})")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, with commas between")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"only must name some of {','.join(PARTS)}. Received: only={arguments.only}.")
    return parts


def main():
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
        plain_model = make_plain_model(network)
    for name in searches:
        compare_search(name, network, plain_model, x, target)


if __name__ == "__main__":
    main()

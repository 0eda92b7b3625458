"""Images/s of FGSM and BIM: ours against ART 1.20, Foolbox 3.3 and CleverHans 4.0.

    pip install -e '.[bench]'
    python -m benchmarks.attack_throughput

ResNet-32, 200 images of MNIST size, BIM with 10 steps. Ours is what test_adv.py runs. The rivals get
the same weights in the same graph with Keras's own batch norm, the labels (ours predicts them), and
tf.function where they take it. All alternate in one process after a call each that traces and warms
up; medians of the rounds and their ratios are printed. Weights are random: they do not change the
arithmetic. A rival that is not installed is named and left out.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable

import flags  # noqa: F401 sets TensorFlow's environment

import keras
import numpy as np
import tensorflow as tf

import attacks
import inference
import resnet_model
import test_adv
from benchmarks.train_throughput import keras_batch_norm
from defenses import objectives

BATCH = 200
ROUNDS = 5
IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
# ResNet-32.
BLOCKS_PER_STAGE = 5
EPS = 0.1
# The default of attacks.bim.
NUM_STEPS = 10
BOUNDS = (test_adv.CLIP_MIN, test_adv.CLIP_MAX)
ATTACKS = ("fgsm", "bim")
# Forward passes that bring the moving averages of batch norm to the activations: with those of a
# fresh network the softmax saturates and gradients vanish.
CALIBRATION_PASSES = 60
# Pixels of an FGSM image that may differ from ours: where the gradient is almost zero, rounding
# decides its sign.
MAX_DIFFERENT = 0.02


def make_images() -> np.ndarray:
    """Images float32 [BATCH, h, w, c] in the box: smooth random fields."""
    coarse = tf.random.stateless_uniform([BATCH, 7, 7, 1], [0, 1], *BOUNDS)
    return tf.clip_by_value(tf.image.resize(coarse, IMAGE_SHAPE[:2], "bicubic"), *BOUNDS).numpy()


def make_network(x: np.ndarray) -> inference.Network:
    """Our network with random weights, its batch norm averages those of `x`."""
    config = resnet_model.ResNetConfig(IMAGE_SHAPE, NUM_CLASSES, BLOCKS_PER_STAGE)
    model = resnet_model.build_resnet(config, seed=0)
    calibrate = tf.function(lambda: model(x, training=True)[0])
    for _ in range(CALIBRATION_PASSES):
        calibrate()
    return inference.Network(model, objectives.get("ce"))


def make_plain_model(network: inference.Network) -> keras.Model:
    """The same network for the rivals: `keras.layers.BatchNormalization`, images to logits."""
    config = resnet_model.ResNetConfig(IMAGE_SHAPE, NUM_CLASSES, BLOCKS_PER_STAGE)
    model = resnet_model.build_resnet(config, batch_norm=keras_batch_norm)
    weights = resnet_model.named_variables(network.model)
    for name, variable in resnet_model.named_variables(model).items():
        variable.assign(weights[name])
    return keras.Model(model.input, model.output[0])


# Each of these returns, by attack, a callable without arguments that returns the adversarial images
# as a NumPy array. Rivals raise ImportError when they are not installed.


def ours(network, x):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    index = np.arange(BATCH)

    def call(name):
        crafter = test_adv.Crafter(network, strategy, attacks.get(name), seed=0, batch_size=BATCH)
        return lambda: crafter(x, index, EPS)

    return {name: call(name) for name in ATTACKS}


def art_rival(model, x, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts for PyTorch
        from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod
        from art.estimators.classification import TensorFlowV2Classifier

    # Called eagerly for gradients unless the model itself is a tf.function.
    logits = tf.function(lambda images, training: model(images, training=training))
    classifier = TensorFlowV2Classifier(
        logits, nb_classes=NUM_CLASSES, input_shape=IMAGE_SHAPE, clip_values=BOUNDS,
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True))
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)[labels]
    fgsm = FastGradientMethod(classifier, eps=EPS, batch_size=BATCH)
    bim = BasicIterativeMethod(classifier, eps=EPS, eps_step=EPS / NUM_STEPS, max_iter=NUM_STEPS,
                               batch_size=BATCH, verbose=False)
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


def median_seconds(calls: dict[str, Callable]) -> dict[str, float]:
    """Median wall seconds of each, which alternate; none is its first call."""
    times = {who: [] for who in calls}
    for _ in range(ROUNDS):
        for who, call in calls.items():
            started = time.perf_counter()
            call()
            times[who].append(time.perf_counter() - started)
    return {who: statistics.median(t) for who, t in times.items()}


def main():
    x = make_images()
    network = make_network(x)
    plain_model = make_plain_model(network)
    labels = np.argmax(network.logits(x), axis=-1)
    difference = np.abs(plain_model(x, training=False) - network.logits(x)).max()
    print(f"{os.cpu_count()} cores, batch {BATCH}, logits of the two graphs within {difference:.1e}")

    @tf.function
    def loss(images):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network.logits(images))

    crafters = {"ours": ours(network, x)}
    for who, make in RIVALS.items():
        try:
            crafters[who] = make(plain_model, x, labels)
        except ImportError as error:
            print(f"{who}: not installed ({error})")
    for name in ATTACKS:
        calls = {who: by_name[name] for who, by_name in crafters.items()}
        # This traces and warms up too.
        images = {who: call() for who, call in calls.items()}
        alike = {who: check(name, made, images["ours"], x, lambda i: float(np.mean(loss(i))))
                 for who, made in images.items()}
        median = median_seconds(calls)
        for who, seconds in median.items():
            ratio = "" if who == "ours" else f"; ours / {who}: {seconds / median['ours']:.2f}"
            print(f"{name} {who}: {BATCH / seconds:.0f} images/s{ratio} ({alike[who]})")


if __name__ == "__main__":
    main()

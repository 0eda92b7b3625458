"""What attack_throughput.py attacks: images, the network, also as rivals take it, and their numbers."""

import keras
import numpy as np
import tensorflow as tf

import resnet_model
from benchmarks.train_throughput import keras_batch_norm
from evaluation.crafter import CLIP_MAX, CLIP_MIN
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
# Forward passes that bring the moving averages of batch norm to the activations: with those of a
# fresh network the softmax saturates and gradients vanish.
CALIBRATION_PASSES = 60
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
    # With Keras's layer, as whoever uses a rival would have it: our own is part of what makes ours
    # fast.
    model = resnet_model.build_resnet(config, batch_norm=keras_batch_norm)
    weights = resnet_model.named_variables(network.model)
    for name, variable in resnet_model.named_variables(model).items():
        variable.assign(weights[name])
    return keras.Model(model.input, model.output[0])


def part_classes(network: Network, x: np.ndarray) -> int:
    """Shifts one class out of reach and another to the top, see LOGIT_SHIFT; returns the former."""
    mean = np.mean(network.logits(x), axis=0)
    target = int(np.argmin(mean))
    signs = np.zeros(NUM_CLASSES, np.float32)
    signs[[np.argmax(mean), target]] = 1.0, -1.0
    bias = network.model.get_layer("logit").bias
    bias.assign(bias + LOGIT_SHIFT * signs)
    return target

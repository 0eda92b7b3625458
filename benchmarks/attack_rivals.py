"""The rivals of attack_throughput.py: the attacks of ART 1.20, Foolbox 3.3 and CleverHans 4.0.

Each is imported where it is made, which raises ImportError when it is not installed.
"""

import collections
import warnings

import keras
import numpy as np
import tensorflow as tf

from benchmarks.attacked_network import (
    BATCH,
    BOUNDS,
    EPS,
    IMAGE_SHAPE,
    ITERATIONS,
    LEARNING_RATE,
    NUM_CLASSES,
    NUM_STEPS,
    PIXELS_PER_STEP,
    THETA,
    TRADEOFF,
)

# An iteration of ART's C&W is two gradients, one by the target's logit and one by the largest
# other's (one pass through the network for each class among the latter), then a line search of
# forward passes: at least one halving, which is the step itself; a doubling, without which the step
# size halves at every iteration and the attack stops; and the loss at the place chosen.
ART_LINE_SEARCH = {"max_halving": 1, "max_doubling": 1}


def import_art():
    """ART's attacks and classifiers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts for PyTorch
        from art.attacks import evasion
        from art.estimators import classification
    return evasion, classification


# Each of these returns, by attack, a callable without arguments that returns the adversarial images
# as a NumPy array. Rivals raise ImportError when they are not installed.


def art_rival(model, x, labels):
    """FGSM and BIM of ART."""
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
    """FGSM and BIM of Foolbox."""
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
    """FGSM and BIM of CleverHans."""
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


# Parts cw and jsma. Each of these returns a callable without arguments that attacks all of x, and a
# Counter of what it has done: "iterations" of an image, and where known "gradients" and
# "predictions", passes through the network per image. Without "iterations" the rival is taken at
# its word.


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
    """C&W of ART."""
    evasion, _ = import_art()
    classifier, count = counting_art_classifier(model, gradients_per_iteration=2)
    attack = evasion.CarliniL2Method(
        classifier, confidence=0.0, targeted=True, learning_rate=LEARNING_RATE,
        binary_search_steps=1, max_iter=ITERATIONS, initial_const=TRADEOFF, batch_size=len(x),
        verbose=False, **ART_LINE_SEARCH)
    targets = np.full(len(x), target)
    return lambda: attack.generate(x, targets), count


def art_jsma(model, x, target):
    """JSMA of ART."""
    evasion, _ = import_art()
    classifier, count = counting_art_classifier(model, gradients_per_iteration=1)
    # Goes on while the share of the pixels taken is at most gamma.
    gamma = (PIXELS_PER_STEP * ITERATIONS - 1) / x[0].size
    attack = evasion.SaliencyMapMethod(
        classifier, theta=THETA, gamma=gamma, batch_size=len(x), verbose=False)
    targets = np.full(len(x), target)
    return lambda: attack.generate(x, targets), count


def foolbox_cw(model, x, target):
    """C&W of Foolbox."""
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
    """C&W of CleverHans."""
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

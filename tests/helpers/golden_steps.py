"""Recomputes the golden training steps in a process of its own; test_training.py reads the result.

    TF_ENABLE_ONEDNN_OPTS=0 python tests/helpers/golden_steps.py out.npz full

oneDNN is chosen when TensorFlow is loaded, so a test process cannot have it both on and off.
"""

import sys

import flags  # noqa: F401 sets TensorFlow's environment, so before everything else

import numpy as np
import tensorflow as tf

from data.pixels import to_network_input
from networks import heads
from resnet_model import ResNetConfig, build_resnet, named_variables
from tests.helpers.golden import golden, load_golden_weights, tf1_name
from training import OPTIMIZERS, optimizers
from training import loop as training_loop

BATCH = 128
GOLDEN = golden("train_steps_mnist_u1")
# Read once: an npz decompresses an array at each access.
INITIAL = {name: GOLDEN[name] for name in GOLDEN.files if name.startswith("init/")}
IMAGES = to_network_input(GOLDEN["batch_images_uint8"][..., None])
LABELS = GOLDEN["batch_labels"].astype(np.int32)


class GradientRecorder:
    """Stands in for an optimizer: keeps the gradients that the train step hands over."""

    def __init__(self, variables):
        self.gradients = [tf.Variable(tf.zeros(v.shape)) for v in variables]

    def scale_loss(self, loss):
        return loss

    def apply(self, gradients, variables):
        for kept, gradient in zip(self.gradients, gradients, strict=True):
            kept.assign(gradient)


def l2norm(array):
    return np.sqrt(np.sum(np.square(np.asarray(array, np.float64))))


def run(strategy, model, objective_name, results, *, optimizer_names, full):
    """Runs with one objective; `full` runs RCE at rate 0.01 to the end."""
    variables = named_variables(model)
    objective = heads.get(objective_name)

    def restart():
        load_golden_weights(variables, INITIAL, "init/")
        return iter(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)))

    recorder = GradientRecorder(model.trainable_variables)
    iterator = restart()
    training_loop.make_train_loop(strategy, model, recorder, objective, BATCH)(iterator, tf.constant(1))
    for variable, gradient in zip(model.trainable_variables, recorder.gradients, strict=True):
        name = tf1_name(variable.path.replace(".", "/"))
        results[f"{objective_name}/step0_gradnorm/{name}"] = l2norm(gradient)
    for optimizer_name in optimizer_names:
        with strategy.scope():
            optimizer = optimizers.make_optimizer(optimizer_name, 0.1)
            optimizer.build(model.trainable_variables)
        fresh_slots = [v.numpy() for v in optimizer.variables]
        loop = training_loop.make_train_loop(strategy, model, optimizer, objective, BATCH)
        for rate in (0.1, 0.01):
            for slot, value in zip(optimizer.variables, fresh_slots, strict=True):
                slot.assign(value)
            optimizer.learning_rate.assign(rate)
            iterator = restart()
            tag = f"{objective_name}_{optimizer_name}_lr{rate}"
            costs = []
            for step in range(len(LABELS) if full and tag.startswith("rce") and rate == 0.01 else 3):
                costs.append(float(loop(iterator, tf.constant(1))[0]))
                if step < (2 if tag == "rce_mom_lr0.1" else 1):
                    for name, variable in variables.items():
                        results[f"{tag}/after{step + 1}/{tf1_name(name)}"] = variable.numpy()
            results[f"{tag}/cost"] = np.array(costs)


def main(path, extent):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = build_resnet(ResNetConfig((28, 28, 1), 10, 1))
    results = {}
    for objective_name in heads.HEADS:
        # "mom" alone, "short": all optimizers, or "full".
        run(strategy, model, objective_name, results, full=extent == "full",
            optimizer_names=["mom"] if extent == "mom" else OPTIMIZERS)
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])

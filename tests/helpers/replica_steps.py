"""Takes the golden training steps on some replicas, in a process of its own; for test_replicas.py.

    python tests/helpers/replica_steps.py out.npz 4 sync,plain

MirroredStrategies of different sizes cannot share a process: the keys of their collective operations
collide.
"""

import functools
import sys

import numpy as np
import tensorflow as tf

import resnet_model
from networks import heads
from options import devices
from tests.helpers.golden import load_golden_weights
from tests.helpers.golden_steps import BATCH, IMAGES, INITIAL, LABELS
from training import loop as training_loop
from training import optimizers

# Options by name: whether batch norm is synchronized, whether XLA compiles.
VARIANTS = {"plain": (False, False), "sync": (True, False), "jit": (False, True)}


def run(strategy, synchronized, jit_compile):
    """Costs [20] of RCE with momentum at rate 0.01, the variables at the end by name, and how often
    the loop was traced."""
    batch_norm = functools.partial(resnet_model.FusedBatchNorm, synchronized=synchronized)
    with strategy.scope():
        model = resnet_model.build_resnet(
            resnet_model.ResNetConfig((28, 28, 1), 10, 1), batch_norm=batch_norm)
        optimizer = optimizers.make_optimizer("mom", 0.01)
        optimizer.build(model.trainable_variables)
    variables = resnet_model.named_variables(model)
    load_golden_weights(variables, INITIAL, "init/")
    loop = training_loop.make_train_loop(
        strategy, model, optimizer, heads.get("rce"), BATCH, jit_compile=jit_compile)
    parts = strategy.num_replicas_in_sync
    images, labels = (array.reshape(-1, BATCH // parts, *array.shape[2:])
                      for array in (IMAGES, LABELS))
    iterator = iter(strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices((images, labels))))
    costs = [float(loop(iterator, tf.constant(1))[0]) for _ in LABELS]
    return costs, variables, loop.experimental_get_tracing_count()


def main(path, replicas, names):
    strategy = devices.make_strategy(0, int(replicas))
    results = {}
    for name in names.split(","):
        costs, variables, traced = run(strategy, *VARIANTS[name])
        results |= {f"{name}/cost": costs, f"{name}/traced": traced}
        results |= {f"{name}/end/{key}": variable.numpy() for key, variable in variables.items()}
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Images/s of our train step, of the same with Keras batch norm, and the machine's GEMM rate.

    python -m benchmarks.train_throughput

ResNet-32, batch 128, MNIST size, momentum, both cores; beside them --jit_compile and
--mixed_precision. All alternate in one process, so that a drift of the machine meets each of them;
medians of the rounds and their ratios are printed.
"""

import flags  # noqa: F401 sets TensorFlow's environment

import keras
import tensorflow as tf

import resnet_model
from benchmarks.timing import median_seconds
from files import checkpoints
from networks import heads
from training import loop as training_loop
from training import optimizers

BATCH = 128
ROUNDS = 7
STEPS_PER_ROUND = 5
# Multiply-adds counted as two, forward and backward, per image and step.
MFLOP_PER_IMAGE = 318
GEMM_SIZE = 2048


def make_step(strategy, batch_norm, *, mixed_precision="", jit_compile=False):
    """A callable that runs `STEPS_PER_ROUND` training steps."""
    run = checkpoints.TrainingRun("mnist", (28, 28, 1), 10, 5, "rce", "mom", BATCH, (), 1, 0)
    config = resnet_model.ResNetConfig(run.image_shape, run.num_classes, run.blocks_per_stage)
    with strategy.scope():
        model = resnet_model.build_resnet(
            config, batch_norm=batch_norm, mixed_precision=mixed_precision)
        optimizer = optimizers.make_optimizer(run.optimizer, 0.01, mixed_precision=mixed_precision)
        optimizer.build(model.trainable_variables)
    loop = training_loop.make_train_loop(strategy, model, optimizer, heads.get("rce"), BATCH,
                                 jit_compile=jit_compile)
    images = tf.random.stateless_uniform([BATCH, 28, 28, 1], [0, 1], -0.5, 0.5)
    labels = tf.random.stateless_uniform([BATCH], [0, 2], 0, 10, tf.int32)
    # One batch for ever: the pipeline is not what is measured.
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    return lambda: loop(iterator, tf.constant(STEPS_PER_ROUND))[0].numpy()


def keras_batch_norm(name):
    """Keras 3's own layer with the same numbers."""
    return keras.layers.BatchNormalization(
        momentum=resnet_model.BATCH_NORM_MOMENTUM, epsilon=resnet_model.BATCH_NORM_EPSILON, name=name)


def main():
    """Prints rates and their ratios."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    matrix = tf.random.stateless_uniform([GEMM_SIZE, GEMM_SIZE], [0, 3])
    # What the machine can do just then: a rate beside it means something on another machine, too.
    gemm = tf.function(lambda: tf.linalg.matmul(matrix, matrix))
    fused = resnet_model.FusedBatchNorm
    steps = {
        "ours": make_step(strategy, fused),
        "keras batch norm": make_step(strategy, keras_batch_norm),
        "jit_compile": make_step(strategy, fused, jit_compile=True),
        "bfloat16": make_step(strategy, fused, mixed_precision="bfloat16"),
        "float16": make_step(strategy, fused, mixed_precision="float16"),
    }
    median = median_seconds({**steps, "gemm": lambda: gemm().numpy()}, ROUNDS)
    images_per_s = {n: BATCH * STEPS_PER_ROUND / median[n] for n in steps}
    gemm_gflops = 2 * GEMM_SIZE**3 / median["gemm"] / 1e9
    for name, rate in images_per_s.items():
        print(f"{name}: {rate:.0f} images/s, {rate * MFLOP_PER_IMAGE / 1000:.1f} GFLOP/s")
    print(f"float32 GEMM: {gemm_gflops:.1f} GFLOP/s")
    share = images_per_s["ours"] * MFLOP_PER_IMAGE / 1000 / gemm_gflops
    print(f"ours / GEMM rate: {share:.2f}")
    for name in list(steps)[1:]:
        print(f"ours / {name}: {images_per_s['ours'] / images_per_s[name]:.2f}")


if __name__ == "__main__":
    main()

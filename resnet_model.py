"""The pre-activation ResNet of the original, its batch norm, the RCE loss and the reversed head.

Follows the original's resnet_model.py (and He et al. 2016, arXiv 1603.05027). Which loss and which
sign of the logits a run uses is decided in networks/heads.py, not here.
"""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from errors import InputError

LEAKY_SLOPE = 0.1
WEIGHT_DECAY = 0.0002
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """What determines the network.

    Attributes:
      image_shape: (height, width, channels); height and width divisible by 4.
      num_classes: width of the logits.
      blocks_per_stage: n of ResNet-(6n+2); the flag --num_residual_units.
      use_bottleneck: 1×1, 3×3, 1×1 units with 64, 128, 256 filters in place of two 3×3 with
        16, 32, 64 (in the original not reachable by a flag).
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    blocks_per_stage: int = 5
    use_bottleneck: bool = False

    def __post_init__(self):
        height, width, _ = self.image_shape
        # A strided SAME convolution and the VALID pooling beside it agree in size only then.
        if height % 4 or width % 4:
            raise InputError("image height and width must be divisible by 4. "
                             f"Received: image_shape={self.image_shape}.")
        if self.blocks_per_stage < 1:
            raise InputError("num_residual_units must be at least 1. "
                             f"Received: num_residual_units={self.blocks_per_stage}.")

    @property
    def depth(self) -> int:
        """Number of weight layers, 6n+2 (bottleneck: 9n+2)."""
        return (9 if self.use_bottleneck else 6) * self.blocks_per_stage + 2

    @property
    def stage_filters(self) -> tuple[int, int, int]:
        """Output filters of the three stages; the last is the width of the features."""
        return (64, 128, 256) if self.use_bottleneck else (16, 32, 64)


class FusedBatchNorm(layers.Layer):
    """Batch norm over NHWC on TensorFlow's fused kernel (cuDNN on a GPU, oneDNN on a CPU).

    Same variables and result as `keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)`,
    which Keras 3 decomposes into many element-wise ops: see benchmarks/train_throughput.py. Its
    variables and statistics are float32 whatever the images are computed in.

    Args:
      momentum: share that a moving average keeps in each training step.
      synchronized: trains on the statistics of all replicas' images together, not of each
        replica's own.
      bessel: averages the Bessel-corrected variance, as layers of TensorFlow 1 on the fused kernel
        did, not the biased one. Images are normalised by the biased one in any case.
      **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, momentum=BATCH_NORM_MOMENTUM, synchronized=False, bessel=False, **kwargs):
        # Otherwise Keras casts half-precision images to the layer's own type, float32.
        super().__init__(autocast=False, **kwargs)
        self._momentum, self._synchronized, self._bessel = momentum, synchronized, bessel

    def build(self, input_shape):
        """Makes the variables of one channel each, of images [n, h, w, c]: four of shape [c]."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        # Differs from the original: plain moving averages, not zero-debiased ones. The difference
        # dies out as 0.9^t (below 1e-9 after 200 steps).
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", trainable=False)
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", trainable=False)

    def call(self, x, training=False):
        """Normalises images [n, h, w, c]; training uses their own statistics and averages them."""
        if training:
            return self._by_global_batch(x) if self._synchronized else self._by_batch(x)
        # The whole layer is one multiply-add here; as the fused inference kernel it has no faster
        # gradient, and attacks differentiate through it.
        # All in float32, rounded to the type of the images once, at the end.
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + BATCH_NORM_EPSILON)
        offset = self.beta - self.moving_mean * scale
        return tf.cast(tf.cast(x, tf.float32) * scale + offset, x.dtype)

    def _by_global_batch(self, x):
        def global_mean(values):
            local = tf.reduce_mean(values, axis=(0, 1, 2))
            replica = tf.distribute.get_replica_context()
            return replica.all_reduce(tf.distribute.ReduceOp.MEAN, local)

        pixels = tf.cast(x, tf.float32)
        # Two passes: E[x²] − E[x]² in one would lose the digits that the difference needs.
        mean = global_mean(pixels)
        centred = pixels - mean
        variance = global_mean(tf.square(centred))
        averaged = variance
        if self._bessel:
            replicas = tf.distribute.get_replica_context().num_replicas_in_sync
            count = _num_values(x) * replicas
            averaged = variance * (count / (count - 1.0))
        self._average(self.moving_mean, mean)
        self._average(self.moving_variance, averaged)
        scale = self.gamma * tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
        return tf.cast(centred * scale + self.beta, x.dtype)

    def _by_batch(self, x):
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            # V3 takes images of half precision beside float32 scale, offset and statistics.
            x=x, scale=self.gamma, offset=self.beta, mean=[], variance=[],
            epsilon=BATCH_NORM_EPSILON, is_training=True)
        # The kernel returns the Bessel-corrected variance; the original averages the biased one.
        if not self._bessel:
            count = _num_values(x)
            variance = variance * ((count - 1.0) / count)
        self._average(self.moving_mean, mean)
        self._average(self.moving_variance, variance)
        return y

    def _average(self, moving, batch_value):
        moving.assign(moving * self._momentum + batch_value * (1.0 - self._momentum))


def _num_values(x):
    # Of a channel. In the graph: the batch, and with it the count, need not be static.
    return tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)


def build_resnet(config: ResNetConfig, *, seed: int = 0, batch_norm=FusedBatchNorm,
                 mixed_precision: str = "") -> keras.Model:
    """The network as a Keras model.

    Args:
      config: shape and depth.
      seed: of the initial weights; every kernel draws from a stream of its own.
      batch_norm: layer class with a `name` argument and the variables of `FusedBatchNorm`.
      mixed_precision: "bfloat16" or "float16" to compute the convolutions in; "" is float32.
        Variables, batch statistics, features and logits are float32 in any case.

    Returns:
      A model from images float32 [n, height, width, channels] in [-0.5, 0.5] to a pair:
      logits float32 [n, num_classes] and features float32 [n, 64] (256 with bottlenecks), the
      pooled activations that the original calls `t_SNE_logits`.
    """
    build = _Builder(seed, batch_norm, f"mixed_{mixed_precision}" if mixed_precision else "float32")
    add_unit = build.bottleneck_unit if config.use_bottleneck else build.residual_unit
    images = keras.Input(config.image_shape, name="images")
    x = build.conv(images, 16, 3, 1, "init.init_conv")
    for stage, filters in enumerate(config.stage_filters, start=1):
        for block in range(config.blocks_per_stage):
            stride = 2 if stage > 1 and block == 0 else 1
            x = add_unit(x, filters, stride, f"unit_{stage}_{block}")
    x = build.norm_relu(x, "unit_last.final_bn")
    features = layers.GlobalAveragePooling2D(name="features")(x)
    logits = build.logits(features, config.num_classes)
    return keras.Model(images, (logits, features), name="resnet")


class _Builder:
    """Adds layers under the TF1 variable names, '.' standing for the '/' that Keras refuses."""

    def __init__(self, seed, batch_norm, dtype):
        self._seed = seed
        self._dtype = dtype
        self._kernels_drawn = 0
        self._batch_norm = batch_norm

    def residual_unit(self, x, filters, stride, unit):
        first = unit == "unit_1_0"
        scope = "shared_activation" if first else "residual_only_activation"
        activated = self.norm_relu(x, f"{unit}.{scope}.init_bn")
        # Only the very first shortcut starts behind the activation.
        # Without parameters, as in the original: pooled and padded with zeros, no projection.
        shortcut = self._pooled_and_padded(activated if first else x, filters, stride)
        x = self.conv(activated, filters, 3, stride, f"{unit}.sub1.conv1")
        x = self.norm_relu(x, f"{unit}.sub2.bn2")
        x = self.conv(x, filters, 3, 1, f"{unit}.sub2.conv2")
        return layers.Add(name=f"{unit}.add", dtype=self._dtype)([x, shortcut])

    def bottleneck_unit(self, x, filters, stride, unit):
        first = unit == "unit_1_0"
        scope = "common_bn_relu" if first else "residual_bn_relu"
        activated = self.norm_relu(x, f"{unit}.{scope}.init_bn")
        shortcut = activated if first else x
        x = self.conv(activated, filters // 4, 1, stride, f"{unit}.sub1.conv1")
        x = self.norm_relu(x, f"{unit}.sub2.bn2")
        x = self.conv(x, filters // 4, 3, 1, f"{unit}.sub2.conv2")
        x = self.norm_relu(x, f"{unit}.sub3.bn3")
        x = self.conv(x, filters, 1, 1, f"{unit}.sub3.conv3")
        if shortcut.shape[-1] != filters:
            shortcut = self.conv(shortcut, filters, 1, stride, f"{unit}.sub_add.project")
        return layers.Add(name=f"{unit}.add", dtype=self._dtype)([x, shortcut])

    def conv(self, x, filters, size, stride, name):
        # By the fan-out, as in the original; Keras's he_normal takes the fan-in, and truncates.
        initializer = keras.initializers.RandomNormal(
            stddev=math.sqrt(2.0 / (size * size * filters)), seed=self._kernel_seed())
        return layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False,
                             kernel_initializer=initializer, name=name, dtype=self._dtype)(x)

    def norm_relu(self, x, name):
        x = self._batch_norm(name=name)(x)
        return layers.LeakyReLU(
            negative_slope=LEAKY_SLOPE, name=f"{name}.relu", dtype=self._dtype)(x)

    def logits(self, features, num_classes):
        # What uniform_unit_scaling_initializer of TensorFlow 1 draws, which Keras lacks.
        limit = math.sqrt(3.0 / features.shape[-1])
        initializer = keras.initializers.RandomUniform(-limit, limit, seed=self._kernel_seed())
        # No dtype of its own: float32 in mixed precision, too, as scores are made of these logits.
        return layers.Dense(num_classes, kernel_initializer=initializer, name="logit")(features)

    def _pooled_and_padded(self, x, filters, stride):
        if x.shape[-1] == filters:
            return x
        padding = (filters - x.shape[-1]) // 2
        x = layers.AveragePooling2D(stride, stride, padding="valid", dtype=self._dtype)(x)
        # Half of the new channels on each side, as in the original: its weights fit no other order.
        return keras.ops.pad(x, [(0, 0), (0, 0), (0, 0), (padding, padding)])

    def _kernel_seed(self):
        self._kernels_drawn += 1
        return kernel_seed(self._seed, self._kernels_drawn)


def kernel_seed(seed: int, number: int) -> int:
    """The seed of a network's kernel of that number: a stream of its own."""
    # Not seed + number: kernel k of one seed would start as kernel k − 1 of the next seed does.
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def named_variables(owner: keras.Model | keras.optimizers.Optimizer) -> dict[str, tf.Variable]:
    """Every variable of the network under its TF1-like name, e.g. `unit_1_0/sub1/conv1/kernel`.

    The names depend on the layer names alone, not on the order of layers or on Keras's counters. The
    slots of an optimizer are named after it and their variable: `mom/logit_kernel_momentum`.
    """
    # In Keras 3 v.name is "kernel" or "gamma" alone; only the path tells whose.
    return {v.path.replace(".", "/"): v.value for v in owner.variables}


def weight_decay_loss(model: keras.Model, rate: float = WEIGHT_DECAY) -> tf.Tensor:
    """rate · Σ ‖W‖²/2 over every convolution and dense kernel: scalar float32.

    As in the original: not over biases or batch norm.
    """
    kernels = [v.value for v in model.trainable_variables if v.path.endswith("/kernel")]
    # l2_loss is ‖W‖²/2, as in the original; keras.regularizers.L2 is twice that.
    return rate * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])


class RCELoss(keras.losses.Loss):
    """Reverse cross-entropy, −(1/(L−1)) Σ_{i≠t} log softmax(Z)_i (Pang et al., eq. 3).

    Cross entropy against the reverse label (1 − onehot)/(L − 1); its minimum is log(L − 1), where
    the softmax of the logits is zero at the true class and uniform elsewhere.

    Call with labels int [n] and logits float32 [n, L], not softmax outputs; gives float32 [n] with
    reduction "none", otherwise what the reduction makes of it.
    """

    def __init__(self, reduction="sum_over_batch_size", name="reverse_cross_entropy", **kwargs):
        super().__init__(reduction=reduction, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """The loss per example, float32 [n], of labels [n] and raw logits float32 [n, L]."""
        # Differs from the original: log softmax in one step, so a saturated network gives a large
        # loss where log(softmax(Z)) underflows to NaN.
        # Keras casts labels to float on the way in: they are made classes again.
        num_classes = y_pred.shape[-1]
        wrong = 1.0 - tf.one_hot(tf.cast(y_true, tf.int32), num_classes, dtype=y_pred.dtype)
        return tf.nn.softmax_cross_entropy_with_logits(wrong / (num_classes - 1.0), y_pred)


def reversed_logits(logits: tf.Tensor) -> tf.Tensor:
    """−Z: the head of an RCE network, whose class probabilities are softmax(−Z) (eq. 4)."""
    return -logits

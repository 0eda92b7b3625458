"""The CIFAR-10 network of the logit pairing paper; original: ResNet20_v2 of uds-lsv's models."""

import keras
from keras import layers

from resnet_model import FusedBatchNorm, kernel_seed

# Filters of the first stage.
WIDTH = 64
_STAGES, _BLOCKS = 3, 3
# Differs from the project's own networks, whose batch norm forgets faster. A run of t steps keeps
# 0.999^t of its start: short ones test badly for that alone.
_MOMENTUM = 0.999


def build_resnet20_wide(image_shape: tuple[int, int, int], num_classes: int, *, seed: int = 0,
                        batch_norm=FusedBatchNorm, mixed_precision: str = "", width: int = WIDTH
                        ) -> keras.Model:
    """Three stages of three blocks of two pre-activated convolutions; 4.3 million parameters.

    The first block of each stage projects its raw input; the last ReLU has no batch norm before it. It
    adds 0.5 to its images itself, as `networks.lenet.build_lenet`, and for the same reason.

    Args:
      image_shape: (height, width, channels).
      num_classes: width of the logits.
      seed: of the initial weights, He's normal of the fan-in; every layer draws from its own stream.
      batch_norm: layer class with arguments `name` and `momentum`.
      mixed_precision: "bfloat16" or "float16" to compute the convolutions in; "" is float32.
      width: filters of the first stage; the others have twice and four times as many.

    Returns:
      A model from images float32 [n, height, width, channels] in [-0.5, 0.5] to a pair: logits float32
      [n, num_classes] and features float32 [n, 4 · width], the pooled activations.
    """
    build = _Builder(seed, batch_norm, f"mixed_{mixed_precision}" if mixed_precision else "float32")
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1.0, 0.5, name="black_is_0")(images)
    x = build.conv(x, width)
    for stage in range(_STAGES):
        for block in range(_BLOCKS):
            first = block == 0
            x = build.block(x, width * 2**stage, 2 if stage and first else 1, project=first)
    x = layers.ReLU(name="last_relu", dtype=build.dtype)(x)
    features = layers.GlobalAveragePooling2D(name="features", dtype="float32")(x)
    logits = layers.Dense(num_classes, name="logit", kernel_initializer=build.initial())(features)
    return keras.Model(images, (logits, features), name="resnet20_wide")


class _Builder:
    """Adds layers, counted as in the original; each kernel draws from a stream of its own."""

    def __init__(self, seed, batch_norm, dtype):
        self.dtype = dtype
        self._seed, self._batch_norm = seed, batch_norm
        self._kernels = self._convolutions = self._projections = 0

    def block(self, x, filters, stride, *, project):
        shortcut = x
        if project:
            self._projections += 1
            shortcut = self._conv(x, filters, 1, stride, f"scip{self._projections}")
        x = self.conv(self._norm_relu(x), filters, stride)
        x = self.conv(self._norm_relu(x), filters)
        return layers.Add(dtype=self.dtype)([x, shortcut])

    def conv(self, x, filters, stride=1):
        self._convolutions += 1
        return self._conv(x, filters, 3, stride, f"conv{self._convolutions}")

    def _norm_relu(self, x):
        # Named after the convolution behind it.
        name = f"bn{self._convolutions + 1}"
        x = self._batch_norm(name=name, momentum=_MOMENTUM)(x)
        return layers.ReLU(name=f"{name}.relu", dtype=self.dtype)(x)

    def _conv(self, x, filters, size, stride, name):
        return layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, name=name,
                             dtype=self.dtype, kernel_initializer=self.initial())(x)

    def initial(self):
        self._kernels += 1
        return keras.initializers.HeNormal(kernel_seed(self._seed, self._kernels))

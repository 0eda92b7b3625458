"""The generators: autoencoders from the images of a class to adversarial ones.

Source: DataGeneratorNetwork.build_model of the original, for MNIST and for CIFAR-10.
"""

import math

import keras
from keras import layers

from errors import InputError
from resnet_model import FusedBatchNorm, kernel_seed

# As in the original, whose layers are TensorFlow 1's: this momentum, and the variance of its kernel.
_MOMENTUM = 0.99


def build_generator(image_shape: tuple[int, int, int], *, seed: int = 0, init: str = "original"
                    ) -> keras.Model:
    """Convolutions down to a code and transposed ones back to an image.

    Batch norm stands behind the ReLU of each transposed convolution but the last, which is a sigmoid.
    175,201 parameters for MNIST, 554,115 for CIFAR-10. Its layers are conv1 ..., deconv1 ... and norm1
    ..., which are W1, b1 ..., conv2d_transpose ... and batch_normalization ... of the original.

    Args:
      image_shape: (28, 28, 1) or (32, 32, 3).
      seed: of the initial weights; every kernel draws from a stream of its own.
      init: of `INITIALIZERS`, how the kernels of the convolutions start. Their biases start at 0.1;
        kernels of transposed convolutions are Glorot's, their biases 0.

    Returns:
      A model from images float32 [n, height, width, channels] in [0, 1] to images of this shape and
      range; its batch norm knows `training`.

    Raises:
      InputError: another shape, another `init`.
    """
    check_generator(image_shape, init)
    pixels = keras.Input(image_shape, name="pixels")
    generated = _GENERATORS[image_shape](_Builder(seed, init), pixels)
    return keras.Model(pixels, generated, name="generator")


def check_generator(image_shape: tuple[int, int, int], init: str) -> None:
    """Raises an InputError for a shape or an `init` that `build_generator` does not know."""
    if image_shape not in _GENERATORS:
        shapes = " and ".join("\u00d7".join(map(str, shape)) for shape in _GENERATORS)
        raise InputError(f"DGNs exist for images of {shapes}. Received: image_shape={image_shape}.")
    if init not in INITIALIZERS:
        raise InputError(f"dgn_init must be one of [{', '.join(INITIALIZERS)}]. "
                         f"Received: dgn_init={init!r}.")


def _mnist(build, x):
    for filters, padding in ((32, "same"), (64, "same"), (128, "valid")):
        x = build.conv(x, filters, padding=padding)
        # Without padding the last, from 5×5, would be a row short of what the code below takes.
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = build.norm(build.deconv(x, 64, 3, 2))
    x = build.norm(build.deconv(x, 32, 2, 2))
    return build.deconv(x, 1, 2, 2, "sigmoid")


def _cifar(build, x):
    for filters, stride in ((32, 1), (64, 2), (128, 1), (128, 2)):
        x = build.conv(x, filters, stride)
    for filters, size, stride in ((128, 3, 2), (64, 4, 1), (32, 4, 2)):
        x = build.norm(build.deconv(x, filters, size, stride))
    return build.deconv(x, 3, 3, 1, "sigmoid")


_GENERATORS = {(28, 28, 1): _mnist, (32, 32, 3): _cifar}


def _original(seed, size):
    # The original takes the height of a kernel for its fan-in, whatever its channels.
    return keras.initializers.TruncatedNormal(stddev=math.sqrt(2.0 / size), seed=seed)


def _he(seed, _):
    return keras.initializers.HeNormal(seed)


# Value of `init` → from the seed and the size of a kernel to its initializer.
INITIALIZERS = {"original": _original, "he": _he}


class _Builder:
    """Adds layers, counted by kind; each kernel draws from a stream of its own."""

    def __init__(self, seed, init):
        self._seed, self._initial = seed, INITIALIZERS[init]
        self._convs = self._deconvs = self._norms = 0

    def conv(self, x, filters, stride=1, padding="valid"):
        self._convs += 1
        return layers.Conv2D(filters, 3, stride, padding, activation="relu", name=f"conv{self._convs}",
                             kernel_initializer=self._initial(self._stream(), 3),
                             bias_initializer=keras.initializers.Constant(0.1))(x)

    def deconv(self, x, filters, size, stride, activation="relu"):
        self._deconvs += 1
        return layers.Conv2DTranspose(
            filters, size, stride, activation=activation, name=f"deconv{self._deconvs}",
            kernel_initializer=keras.initializers.GlorotUniform(self._stream()))(x)

    def norm(self, x):
        self._norms += 1
        return FusedBatchNorm(_MOMENTUM, bessel=True, name=f"norm{self._norms}")(x)

    def _stream(self):
        return kernel_seed(self._seed, self._convs + self._deconvs)

"""The simple CNNs (table 2) and the dense net (figure 7) of arXiv 1706.00633v1.

As there: filters, units, activations, pools, dropout 0.5, and of the three-channel CNN batch norm and
per-image standardisation. Not stated there, chosen here: "same" padding, dropout behind each hidden
dense layer, batch norm between each convolution or hidden dense layer and its ReLU (which then needs no
bias; with the dense layers left out the stated rate of 0.1 kills all their units within a few steps),
Glorot's uniform initial weights.
"""

import math

import keras
import tensorflow as tf
from keras import layers

from errors import InputError
from resnet_model import FusedBatchNorm, kernel_seed

DROPOUT_RATE = 0.5


class Dropout(layers.Layer):
    """Inverted dropout whose mask is a function of (seed, training call, image of the batch).

    The number of calls is a variable, saved with the network, so a resumed run goes on with the masks
    it would have had. A mask is drawn for the global batch of which each replica takes its rows: the
    number of replicas changes nothing. (`keras.layers.Dropout` gives all replicas one mask.)

    Args:
      rate: share of the features float [n, d] that training zeroes; the others grow by 1/(1 − rate).
      seed: below 2**32; each layer has one of its own.
      **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, rate=DROPOUT_RATE, *, seed, **kwargs):
        super().__init__(**kwargs)
        self._rate, self._seed = rate, seed

    def build(self, input_shape):
        """Makes the counter of training calls, a scalar."""
        self.calls = self.add_weight(
            name="calls", shape=(), dtype="int64", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        """The features float [n, d], in training with a mask of this call; else as they are."""
        if not training:
            return x
        replica = tf.distribute.get_replica_context()
        shape = tf.concat([[replica.num_replicas_in_sync], tf.shape(x)], axis=0)
        # All replicas draw the whole mask and take their rows; "philox" is named, as the default
        # algorithm is the device's choice.
        draws = tf.random.stateless_uniform(shape, [self._seed, self.calls.value], alg="philox")
        self.calls.assign_add(1)
        kept = tf.gather(draws, replica.replica_id_in_sync_group) >= self._rate
        return tf.where(kept, x / (1.0 - self._rate), 0.0)


def build_simple_cnn(image_shape: tuple[int, int, int], num_classes: int, *, seed: int = 0,
                     batch_norm=FusedBatchNorm, dropout=Dropout,
                     mixed_precision: str = "") -> keras.Model:
    """The CNN of v1 for one channel (MNIST) or for three (CIFAR-10), by `image_shape`.

    Args:
      image_shape: (height, width, channels); height and width at least 4.
      num_classes: width of the logits.
      seed: of the initial weights and of dropout; every layer draws from a stream of its own.
      batch_norm: layer class with a `name` argument, of the three-channel network.
      dropout: layer class with arguments `seed` and `name`.
      mixed_precision: "bfloat16" or "float16" to compute the convolutions in; "" is float32.

    Returns:
      A model from images float32 [n, height, width, channels] in [-0.5, 0.5] to a pair: logits float32
      [n, num_classes] and features float32 [n, 200] (three channels: 256), the last hidden layer.

    Raises:
      InputError: neither one nor three channels.
    """
    build = _Builder(seed, dropout, batch_norm, mixed_precision)
    images = keras.Input(image_shape, name="images")
    if image_shape[-1] == 1:
        x = build.pool(build.conv(images, 32, "conv1"))
        x = build.pool(build.conv(x, 64, "conv2"))
        outputs = build.head(x, 200, build.dense("sigmoid"), num_classes)
    elif image_shape[-1] == 3:
        x = build.conv_norm(standardized(images), 64, "conv1")
        x = build.pool(build.conv_norm(x, 64, "conv2"))
        x = build.conv_norm(x, 128, "conv3")
        x = build.pool(build.conv_norm(x, 128, "conv4"))
        outputs = build.head(x, 256, build.dense_norm, num_classes)
    else:
        raise InputError("simple_cnn must have images of one or three channels. "
                         f"Received: image_shape={image_shape}.")
    return keras.Model(images, outputs, name="simple_cnn")


def build_mlp(image_shape: tuple[int, int, int], num_classes: int, *, seed: int = 0) -> keras.Model:
    """The 2×100 dense net of v1's figure 7, without dropout; features are float32 [n, 100].

    Arguments and result otherwise as of `build_simple_cnn`.
    """
    build = _Builder(seed)
    images = keras.Input(image_shape, name="images")
    outputs = build.head(images, 100, build.dense("relu"), num_classes)
    return keras.Model(images, outputs, name="mlp")


def standardized(images):
    """Per-image standardisation, `tf.image.per_image_standardization` of the pixels in [0, 255].

    Args:
      images: float32 [n, height, width, channels], in units of 255 grey levels.

    Returns:
      Tensor like `images`, each image of mean 0 and variance 1.
    """
    # A floor under the variance, not TensorFlow's under its root, whose slope at 0 is infinite: attacks
    # differentiate through it, at a constant image, too.
    floor = 1.0 / (255.0**2 * math.prod(images.shape[1:]))
    centred = images - keras.ops.mean(images, axis=(1, 2, 3), keepdims=True)
    variance = keras.ops.mean(keras.ops.square(centred), axis=(1, 2, 3), keepdims=True)
    return centred * keras.ops.rsqrt(keras.ops.maximum(variance, floor))


class _Builder:
    """Adds layers, each with a seed of its own; convolutions and pools in the mixed type."""

    def __init__(self, seed, dropout=None, batch_norm=None, mixed_precision=""):
        self._seed = seed
        self._seeds_drawn = 0
        self._dropout, self._batch_norm = dropout, batch_norm
        self._dtype = f"mixed_{mixed_precision}" if mixed_precision else "float32"

    def conv(self, x, filters, name):
        return self._convolution(x, filters, name, activation="relu")

    def conv_norm(self, x, filters, name):
        x = self._convolution(x, filters, name, use_bias=False)
        return self._norm_relu(x, name, self._dtype)

    def pool(self, x):
        return layers.MaxPooling2D(2, dtype=self._dtype)(x)

    def dense(self, activation):
        return lambda x, units, name: layers.Dense(
            units, activation, name=name, **self._initializer())(x)

    def dense_norm(self, x, units, name):
        x = layers.Dense(units, use_bias=False, name=name, **self._initializer())(x)
        # The fused batch norm takes images.
        x = layers.Reshape((1, 1, units))(x)
        return layers.Flatten()(self._norm_relu(x, name, "float32"))

    def head(self, x, units, hidden, num_classes):
        """(logits, features) behind two hidden layers."""
        x = layers.Flatten()(x)
        for name in ("hidden1", "hidden2"):
            x = features = hidden(x, units, name)
            if self._dropout:
                x = self._dropout(seed=self._next_seed(), name=f"{name}.dropout")(features)
        return layers.Dense(num_classes, name="logit", **self._initializer())(x), features

    def _convolution(self, x, filters, name, **kwargs):
        return layers.Conv2D(filters, 3, padding="same", name=name, dtype=self._dtype,
                             **self._initializer(), **kwargs)(x)

    def _norm_relu(self, x, name, dtype):
        x = self._batch_norm(name=f"{name}.bn")(x)
        return layers.ReLU(name=f"{name}.relu", dtype=dtype)(x)

    def _initializer(self):
        return {"kernel_initializer": keras.initializers.GlorotUniform(self._next_seed())}

    def _next_seed(self):
        self._seeds_drawn += 1
        return kernel_seed(self._seed, self._seeds_drawn)

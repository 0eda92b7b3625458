"""The MNIST target of the data-generation networks; original: mnist_5x30 of DeepCustom."""

import keras
from keras import layers

from resnet_model import kernel_seed


def build_mnist_5x30(image_shape: tuple[int, int, int], num_classes: int, *, seed: int = 0
                     ) -> keras.Model:
    """Five dense layers of 30 units; ReLU, biases of 0.

    It adds 0.5 to its images itself: the original's are in [0, 1].

    Args:
      image_shape: (height, width, channels).
      num_classes: width of the logits.
      seed: of the initial weights, Glorot's uniform; every layer draws from its own stream.

    Returns:
      A model from images float32 [n, height, width, channels] in [-0.5, 0.5] to a pair: logits float32
      [n, num_classes] and features float32 [n, 30], the last hidden layer.
    """
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1.0, 0.5, name="black_is_0")(images)
    x = layers.Flatten(name="flat")(x)
    for number in range(1, 6):
        x = layers.Dense(30, "relu", name=f"hidden{number}", **glorot(seed, number))(x)
    logits = layers.Dense(num_classes, name="logit", **glorot(seed, 6))(x)
    return keras.Model(images, (logits, x), name="mnist_5x30")


def glorot(seed: int, layer: int) -> dict[str, keras.initializers.Initializer]:
    """The kernel_initializer of a layer, with a stream of its own."""
    return {"kernel_initializer": keras.initializers.GlorotUniform(kernel_seed(seed, layer))}

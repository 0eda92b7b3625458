"""The CIFAR-10 target of the data-generation networks; original: cifar_keras of DeepCustom."""

import keras
from keras import layers

from errors import InputError
from networks.mnist_5x30 import glorot

# Three convolutions without padding and two pools leave nothing of a smaller image.
_SMALLEST = 20


def build_cifar_cnn(image_shape: tuple[int, int, int], num_classes: int, *, seed: int = 0,
                    mixed_precision: str = "") -> keras.Model:
    """3×3 convolutions of 32, 64 and 64 filters without padding, 2×2 pools behind the first two, 64
    hidden units; ReLU, biases of 0.

    It adds 0.5 to its images itself: the original's are in [0, 1].

    Args:
      image_shape: (height, width, channels), at least 20 × 20.
      num_classes: width of the logits.
      seed: of the initial weights, Glorot's uniform; every layer draws from its own stream.
      mixed_precision: "bfloat16" or "float16" to compute the convolutions in; "" is float32.

    Returns:
      A model from images float32 [n, height, width, channels] in [-0.5, 0.5] to a pair: logits float32
      [n, num_classes] and features float32 [n, 64], the hidden layer.

    Raises:
      InputError: a smaller image.
    """
    if min(image_shape[:2]) < _SMALLEST:
        raise InputError(f"cifar_cnn expected images of at least {_SMALLEST} by {_SMALLEST} pixels. "
                         f"Received: image_shape={image_shape}.")
    dtype = f"mixed_{mixed_precision}" if mixed_precision else "float32"
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1.0, 0.5, name="black_is_0")(images)
    for number, filters in enumerate((32, 64, 64), 1):
        x = layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}", dtype=dtype,
                          **glorot(seed, number))(x)
        if number < 3:
            x = layers.MaxPooling2D(2, name=f"pool{number}", dtype=dtype)(x)
    x = layers.Flatten(name="flat", dtype="float32")(x)
    features = layers.Dense(64, "relu", name="hidden", **glorot(seed, 4))(x)
    logits = layers.Dense(num_classes, name="logit", **glorot(seed, 5))(features)
    return keras.Model(images, (logits, features), name="cifar_cnn")

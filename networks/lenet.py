"""The MNIST network of the logit pairing paper; original: LeNet of uds-lsv's models.

Two convolutions and 3.2 million parameters, nearly all in its hidden dense layer.
"""

import math

import keras
from keras import layers

from errors import InputError
from resnet_model import kernel_seed


def build_lenet(image_shape: tuple[int, int, int], num_classes: int, *, seed: int = 0,
                mixed_precision: str = "") -> keras.Model:
    """3×3 convolutions of 32 and 64 filters with 2×2 pools, 1024 hidden units; ReLU, biases of 0.

    It adds 0.5 to its images itself: black is 0 in the original, and what lies outside the image is
    black too.

    Args:
      image_shape: (height, width, channels); height and width divisible by 4, one channel.
      num_classes: width of the logits.
      seed: of the initial weights, He's normal of the fan-in; every layer draws from its own stream.
      mixed_precision: "bfloat16" or "float16" to compute the convolutions in; "" is float32.

    Returns:
      A model from images float32 [n, height, width, channels] in [-0.5, 0.5] to a pair: logits float32
      [n, num_classes] and features float32 [n, 1024], the hidden layer.

    Raises:
      InputError: a size that is not divisible by 4.
    """
    if any(size % 4 for size in image_shape[:2]):
        raise InputError("lenet expected images of height and width divisible by 4. "
                         f"Received: image_shape={image_shape}.")
    dtype = f"mixed_{mixed_precision}" if mixed_precision else "float32"
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1.0, 0.5, name="black_is_0")(images)
    for number, filters in enumerate((32, 64), 1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}",
                          dtype=dtype, **_initial(seed, number))(x)
        x = layers.MaxPooling2D(2, dtype=dtype)(x)
    x = layers.Reshape((math.prod(x.shape[1:]),), dtype="float32")(x)
    features = layers.Dense(1024, "relu", name="hidden", **_initial(seed, 3))(x)
    logits = layers.Dense(num_classes, name="logit", **_initial(seed, 4))(features)
    return keras.Model(images, (logits, features), name="lenet")


def _initial(seed, layer):
    return {"kernel_initializer": keras.initializers.HeNormal(kernel_seed(seed, layer))}

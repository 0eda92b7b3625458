"""The network of the RMC goldens (golden/README_RMC.md)."""

import keras
from keras import layers

from resnet_model import FusedBatchNorm


def digits_network(arrays, prefix="theta0/"):
    """A Keras model from images [n, h, w, c] − 0.5 to raw logits [n, L] and features [n, d].

    Its widths are those of the weights `prefix`<name> of `arrays`, which it gets.
    """
    images = keras.Input((None, None, arrays[f"{prefix}conv1/kernel"].shape[2]))
    x = images
    for number in (1, 2):
        kernel = arrays[f"{prefix}conv{number}/kernel"]
        x = layers.Conv2D(kernel.shape[-1], kernel.shape[:2], padding="same", use_bias=False,
                          name=f"conv{number}")(x)
        x = FusedBatchNorm(name=f"bn{number}")(x)
        x = layers.LeakyReLU(negative_slope=0.1)(x)
        if number == 1:
            x = layers.AveragePooling2D(2)(x)
    features = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(arrays[f"{prefix}dense/kernel"].shape[-1], name="dense")(features)
    model = keras.Model(images, (logits, features))
    assign_weights(model, arrays, prefix)
    return model


def assign_weights(model, arrays, prefix):
    """Gives a `digits_network` the arrays `prefix`<name>; moving statistics that are not there stay."""
    for variable in model.variables:
        name = prefix + "/".join(variable.path.split("/")[-2:])
        if variable.trainable or name in arrays:
            variable.assign(arrays[name])

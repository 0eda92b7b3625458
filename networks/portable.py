"""A trained network for others: `.keras` and SavedModel, which need nothing of this project."""

import keras
from keras import layers

import resnet_model
from files import atomic
from networks import restoring
from networks.network import Network

KERAS_FILE = "model.keras"
SAVED_MODEL = "saved_model"


def portable_model(network: Network) -> keras.Model:
    """The network rebuilt from layers that Keras itself has, with equal weights.

    Args:
      network: to copy, from `networks.restoring.build_network`.

    Returns:
      A model from "images" float32 [n, h, w, c] in [-0.5, 0.5] to a dict: "logits" float32 [n, L],
      sign-adjusted; "probabilities" float32 [n, L], their softmax; "features" float32 [n, d].
    """
    twin = restoring.build_model(
        network.expected, batch_norm=_keras_batch_norm, dropout=_no_dropout)
    source = resnet_model.named_variables(network.model)
    for name, variable in resnet_model.named_variables(twin).items():
        variable.assign(source[name].numpy())
    raw_logits, features = twin.outputs
    # A custom layer would need this project at load time: the sign as a factor, of Keras's own.
    logits = layers.Rescaling(network.objective.sign, name="logits")(raw_logits)
    probabilities = layers.Softmax(name="probabilities")(logits)
    outputs = {"probabilities": probabilities, "features": features, "logits": logits}
    return keras.Model(twin.input, outputs, name=twin.name)


def save_model(model: keras.Model, folder: str) -> None:
    """Writes `<folder>/model.keras` and the SavedModel `<folder>/saved_model`, both or none."""
    with atomic.atomic_folder(folder) as temporary:
        model.save(temporary / KERAS_FILE)
        model.export(temporary / SAVED_MODEL, verbose=False)


def _keras_batch_norm(name):
    return layers.BatchNormalization(
        momentum=resnet_model.BATCH_NORM_MOMENTUM, epsilon=resnet_model.BATCH_NORM_EPSILON, name=name)


def _no_dropout(seed, name):
    del seed  # for use, not for training
    return layers.Identity(name=name)

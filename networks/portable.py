"""Networks in files of Keras: ours for others, `.keras` and SavedModel, and those of other hands."""

import contextlib
import dataclasses
import importlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

import resnet_model
from errors import InputError, named
from files import atomic
from networks import foreign, restoring
from networks.network import Network
from networks.spec import Opening

KERAS_FILE = "model.keras"
SAVED_MODEL = "saved_model"
# What Keras 3 loads: its own format, and the one of Keras 2.
SUFFIXES = (".keras", ".h5", ".hdf5")


def portable_model(network: Network) -> keras.Model:
    """The network rebuilt from layers that Keras itself has, with equal weights.

    Args:
      network: to copy, from `networks.restoring.build_network`.

    Returns:
      A model from "images" float32 [n, h, w, c] in [-0.5, 0.5] to a dict: "logits" float32 [n, L],
      sign-adjusted; "probabilities" float32 [n, L], their softmax; "features" float32 [n, d].
    """
    # Of Keras's own batch norm: ours would need resnet_model.py wherever the file is loaded.
    twin = restoring.build_model(
        network.expected, batch_norm=_keras_batch_norm, dropout=_no_dropout)
    source = resnet_model.named_variables(network.model)
    for name, variable in resnet_model.named_variables(twin).items():
        variable.assign(source[name].numpy())
    raw_logits, features = twin.outputs
    # A custom layer would need this project at load time: the sign as a factor, of Keras's own.
    logits = layers.Rescaling(network.head.sign, name="logits")(raw_logits)
    probabilities = layers.Softmax(name="probabilities")(logits)
    outputs = {"probabilities": probabilities, "features": features, "logits": logits}
    return keras.Model(twin.input, outputs, name=twin.name)


def save_model(model: keras.Model, folder: str) -> None:
    """Writes `<folder>/model.keras` and the SavedModel `<folder>/saved_model`, both or none."""
    with atomic.atomic_folder(folder) as temporary:
        model.save(temporary / KERAS_FILE)
        model.export(temporary / SAVED_MODEL, verbose=False)


def _keras_batch_norm(name, momentum=resnet_model.BATCH_NORM_MOMENTUM):
    return layers.BatchNormalization(
        momentum=momentum, epsilon=resnet_model.BATCH_NORM_EPSILON, name=name)


def _no_dropout(seed, name):
    del seed  # for use, not for training
    return layers.Identity(name=name)


def open_model(strategy: tf.distribute.Strategy, path: str | os.PathLike, opening: Opening, *,
               trust_model: bool = False, note: Callable[[str], None] = lambda sentence: None,
               **options) -> Network:
    """A network of another hand from its file.

    Args:
      strategy: in whose scope it is made.
      path: of a `.keras`, or an `.h5` of Keras 2.
      opening: as it is asked for.
      trust_model: as of `load_model`.
      note: told what was found.
      **options: `head`, `dataset` and `image_shape` of `networks.foreign.from_keras`.

    Raises:
      InputError: as `load_model` and `networks.foreign.from_keras`.
    """
    with strategy.scope():
        model = load_model(path, trust_model=trust_model)
        network = foreign.from_keras(model, **dataclasses.asdict(opening), **options,
                                     note=lambda sentence: note(f"{path}: {sentence}"))
    return dataclasses.replace(
        network, source=os.fspath(path),
        expected=dataclasses.replace(network.expected, model=Path(path).stem))


def check_model_file(path: str | os.PathLike) -> None:
    """Raises an InputError unless there is a file at `path` that could be a Keras model."""
    path = Path(path)
    if path.is_dir():
        raise InputError(
            "model must be a .keras file: load the SavedModel where it was made, and "
            "`model.save('mine.keras')` writes one. "
            f"Received: model={str(path)!r}, a folder.")
    if path.suffix not in SUFFIXES or not path.is_file():
        raise InputError("model must be a file that `model.save('mine.keras')` of Keras wrote, .keras "
                         f"or .h5. Received: model={str(path)!r}, "
                         f"{'another file' if path.is_file() else 'no such file'}.")


def load_model(path: str | os.PathLike, *, trust_model: bool = False) -> keras.Model:
    """A Keras model from its file, without what training needs.

    Args:
      path: of a `.keras`, or an `.h5` of Keras 2.
      trust_model: whether code that the file holds or names may run: Lambda layers, and classes of
        modules beside it or on PYTHONPATH.

    Raises:
      InputError: no such file, a damaged one, weights alone, or code that is not trusted.
    """
    check_model_file(path)
    try:
        custom = _own_classes(Path(path)) if trust_model else {}
        # Without compile: an optimizer or loss of another hand may be unknown here, and is not needed.
        # safe_mode is what keeps Keras from running a Lambda that the file holds.
        return keras.saving.load_model(
            os.fspath(path), custom_objects=custom, compile=False, safe_mode=not trust_model)
    except Exception as error:  # of zip, HDF5, JSON, Keras, and of whatever the file names
        raise _not_loaded(path, error, trust_model) from error


def _not_loaded(path, error, trust_model):
    # Keras has no error class for it: its sentence is all there is to go by.
    foreign_code = _code_named_in(str(error))
    if foreign_code and not trust_model:
        return InputError(
            f"expected a model of Keras's own layers at {path}; only where you trust the file, whose "
            "Lambda layers and own classes (of modules beside it or on PYTHONPATH) may do anything, "
            f"--trust_model=True runs them. Received: {foreign_code}.")
    if Path(path).suffix == ".keras" and not zipfile.is_zipfile(path):
        received = "a file that is damaged or of another format"
    else:
        received = foreign_code or named(error, length=120)
    return InputError(f"expected a whole Keras model at {path}, as `model.save('mine.keras')` writes "
                      f"it. Received: {received}.")


def _code_named_in(sentence):
    """Which code of others an error of Keras is about, or ""."""
    if "ambda" in sentence:
        return "a Lambda layer"
    found = re.search(r"Could not locate (\w+) '([^']+)'", sentence)
    return f"the {found[1]} {found[2]}, which is not Keras's" if found else ""


def _own_classes(path):
    """The classes that a `.keras` names and Keras does not know, from modules beside it or known."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        # Read here, before Keras does: it must be handed the classes that it does not know.
        config = json.loads(archive.read("config.json"))
    found = {}
    with _beside(path):
        for module, name, registered in _named_in(config):
            # What registers itself does so when its module is imported.
            with contextlib.suppress(ImportError):
                found[registered or name] = getattr(importlib.import_module(module), name, None)
    return {name: value for name, value in found.items() if value is not None}


def _named_in(config):
    """(module, name, registered name) of all that is not Keras's own in a model's settings."""
    if isinstance(config, dict):
        module, name = config.get("module"), config.get("class_name")
        if module and name and module.split(".")[0] not in ("keras", "builtins"):
            yield module, name, config.get("registered_name")
    for value in config.values() if isinstance(config, dict) else (
            config if isinstance(config, list) else ()):
        yield from _named_in(value)


@contextlib.contextmanager
def _beside(path):
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # In finally: an import that fails must not leave the folder importable.
        sys.path.remove(folder)

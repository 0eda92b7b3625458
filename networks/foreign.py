"""A network of another hand: any Keras classifier as a `Network`.

From the calls of its layers (networks/graph.py) come the logits (a last softmax is left out, not
inverted), the features, the range of the pixels and the identity.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from errors import InputError
from networks import heads
from networks.graph import Graph
from networks.network import Network
from networks.spec import NetworkSpec, Opening

# --model_input: what a pixel of a model is, as (scale, offset) of ours in [-0.5, 0.5].
RANGES = {"0..1": (1.0, 0.5), "0..255": (255.0, 127.5), "-1..1": (2.0, 0.0), "-0.5..0.5": (1.0, 0.0)}
# Images a model is shown to see whether probabilities come out.
_PROBES = 8
# What leaves a softmax before it one, and may stand before a Rescaling at the start.
_NEUTRAL = (layers.Identity, layers.Dropout, layers.Reshape, layers.Flatten)
_SQUASHING = (keras.activations.sigmoid, keras.activations.hard_sigmoid)


def from_keras(model: keras.Model, *, model_input: str = "", logits_layer: str = "",
               features_layer: str = "", head: str = "ce", dataset: str = "npz",
               image_shape: tuple[int, int, int] | None = None,
               note: Callable[[str], None] = lambda sentence: None) -> Network:
    """A classifier that was built and trained elsewhere as a `Network`.

    Sequential, functional and nested models; subclassed ones whose `call` is made of Keras layers and
    operations. Layers are shared with `model`, but for the last one: after more training call it again.

    Args:
      model: from one batch of images, channels last, to logits or softmax probabilities [n, L].
      model_input: what a pixel of it is, a key of `RANGES`; "": what its first Rescaling tells.
      logits_layer: name of the layer whose output the logits are; "": the last one. A softmax of it is
        left out.
      features_layer: name of the layer whose output the features are; "": they are the input of the
        last dense or convolutional layer.
      head: "ce", or "rce" of a network trained with reverse cross entropy.
      dataset: what its images are called in files.
      image_shape: (h, w, c), where the model leaves it open.
      note: told in a sentence what was found.

    Returns:
      A `Network` for images float32 [n, h, w, c] in [-0.5, 0.5], always in inference mode, with logits
      and features in float32.

    Raises:
      InputError: several inputs or outputs, no logits or features to be found, channels first, or an
        unknown range; the sentence names the layer.
    """
    shape = _image_shape(model, image_shape)
    _refuse_weights_that_are_not_finite(model)
    opened, graph = _opened(model, shape, model_input)
    logits, classifier = _logits(graph, logits_layer)
    raw_logits = _as_rows(graph, logits, "logits")
    num_classes = raw_logits.shape[-1]
    _refuse_probabilities(keras.Model(graph.images, raw_logits), classifier)
    features, source = _features(graph, features_layer, classifier)
    built = keras.Model(graph.images, [raw_logits, _as_rows(graph, features, "features")])
    note(f"images {shape} of pixels in {opened}, logits {_shape_of(built.outputs[0])} of "
         f"layer {classifier.name}, features {_shape_of(built.outputs[1])}, the {source}.")
    opening = Opening(opened, logits_layer, features_layer)
    spec = NetworkSpec(dataset, shape, num_classes, 0, head, model.name)
    return Network(built, heads.get(head), spec, opening=opening, source=f"the model {model.name}",
                   architecture_sha256=graph.sha256(opened, logits, features))


def _refuse_weights_that_are_not_finite(model):
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        # bfloat16 is no type that NumPy can test.
        if not np.isfinite(values.astype(np.float32) if values.dtype.kind in "fV" else 0).all():
            raise InputError(f"expected finite weights of the model {model.name}. "
                             f"Received: NaN or infinity in {weight.path}.")


def _shape_of(tensor):
    return f"[n, {tensor.shape[-1]}]"


# --- Images in ---

def _image_shape(model, image_shape):
    """(h, w, c) of the images; `image_shape` fills in what the model leaves open."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise InputError(f"expected a model of one input, images. Received: {len(inputs)} inputs, "
                         f"{names}.")
    wanted = tuple(inputs[0].shape[1:]) if inputs else (None,) * 3
    grey = (*wanted, 1) if len(wanted) == 2 else wanted
    if image_shape is None:
        if len(grey) != 3 or None in grey:
            raise InputError(f"expected image_shape=(h, w, c), as the model leaves it open. Received: "
                             f"a model for inputs {wanted}.")
        return grey
    given = tuple(image_shape)
    fits = len(grey) == 3 and all(a in (None, b) for a, b in zip(grey, given, strict=True))
    if not fits and wanted != (math.prod(given),):
        raise InputError(f"expected images of the shape that the model {model.name} takes, {wanted}. "
                         f"Received: images {given}.")
    return given


def _opened(model, shape, model_input):
    """The range of the pixels and the graph of the model over images in [-0.5, 0.5]."""
    if model_input and model_input not in RANGES:
        raise _unknown_range(model_input)
    images = keras.Input(shape, name="images")
    # The calls tell the range, and only over the right one is the graph worth keeping.
    opened = model_input or _range_of(Graph(model, images, _reshaped(model, images)), model)
    scale, offset = RANGES[opened]
    x = images
    if (scale, offset) != (1.0, 0.0):
        x = layers.Rescaling(scale, offset, dtype="float32", name="to_model_input")(images)
    graph = Graph(model, images, _reshaped(model, x))
    _refuse_channels_first(graph)
    return opened, graph


def _reshaped(model, x):
    """x as a model takes it that has no axis for the channels, or one axis alone."""
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs[0].shape) == 4:
        return x
    return layers.Reshape(x.shape[1:3] if len(inputs[0].shape) == 3 else (-1,))(x)


def _range_of(graph, model):
    """The one range of `RANGES` that the first Rescaling turns into another."""
    first = next((call.layer for call in graph.calls if not _comes_before_rescaling(call.layer)), None)
    if isinstance(first, layers.Rescaling) and np.ndim(first.scale) == np.ndim(first.offset) == 0:
        ends = {name: (offset - scale / 2, offset + scale / 2)
                for name, (scale, offset) in RANGES.items()}
        found = [name for name, pair in ends.items() if any(
            np.allclose(np.multiply(pair, first.scale) + first.offset, other, rtol=0.01, atol=0.01)
            for other in ends.values())]
        if len(found) == 1:
            return found[0]
    raise _unknown_range("", f", and {model.name} begins without a Rescaling layer that tells")


def _comes_before_rescaling(layer):
    # Random changes of images are for training only.
    return isinstance(layer, _NEUTRAL) or type(layer).__name__.startswith("Random")


def _unknown_range(received, why=""):
    return InputError(f"model_input must be the range of the model's pixels, one of "
                      f"{', '.join(RANGES)}{why}. Received: model_input={received!r}.")


def _refuse_channels_first(graph):
    for call in graph.calls:
        if getattr(call.layer, "data_format", None) == "channels_first":
            raise InputError("expected a model of channels last, [n, h, w, c]. Received: layer "
                             f"{call.name} of channels_first.")


# --- Logits and features out ---

def _logits(graph, name):
    """The logits and the call that makes them, a last softmax left out."""
    call = graph.named(name, "logits_layer") if name else graph.producer(_only_output(graph))
    output, behind = call.output, []
    while call is not None and _is_neutral(call.layer):
        behind.append(call.layer)
        call = graph.producer(call.inputs[0])
    if call is None:
        raise InputError(f"expected a classifier. Received: a model without layers that compute, "
                         f"{[one.name for one in graph.calls]}.")
    before = _before_softmax(graph, call)
    if before is None:
        _refuse_squashed(call)
        return output, call
    tensor, call = before
    # What stood behind the softmax, a Flatten say, is put behind the logits again.
    for layer in reversed(behind):
        tensor = layer(tensor)
    return tensor, call


def _only_output(graph):
    outputs = keras.tree.flatten(graph.output)
    if len(outputs) > 1:
        names = ", ".join(graph.producer(tensor).name for tensor in outputs)
        raise InputError("expected a model of one output, or the layer of its logits as logits_layer. "
                         f"Received: {len(outputs)} outputs, of the layers {names}.")
    return outputs[0]


def _is_neutral(layer):
    return isinstance(layer, _NEUTRAL) or (
        isinstance(layer, layers.Activation) and layer.activation is keras.activations.linear)


def _before_softmax(graph, call):
    """What a softmax is taken of, and the call that makes it; None where `call` is no softmax."""
    layer = call.layer
    # keras.ops.softmax in a functional model is an operation of the same name and no layer.
    alone = isinstance(layer, layers.Softmax) or type(layer).__name__ == "Softmax"
    is_softmax = getattr(layer, "activation", None) is keras.activations.softmax
    if not alone and not is_softmax:
        return None
    if alone and layer.axis not in (-1, len(call.inputs[0].shape) - 1):
        raise InputError(f"expected a softmax over the last axis. Received: layer {layer.name} over "
                         f"axis {layer.axis}.")
    if alone or isinstance(layer, layers.Activation):
        return call.inputs[0], graph.producer(call.inputs[0])
    # A twin, as changing the activation in place would change the model of the caller.
    twin = type(layer).from_config(
        layer.get_config() | {"activation": "linear", "name": graph.unused_name(layer.name)})
    tensor = twin(call.inputs[0])
    # Not before: a layer has weights from its first call on.
    twin.set_weights(layer.get_weights())
    return tensor, call


def _refuse_squashed(call):
    if getattr(call.layer, "activation", None) in _SQUASHING:
        raise InputError(f"expected logits or a softmax of them. Received: layer {call.name}, whose "
                         f"activation is a {call.layer.activation.__name__}.")


def _features(graph, name, classifier):
    """The features, and which they are in words."""
    if name:
        return graph.named(name, "features_layer").output, f"output of layer {name}"
    call = classifier
    while call is not None and not isinstance(call.layer, layers.Dense | layers.Conv2D):
        call = graph.producer(call.inputs[0]) if len(call.inputs) == 1 else None
    if call is None:
        raise InputError("expected a dense layer before the logits, or the layer of the features as "
                         f"features_layer. Received: logits of layer {classifier.name}.")
    return call.inputs[0], f"input of layer {call.name}"


def _as_rows(graph, tensor, name):
    """A tensor as float32 [n, columns]."""
    if len(tensor.shape) > 2:
        tensor = layers.Flatten(name=graph.unused_name(f"{name}_flat"))(tensor)
    # Scores need float32, also of a model in half precision.
    return layers.Activation("linear", dtype="float32", name=name)(tensor)


def _refuse_probabilities(model, classifier):
    _, num_classes = model.output_shape
    if num_classes is None or num_classes < 2:
        raise InputError(f"expected logits of at least 2 classes. Received: {num_classes} of layer "
                         f"{classifier.name}.")
    # Noise is enough: probabilities sum to 1 for any image.
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (_PROBES, *model.input_shape[1:]))
    outputs = keras.ops.convert_to_numpy(model(images.astype(np.float32), training=False))
    if outputs.min() >= 0 and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
        raise InputError("expected logits or a softmax of them as the last layer; logits_layer can "
                         f"name another one. Received: probabilities of layer {classifier.name}, a "
                         f"layer {type(classifier.layer).__name__}.")

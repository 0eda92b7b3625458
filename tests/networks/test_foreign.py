"""Keras classifiers of another hand: their probabilities stay, whatever they are built of."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import networks
from errors import InputError
from networks import foreign, restoring
from networks.portable import load_model, portable_model
from networks.spec import NetworkSpec

RNG = np.random.default_rng(0)
SOFTMAX = "softmax"


def cnn(*last, first=(), shape=(8, 8, 1), **inputs):
    """A small classifier with all that differs between training and use."""
    return keras.Sequential([
        layers.Input(shape, **inputs), *first, layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(), layers.GlobalAveragePooling2D(), layers.Dropout(0.5), *last])


def scaled(*last):
    """`cnn` of pixels in 0..255, as its first layer tells."""
    return cnn(*last, first=[layers.Rescaling(1 / 255)])


def two_branches():
    images = layers.Input((8, 8, 1))
    joined = layers.Concatenate()([cnn(layers.Dense(3))(images * 0.5), cnn(layers.Dense(4))(images)])
    return keras.Model(images, keras.ops.softmax(layers.Dense(3)(joined)))


@keras.saving.register_keras_serializable(package="test_foreign")
class Subclassed(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.norm = layers.Conv2D(3, 3), layers.BatchNormalization()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(3, activation="softmax")

    def call(self, x, training=None):
        return self.dense(self.flatten(self.norm(self.conv(x), training=training)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 1)))
    return model


def in_half_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return scaled(layers.Dense(3, activation=SOFTMAX))
    finally:
        keras.mixed_precision.set_global_policy("float32")


def spatial():
    """Logits of a 1x1 convolution, as MobileNet's."""
    return keras.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(keepdims=True),
        layers.Conv2D(3, 1), layers.Softmax(), layers.Flatten()])


def mobile_net():
    return keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=3)


# Maker of a model, its --model_input, and the width of its features.
MODELS = {
    "softmax in the dense layer": (lambda: scaled(layers.Dense(3, activation=SOFTMAX)), "0..255", 4),
    "a softmax layer": (lambda: cnn(layers.Dense(3), layers.Softmax()), "0..1", 4),
    "softmax as an activation": (
        lambda: cnn(layers.Dense(5), layers.Dense(3), layers.Activation(SOFTMAX)), "-1..1", 5),
    "softmax before what changes nothing": (
        lambda: cnn(layers.Dense(3), layers.Softmax(), layers.Identity()), "0..1", 4),
    "a logarithm of them": (
        lambda: cnn(layers.Dense(3, activation="log_softmax")), "0..1", 4),
    "logits": (lambda: cnn(layers.Dense(3)), "-0.5..0.5", 4),
    "integer pixels": (lambda: cnn(layers.Dense(3, activation=SOFTMAX), dtype="uint8",
                                   first=[layers.Rescaling(1 / 127.5, -1)]), "0..255", 4),
    "half precision": (in_half_precision, "0..255", 4),
    "no axis of channels": (lambda: keras.Sequential([
        layers.Input((8, 8)), layers.Flatten(), layers.Dense(6), layers.Dense(3)]), "0..1", 6),
    "a vector": (lambda: keras.Sequential([
        layers.Input((64,)), layers.Dense(6), layers.Dense(3, activation=SOFTMAX)]), "0..1", 6),
    "any size": (lambda: cnn(layers.Dense(3), shape=(None, None, 1)), "0..1", 4),
    "nested": (lambda: keras.Sequential([layers.Input((8, 8, 1)), layers.Rescaling(1 / 255),
                                         cnn(layers.Dense(3)), layers.Softmax()]), "0..255", 4),
    "two branches with layers of one name": (two_branches, "0..1", 7),
    "subclassed": (subclassed, "0..1", 108),
    "subclassed and nested": (lambda: keras.Sequential([
        layers.Input((8, 8, 1)), layers.Rescaling(2.0, -1.0), subclassed()]), "0..1", 108),
    "a convolution at the end": (spatial, "0..1", 4),
    "keras.applications": (mobile_net, "-1..1", 256),
}
TELLS_ITS_RANGE = {"softmax in the dense layer", "integer pixels", "half precision", "nested",
                   "subclassed and nested"}


def model_inputs(model, x, model_input):
    """x in [-0.5, 0.5] as the model takes it."""
    scale, offset = foreign.RANGES[model_input]
    shape = getattr(model, "input_shape", x.shape)[1:]
    pixels = x * scale + offset
    return pixels if None in shape else pixels.reshape(-1, *shape)


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_are_the_models_own(name, tmp_path):
    make, model_input, width = MODELS[name]
    model = make()
    shape = (32, 32, 3) if name == "keras.applications" else (8, 8, 1)
    told = []
    network = networks.from_keras(
        model, model_input="" if name in TELLS_ITS_RANGE else model_input, image_shape=shape,
        note=told.append)
    x = RNG.uniform(-0.5, 0.5, (5, *shape)).astype(np.float32)
    with tf.GradientTape() as tape:
        images = tf.constant(x)
        tape.watch(images)
        logits, features = network.logits_and_features(images)
    assert network.opening.model_input == model_input
    assert (logits.dtype, logits.shape) == (tf.float32, (5, 3))
    assert (features.dtype, features.shape) == (tf.float32, (5, width))
    assert tape.gradient(logits, images).numpy().any()
    expected = tf.cast(model(model_inputs(model, x, model_input), training=False), tf.float32)
    if name == "a logarithm of them":
        expected = tf.exp(expected)
    elif name in ("logits", "any size", "no axis of channels"):
        expected = tf.nn.softmax(expected)
    # The original rounds integers down to whole pixels, and half precision to 8 bits.
    tolerance = {"half precision": 1e-2, "integer pixels": 1e-2}.get(name, 1e-6)
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, rtol=0, atol=tolerance)
    sentence, = told
    assert "logits [n, 3]" in sentence and f"features [n, {width}]" in sentence
    if name not in ("keras.applications", "two branches with layers of one name"):
        model.save(tmp_path / "mine.keras")
        again = networks.from_keras(load_model(tmp_path / "mine.keras"), model_input=model_input,
                                    image_shape=shape)
        assert again.digests() == network.digests()


def test_which_network_it_is():
    def opened(model, **options):
        return networks.from_keras(model, **{"model_input": "0..1"} | options).digests()

    model, other = cnn(layers.Dense(3)), cnn(layers.Dense(3))
    softmax = cnn(layers.Dense(3), layers.Softmax())
    *body, dense = model.layers
    tanh = keras.Sequential([layers.Input((8, 8, 1)), *body, layers.Activation("tanh"), dense])
    first = opened(model)
    assert first == opened(model) and len(first["architecture_sha256"]) == 64
    assert opened(other)["architecture_sha256"] == first["architecture_sha256"]
    assert opened(other)["weights_sha256"] != first["weights_sha256"]
    found = {opened(one, **options)["architecture_sha256"] for one, options in (
        (model, {}), (softmax, {}), (tanh, {}), (model, {"model_input": "-1..1"}),
        (model, {"features_layer": model.layers[0].name}))}
    assert len(found) == 5
    assert opened(tanh)["weights_sha256"] == first["weights_sha256"]


def test_layers_by_their_name():
    inner = layers.Dense(6, name="inner")
    model = keras.Sequential([cnn(layers.Dense(5), inner, layers.ReLU()), layers.Dense(3)])
    network = foreign.from_keras(model, model_input="-0.5..0.5", features_layer="inner")
    x = RNG.uniform(-0.5, 0.5, (4, 8, 8, 1)).astype(np.float32)
    logits, features = network.logits_and_features(tf.constant(x))
    np.testing.assert_allclose(logits, model(x), atol=1e-6)
    np.testing.assert_allclose(tf.nn.relu(features), model.layers[0](x), atol=1e-6)
    logits = foreign.from_keras(model, model_input="-0.5..0.5", logits_layer="inner").logits(x)
    np.testing.assert_allclose(logits, features, atol=1e-6)


@pytest.mark.parametrize("head", ["ce", "rce"])
def test_our_own_export_is_one_of_them(cpu, head):
    ours = restoring.build_network(cpu, NetworkSpec("digits", (8, 8, 1), 10, 1, head), seed=2)
    network = foreign.from_keras(portable_model(ours), model_input="-0.5..0.5", logits_layer="logits")
    x = RNG.uniform(-0.5, 0.5, (4, 8, 8, 1)).astype(np.float32)
    for found, expected in zip(network.logits_and_features(x), ours.logits_and_features(x),
                               strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rce_is_the_head_that_is_asked_for():
    model = cnn(layers.Dense(3))
    x = RNG.uniform(-0.5, 0.5, (4, 8, 8, 1)).astype(np.float32)
    network = foreign.from_keras(model, model_input="-0.5..0.5", head="rce")
    np.testing.assert_allclose(network.logits(x), -model(x), atol=1e-6)
    assert network.expected.objective == "rce"


@pytest.mark.parametrize(("first", "found"), [
    (layers.Rescaling(1 / 255), "0..255"), (layers.Rescaling(1 / 127.5, -1), "0..255"),
    (layers.Rescaling(2, -1), "0..1"), (layers.Rescaling(255.0), "0..1"),
    (layers.Rescaling(127.5, 127.5), "-1..1"), (layers.Rescaling(1.0), None)])
def test_a_rescaling_layer_tells_the_range(first, found):
    model = cnn(layers.Dense(3), first=[layers.RandomFlip(), first])
    if found:
        assert foreign.from_keras(model).opening.model_input == found
        return
    with pytest.raises(InputError, match=r"one of 0\.\.1, 0\.\.255, -1\.\.1, -0\.5\.\.0\.5"):
        foreign.from_keras(model)


def average_of_softmaxes():
    images = layers.Input((8, 8, 1))
    return keras.Model(images, layers.Average(name="mean")([
        cnn(layers.Dense(3, activation=SOFTMAX))(images) for _ in range(2)]))


def two_outputs():
    images = layers.Input((8, 8, 1))
    return keras.Model(images, {"a": cnn(layers.Dense(3, name="one"))(images),
                                "b": cnn(layers.Dense(3, name="two"))(images)})


def two_inputs():
    a, b = layers.Input((3,), name="a"), layers.Input((3,), name="b")
    return keras.Model([a, b], layers.Add()([a, b]))


class TensorFlowCall(keras.Model):
    """A model whose `call` Keras cannot look into."""

    def call(self, x):
        return tf.reduce_mean(x, axis=[1, 2])


@pytest.mark.parametrize(("make", "options", "words"), [
    (lambda: cnn(layers.Dense(3, activation="sigmoid", name="out")), {}, "layer out, .* sigmoid"),
    (average_of_softmaxes, {}, "probabilities of layer mean, a layer Average"),
    (lambda: cnn(layers.Dense(3), layers.Lambda(tf.nn.softmax, name="own")), {},
     "layer own, a layer Lambda"),
    (lambda: cnn(layers.Dense(1)), {}, "at least 2 classes.* Received: 1 of"),
    (two_outputs, {}, "2 outputs, of the layers one, two"), (two_inputs, {}, "2 inputs, a, b"),
    (TensorFlowCall, {"image_shape": (8, 8, 1)}, "a TensorFlowCall, whose call"),
    (lambda: cnn(layers.Dense(3), first=[layers.Conv2D(8, 3, padding="same",
     data_format="channels_first", name="cf")]), {}, "layer cf of channels_first"),
    (lambda: cnn(layers.Dense(3)), {"model_input": "0..2"}, "one of 0..1.*model_input='0..2'"),
    (lambda: cnn(layers.Dense(3)), {"logits_layer": "none"}, "logits_layer must be .*dense.*'none'"),
    (lambda: cnn(layers.Dense(3)), {"features_layer": "none"}, "features_layer must be .*'none'"),
    (lambda: cnn(layers.Dense(3)), {"image_shape": (8, 9, 1)}, r"\(8, 8, 1\).*images \(8, 9, 1\)"),
    (lambda: cnn(layers.Dense(3), shape=(None, None, 3)), {}, r"image_shape=\(h, w, c\)"),
    (lambda: keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.PReLU()]), {},
     "a dense layer before the logits"),
])
def test_what_cannot_be_opened_is_refused_in_one_sentence(make, options, words):
    with pytest.raises(InputError, match=words) as refusal:
        foreign.from_keras(make(), **{"model_input": "0..1"} | options)
    assert "Received: " in str(refusal.value) and "\n" not in str(refusal.value)

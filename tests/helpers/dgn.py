"""The goldens of the data-generation networks: their targets, losses and the names of variables."""

import functools
import itertools

import numpy as np
import tensorflow as tf

from attacks.dgn.losses import lrp_loss, nce_loss, susp_conv_loss, susp_dense_loss
from tests.helpers.golden import golden

# alpha, and what else the originals' configs say.
LRP = {"mnist": {"eps": 0.3, "alpha": 0.5}, "cifar": {"eps": 0.0313, "alpha": 0.5}}
SUSP_ALPHA = {"mnist": 0.8, "cifar": 0.9}


def pixels(stored):
    """uint8 as the originals read it, float32 in [0, 1]."""
    return stored.astype(np.float32) / np.float32(255)


@functools.cache
def weights(target):
    """(kernel, bias) of each layer of "mnist_5x30" or "cifar_cnn"."""
    arrays = golden("dgn_targets_public")
    numbers = itertools.takewhile(lambda k: f"{target}/W{k}" in arrays, itertools.count(1))
    return [(arrays[f"{target}/W{k}"], arrays[f"{target}/b{k}"]) for k in numbers]


def mnist_5x30(u):
    """(logits [b, 10], the hidden units before their ReLU, [b, 30] a layer) of images in [0, 1]."""
    *hidden, (last, bias) = weights("mnist_5x30")
    h, before_relu = tf.reshape(u, [-1, hidden[0][0].shape[0]]), []
    for kernel, b in hidden:
        before_relu.append(h @ kernel + b)
        h = tf.nn.relu(before_relu[-1])
    return h @ last + bias, before_relu


def cifar_cnn(u):
    """(logits [b, 10], maps [b, h, w, c] and units [b, n] before their ReLU, by layer) likewise."""
    *hidden, (last, bias) = weights("cifar_cnn")
    h, before_relu = tf.reshape(u, [-1, 32, 32, 3]), []
    for k, (kernel, b) in enumerate(hidden):
        if kernel.ndim == 4:
            z = tf.nn.conv2d(h, kernel, 1, "VALID") + b
        else:
            z = tf.reshape(h, [-1, kernel.shape[0]]) @ kernel + b
        before_relu.append(z)
        h = tf.nn.relu(z)
        if k < 2:
            h = tf.nn.max_pool2d(h, 2, 2, "VALID")
    return h @ last + bias, before_relu


TARGETS = {"mnist": mnist_5x30, "cifar": cifar_cnn}


@functools.cache
def stored(dataset):
    """The arrays of dgn_losses_public of "mnist" or "cifar", without that prefix."""
    arrays = golden("dgn_losses_public")
    start = f"{dataset}/"
    return {name.removeprefix(start): arrays[name] for name in arrays.files if name.startswith(start)}


def loss(dataset, name, u, g):
    """The loss "lrp", "nce" or "susp" of the goldens' class and target, with the originals' numbers."""
    arrays, target = stored(dataset), TARGETS[dataset]
    if name == "lrp":
        return lrp_loss(u, g, arrays["lrp/relevant"], **LRP[dataset])
    logits, after = target(g)
    if name == "nce":
        return nce_loss(u, g, logits, tf.fill(tf.shape(u)[:1], arrays["class"]))
    before, alpha = target(u)[1], SUSP_ALPHA[dataset]
    if dataset == "mnist":
        return susp_dense_loss(u, g, tf.concat(before, 1), tf.concat(after, 1),
                               arrays["susp/suspicious"], alpha=alpha)
    lists = [arrays[f"susp/suspicious{layer}"] for layer in ("_map1", "_map2", "_map3", "")]
    return susp_conv_loss(u, g, before, after, lists, alpha=alpha)


_SCOPES = {"deconv": "conv2d_transpose", "norm": "batch_normalization"}


def original_name(path):
    """What the original calls a variable of our generators: W1 is conv1/kernel."""
    layer, leaf = path.split("/")[-2:]
    kind, number = layer.rstrip("0123456789"), int(layer.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind == "conv":
        return f"{'W' if leaf == 'kernel' else 'b'}{number}"
    return f"{_SCOPES[kind]}{f'_{number - 1}' if number > 1 else ''}/{leaf}"

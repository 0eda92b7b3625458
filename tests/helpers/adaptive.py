"""The network of the adaptive goldens (golden/README_ADAPTIVE.md), in the type of its images."""

import tensorflow as tf


def network(arrays, dtype=tf.float64):
    """From images [n, 8, 8, 3] to logits [n, 6] and features [n, 5]."""
    w1, b1, w2, b2, w3, b3 = (tf.constant(arrays[f"{kind}{layer}"], dtype) for layer in (1, 2, 3)
                              for kind in ("w", "b"))

    def logits_and_features(images):
        hidden = tf.tanh((tf.reshape(images, [-1, 192]) - 0.5) @ w1 + b1)
        features = tf.tanh(hidden @ w2 + b2)
        return features @ w3 + b3, features

    return logits_and_features

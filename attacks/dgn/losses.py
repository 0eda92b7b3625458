"""The three custom losses that train a generator: LRP, NCE and Suspiciousness.

u are images of one class, g what the generator makes of them, both in [0, 1]; f is the frozen target.
Source: CustomLosses.custom_loss in the folders LRP, NCE and Suspicious of the original, in each for
MNIST and CIFAR-10.
"""

import math
from collections.abc import Sequence

import tensorflow as tf


def lrp_loss(u: tf.Tensor, g: tf.Tensor, relevant: tf.Tensor, *, eps: float, alpha: float) -> tf.Tensor:
    """Darkens the pixels that are relevant for the class and brightens all others, by eps.

    alpha · mean over b, i in T of (u_i − eps − g_i)² + (1 − alpha) · mean over b, i not in T of
    (u_i + eps − g_i)². It is least at clip(u − eps on T, u + eps elsewhere, 0, 1), of whatever target.

    Args:
      u: float32 [b, ...], b images of D numbers.
      g: like u.
      relevant: T, k different integers below D, k < D; pixels count by row, column, channel.
      eps: the change aimed at.
      alpha: weight of the relevant pixels.

    Returns:
      float32 scalar.
    """
    u, g = (tf.reshape(images, [-1, math.prod(images.shape[1:])]) for images in (u, g))
    of_t = _membership(relevant, u)
    squares = tf.square(u + eps * (1.0 - 2.0 * of_t) - g)
    weights = alpha * _shares(of_t) + (1.0 - alpha) * _shares(1.0 - of_t)
    return tf.reduce_mean(tf.reduce_sum(weights * squares, axis=1))


def nce_loss(u: tf.Tensor, g: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Makes f wrong and stays near u: "negative cross-entropy".

    mean over b, i of (g_i − u_i)² − mean over b of the cross entropy of f(g). The second term has no
    lower bound: only the projection that follows keeps what is generated close to u.

    Args:
      u: float32 [b, ...].
      g: like u.
      logits: of f(g), float32 [b, L], those whose argmax is the decision of f.
      labels: true classes, int [b].

    Returns:
      float32 scalar.
    """
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return _mean_squared(u, g) - tf.reduce_mean(cross_entropy)


def susp_dense_loss(u: tf.Tensor, g: tf.Tensor, before: tf.Tensor, after: tf.Tensor,
                    suspicious: tf.Tensor, *, alpha: float, theta: float = 0.5, gamma: float = 0.5
                    ) -> tf.Tensor:
    """Raises the suspicious units of f and keeps all others where they were: Suspiciousness for MNIST.

    alpha · (theta · mean over b of Σ_{n in S} (z_n(u) − z_n(g)) + gamma · mean over b of
    Σ_{n not in S} |z_n(u) − z_n(g)|) + (1 − alpha) · mean over b, i of (u_i − g_i)². The first term
    has no lower bound.

    Args:
      u: float32 [b, ...].
      g: like u.
      before: z(u), float32 [b, n]: the units of f before their ReLU, layer by layer.
      after: z(g), like `before`.
      suspicious: S, different integers below n.
      alpha: weight of the units against the pixels.
      theta: weight of the suspicious units.
      gamma: weight of the others.

    Returns:
      float32 scalar.
    """
    raised, moved = _of_units(before - after, suspicious)
    units = theta * tf.reduce_mean(raised) + gamma * tf.reduce_mean(moved)
    return alpha * units + (1.0 - alpha) * _mean_squared(u, g)


def susp_conv_loss(u: tf.Tensor, g: tf.Tensor, before: Sequence[tf.Tensor], after: Sequence[tf.Tensor],
                   suspicious: Sequence[tf.Tensor], *, alpha: float,
                   map_weights: tuple[float, float] = (0.5, 0.01),
                   unit_weights: tuple[float, float] = (0.5, 0.01)) -> tf.Tensor:
    """Raises suspicious maps and units, keeps all others, layer by layer: Suspiciousness for CIFAR-10.

    alpha · (a · C_S + b · C_M + theta · D_S + gamma · D_M) + (1 − alpha) · mean over b, i of
    (u_i − g_i)², where, over the layers l of their kind with their suspicious S and all others M,

      convolutions: C_S = Σ_l Σ_b of the mean over maps in S and h, w of z(u) − z(g),
                    C_M = Σ_l Σ_b of the mean over maps in M and h, w of |z(u) − z(g)|;
      dense layers: D_S = Σ_l Σ_b Σ_{n in S} (z_n(u) − z_n(g)),
                    D_M = Σ_l of the mean over b of Σ_{n in M} |z_n(u) − z_n(g)|.

    Three sums over the batch and one mean, as in the original: the balance depends on the batch size.

    Args:
      u: float32 [b, ...].
      g: like u.
      before: z(u), one tensor a layer: of convolutions float32 [b, h, w, maps], of dense layers float32
        [b, units], before their ReLU.
      after: z(g), like `before`.
      suspicious: S, different maps or units of each layer. Where all are, M adds nothing.
      alpha: weight of the layers against the pixels.
      map_weights: (a, b).
      unit_weights: (theta, gamma).

    Returns:
      float32 scalar.
    """
    terms = []
    for z_u, z_g, chosen in zip(before, after, suspicious, strict=True):
        change = z_u - z_g
        if len(change.shape) == 4:
            raised, moved = _of_maps(change, chosen)
            terms += [map_weights[0] * tf.reduce_sum(raised), map_weights[1] * tf.reduce_sum(moved)]
        else:
            raised, moved = _of_units(change, chosen)
            terms += [unit_weights[0] * tf.reduce_sum(raised), unit_weights[1] * tf.reduce_mean(moved)]
    return alpha * tf.add_n(terms) + (1.0 - alpha) * _mean_squared(u, g)


def _of_units(change, suspicious):
    # [b] each: how far the suspicious units fell, how far the others moved.
    of_s = _membership(suspicious, change)
    return (tf.reduce_sum(of_s * change, axis=1),
            tf.reduce_sum((1.0 - of_s) * tf.abs(change), axis=1))


def _of_maps(change, suspicious):
    # [b] each, as of units, but means over maps and their positions.
    of_s = _membership(suspicious, change)
    return (tf.reduce_sum(_shares(of_s) * tf.reduce_mean(change, axis=(1, 2)), axis=1),
            tf.reduce_sum(_shares(1.0 - of_s) * tf.reduce_mean(tf.abs(change), axis=(1, 2)), axis=1))


def _membership(chosen, values):
    # 1 at the chosen of the last axis of `values`, else 0.
    return tf.reduce_sum(tf.one_hot(chosen, values.shape[-1], dtype=values.dtype), axis=0)


def _shares(members):
    # What makes a sum the mean over the members; of none it is 0.
    return tf.math.divide_no_nan(members, tf.reduce_sum(members))


def _mean_squared(u, g):
    return tf.reduce_mean(tf.math.squared_difference(u, g))

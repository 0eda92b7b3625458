"""The custom losses of the generators against the original's functions, hand numbers, plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.dgn.losses import lrp_loss, nce_loss, susp_conv_loss, susp_dense_loss
from tests.helpers import dgn

RNG = np.random.default_rng(0)
# (data set, loss, batch size) of every one that the goldens have of a target as it is.
CASES = [(dataset, *name.split("/")[:2]) for dataset in dgn.TARGETS for name in dgn.stored(dataset)
         if name.endswith("/loss") and "as_shipped" not in name]


def test_all_losses_are_there_at_two_batch_sizes():
    assert len(CASES) == len(set(CASES)) == 12


@pytest.mark.parametrize(("dataset", "name", "batch"), CASES)
def test_value_and_gradient_are_the_originals(dataset, name, batch):
    arrays = dgn.stored(dataset)
    rows = slice(int(batch.removeprefix("B")))
    u, g = (tf.constant(dgn.pixels(arrays[key][rows])) for key in ("u_uint8", "g_uint8"))
    with tf.GradientTape() as tape:
        tape.watch(g)
        loss = dgn.loss(dataset, name, u, g)
    gradient, expected = tape.gradient(loss, g), arrays[f"{name}/{batch}/grad"]
    assert loss.shape == ()
    # The original's own differ by 5e-7 and 8e-7 with and without oneDNN.
    np.testing.assert_allclose(loss, arrays[f"{name}/{batch}/loss"], rtol=5e-6)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


# LRP.


def test_lrp_loss_by_hand():
    u, g = tf.fill([1, 4], 0.5), tf.constant([[0.2, 0.8, 0.8, 0.5]])
    np.testing.assert_allclose(lrp_loss(u, g, [0], eps=0.3, alpha=0.5), 0.015, rtol=1e-6)
    # The relevant pixel is where it should be; alpha weighs the others.
    np.testing.assert_allclose(lrp_loss(u, g, [0], eps=0.3, alpha=0.8), 0.006, rtol=1e-6)


def pattern(u, relevant, eps):
    """What the loss pulls to."""
    wanted = u.reshape(len(u), -1) + eps
    wanted[:, relevant] -= 2 * eps
    return wanted.reshape(u.shape)


def test_lrp_loss_is_zero_at_its_pattern_only_and_takes_images():
    # Pixels that the pattern leaves in [0, 1]; any shape, counted by row, column, channel.
    u = RNG.uniform(0.3, 0.7, (3, 4, 5, 2)).astype(np.float32)
    relevant = [39, 0, 7]
    best = pattern(u, relevant, np.float32(0.25))
    loss = lrp_loss(tf.constant(u), tf.constant(best), relevant, eps=0.25, alpha=0.5)
    np.testing.assert_allclose(loss, 0.0, atol=1e-14)
    for i in (0, 3, 39):
        off = best.copy().reshape(3, -1)
        off[1, i] += 0.125
        share = 1 / 3 if i in relevant else 1 / 37
        np.testing.assert_allclose(
            lrp_loss(tf.constant(u), off.reshape(u.shape), relevant, eps=0.25, alpha=0.5),
            0.5 * share * 0.125**2 / 3, rtol=1e-5)


def test_the_optimum_of_lrp_in_the_box_is_the_clipped_pattern():
    u = RNG.uniform(0.0, 1.0, (2, 6)).astype(np.float32)
    u[:, :2] = [[0.1, 0.9], [1.0, 0.0]]
    relevant, eps = [0, 5], np.float32(0.3)
    clipped = np.clip(pattern(u, relevant, eps), 0.0, 1.0)
    g = tf.Variable(clipped)
    with tf.GradientTape() as tape:
        loss = lrp_loss(tf.constant(u), g, relevant, eps=float(eps), alpha=0.5)
    slope = tape.gradient(loss, g).numpy()
    # Convex: no way down that stays in the box.
    assert np.all(slope[clipped == 0.0] >= 0.0) and np.any(slope[clipped == 0.0] > 0.0)
    assert np.all(slope[clipped == 1.0] <= 0.0) and np.any(slope[clipped == 1.0] < 0.0)
    np.testing.assert_allclose(slope[(clipped > 0.0) & (clipped < 1.0)], 0.0, atol=1e-7)


# NCE.


def test_nce_of_an_unchanged_image_is_minus_its_cross_entropy():
    u = tf.constant(RNG.uniform(size=(3, 6)), tf.float32)
    logits = tf.constant([[0.0, 0.0], [0.0, np.log(3.0)], [100.0, 0.0]], tf.float32)
    # log 2, log (4/3) and, where log(softmax) would be −inf, 100.
    np.testing.assert_allclose(nce_loss(u, u, logits, [0, 1, 1]),
                               -(np.log(2.0) + np.log(4 / 3) + 100.0) / 3, rtol=1e-6)


def test_gradient_of_nce_and_the_sign_of_the_logits():
    rows, pixels = 3, 6
    kernel = RNG.normal(size=(pixels, 4)).astype(np.float32)
    u, g = (tf.constant(RNG.uniform(size=(rows, pixels)), tf.float32) for _ in range(2))
    labels = np.array([0, 3, 1])
    onehot = np.eye(4)[labels]
    for sign in (1.0, -1.0):  # as of CE and RCE
        with tf.GradientTape() as tape:
            tape.watch(g)
            logits = sign * (g @ kernel)
            loss = nce_loss(u, g, logits, labels)
        slope = sign * (tf.nn.softmax(logits).numpy() - onehot) @ kernel.T
        expected = 2 * (g - u).numpy() / (rows * pixels) - slope / rows
        np.testing.assert_allclose(tape.gradient(loss, g), expected, atol=1e-6)


# Suspiciousness.


def test_susp_dense_loss_by_hand():
    before, after = tf.constant([[1.0, -0.5, 2.0, 0.0]]), tf.constant([[1.5, 0.5, 1.0, -1.0]])
    u, g = tf.zeros([1, 5]), tf.fill([1, 5], 0.2)  # a mean square of 0.04
    loss = susp_dense_loss(u, g, before, after, [0, 1], alpha=0.8, theta=0.5, gamma=0.5)
    np.testing.assert_allclose(loss, 0.208, rtol=1e-6)
    assert loss == susp_dense_loss(u, g, before, after, [1, 0], alpha=0.8)
    # A mean over the batch: rows twice over change nothing.
    twice = (tf.repeat(each, 2, axis=0) for each in (u, g, before, after))
    np.testing.assert_allclose(susp_dense_loss(*twice, [0, 1], alpha=0.8), loss, rtol=1e-6)


def looped(u, g, before, after, suspicious, alpha, weights):
    """`susp_conv_loss` once more, number by number."""
    total = 0.0
    for z_u, z_g, chosen in zip(before, after, suspicious, strict=True):
        others = [n for n in range(z_u.shape[-1]) if n not in chosen]
        for row_u, row_g in zip(z_u, z_g, strict=True):
            fell = [(row_u[..., n] - row_g[..., n]).mean() for n in chosen]
            moved = [np.abs(row_u[..., n] - row_g[..., n]).mean() for n in others]
            if z_u.ndim == 4:
                total += weights[0] * np.mean(fell) + weights[1] * np.mean(moved)
            else:
                total += weights[2] * np.sum(fell) + weights[3] * np.sum(moved) / len(z_u)
    return alpha * total + (1 - alpha) * np.mean((u - g) ** 2)


@pytest.mark.parametrize("rows", [1, 4])
def test_susp_conv_loss_equals_plain_loops(rows):
    shapes = [(rows, 4, 3, 6), (rows, 2, 2, 3), (rows, 7), (rows, 4)]
    before, after = ([RNG.normal(size=shape) for shape in shapes] for _ in range(2))
    u, g = (RNG.uniform(size=(rows, 3, 3, 1)) for _ in range(2))
    suspicious = [[5, 0], [1], [6, 2, 3], [0, 1, 2, 3]]  # of the last all
    weights = (0.5, 0.01, 0.7, 0.03)
    loss = susp_conv_loss(*(tf.constant(images) for images in (u, g)), before, after, suspicious,
                          alpha=0.9, map_weights=weights[:2], unit_weights=weights[2:])
    np.testing.assert_allclose(loss, looped(u, g, before, after, suspicious, 0.9, weights), rtol=1e-12)


def test_a_layer_of_suspicious_maps_alone_has_no_others():
    before, after = tf.ones([2, 3, 3, 4]), tf.zeros([2, 3, 3, 4])
    u = tf.zeros([2, 5])
    loss = susp_conv_loss(u, u, [before], [after], [[0, 1, 2, 3]], alpha=1.0)
    np.testing.assert_allclose(loss, 0.5 * 2, rtol=1e-6)  # half of the sum over two images

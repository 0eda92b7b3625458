"""APGD against AutoAttack's, point by point; its rule against recorded losses; closed forms."""

import numpy as np
import pytest
import tensorflow as tf

from attacks import get
from attacks.loops import apgd
from attacks.loops.balls import Ball
from tests.helpers import adaptive
from tests.helpers.golden import golden

GOLDEN = golden("adaptive_apgd")
RUNS = [f"{loss}_{norm}_{steps}" for loss in ("ce", "dlr") for norm in ("Linf", "L2")
        for steps in (20, 100)]
ROWS = {"seed": 0, "image_index": tf.range(6), "restart": tf.zeros(6, tf.int32), "chunk": 6}


@pytest.mark.parametrize("steps", [5, 10, 20, 50, 100, 200, 1000])
def test_the_schedule_is_the_references(steps):
    np.testing.assert_array_equal(apgd.checkpoints(steps), GOLDEN[f"schedule_{steps}"])


@pytest.mark.parametrize("run", RUNS)
def test_recorded_losses_give_the_recorded_step_sizes(run):
    loss, expected = GOLDEN[f"{run}/loss"], GOLDEN[f"{run}/step_size"]
    windows = dict(apgd.checkpoints(len(loss) - 1))
    rule = apgd.first_rule(tf.constant(loss[0]), tf.constant(GOLDEN[f"{run}/eps"]),
                           tf.zeros(6, tf.float64))
    for step in range(len(loss) - 1):
        np.testing.assert_array_equal(rule["step_size"], expected[step + 1])
        rule = apgd.after_step(rule, tf.constant(loss[step + 1]), tf.constant(windows.get(step, 0)))


def attacked(run, monkeypatch, dtype=np.float64):
    """The points that are visited [n + 1, 6, 8, 8, 3], and the attack's result."""
    loss, norm, steps = run.split("_")
    start = GOLDEN[f"{run}/start"].astype(dtype)
    monkeypatch.setattr(Ball, "start", lambda self, *row: tf.constant(start))
    logits, points = adaptive.network(GOLDEN, dtype), []

    def logits_fn(images):
        points.append(images.numpy())
        return logits(images)[0]

    result = get(f"apgd_{loss}").function(
        logits_fn, tf.constant(GOLDEN["x"].astype(dtype)),
        labels=tf.constant(GOLDEN["label"], tf.int32),
        eps=tf.constant(GOLDEN[f"{run}/eps"]), norm=norm.lower(), num_steps=int(steps), clip_min=0.0,
        clip_max=1.0, **ROWS)
    return np.stack(points), result


@pytest.mark.parametrize("run", RUNS)
def test_points_are_the_references(run, monkeypatch):
    points, result = attacked(run, monkeypatch)
    compared = GOLDEN[f"{run}/points_at"] if run.endswith("100") else slice(None)
    expected = GOLDEN[f"{run}/points"]
    # The quotient of nearly equal logits amplifies rounding.
    tolerance = 5e-6 if run.startswith("dlr_L2") else 1e-7 if run.endswith("100") else 1e-9
    # Of this run two images do so much: a last bit of the start alone moves late points by 9e-3.
    sure = 6 if run == "dlr_L2_100" else len(expected)
    np.testing.assert_allclose(points[compared][:sure], expected[:sure], rtol=0, atol=tolerance)
    np.testing.assert_allclose(points[compared], expected, rtol=0, atol=max(tolerance, 2e-2 * (
        sure < len(expected))))
    np.testing.assert_array_equal(~result["wrong"].numpy(), GOLDEN[f"{run}/still_right"])


@pytest.mark.parametrize("run", [run for run in RUNS if run.startswith("ce")])
def test_points_in_float32(run, monkeypatch):
    points, result = attacked(run, monkeypatch, np.float32)
    last, at = (22, GOLDEN[f"{run}/points_at"]) if run.endswith("100") else (9, np.arange(21))
    early = at <= last
    np.testing.assert_allclose(points[at[early]], GOLDEN[f"{run}/points"][early], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(~result["wrong"].numpy(), GOLDEN[f"{run}/still_right"])


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_the_first_step_follows_the_references_gradient(loss, monkeypatch):
    x, eps, points = tf.constant(GOLDEN["x"]), 1e-3, []
    logits = adaptive.network(GOLDEN)
    monkeypatch.setattr(Ball, "start", lambda self, *row: self.clean)

    def logits_fn(images):
        points.append(images.numpy())
        return logits(images)[0]

    get(f"apgd_{loss}").function(
        logits_fn, x, eps=tf.constant(eps, x.dtype), norm="l2", num_steps=1, clip_min=-1.0,
        clip_max=2.0, labels=tf.constant(GOLDEN["label"], tf.int32), **ROWS)
    gradient = GOLDEN[f"gradient_at_x_{loss}"]
    length = np.sqrt(np.square(gradient).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose((points[1] - points[0]) / eps, gradient / length, rtol=0, atol=1e-9)

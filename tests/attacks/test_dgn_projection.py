"""What becomes of a generator's output: projection and filter as the original's, and the attack."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.dgn.generate import project
from attacks.projection import projection
from evaluation import generated
from tests.helpers import dgn, dgn_targets
from tests.helpers.golden import golden

# Of float32: u' = u + (u' − u) rounds.
ROUNDING = 6e-8
RADII = (1e-6, 0.0313, 0.3, 1.0)


@pytest.fixture(scope="module")
def original():
    """The arrays generation/* of the golden file."""
    arrays = golden("dgn_generation_gf_public")
    start = "generation/"
    return {name.removeprefix(start): arrays[name] for name in arrays.files if name.startswith(start)}


@pytest.fixture(scope="module")
def pairs():
    """Images and what was generated of them, many of their pixels at the edges of the box."""
    generator = np.random.default_rng(0)
    return [np.clip(generator.uniform(-0.5, 1.5, (7, 4, 4, 1)), 0, 1).astype(np.float32)
            for _ in range(2)]


def test_it_is_the_originals(original):
    u, g = dgn.pixels(original["u"]), dgn.pixels(original["g"])
    ours = project(u, g, float(original["eps"])).numpy()
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, original["projected"], rtol=0, atol=ROUNDING)
    # The case is none where nothing is to be done.
    assert np.mean(np.abs(g - u) > original["eps"]) > 0.05 and np.mean(ours == g) > 0.05


@pytest.mark.parametrize("changed_only", [False, True])
def test_predictions_and_filter_are_the_originals(original, cpu, changed_only):
    u, g = (original[name].reshape(-1, 28, 28, 1) for name in ("u", "g"))
    network = dgn_targets.target("mnist_5x30")
    raw, x_adv = generated.projected(
        lambda pixels, labels: dgn.pixels(g), u, original["labels"], float(original["eps"]))
    np.testing.assert_array_equal(raw, dgn.pixels(g) - np.float32(0.5))
    made = generated.looked_at(network.forward(cpu), u, original["labels"], np.arange(len(u)), x_adv,
                               changed_only=changed_only)
    rows = original["kept_rows"] if changed_only else np.arange(len(u))
    assert changed_only == (len(rows) < len(u))
    np.testing.assert_array_equal(made.index, rows)
    for ours, name in (("labels", "labels"), ("pred_clean", "pred_clean"),
                       ("pred_adv", "pred_projected")):
        np.testing.assert_array_equal(getattr(made, ours), original[name][rows], err_msg=name)
    np.testing.assert_allclose(made.x_adv.reshape(len(rows), -1) + 0.5, original["projected"][rows],
                               rtol=0, atol=2 * ROUNDING)
    assert {array.dtype for array in made[1:]} == {np.dtype(np.int32)}
    assert made.x_adv.dtype == np.float32 and np.abs(made.x_adv).max() <= 0.5


@pytest.mark.parametrize("eps", RADII)
def test_it_lies_in_the_ball_and_in_the_box(pairs, eps):
    u, g = pairs
    ours = project(u, g, eps).numpy()
    assert ours.min() >= 0.0 and ours.max() <= 1.0
    assert np.abs(np.float64(ours) - u).max() <= eps + ROUNDING
    # What was inside stays, what was outside is at the edge.
    inside = np.abs(np.float64(g) - u) <= eps
    np.testing.assert_allclose(ours[inside], g[inside], rtol=0, atol=ROUNDING)
    edge = np.clip(u + np.sign(g - u) * eps, 0, 1)
    np.testing.assert_allclose(ours[~inside], edge[~inside], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("eps", [None, *RADII])
def test_once_more_changes_nothing(pairs, eps):
    u, g = pairs
    once = project(u, g, eps)
    np.testing.assert_allclose(project(u, once, eps), once, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(project(u, u, eps), u)


def test_without_eps_there_is_only_the_box(pairs):
    u, g = pairs
    np.testing.assert_array_equal(project(u, g, None), g)
    np.testing.assert_array_equal(project(u, 3.0 * g - 1.0, None), np.clip(3.0 * g - 1.0, 0, 1))


@pytest.mark.parametrize("eps", RADII)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_attack_is_the_same_in_the_networks_box(pairs, eps, as_tensor):
    u, g = pairs
    x, generated_x = u - np.float32(0.5), g - np.float32(0.5)
    given = tf.constant(eps, tf.float64) if as_tensor else eps
    ours = tf.function(projection)(x, eps=given, generated=generated_x).numpy()
    np.testing.assert_allclose(ours, project(u, g, eps) - 0.5, rtol=0, atol=2 * ROUNDING)
    assert ours.dtype == np.float32 and np.abs(ours).max() <= 0.5
    assert np.abs(np.float64(ours) - x).max() <= eps + 2 * ROUNDING


def test_the_attack_knows_another_box(pairs):
    u, g = pairs
    np.testing.assert_array_equal(
        projection(tf.constant(u), eps=0.1, generated=tf.constant(g), clip_min=0.0, clip_max=1.0),
        project(u, g, 0.1))

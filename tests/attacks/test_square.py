"""Square against AutoAttack's: the moves recorded there, fed to ours."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.loops import squares
from attacks.square import square
from tests.helpers import adaptive
from tests.helpers.golden import golden

GOLDEN = golden("adaptive_square")
ROWS = {"labels": tf.constant(GOLDEN["label"], tf.int32), "image_index": tf.range(6),
        "restart": tf.zeros(6, tf.int32), "seed": 0}


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("queries", [1000, 5000])
def test_windows_shrink_as_the_references(side, queries):
    at, sizes = GOLDEN[f"sizes_{side}_{queries}_rescaled"]
    np.testing.assert_array_equal(np.array(squares.sides(side, side, queries))[at], sizes)


def moves_of(run, num_queries):
    """The recorded moves as `draw_moves` gives them, the same for each image."""
    def of_all(name):
        recorded = GOLDEN[f"{run}/{name}"]
        padded = np.pad(recorded, [(0, num_queries - len(recorded))] + [(0, 0)] * (recorded.ndim - 1))
        return np.stack([padded] * 6)

    return {"stripes": GOLDEN[f"{run}/start_signs"], "signs": of_all("signs"),
            "row": of_all("row").astype(np.int32), "column": of_all("column").astype(np.int32)}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("run", ["a", "b", "c"])
def test_recorded_moves_give_the_recorded_images(run, dtype, monkeypatch):
    num_queries, sizes = int(GOLDEN[f"{run}/num_queries"]), GOLDEN[f"{run}/size"]
    if GOLDEN[f"{run}/rescaled"]:
        assert squares.sides(8, 8, num_queries)[:len(sizes)] == sizes.tolist()
    monkeypatch.setattr(squares, "sides", lambda *size: [
        *sizes.tolist(), *[1] * (num_queries - len(sizes))])
    moves = {name: tf.constant(array.astype(dtype) if array.dtype == np.float64 else array)
             for name, array in moves_of(run, num_queries).items()}
    monkeypatch.setattr(squares, "draw_moves", lambda *drawn: moves)
    x = tf.constant(GOLDEN["x"].astype(dtype))
    result = tf.function(lambda: square(
        adaptive.network(GOLDEN, dtype), x, eps=tf.constant(GOLDEN[f"{run}/eps"]),
        num_steps=num_queries, clip_min=0.0, clip_max=1.0, chunk=6, **ROWS))()
    in_float64 = dtype == np.float64
    np.testing.assert_allclose(result["adversarial"], GOLDEN[f"{run}/adversarial"], rtol=0,
                               atol=1e-12 if in_float64 else 1e-6)
    np.testing.assert_allclose(-result["merit"], GOLDEN[f"{run}/final_margin"], rtol=0,
                               atol=1e-12 if in_float64 else 1e-5)
    np.testing.assert_array_equal(result["queries"], GOLDEN[f"{run}/queries"])


def test_moves_depend_on_image_and_restart_alone_and_reach_every_place():
    sides = squares.sides(8, 8, 600)
    draw = tf.function(lambda index, restart: squares.draw_moves(
        tf.zeros([len(index), 8, 8, 3]), sides, 3, index, restart))
    moves = draw(tf.constant([4, 5, 4]), tf.constant([0, 0, 1]))
    alone = draw(tf.constant([5]), tf.constant([0]))
    for name, array in moves.items():
        np.testing.assert_array_equal(array[1], alone[name][0])
        assert np.any(array[0] != array[1]) and np.any(array[0] != array[2])
    last = moves["row"].numpy().max(axis=0)
    assert np.all(last <= 8 - np.array(sides)) and last.max() == 7
    assert {-1.0, 1.0} == set(moves["signs"].numpy().ravel())


def test_a_detector_is_evaded_by_its_scores_alone():
    """Linear in L-inf: the far corner of the ball is wrong and accepted, a single query is not."""
    x = tf.zeros([4, 4, 4, 1], tf.float64)
    halves = tf.constant(np.repeat([[1.0, 0.0], [0.0, 1.0]], 8, axis=0))

    def network(images):
        along = tf.reshape(images, [-1, 16]) @ halves
        return tf.stack([tf.zeros_like(along[:, 0]), along[:, 0] - 0.5], axis=1), along

    def attack(needed):
        return square(network, x, slack_fn=lambda logits, features, classes: (
            features[:, 1:] - needed), eps=tf.constant(0.1, x.dtype), num_steps=400, chunk=4, seed=1,
            labels=tf.zeros(4, tf.int32), image_index=tf.range(4), restart=tf.zeros(4, tf.int32))

    near, beyond = tf.function(attack)(0.7), tf.function(attack)(0.9)
    assert near["evaded"].numpy().all() and near["queries"].numpy().max() < 401
    assert beyond["wrong"].numpy().all() and not beyond["evaded"].numpy().any()
    np.testing.assert_array_equal(beyond["queries"], 401)
    # What is needed lies 0.1 beyond the ball.
    np.testing.assert_allclose(beyond["merit"], -0.1, atol=1e-9)

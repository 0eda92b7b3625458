"""Pixels as files and networks have them."""

import numpy as np
import pytest

from data.pixels import from_network_input, rounded_inside, to_network_input

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 256, (5, 6, 6, 1)).astype(np.uint8)
CLEAN = to_network_input(STORED)


def changed(norm, eps):
    change = RNG.uniform(-eps, eps, CLEAN.shape)
    if norm == "l2":
        change *= eps / np.linalg.norm(change.reshape(5, -1), axis=1).reshape(-1, 1, 1, 1)
    return np.clip(CLEAN + change, -0.5, 0.5).astype(np.float32)


@pytest.mark.parametrize(("norm", "eps"), [
    ("linf", 0.1), ("linf", 8 / 255), ("linf", 0.0099), ("l2", 0.5), ("l2", 2.0)])
def test_rounded_images_are_grey_levels_of_the_ball(norm, eps):
    images = changed(norm, eps)
    rounded = rounded_inside(images, CLEAN, norm, eps)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, to_network_input(from_network_input(rounded)))
    change = (rounded - CLEAN).reshape(5, -1)
    size = np.abs(change).max(axis=1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert np.all(size <= eps + 1e-5) and np.abs(rounded - images).max() <= 1 / 255 + 1e-6


def test_without_a_ball_the_nearer_level_counts():
    images = changed("linf", 0.3)
    np.testing.assert_array_equal(rounded_inside(images, CLEAN, "", None),
                                  to_network_input(from_network_input(images)))


def test_what_is_stored_already_stays():
    np.testing.assert_array_equal(rounded_inside(CLEAN, CLEAN, "l2", 0.1), CLEAN)

"""Noise and starts of training batches: functions of seed and step, whatever the replicas."""

import numpy as np
import pytest

from data import pipeline
from data.inputs import ImageSet

IMAGES = ImageSet(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8),
                  np.arange(40) % 10, 10, "", True)


def batches(start=0, steps=3, replicas=1, **numbers):
    found = pipeline.train_dataset(IMAGES, batch_size=20, seed=3, start_step=start, num_steps=steps,
                                   augment=False, num_replicas=replicas, **numbers)
    return [tuple(part.numpy() for part in element) for element in found]


def test_replicas_share_the_draws_of_the_whole_batch():
    numbers = {"noise_std": 0.3, "start_eps": 0.1}
    whole, parts = batches(**numbers), batches(replicas=2, **numbers)
    for step, element in enumerate(whole):
        joined = [np.concatenate(pair) for pair in zip(*parts[2 * step:2 * step + 2], strict=True)]
        for ours, theirs in zip(element, joined, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_later_start_gives_the_same_steps():
    numbers = {"noise_std": 0.3, "start_eps": 0.1}
    for whole, late in zip(batches(**numbers)[1:], batches(start=1, **numbers), strict=True):
        for ours, theirs in zip(whole, late, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_noise_is_normal_and_starts_are_uniform_and_in_the_box():
    plain, noisy = batches(), batches(noise_std=0.1)
    inner = np.abs(plain[0][0]) < 0.1  # far from the edges
    moved = (noisy[0][0] - plain[0][0])[inner]
    assert moved.std() == pytest.approx(0.1, rel=0.15) and abs(moved.mean()) < 0.02
    assert max(np.abs(part[0]).max() for part in noisy) <= 0.5
    images, _, start = batches(noise_std=0.1, start_eps=0.2)[0]
    np.testing.assert_array_equal(images, noisy[0][0])
    assert 0.15 < np.abs(start - images).max() <= 0.2 + 1e-6 and np.abs(start).max() <= 0.5
    # Another step has other draws, of either kind.
    assert np.corrcoef((noisy[0][0] - plain[0][0]).ravel(), (noisy[1][0] - plain[1][0]).ravel()
                       )[0, 1] < 0.2


def test_without_either_batches_are_pairs():
    assert [len(element) for element in batches()] == [2, 2, 2]

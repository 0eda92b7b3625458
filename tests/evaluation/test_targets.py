"""The target classes of --target."""

import numpy as np
import pytest

from errors import InputError
from evaluation.targets import choose_targets

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 45)
INDEX = np.arange(100, 145)
LOGITS = RNG.normal(size=(45, 10))


def test_random_targets_are_wrong_classes_by_seed_and_image():
    index = np.arange(20_000)
    labels = index % 10
    logits = np.zeros((20_000, 10))
    target, = choose_targets("random", labels, logits, index, seed=3)
    assert not np.any(target == labels)
    assert target.min() == 0 and target.max() == 9
    steps = np.bincount((target - labels) % 10, minlength=10)[1:]
    np.testing.assert_allclose(steps / 20_000, 1 / 9, atol=0.01)
    some, = choose_targets("random", labels[5:9], logits[5:9], index[5:9], seed=3)
    np.testing.assert_array_equal(some, target[5:9])
    other, = choose_targets("random", labels, logits, index, seed=4)
    assert np.any(other != target)


def test_the_other_targets():
    def choose(kind):
        return choose_targets(kind, LABELS, LOGITS, INDEX, seed=0)

    np.testing.assert_array_equal(choose("least_likely"), [LOGITS.argmin(axis=1)])
    np.testing.assert_array_equal(choose("none"), [LABELS])
    np.testing.assert_array_equal(choose("7"), [np.full(45, 7)])
    every = np.stack([*choose("all"), LABELS])
    np.testing.assert_array_equal(np.sort(every, axis=0), np.tile(np.arange(10)[:, None], 45))


@pytest.mark.parametrize("kind", ["10", "any", "-1", ""])
def test_an_unknown_target_is_refused(kind):
    with pytest.raises(InputError, match=r"class below 10\. Received: target="):
        choose_targets(kind, LABELS, LOGITS, INDEX, seed=0)

"""Each flag: an evaluation broken on purpose raises it, a sound one raises none."""

import numpy as np
import pytest

from evaluation import flaws, known_robustness

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(30, 5))


def won(count, total=100):
    return np.arange(total) < count


CIFAR = known_robustness.best("cifar10", "linf", 0.1)


def test_what_is_known_is_of_the_largest_eps_that_is_not_larger():
    assert CIFAR.accuracy == 0.74 and "arXiv" in CIFAR.source
    assert known_robustness.best("cifar10", "linf", 4 / 255) is None
    assert known_robustness.best("mnist", "l2", 0.3) is None


# (key, what is broken, what is sound) of the same check.
CASES = [
    ("F1", lambda: flaws.randomised([FEATURES, FEATURES + RNG.normal(size=(30, 5))]),
     lambda: flaws.randomised([FEATURES, FEATURES + 1e-6])),
    ("F3", lambda: flaws.zero_gradient("a", np.full(50, 6), 100),
     lambda: flaws.zero_gradient("a", np.full(50, 5), 100)),
    ("F3", lambda: flaws.zero_gradient("a", np.array([0] * 99 + [100]), 100),
     lambda: flaws.zero_gradient("a", np.array([0] * 99 + [99]), 100)),
    ("F3", lambda: flaws.zero_gradient("a", None, 1, at_start=1),
     lambda: flaws.zero_gradient("a", None, 1)),
    ("F4", lambda: flaws.flat_loss("dlr", 0.51), lambda: flaws.flat_loss("dlr", 0.5)),
    ("F5", lambda: flaws.queries_beat_gradients(np.arange(100), won(60), won(59)),
     lambda: flaws.queries_beat_gradients(np.arange(100), won(60), won(60))),
    ("F6", lambda: flaws.last_restart("a", np.where(won(2), 4, 0), 5),
     lambda: flaws.last_restart("a", np.where(won(1), 4, 0), 5)),
    ("F7", lambda: flaws.not_converged("a", np.where(won(21), 95, 50), won(99), 100),
     lambda: flaws.not_converged("a", np.where(won(20), 95, 50), won(100), 100)),
    ("F7", lambda: flaws.not_converged("a", np.zeros(9), won(9, 9), 3, gain=0.02),
     lambda: flaws.not_converged("a", np.full(9, 99), won(9, 9), 100, gain=0.005)),
    ("F8", lambda: flaws.large_budget(1.0, 0.99), lambda: flaws.large_budget(0.5, 0.1)),
    ("F8", lambda: flaws.large_budget(0.5, 0.1, trivial=0.2),
     lambda: flaws.large_budget(0.5, 0.1, trivial=0.1)),
    ("F9", lambda: flaws.falls_with_eps("a", {0.1: won(50), 0.2: won(47)}),
     lambda: flaws.falls_with_eps("a", {0.2: won(50), 0.1: won(48), 0.3: won(49)})),
    ("F9", lambda: flaws.weaker_wins("oblivious", won(3), "adaptive", won(1)),
     lambda: flaws.weaker_wins("oblivious", won(2), "adaptive", won(1))),
    ("F13", lambda: flaws.short_path("a", 3 * 0.1), lambda: flaws.short_path("a", 20.0)),
    ("F13", lambda: flaws.small_budget("a", "linf", 0.001),
     lambda: flaws.small_budget("a", "linf", 0.002)),
    ("F14", lambda: flaws.refuses_noise("k", 0.05, won(100), won(5), 0.1),
     lambda: flaws.refuses_noise("k", 0.05, won(15), won(5), 0.1)),
    ("F15", lambda: flaws.beyond_what_is_known("linf", 0.2, 0.75, CIFAR),
     lambda: flaws.beyond_what_is_known("linf", 0.2, 0.7, CIFAR)),
    ("F16", lambda: flaws.judge_disagrees("a", won(50, 1000), won(56, 1000)),
     lambda: flaws.judge_disagrees("a", won(50, 1000), won(55, 1000))),
]


@pytest.mark.parametrize(("key", "broken", "sound"), CASES, ids=[case[0] for case in CASES])
def test_what_is_broken_raises_its_flag_and_what_is_sound_none(key, broken, sound):
    flag = broken()
    assert flag is not None and flag.flag == key and flag.sentence.endswith(".")
    assert sound() is None


def test_a_score_rounded_to_three_digits_has_no_gradient():
    """As an attack on it counts its steps: every difference of 1e-6 is zero."""
    score = lambda x: np.round(x, 3)  # noqa: E731
    x = RNG.random((20, 50))
    gradient = (score(x + 1e-6) - score(x)) / 1e-6
    assert flaws.zero_gradient("rounded", (gradient == 0).sum(axis=1), 50).flag == "F3"

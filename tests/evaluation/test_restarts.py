"""Rows of (image, restart): which are attacked, what is kept, and that packing shows nowhere."""

import numpy as np
import pytest

from evaluation import restarts as restarts_module
from evaluation.restarts import Restarts, Saver, worst_of_restarts

NUM, NUMBER = 7, 12
X = np.arange(NUM, dtype=np.float32).reshape(NUM, 1, 1, 1)
RNG = np.random.default_rng(0)
MARGIN = RNG.normal(-1.5, 1.0, (NUM, NUMBER)).astype(np.float32)
FIRST = np.where((MARGIN > 0).any(axis=1), (MARGIN > 0).argmax(axis=1), -1)


class Stub:
    """An attack whose row is its image and restart; it remembers which were asked for."""

    def __init__(self, evades=None):
        self.calls, self._evades = [], evades

    def __call__(self, images, numbers):
        self.calls.append(list(zip(images.tolist(), numbers.tolist(), strict=True)))
        margin = MARGIN[images, numbers]
        result = {"adversarial": (X[images] + 0.01 * numbers[:, None, None, None]).astype(np.float32),
                  "merit": margin, "wrong": margin > 0}
        return result | ({"evaded": self._evades[images, numbers]} if self._evades is not None else {})

    @property
    def pairs(self):
        return [pair for call in self.calls for pair in call]


def run(drop, rows_per_call=5, stub=None, **options):
    stub = stub or Stub()
    return worst_of_restarts(stub, X, Restarts(NUMBER, drop, rows_per_call), **options), stub


def test_without_dropping_the_worst_of_all_restarts_is_kept():
    result, stub = run(drop=False)
    assert stub.pairs == [(i, r) for r in range(NUMBER) for i in range(NUM)]
    np.testing.assert_array_equal(result["merit"], MARGIN.max(axis=1))
    np.testing.assert_array_equal(result["restart"], MARGIN.argmax(axis=1))
    np.testing.assert_array_equal(result["first_broken"], FIRST)
    np.testing.assert_array_equal(result["num_restarts"], NUMBER)


def test_dropping_attacks_what_is_left_and_keeps_the_first_success():
    result, stub = run(drop=True, rows_per_call=1)
    # One at a time nothing is for nothing.
    last = np.where(FIRST < 0, NUMBER - 1, FIRST)
    assert sorted(stub.pairs) == [(i, r) for i in range(NUM) for r in range(last[i] + 1)]
    assert stub.pairs == sorted(stub.pairs, key=lambda pair: (pair[1], pair[0]))
    np.testing.assert_array_equal(result["first_broken"], FIRST)
    np.testing.assert_array_equal(result["num_restarts"], last + 1)
    np.testing.assert_array_equal(result["wrong"], FIRST >= 0)
    kept = np.where(FIRST < 0, MARGIN.argmax(axis=1), FIRST)
    np.testing.assert_array_equal(result["restart"], kept)


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("rows_per_call", [2, 5, 64, 1000])
def test_packing_shows_nowhere(drop, rows_per_call):
    one, _ = run(drop, rows_per_call=1)
    other, stub = run(drop, rows_per_call)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert all(len(call) == rows_per_call for call in stub.calls[:-1])


def test_images_that_were_wrong_before_are_left_alone_where_broken_ones_leave():
    settled = np.arange(NUM) == 2
    result, stub = run(drop=True, settled=settled)
    assert 2 not in {image for image, _ in stub.pairs}
    assert result["wrong"][2] and result["first_broken"][2] == 0 and result["num_restarts"][2] == 0
    np.testing.assert_array_equal(result["adversarial"][2], X[2])
    _, stub = run(drop=False, settled=settled)
    assert 2 in {image for image, _ in stub.pairs}


def test_where_all_were_wrong_before_nothing_moves():
    result, _ = run(drop=True, settled=np.ones(NUM, bool))
    np.testing.assert_array_equal(result["adversarial"], X)
    assert result["wrong"].all() and not result["num_restarts"].any()


def test_being_wrong_is_not_enough_where_the_attack_says_what_evades():
    evades = np.zeros((NUM, NUMBER), bool)
    evades[:, 4] = True
    result, stub = run(drop=True, stub=Stub(evades))
    np.testing.assert_array_equal(result["first_broken"], 4)
    assert max(r for _, r in stub.pairs) <= 5  # of the call that was under way


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("killed_at", [1, 3, 6])
def test_a_killed_run_goes_on_to_the_same_arrays(drop, killed_at, monkeypatch):
    monkeypatch.setattr(restarts_module, "SECONDS_PER_SAVING", -1.0)
    whole, complete = run(drop)
    kept = {}

    class Killed(Exception):
        pass

    class Dying(Stub):
        def __call__(self, *rows):
            if len(self.calls) == killed_at:
                raise Killed
            return super().__call__(*rows)

    dying = Dying()
    with pytest.raises(Killed):
        run(drop, stub=dying, saver=Saver(save=lambda state: kept.update(
            {name: array.copy() for name, array in state.items()})))
    result, rest = run(drop, saver=Saver(load=lambda: kept))
    assert dying.calls + rest.calls == complete.calls
    for name in whole:
        np.testing.assert_array_equal(result[name], whole[name])


@pytest.mark.parametrize("drop", [True, False])
def test_every_image_is_told_of_once(drop):
    told = []
    run(drop, settled=np.arange(NUM) == 1, images_done=told.append)
    assert sum(told) == NUM and min(told) >= 0


@pytest.mark.parametrize("rows_per_call", [1, 5, 1000])
def test_milestones_are_told_while_it_runs(rows_per_call):
    told = []
    run(drop=True, rows_per_call=rows_per_call, restarts_done=lambda *pair: told.append(pair))
    assert told == [(number, int(np.sum((FIRST < 0) | (number <= FIRST)))) for number in (1, 10)]


def test_where_nobody_leaves_no_milestone_is_told():
    run(drop=False, restarts_done=lambda *pair: pytest.fail(f"told {pair}"))


def test_losses_of_every_restart_are_kept():
    def attack(images, numbers):
        return {"adversarial": X[images], "merit": MARGIN[images, numbers],
                "wrong": MARGIN[images, numbers] > 0, "cross_entropy": MARGIN[images, numbers]}

    result = worst_of_restarts(attack, X, Restarts(NUMBER, False, 5, losses=True))
    np.testing.assert_array_equal(result["losses"], MARGIN)
    np.testing.assert_array_equal(result["num_broken"], (MARGIN > 0).sum(axis=1))

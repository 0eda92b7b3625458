"""A defender: what it finds, what it is fitted to, what it carries over, and what it answers."""

import json

import numpy as np
import pytest
import tensorflow as tf

from data.pipeline import NO_CROP, NUM_CROPS
from data.pixels import to_network_input
from defenses.rmc import defender as defenders
from defenses.rmc import neighbors
from defenses.rmc.adapter import History
from defenses.rmc.defender import Point, Settings
from files.rmc import AugmentedSet
from tests.defenses.test_rmc_adapter import RUNS, make_adapter
from tests.helpers.defenders import GOLDEN, adapter, defender, network, points, same_state

SEED = 5


def play(made, order=range(5), seed=SEED):
    """Number → logits of points, which come in this order."""
    x, queries, _ = points()
    found = {}
    for number in order:
        point = Point(x[number], queries[number], (seed, 0, number))
        found[number] = made.answer(point).logits
        made.finish(point)
    return found


def same(one, other):
    return all(np.array_equal(one[number], other[number]) for number in one)


# --- Neighbours ---

@pytest.mark.parametrize("run", RUNS)
def test_neighbours_and_votes_are_the_authors(run):
    k = int(GOLDEN[f"{run}/numbers_lr_epochs_patience_k_batch_seed"][3])
    made = defender(k=k, state="frozen")
    for number, point in enumerate(GOLDEN[f"{run}/points"]):
        query = GOLDEN["point_features"][point]
        found = made.answer(Point(to_network_input(GOLDEN["point_images_uint8"][point]), query, (0,)))
        np.testing.assert_array_equal(found.nearest, GOLDEN[f"{run}/neighbours"][number])
        assert found.webnn == GOLDEN[f"{run}/point{number}_webnn"]
        assert found.deepnn == GOLDEN[f"{run}/point{number}_deepnn"]
        # What the queries are features of.
        np.testing.assert_allclose(found.features, query, atol=2e-6)


# --- What is carried over ---

def test_a_frozen_defender_is_the_network():
    made, (x, _, _) = defender(state="frozen"), points()
    before = made.adapter.snapshot()
    found = play(made)
    expected, _ = network().logits_and_features(tf.constant(x))
    np.testing.assert_allclose(np.stack(list(found.values())), expected, rtol=1e-5, atol=1e-5)
    assert same_state(made.adapter.snapshot(), before)
    assert made.adapter.drift() == 0
    # Nor does it go back: nobody may have told it to.
    other = before._replace(weights=[array + 0.25 for array in before.weights])
    made.start(other)
    assert not same(play(made), found)
    assert same_state(made.adapter.snapshot(), other)


def test_reset_is_the_same_in_any_order_and_leaves_nothing():
    made = defender(state="reset")
    found = play(made)
    assert same_state(made.adapter.snapshot(), made.adapter.initial)
    for order in ([4, 2, 0, 1, 3], [3], [1, 1]):
        assert same(play(made, order), found)
        assert same_state(made.adapter.snapshot(), made.adapter.initial)
    frozen = play(defender(state="frozen"))
    assert not any(np.array_equal(found[number], frozen[number]) for number in found)


def test_what_is_drawn_follows_from_the_seed():
    made = defender(state="reset")
    assert not same(play(made, seed=SEED + 1), play(made))


@pytest.mark.parametrize("calibrate", ["all", "clean", "none"])
def test_a_sequential_defender_carries_over_and_can_be_repeated(calibrate):
    made = defender(calibrate=calibrate)
    found, after = play(made), made.adapter.snapshot()
    assert made.adapter.drift() > 0
    made.start()
    assert same_state(made.adapter.snapshot(), made.adapter.initial)
    assert same(play(made), found)
    assert same_state(made.adapter.snapshot(), after)
    made.start()
    other = play(made, [4, 3, 2, 1, 0])
    assert not any(np.array_equal(found[number], other[number]) for number in found)


def test_the_first_point_is_that_of_reset_and_calibration_is_of_the_next():
    sequential, plain = play(defender()), play(defender(calibrate="none"))
    reset = play(defender(state="reset"))
    assert np.array_equal(sequential[0], reset[0]) and np.array_equal(plain[0], reset[0])
    assert not np.array_equal(sequential[1], plain[1])
    assert not np.array_equal(plain[1], reset[1])


# --- What it is fitted to ---

def numbered(number=400, num_clean=100):
    """A set whose labels and pixels are the numbers of its rows, with features in one dimension."""
    rows = np.arange(number, dtype=np.int32)
    images = np.zeros((number, 8, 8, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = rows % 256, rows // 256
    # Row r lies at a place that another order of the rows would have.
    features = np.random.default_rng(0).permutation(number).astype(np.float32)[:, None]
    return AugmentedSet(images, rows, num_clean, {}, features)


class Fit:
    """One call of `Adapter.fit`: rows of the set, and what was drawn for two epochs."""

    def __init__(self, train, validation, draw):
        for rows in (train, validation):
            # The images are those of the labels.
            np.testing.assert_array_equal(
                rows.images[:, 0, 0, 0] + 256 * rows.images[:, 0, 1, 0].astype(int), rows.labels)
        self.train, self.validation = train.labels, validation.labels
        self.orders, self.crops = zip(*(draw(epoch) for epoch in range(2)), strict=True)
        for order in self.orders:
            assert sorted(order) == list(range(len(self.train)))
        assert not np.array_equal(*self.orders)

    @property
    def rows(self):
        return np.concatenate([self.train, self.validation])


@pytest.fixture
def fits(monkeypatch):
    """Calls of `Adapter.fit`, which does nothing."""
    calls = []
    for augment in (False, True):
        monkeypatch.setattr(adapter(augment=augment), "fit", lambda *given: (
            calls.append(Fit(*given)), History(np.ones(2, np.float32), np.ones(2, np.float32)))[1])
    return calls


def one_point(chance=(SEED, 0, 1), k=40, **settings):
    made = defender(k=k, rows=numbered(), **settings)
    point = Point(points()[0][0], np.array([201.4], np.float32), chance)
    found = made.answer(point)
    return made, point, found, made.finish(point)


def test_it_adapts_to_the_neighbours_and_the_nearest_validate(fits):
    made, point, found, _ = one_point(state="reset")
    nearest = neighbors.nearest(made.augmented.features, point.query, 40)
    np.testing.assert_array_equal(found.nearest, nearest)
    fit, = fits
    assert sorted(fit.rows) == sorted(nearest)
    assert len(fit.validation) == 2 and set(fit.validation) <= set(nearest[:8])
    np.testing.assert_array_equal(fit.train[-32:], nearest[8:])


def test_which_of_the_nearest_validate_follows_from_the_chance(fits):
    for chance in ((1, 0, 1), (1, 0, 1), (1, 0, 2), (1, 1, 1), (2, 0, 1)):
        one_point(chance, k=200, state="reset")
    first, again, *others = fits
    assert np.array_equal(first.train, again.train) and np.array_equal(first.orders, again.orders)
    for other in others:
        assert not np.array_equal(first.validation, other.validation)
        assert not np.array_equal(first.orders, other.orders)


def test_random_neighbours_are_any_rows(fits):
    _, _, found, _ = one_point(state="reset", neighbors="random")
    _, _, other, _ = one_point((SEED, 0, 2), state="reset", neighbors="random")
    _, _, near, _ = one_point(state="reset")
    for fit in fits:
        assert len(set(fit.rows)) == len(fit.rows) == 40
    # As WebNN and DeepNN have them, whatever it adapted to.
    np.testing.assert_array_equal(found.nearest, near.nearest)
    assert (found.webnn, found.deepnn) == (other.webnn, other.deepnn) == (near.webnn, near.deepnn)
    random, another, nearest = (set(fit.rows) for fit in fits)
    assert random != nearest and random != another
    # Of 400 rows 40 near ones: as many as chance gives.
    assert len(random & nearest) < 15
    assert min(random) < 100 and max(random) >= 300


def test_no_two_generators_are_alike(fits, monkeypatch):
    seeds, make = [], np.random.default_rng
    monkeypatch.setattr(defenders.np.random, "default_rng", lambda seed: (
        seeds.append(seed), make(seed))[1])
    chances = [(seed, stream, image) for seed in (0, 1) for stream in (0, 1) for image in (0, 1)]
    for chance in chances:
        one_point(chance)
    # Of each point one that adapts and one that calibrates; 0 is that of `numbered`.
    drawn = [make(seed).integers(2**62) for seed in seeds if seed]
    assert len(set(drawn)) == len(drawn) == 2 * len(chances)


@pytest.mark.parametrize(("calibrate", "first"), [("all", 0), ("clean", 300)])
def test_calibration_draws_with_replacement_from_its_rows(fits, calibrate, first):
    _, _, _, calibrated = one_point(k=96, calibrate=calibrate)
    assert calibrated.epochs == 2
    adapted, fit = fits
    assert len(fit.train) == 84 and len(fit.validation) == 12
    assert first <= fit.rows.min() and fit.rows.max() < 400
    assert len(set(fit.rows)) < 96
    # From all of the rows, not from some: the least and largest of 96 lie near their ends.
    assert fit.rows.min() < first + 30 and fit.rows.max() >= 370
    assert set(fit.rows) != set(adapted.rows)


def test_calibration_draws_anew_for_each_point(fits):
    for chance in ((SEED, 0, 1), (SEED, 0, 1), (SEED, 0, 2), (SEED, 1, 1)):
        one_point(chance)
    first, again, *others = fits[1::2]
    np.testing.assert_array_equal(first.rows, again.rows)
    for other in others:
        assert not np.array_equal(first.rows, other.rows)


@pytest.mark.parametrize("settings", [
    {"calibrate": "none"}, {"state": "reset"}, {"state": "reset", "calibrate": "clean"}])
def test_what_is_not_calibrated(fits, settings):
    _, _, found, calibrated = one_point(**settings)
    assert calibrated is None and len(fits) == 1
    assert found.adapted.epochs == 2


def test_a_frozen_defender_is_never_fitted(fits):
    _, _, found, calibrated = one_point(state="frozen")
    assert calibrated is None and found.adapted is None and not fits


@pytest.mark.parametrize("neighbours", ["nearest", "random"])
def test_what_calibrates_is_cropped_and_what_adapts_is_not(fits, neighbours):
    made, *_ = one_point(augment=True, neighbors=neighbours)
    assert made.adapter is adapter(augment=True)
    adapted, calibrated = fits
    assert np.all(np.array(adapted.crops) == NO_CROP)
    drawn = np.array(calibrated.crops)
    assert drawn.shape == (2, len(calibrated.train)) and not np.array_equal(*drawn)
    assert drawn.min() >= 0 and drawn.max() < NUM_CROPS and len(np.unique(drawn)) > 20


def test_crops_reach_the_fit():
    """Of two defenders, one of which crops: alike until something has calibrated."""
    plain, cropping = play(defender(), range(2)), play(defender(augment=True), range(2))
    assert np.array_equal(plain[0], cropping[0])
    assert not np.array_equal(plain[1], cropping[1])


# --- Votes ---

def test_webnn_counts_all_rows_and_deepnn_the_clean_ones():
    labels = np.array([3] * 30 + [1] * 9 + [2], np.int32)
    features = np.arange(40, dtype=np.float32)[:, None]
    made = defender(state="frozen", k=20, rows=AugmentedSet(
        np.zeros((40, 8, 8, 1), np.uint8), labels, 10, {}, features))
    found = made.answer(Point(points()[0][0], np.array([29.9], np.float32), (0,)))
    # Rows 20 to 39, of which ten are 3; of the clean ten, fewer than k, nine are 1.
    assert sorted(found.nearest) == list(range(20, 40))
    assert (found.webnn, found.deepnn) == (3, 1)


# --- The head ---

def test_a_network_of_rce_answers_by_its_least_logit_and_is_fitted_by_rce(monkeypatch):
    # A rate of 0: the loss after the epoch is that of the network as it was trained.
    made = defenders.Defender(make_adapter("rce", rate=0.0, epochs=1), defender().augmented,
                              Settings(k=30, state="reset"))
    x, queries, _ = points()
    validated, fit = [], made.adapter.fit
    monkeypatch.setattr(made.adapter, "fit", lambda train, validation, draw: (
        validated.append(validation), fit(train, validation, draw))[1])
    found = made.answer(Point(x[0], queries[0], (SEED,)))
    raw, _ = made.adapter.network.model(x[:1])
    assert found.logits.argmax() == np.argmin(raw[0]) != np.argmax(raw[0])
    rows, = validated
    raw, _ = made.adapter.network.model(to_network_input(rows.images))
    log_softmax = raw - tf.reduce_logsumexp(raw, axis=1, keepdims=True)
    wrong = np.arange(10) != rows.labels[:, None]
    np.testing.assert_allclose(
        found.adapted.validation_losses, [-(wrong / 9 * log_softmax).numpy().sum(axis=1).mean()],
        rtol=1e-6)


def test_settings_as_json():
    told = dict(defenders.identity(Settings(k=7, state="reset", neighbors="random", calibrate="clean")))
    assert json.loads(json.dumps(told)) == {
        "k": 7, "state": "reset", "neighbors": "random", "calibrate": "clean"}

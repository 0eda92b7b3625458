"""Neighbours, splits and votes against the authors' (golden/README_RMC.md) and scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from defenses.rmc import neighbors
from tests.helpers.golden import golden

GOLDEN = golden("rmc_neighbours")
KS = sorted({int(name.split("_k")[1]) for name in GOLDEN.files if name.startswith("webnn_k")
             and name.split("_k")[1].isdigit()})
SETS = ["", "tie_"]


def _set(prefix):
    return GOLDEN[f"{prefix}features"], GOLDEN[f"{prefix}queries"]


@pytest.mark.parametrize("prefix", SETS)
def test_ids_by_distance_then_row(prefix):
    features, queries = _set(prefix)
    expected = GOLDEN[f"{prefix}ids_by_distance_then_row"]
    for k in (1, *KS, len(features)):
        found = [neighbors.nearest(features, query, k) for query in queries]
        np.testing.assert_array_equal(found, expected[:, :k])


@pytest.mark.parametrize("prefix", SETS)
def test_chunks_do_not_matter(prefix, monkeypatch):
    features, queries = _set(prefix)
    whole = [neighbors.nearest(features, query, KS[-1]) for query in queries]
    monkeypatch.setattr(neighbors, "_CHUNK_ROWS", 7)
    np.testing.assert_array_equal(
        [neighbors.nearest(features, query, KS[-1]) for query in queries], whole)


def test_a_stored_row_is_its_own_nearest():
    features, queries = _set("")
    row, = np.flatnonzero((features == queries[0]).all(axis=1))[:1]
    assert neighbors.nearest(features, queries[0], 3)[0] == row


@pytest.mark.parametrize("k", [1, 10, 64])
def test_as_scikit_learn(k):
    rng = np.random.default_rng(k)
    features = rng.normal(size=(500, 16)).astype(np.float32)
    queries = rng.normal(size=(20, 16)).astype(np.float32)
    # In float64: its brute search expands the square, which in float32 swaps near rows.
    _, expected = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(
        features.astype(np.float64)).kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal([neighbors.nearest(features, q, k) for q in queries], expected)


@pytest.mark.parametrize("prefix", SETS)
@pytest.mark.parametrize("k", KS)
def test_votes(prefix, k):
    features, queries = _set(prefix)
    labels = GOLDEN["labels"]
    num_classes = GOLDEN[f"{prefix}webnn_counts_k{k}"].shape[1]
    first_clean = len(labels) * 3 // 4
    for number, query in enumerate(queries):
        found = labels[neighbors.nearest(features, query, k)]
        np.testing.assert_array_equal(
            np.bincount(found, minlength=num_classes), GOLDEN[f"{prefix}webnn_counts_k{k}"][number])
        assert neighbors.vote(found, num_classes) == GOLDEN[f"{prefix}webnn_k{k}"][number]
        clean = labels[first_clean:]
        rows = neighbors.nearest(features[first_clean:], query, min(k, len(clean)))
        assert neighbors.vote(clean[rows], num_classes) == GOLDEN[f"{prefix}deepnn_k{k}"][number]


def test_votes_as_scikit_learn():
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(300, 8)).astype(np.float32), rng.integers(5, size=300)
    queries = rng.normal(size=(40, 8)).astype(np.float32)
    expected = KNeighborsClassifier(15, algorithm="brute").fit(
        features.astype(np.float64), labels).predict(queries.astype(np.float64))
    found = [neighbors.vote(labels[neighbors.nearest(features, q, 15)], 5) for q in queries]
    np.testing.assert_array_equal(found, expected)


def test_a_tied_vote_goes_to_the_smallest_label():
    assert neighbors.vote(np.array([4, 2, 4, 2, 0]), 6) == 2


def _position_of(rows, among):
    """For rows of distinct values, where each stands in `among`."""
    order = {int(value): number for number, value in enumerate(among)}
    return np.array([order[int(row)] for row in rows])


@pytest.mark.parametrize("sizes", GOLDEN["sizes_k_top_val_train_calibtrain_calibval"].tolist())
def test_sizes(sizes):
    k, top, validation, train, calibration_train, calibration_validation = sizes
    found = neighbors.split(np.arange(k), np.arange(neighbors.num_top(k)))
    drawn = neighbors.split_calibration(np.arange(k), np.arange(k))
    assert [neighbors.num_top(k), *map(len, (found.validation, found.train, drawn.train,
                                             drawn.validation))] == [
        top, validation, train, calibration_train, calibration_validation]
    assert sorted(np.concatenate(found)) == sorted(np.concatenate(drawn)) == list(range(k))
    assert found.validation.max() < top


SPLITS = sorted({name.split("_")[0] for name in GOLDEN.files if name.startswith("split")})


@pytest.mark.parametrize("name", SPLITS)
def test_splits_as_the_authors(name):
    near, train, validation = (GOLDEN[f"{name}_{part}"] for part in ("neighbours", "train", "val"))
    top = neighbors.num_top(len(near))
    # The authors' permutation: those that validate, then those of the nearest that train.
    permutation = _position_of(np.concatenate([validation, train[:top - len(validation)]]), near[:top])
    found = neighbors.split(near, permutation)
    np.testing.assert_array_equal(found.train, train)
    np.testing.assert_array_equal(found.validation, validation)


@pytest.mark.parametrize("name", SPLITS)
def test_calibration_splits_as_the_authors(name):
    drawn, train, validation = (GOLDEN[f"{name}_calib_{part}"] for part in ("drawn", "train", "val"))
    # A row may be drawn twice: each place once.
    left = {}
    for place, row in enumerate(drawn):
        left.setdefault(int(row), []).append(place)
    permutation = np.array([left[int(row)].pop(0) for row in np.concatenate([validation, train])])
    found = neighbors.split_calibration(drawn, permutation)
    np.testing.assert_array_equal(found.train, train)
    np.testing.assert_array_equal(found.validation, validation)

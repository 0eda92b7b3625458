"""Figures of detection against scikit-learn, brute force and closed forms; their intervals."""

import numpy as np
import pytest
from sklearn import metrics as sk

from errors import InputError
from evaluation import metrics


def draw(seed, n=200, ties=False):
    rng = np.random.default_rng(seed)
    normal, adversarial = rng.normal(1.0, 1.0, n), rng.normal(0.0, 1.5, n)
    return (np.round(normal), np.round(adversarial)) if ties else (normal, adversarial)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_learn(seed, ties):
    normal, adversarial = draw(seed, ties=ties)
    found = metrics.separation(normal, adversarial, num_resamples=2)
    targets = np.repeat([1, 0], [len(normal), len(adversarial)])
    values = np.concatenate([normal, adversarial])
    fpr, tpr, _ = sk.roc_curve(targets, values, drop_intermediate=False)
    expected = {
        "auroc": sk.roc_auc_score(targets, values), "aupr": sk.average_precision_score(targets, values),
        "fpr_at_95_tpr": fpr[tpr >= 0.95].min(), "tpr_at_1_fpr": tpr[fpr <= 0.01].max(),
        "tpr_at_5_fpr": tpr[fpr <= 0.05].max()}
    assert set(found) == set(metrics.SEPARATION) == set(expected)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name


def test_auroc_counts_pairs_and_the_swap_of_sides_complements_it():
    normal, adversarial = draw(7, n=30, ties=True)
    pairs = np.mean((normal[:, None] > adversarial) + 0.5 * (normal[:, None] == adversarial))
    found = metrics.separation(normal, adversarial, num_resamples=2)["auroc"].value
    assert found == pytest.approx(pairs)
    assert metrics.auc(normal, adversarial) == pytest.approx(pairs)
    swapped = metrics.separation(adversarial, normal, num_resamples=2)["auroc"].value
    assert swapped == pytest.approx(1 - found)


@pytest.mark.parametrize("matlab_ties", [False, True])
def test_ties_count_in_the_auroc_as_they_do_in_scoring(matlab_ties):
    normal, adversarial = draw(7, n=30, ties=True)
    found = metrics.separation(normal, adversarial, num_resamples=2, matlab_ties=matlab_ties)
    expected = metrics.auc(normal, adversarial, matlab_ties=matlab_ties)
    assert found["auroc"].value == pytest.approx(expected)
    other = metrics.separation(normal, adversarial, num_resamples=2, matlab_ties=not matlab_ties)
    assert found["auroc"] != other["auroc"]
    assert all(found[name] == other[name] for name in metrics.SEPARATION[1:])


def test_perfect_and_useless_scores():
    apart = metrics.separation(np.arange(5) + 10.0, np.arange(5.0))
    assert [apart[name][0] for name in metrics.SEPARATION] == [1, 1, 0, 1, 1]
    assert apart["auroc"] == (1, 1, 1)
    same = metrics.separation(np.zeros(5), np.zeros(5))
    assert [same[name].value for name in metrics.SEPARATION] == [0.5, 0.5, 1, 0, 0]


def test_nan_counts_as_highest():
    with_nan = metrics.separation(np.array([1.0, np.nan]), np.array([0.0, 2.0]))
    assert with_nan["auroc"].value == 0.75


def test_the_resamples_are_those_of_images():
    """Against the slow way: draw rows, compute the AUC of each draw."""
    normal, adversarial = draw(3, n=50)
    found = metrics.separation(normal, adversarial, seed=5, num_resamples=400)["auroc"]
    rng = np.random.default_rng(11)
    slow = []
    for _ in range(400):
        rows = rng.integers(50, size=50)
        slow.append(metrics.auc(normal[rows], adversarial[rows]))
    np.testing.assert_allclose([found.low, found.high], np.percentile(slow, [2.5, 97.5]), atol=0.03)
    assert found.low < found.value < found.high


def test_intervals_depend_on_the_seed_alone(monkeypatch):
    normal, adversarial = draw(4)
    once = metrics.separation(normal, adversarial, seed=1)
    assert metrics.separation(normal, adversarial, seed=1) == once
    assert metrics.separation(normal, adversarial, seed=2) != once


def test_the_interval_of_a_share_covers_it():
    """95 of 100 intervals should cover; each covers the true 0.3 with about that probability."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        interval = metrics.mean(rng.random(300) < 0.3, seed=seed, num_resamples=300)
        covered += interval.low <= 0.3 <= interval.high
    assert covered >= 88


def test_a_mean_without_spread_has_no_width():
    assert metrics.mean(np.ones(20, bool)) == (1, 1, 1)


@pytest.mark.parametrize(("normal", "adversarial"), [([], []), ([1.0], [1.0, 2.0])])
def test_scores_that_are_no_pairs_are_refused(normal, adversarial):
    with pytest.raises(InputError, match="a normal and an adversarial score of each image"):
        metrics.separation(np.array(normal), np.array(adversarial))


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one value"):
        metrics.mean(np.array([]))


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_auc_and_roc_are_those_of_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    normal, adversarial = rng.integers(levels // 3, levels, 211), rng.integers(0, levels, 97)
    targets = np.arange(308) < 211
    scores = np.concatenate([normal, adversarial])
    area = sk.roc_auc_score(targets, scores)
    assert metrics.auc(normal, adversarial) == pytest.approx(area, abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(targets, scores, drop_intermediate=False)
    np.testing.assert_allclose(metrics.roc(normal, adversarial), [fpr, tpr], rtol=0, atol=1e-12)

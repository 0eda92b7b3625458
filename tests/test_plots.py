"""plots.py: what is on the pictures, read back from the figures and the files."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import plots
import scoring
from data import artifacts
from errors import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def figures(monkeypatch):
    """The figures saved during a test, in order."""
    saved = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (saved.append(figure),
                                                              save(figure, path)))
    return saved


def _curve(score="confidence", objective="rce"):
    return plots.RocCurve("RCE x", np.array([0, 0.2, 1]), np.array([0, 0.9, 1]), 0.8512, score,
                          objective)


def test_every_score_and_objective_has_its_own_style():
    assert set(plots.SCORE_STYLE) >= set(scoring.SCORES)
    assert set(plots.OBJECTIVE_LINE) == set(artifacts.OBJECTIVE_TAG)
    for styles in (list(plots.SCORE_STYLE.values()), list(plots.OBJECTIVE_LINE.items())):
        for column in zip(*styles, strict=True):
            assert len(set(column)) == len(column)


def test_score_colours_differ_in_lightness():
    from matplotlib.colors import to_rgb

    grey = sorted(np.dot(to_rgb(colour), [0.299, 0.587, 0.114])
                  for _, colour, _ in plots.SCORE_STYLE.values())
    assert np.diff(grey).min() > 0.2


def test_roc_curves_show_the_points_the_areas_and_the_styles(tmp_path, figures):
    path = tmp_path / "new" / "roc.png"
    plots.roc_curves(path, [_curve(), _curve("non_me", "ce")], "Title")
    axes = figures[0].axes[0]
    _, first, second = axes.lines
    np.testing.assert_array_equal(first.get_ydata(), [0, 0.9, 1])
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    assert first.get_color() == plots.SCORE_STYLE["confidence"][1]
    assert axes.get_legend().get_texts()[0].get_text() == "RCE x, AUC 85.12 %"
    assert "false positive rate" in axes.get_xlabel()
    assert axes.get_title() == "Title"
    assert matplotlib.image.imread(path).ndim == 3
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_fills_the_range_with_the_difference_and_says_by_how_much(
        tmp_path, figures, channels):
    normal = np.random.default_rng(0).uniform(-0.4, 0.4, (12, 8, 8, channels))
    adversarial = normal + 0.1 * np.sign(normal)
    plots.image_grid(tmp_path / "grid.png", normal, adversarial, column_titles=["7 → 3"] * 12,
                     title="fgsm")
    axes = np.array(figures[0].axes).reshape(3, 10)
    assert axes[2, 0].get_ylabel() == "difference\n\u00d7 5"
    assert axes[0, 9].get_title() == "7 → 3"
    shown = [axes[row, 0].images[0].get_array() for row in range(3)]
    np.testing.assert_allclose(shown[0][..., 0], normal[0, ..., 0] + 0.5)
    np.testing.assert_allclose(shown[1][..., 0], adversarial[0, ..., 0] + 0.5)
    np.testing.assert_allclose(shown[2][..., 0], (normal[0, ..., 0] > 0).astype(float), atol=1e-12)


def test_image_grid_of_equal_images_is_grey(tmp_path, figures):
    images = np.zeros((2, 4, 4, 1))
    plots.image_grid(tmp_path / "grid.png", images, images)
    assert (figures[0].axes[4].images[0].get_array() == 0.5).all()


@pytest.mark.parametrize(("normal", "adversarial"), [
    ((2, 4, 4, 1), (3, 4, 4, 1)), ((2, 4, 4, 2), (2, 4, 4, 2)), ((4, 4, 1), (4, 4, 1)),
    ((0, 4, 4, 1), (0, 4, 4, 1))])
def test_image_grid_refuses_what_are_no_images(tmp_path, normal, adversarial):
    with pytest.raises(InputError, match=r"Received: shapes="):
        plots.image_grid(tmp_path / "grid.png", np.zeros(normal), np.zeros(adversarial))
    assert list(tmp_path.iterdir()) == []


def test_scatter_marks_classes_and_adversarial_points(tmp_path, figures):
    points = np.arange(12.0).reshape(6, 2)
    plots.scatter(tmp_path / "tsne.png", points, np.array([0, 1, 2, 0, 1, 2]),
                  np.array([0, 0, 0, 1, 1, 0]), "t-SNE")
    axes = figures[0].axes[0]
    normal, adversarial = axes.collections
    np.testing.assert_array_equal(normal.get_offsets(), points[[0, 1, 2, 5]])
    np.testing.assert_array_equal(adversarial.get_offsets(), points[[3, 4]])
    np.testing.assert_array_equal(normal.get_facecolors()[0], adversarial.get_facecolors()[0])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["class 0", "class 1", "class 2", "normal", "adversarial"]


def test_scatter_of_normal_points_and_many_classes_has_a_short_legend(tmp_path, figures):
    labels = np.arange(100.0)
    plots.scatter(tmp_path / "tsne.png", np.zeros((100, 2)), labels)
    texts = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert texts == [f"class {c}" for c in range(0, 100, 10)]
    assert len(np.unique(figures[0].axes[0].collections[0].get_facecolors(), axis=0)) == 100


def test_tsne_keeps_far_groups_apart_and_depends_on_the_seed_alone():
    groups = np.repeat([0, 100], 25)
    features = np.random.default_rng(0).normal(size=(50, 70)) + groups[:, None]
    points = plots.tsne(features, seed=0)
    assert points.shape == (50, 2)
    centers = points[:25].mean(axis=0), points[25:].mean(axis=0)
    nearest = [np.argmin([np.linalg.norm(point - center) for center in centers])
               for point in points]
    np.testing.assert_array_equal(nearest, groups // 100)
    np.testing.assert_array_equal(plots.tsne(features, seed=0), points)


def test_tsne_needs_two_images():
    assert plots.tsne(np.eye(2)).shape == (2, 2)
    with pytest.raises(InputError, match=r"Received: shape=\(1, 3\)"):
        plots.tsne(np.zeros((1, 3)))


def test_plots_import_no_matplotlib_and_keep_no_global_state(tmp_path):
    code = ("import sys, numpy as np, plots; assert 'matplotlib' not in sys.modules; "
            f"plots.scatter({str(tmp_path / 'x.png')!r}, np.zeros((2, 2)), np.arange(2)); "
            "print('matplotlib.pyplot' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "False\n"

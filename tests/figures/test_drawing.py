"""figures/drawing.py: what is on the pictures, read back from the figures and the files."""

import math
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from defenses import PUBLISHED_SCORES
from errors import InputError
from figures import drawing
from files.names import OBJECTIVE_TAG

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def figures(monkeypatch):
    """The figures saved during a test, in order."""
    saved = []
    save = drawing._save
    monkeypatch.setattr(drawing, "_save", lambda figure, path, **how: (saved.append(figure),
                                                                     save(figure, path, **how)))
    return saved


def test_every_score_and_objective_has_its_own_style():
    assert set(drawing.SCORE_STYLE) >= set(PUBLISHED_SCORES)
    assert set(drawing.OBJECTIVE_LINE) == set(OBJECTIVE_TAG)
    for styles in (list(drawing.SCORE_STYLE.values()), list(drawing.OBJECTIVE_LINE.items())):
        for column in zip(*styles, strict=True):
            assert len(set(column)) == len(column)


def test_score_colours_differ_in_lightness():
    from matplotlib.colors import to_rgb

    grey = sorted(np.dot(to_rgb(colour), [0.299, 0.587, 0.114])
                  for _, colour, _ in drawing.SCORE_STYLE.values())
    assert np.diff(grey).min() > 0.2


def test_roc_panels_are_square_with_the_line_of_chance(tmp_path, figures):
    path = tmp_path / "new" / "roc.png"
    curve = drawing.Curve("x", np.array([0, 0.2, 1]), np.array([0, 0.9, 1]), "#F0A500", "o", "--")
    panel = drawing.Panel("CE", "x axis", "y axis", [curve], (-0.02, 1.02), True)
    drawing.panels(path, [panel, panel._replace(title="RCE")], "Title")
    for axes, title in zip(figures[0].axes, ("CE", "RCE"), strict=True):
        chance, line = axes.lines
        np.testing.assert_array_equal(chance.get_xdata(), chance.get_ydata())
        np.testing.assert_array_equal(line.get_xydata(), [[0, 0], [0.2, 0.9], [1, 1]])
        assert (line.get_linestyle(), line.get_color()) == ("--", "#F0A500")
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x"]
        assert axes.get_xlim() == axes.get_ylim() == (-0.02, 1.02)
        assert (axes.get_title(), axes.get_xlabel(), axes.get_aspect()) == (title, "x axis", 1)
    assert figures[0].get_suptitle() == "Title"
    picture = matplotlib.image.imread(path)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 1).all(), "something is cut off"
    assert sorted(file.name for file in path.parent.iterdir()) == ["roc.csv", "roc.png"]


BARS = [drawing.Bar("fgsm", "ce", 7, 12.0, 10.0, 14.0), drawing.Bar("fgsm", "rce", 3, 20.0, 19.0, 21.5),
        drawing.Bar("jsma", "rce", 0, math.nan, math.nan, math.nan)]


def test_bars_stand_in_groups_with_n_above_and_leave_their_numbers(tmp_path, figures):
    drawing.bars(tmp_path / "bars.png", BARS, "mean (unit)", "Title")
    axes = figures[0].axes[0]
    ce, fgsm, jsma = (bar for group in axes.containers for bar in group)
    assert (ce.get_height(), fgsm.get_height()) == (12, 20)
    assert ce.get_x() + ce.get_width() == pytest.approx(fgsm.get_x())
    assert jsma.get_x() - fgsm.get_x() == pytest.approx(1)
    assert ce.get_hatch() and not fgsm.get_hatch()
    assert [line.get_ydata().tolist() for line in axes.lines[:2]] == [[10, 14], [19, 21.5]]
    assert [text.get_text() for text in axes.texts] == ["7", "3", "0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fgsm", "jsma"]
    assert axes.get_ylabel() == "mean (unit)" and axes.get_ylim()[1] > 21.5
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["CE", "RCE"]
    assert (tmp_path / "bars.csv").read_text().splitlines() == [
        "attack,objective,n,mean,low,high", "fgsm,ce,7,12.0,10.0,14.0", "fgsm,rce,3,20.0,19.0,21.5",
        "jsma,rce,0,nan,nan,nan"]


def test_bars_of_one_objective_stand_in_the_middle_of_their_groups(tmp_path, figures):
    drawing.bars(tmp_path / "bars.png", BARS[1:], "mean (unit)", "Title")
    bar, _ = figures[0].axes[0].patches
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(0)


def test_bars_of_objectives_differ_in_greyscale():
    assert set(drawing.OBJECTIVE_FILL) == set(OBJECTIVE_TAG)
    assert len({hatch for _, hatch in drawing.OBJECTIVE_FILL.values()}) == len(drawing.OBJECTIVE_FILL)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_fills_the_range_with_the_difference_and_says_by_how_much(
        tmp_path, figures, channels):
    normal = np.random.default_rng(0).uniform(-0.4, 0.4, (12, 8, 8, channels))
    adversarial = normal + 0.1 * np.sign(normal)
    drawing.image_grid(tmp_path / "grid.png", normal, adversarial, column_titles=["7 → 3"] * 12,
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
    drawing.image_grid(tmp_path / "grid.png", images, images)
    assert (figures[0].axes[4].images[0].get_array() == 0.5).all()


@pytest.mark.parametrize(("normal", "adversarial"), [
    ((2, 4, 4, 1), (3, 4, 4, 1)), ((2, 4, 4, 2), (2, 4, 4, 2)), ((4, 4, 1), (4, 4, 1)),
    ((0, 4, 4, 1), (0, 4, 4, 1))])
def test_image_grid_refuses_what_are_no_images(tmp_path, normal, adversarial):
    with pytest.raises(InputError, match=r"Received: shapes="):
        drawing.image_grid(tmp_path / "grid.png", np.zeros(normal), np.zeros(adversarial))
    assert list(tmp_path.iterdir()) == []


def test_scatter_marks_classes_and_adversarial_points(tmp_path, figures):
    points = np.arange(12.0).reshape(6, 2)
    drawing.scatter(tmp_path / "tsne.png", [drawing.Cloud(
        "", points, np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 0]))], "t-SNE")
    axes = figures[0].axes[0]
    normal, adversarial = axes.collections
    np.testing.assert_array_equal(normal.get_offsets(), points[[0, 1, 2, 5]])
    np.testing.assert_array_equal(adversarial.get_offsets(), points[[3, 4]])
    np.testing.assert_array_equal(normal.get_facecolors()[0], adversarial.get_facecolors()[0])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["class 0", "class 1", "class 2", "normal", "adversarial"]
    # The class at the median of its normal points: of class 2 points 2 and 5.
    assert {text.get_text(): tuple(text.xy) for text in axes.texts} == {
        "0": (0, 1), "1": (2, 3), "2": (7, 8)}
    assert [path.name for path in tmp_path.iterdir()] == ["tsne.png"]


def test_a_cloud_of_as_many_points_as_are_drawn_makes_a_small_file(tmp_path):
    rng = np.random.default_rng(0)
    cloud = drawing.Cloud("CE", rng.uniform(size=(700, 2)), rng.integers(10, size=700),
                        np.arange(700) % 2)
    drawing.scatter(tmp_path / "tsne.png", [cloud, cloud])
    assert (tmp_path / "tsne.png").stat().st_size < 150_000


def test_two_clouds_share_colours_and_a_legend_and_leave_their_numbers(tmp_path, figures):
    row = [drawing.Cloud("CE", np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0, 3]), np.array([0, 1])),
           drawing.Cloud("RCE", np.array([[4.0, 5.5]]), np.array([3]))]
    drawing.scatter(tmp_path / "tsne.png", row, "t-SNE", numbers=True)
    left, right = figures[0].axes
    assert (left.get_title(), right.get_title()) == ("CE", "RCE")
    np.testing.assert_array_equal(left.collections[1].get_edgecolors(),
                                  right.collections[0].get_facecolors())
    assert left.get_legend() is None
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        "class 0", "class 3", "normal", "adversarial"]
    assert (tmp_path / "tsne.csv").read_text().splitlines() == [
        "panel,x,y,class,is_adversarial", "CE,0.0,1.0,0,0", "CE,2.0,3.0,3,1", "RCE,4.0,5.5,3,0"]


def test_scatter_of_normal_points_and_many_classes_has_a_short_legend(tmp_path, figures):
    labels = np.arange(100.0)
    drawing.scatter(tmp_path / "tsne.png", [drawing.Cloud("", np.zeros((100, 2)), labels)])
    texts = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert texts == [f"class {c}" for c in range(0, 100, 10)]
    assert len(np.unique(figures[0].axes[0].collections[0].get_facecolors(), axis=0)) == 100


def test_tsne_keeps_far_groups_apart_and_depends_on_the_seed_alone():
    groups = np.repeat([0, 100], 25)
    features = np.random.default_rng(0).normal(size=(50, 70)) + groups[:, None]
    points = drawing.tsne(features, seed=0)
    assert points.shape == (50, 2)
    centers = points[:25].mean(axis=0), points[25:].mean(axis=0)
    nearest = [np.argmin([np.linalg.norm(point - center) for center in centers])
               for point in points]
    np.testing.assert_array_equal(nearest, groups // 100)
    np.testing.assert_array_equal(drawing.tsne(features, seed=0), points)


def test_tsne_needs_two_images():
    assert drawing.tsne(np.eye(2)).shape == (2, 2)
    with pytest.raises(InputError, match=r"Received: shape=\(1, 3\)"):
        drawing.tsne(np.zeros((1, 3)))


def test_plots_import_no_matplotlib_and_keep_no_global_state(tmp_path):
    code = ("import sys, numpy as np; from figures import drawing; "
            "assert 'matplotlib' not in sys.modules; "
            f"drawing.scatter({str(tmp_path / 'x.png')!r}, "
            "[drawing.Cloud('', np.zeros((2, 2)), np.arange(2))]); "
            "print('matplotlib.pyplot' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "False\n"


def test_a_pair_of_dollars_in_a_name_is_no_formula(tmp_path):
    drawing.surfaces(tmp_path / "surface.png", {"runs/$x_{$": np.eye(3)}, np.linspace(-1, 1, 3),
                     ("a", "b"), "$x_{$")
    assert (tmp_path / "surface.png").is_file()

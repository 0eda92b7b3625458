"""The picture of the grid: a cell for each network and column, and none of columns that nobody has."""

import matplotlib.image
import numpy as np

from evaluation.grid import Cell
from evaluation.success import share
from figures import dgn, drawing


def of(**shares):
    """Cells of these right answers of 8."""
    return {name.replace("_", " "): Cell(share(np.arange(8) < number))
            for name, number in shares.items()}


ROWS = {"target": of(clean=8, nce=1, white_box_pgd=0), "nce_gf": of(clean=4, nce=5, adaptive_nce=2)}
COLUMNS = ["clean", "lrp", "nce", "white box pgd", "adaptive nce"]


def test_columns_that_no_row_has_are_left_out(tmp_path, monkeypatch):
    figures, save = [], drawing._save
    monkeypatch.setattr(drawing, "_save", lambda figure, path: (figures.append(figure),
                                                                save(figure, path)))
    dgn.draw_grid(tmp_path / "below" / "grid.png", ROWS, COLUMNS)
    axes, bar = figures[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "clean", "nce", "white box pgd", "adaptive nce"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["target", "nce_gf"]
    np.testing.assert_array_equal(np.ma.filled(axes.images[0].get_array(), np.nan), [
        [100, 12.5, 0, np.nan], [50, 62.5, np.nan, 25]])
    # A number where there is a cell, at its place: the first row on top.
    assert {tuple(text.get_position()): text.get_text() for text in axes.texts} == {
        (0, 0): "100.0", (1, 0): "12.5", (2, 0): "0.0", (0, 1): "50.0", (1, 1): "62.5", (3, 1): "25.0"}
    assert axes.get_ylim()[0] > axes.get_ylim()[1] and axes.images[0].get_clim() == (0, 100)
    assert bar.get_ylabel() == "%" and "made against the target" in axes.get_title()
    picture = matplotlib.image.imread(tmp_path / "below" / "grid.png")
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 1).all(), "something is cut off"


def test_numbers_can_be_read_on_any_colour(tmp_path, monkeypatch):
    """Of one row, and of cells that are alike."""
    figures, save = [], drawing._save
    monkeypatch.setattr(drawing, "_save", lambda figure, path: (figures.append(figure),
                                                                save(figure, path)))
    for right in (0, 8):
        dgn.draw_grid(tmp_path / "grid.png", {"target": of(clean=right, nce=right)}, COLUMNS)
        axes = figures[-1].axes[0]
        colour = axes.images[0].cmap(axes.images[0].norm(100 * right / 8))
        brightness = np.dot(colour[:3], [0.299, 0.587, 0.114])
        assert {text.get_color() for text in axes.texts} == {"black" if brightness > 0.5 else "white"}

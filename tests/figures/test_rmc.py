"""Pictures of runtime masking and cleansing: running accuracy, and neighbours with their classes."""

import csv

import matplotlib.image
import numpy as np
import pytest

from evaluation.success import share
from figures import drawing, rmc

RNG = np.random.default_rng(0)


def numbers(path):
    with open(path.with_suffix(".csv"), encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("n", [1, 2, 137, 200, 201, 1000])
def test_running_accuracy_is_that_of_a_loop_and_the_first_has_its_interval(n):
    right, control = RNG.random(n) < 0.7, RNG.random(n) < 0.4
    panel = rmc.stream_panel("attacked images", {"kept": right, "reset": control})
    run, low, high, other = panel.curves
    assert (run.label, other.label) == ("kept", "reset")
    assert (run.x[0], run.x[-1]) == (1, n) and len(run.x) == min(n, 200)
    assert (np.diff(run.x) > 0).all()
    for k, point in enumerate(run.x):
        assert run.y[k] == pytest.approx(100 * sum(right[:point].tolist()) / point)
        assert other.y[k] == pytest.approx(100 * sum(control[:point].tolist()) / point)
        counted = share(right[:point])
        assert (low.y[k], high.y[k]) == pytest.approx((100 * counted.low, 100 * counted.high))
    assert [(curve.colour, curve.marker) for curve in (run, other)] == list(drawing.LINE_STYLE[:2])
    assert {(curve.colour, curve.marker, curve.line, curve.width < run.width) for curve in (low, high)
            } == {(run.colour, "", ":", True)}
    assert (panel.title, panel.xlabel, panel.ylabel) == (
        "attacked images", "points answered", "accuracy so far, %")


def test_a_stream_without_points_and_more_curves_than_colours():
    assert len(rmc.stream_panel("", {"kept": np.zeros(0, bool)}).curves[0].x) == 0
    runs = {str(k): np.ones(3, bool) for k in range(len(drawing.LINE_STYLE) + 1)}
    assert rmc.stream_panel("", runs).curves[-1].colour == drawing.LINE_STYLE[0][0]


def test_streams_stand_side_by_side_with_their_numbers(tmp_path):
    path = tmp_path / "stream.png"
    rmc.draw_stream(path, "digits", {"clean images": {"kept": np.array([True, False])},
                                     "attacked images": {"kept": np.array([False, False]),
                                                         "reset": np.array([False, True])}})
    found = numbers(path)
    assert found[0] == ["panel", "curve", "x", "y"]
    assert [row for row in found if row[1] in ("kept", "reset")] == [
        ["clean images", "kept", "1", "100.0"], ["clean images", "kept", "2", "50.0"],
        ["attacked images", "kept", "1", "0.0"], ["attacked images", "kept", "2", "0.0"],
        ["attacked images", "reset", "1", "0.0"], ["attacked images", "reset", "2", "50.0"]]
    assert len(found) == 1 + 2 * 7 and found[3][:2] == ["clean images", "kept, 95 % from"]
    height, width = matplotlib.image.imread(path).shape[:2]
    assert 1000 < width < 1600 and 400 < height < 900


def query(channels=1, size=8, label=7, answered=2):
    return rmc.Query(RNG.random((size, size, channels)) - 0.5, label, answered,
                     RNG.random((5, size, size, channels)) - 0.5, np.array([3, 2, 7, 2, 0]),
                     np.array([8, 2, 7, 1, 0]), np.array([False, True, False, False, True]))


def test_a_query_left_of_its_rows_with_their_classes(tmp_path, monkeypatch):
    figures, save = [], drawing._save
    monkeypatch.setattr(drawing, "_save", lambda figure, path: (figures.append(figure),
                                                                save(figure, path)))
    path, queries = tmp_path / "nearest.png", [query(), query(label=1, answered=1)]
    assert rmc.draw_nearest(path, queries, "Title")
    axes = figures[0].axes
    assert len(axes) == 12 and figures[0].get_suptitle() == "Title"
    assert [cell.get_title() for cell in axes[:3]] == [
        "query\ntrue 7\nanswered 2", "attacked\nlabel 3\npredicted 8", "clean\nlabel 2\npredicted 2"]
    assert axes[6].get_title() == "query\ntrue 1\nanswered 1"
    for cell, image in ((axes[0], queries[0].image), (axes[9], queries[1].rows[2])):
        np.testing.assert_allclose(cell.images[0].get_array(), np.repeat(image + 0.5, 3, -1))
    shown = [figures[0]._suptitle, *axes, *(cell.title for cell in axes)]
    drawn = [artist.get_window_extent() for artist in shown]
    assert not [1 for k, box in enumerate(drawn) for other in drawn[:k] if box.overlaps(other)]
    assert numbers(path) == [
        ["query", "true", "answered", "nearest", "label", "predicted", "is_clean"],
        *([str(number), *ends, str(rank), *row] for number, ends in ((1, ("7", "2")), (2, ("1", "1")))
          for rank, row in enumerate((("3", "8", "0"), ("2", "2", "1"), ("7", "7", "0"),
                                      ("2", "1", "0"), ("0", "0", "1")), 1))]


@pytest.mark.parametrize(("number", "channels", "drawn"), [(1, 1, 1), (3, 3, 3), (7, 3, 5)])
def test_up_to_five_queries_are_drawn(tmp_path, number, channels, drawn):
    path = tmp_path / "nearest.png"
    assert rmc.draw_nearest(path, [query(channels, 32) for _ in range(number)], "Title")
    assert len(numbers(path)) == 1 + 5 * drawn
    height, width = matplotlib.image.imread(path).shape[:2]
    assert 700 < width < 1000 and 190 * drawn < height < 210 * drawn + 120


@pytest.mark.parametrize("queries", [[], [query(channels=2)]])
def test_nothing_is_drawn_without_queries_or_of_other_channels(tmp_path, queries):
    assert not rmc.draw_nearest(tmp_path / "nearest.png", queries, "Title")
    assert not list(tmp_path.iterdir())

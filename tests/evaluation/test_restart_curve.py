"""What restarts add, against counting by hand."""

import numpy as np
import pytest

from evaluation import sweep
from evaluation.restart_curve import RestartCurve
from figures.restarts import panel
from tests.helpers.golden import golden

# Wrong before (0 of two), broken by restarts 0, 3 and 11, never.
FIRST = np.array([0, 0, 3, 11, -1])
CURVE = RestartCurve(FIRST, np.array([0, 5, 2, 1, 0]), 12, 10, True, 1, 2.0)


@pytest.mark.parametrize(("restarts", "left", "gradients"), [
    (1, 3, 10 * 4), (3, 3, 10 * (1 + 3 * 3)), (4, 2, 10 * (1 + 4 * 3)),
    (12, 1, 10 * (1 + 4 + 12 + 12))])
def test_accuracy_and_gradients(restarts, left, gradients):
    assert CURVE.accuracy(restarts).value == left / 5 and CURVE.left(restarts).sum() == left
    assert CURVE.gradients(restarts) == gradients


def test_without_dropping_every_restart_is_run():
    curve = RestartCurve(FIRST, np.array([12, 5, 2, 1, 0]), 12, 10, False, 1, 2.0)
    assert curve.gradients(12) == 10 * 12 * 5
    assert any(line.startswith("Mean accuracy over the restarts: 66.7 %") for line in curve.lines())


def test_lines_and_picture():
    lines = CURVE.lines()
    assert [line.split(":")[0] for line in lines[:3]] == [
        "After 1 restarts", "After 10 restarts", "After 12 restarts"]
    assert "1 images left, 290 gradients" in lines[2] and "1 images were wrong before" in lines[3]
    assert len(lines) == 4
    drawn = panel({"eps 0.3": CURVE})
    assert drawn.log_x and drawn.curves[0].x[-1] == 12 and drawn.curves[0].y[-1] == 20


def test_the_published_subset():
    class Ten:
        labels = np.zeros(10_000)

    ids = sweep.published_subset(Ten)
    np.testing.assert_array_equal(ids, golden("lp_subset")["ids"])
    assert ids.sum() == 4832440 and len(set(ids.tolist())) == 954

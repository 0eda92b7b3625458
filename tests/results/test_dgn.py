"""The runs of results/dgn.sh as data: what is collected comes back as the same tables."""

import numpy as np
import pytest

from errors import InputError
from evaluation import grid
from evaluation.success import share
from files import atomic, provenance
from results import dgn, report
from tests.helpers.script_runner import ROOT

TARGET = "dgn_mnist/mnist_mnist_5x30_CE"


def cell(count, n=10):
    """`count` of n right."""
    return grid.Cell(share(np.arange(n) < count))


@pytest.fixture
def work(tmp_path):
    """What results/dgn.sh leaves, of two networks and one loss."""
    rows = {"target": {"clean": cell(9), "nce": cell(1)}, "nce_gf": {"clean": cell(2), "nce": cell(10)}}
    folder = tmp_path / TARGET
    atomic.write_json(folder / "grid.json", grid.as_json(rows))
    provenance.write(folder, "grid", flags={"seed": 0}, metrics={})
    provenance.write(folder / "robust/nce_gf/train", "train", flags={"seed": 0}, metrics={})
    told = {"right": share(np.arange(10) < 1), "changed": share(np.arange(10) < 8),
            "success_on_right": share(np.arange(9) < 8), "eps": 0.3,
            "distances": {"l2": 5.0}, "distances_before_projection": {"l2": 12.0}}
    provenance.write(folder / "nce", "adv_test", flags={"seed": 0}, metrics=told)
    for label in range(2):
        atomic.write_json(folder / f"nce/class_{label}/generator.json", {
            "epochs": 30, "learning_rate": 1e-4, "batch_size": 100, "total_steps": 100 + label})
    return tmp_path


@pytest.fixture
def found(work):
    atomic.write_json(work / "dgn.json", dgn.collect(work))
    return dgn.load(work)


def test_the_grid_comes_back(found):
    assert set(found["runs"]) == {"grid", "nce_gf", "mnist_mnist_5x30_CE nce"}
    head, *rows = dgn.grid_rows(found)
    assert head == ["right, % of", "target", "nce_gf"]
    told = {name: cells for name, *cells in rows}
    assert told["clean"] == ["90.00", "20.00"] and told["nce"] == ["10.00", "100.00"]
    assert told["lrp"] == told["white-box pgd"] == ["not run"] * 2
    sentence, = dgn.leaks(found)
    assert sentence.startswith("nce_gf is right on 100.0 %")


def test_published_figures_stand_beside_ours(found):
    rows = {name: cells for name, *cells in dgn.published_rows(found)[1:]}
    assert rows["NCE"] == ["20.00", "not run (17.88)", "100.00 (99.94)", "not run (15.80)"]
    assert rows["LRP"] == ["not run", "not run (98.91)", "not run (30.77)", "not run (67.33)"]
    assert rows["CIFAR-10, SUSP"][1:] == [
        f"not run ({figure})" for figure in ("54.68", "49.64", "87.65")]


def test_what_was_made_is_told_with_its_training(found):
    assert dgn.source_rows(found)[1:] == [[
        "mnist_mnist_5x30_CE", "nce", "30 epochs of 2 classes, 201 steps at 0.0001", "10.00", "80.00",
        "5.00", "12.00"]]


def test_what_was_not_run_has_no_table(found):
    assert dgn.judged_rows(found) == dgn.speed_rows(found) == dgn.bar_rows(found) == []


def test_speed_and_bars(work):
    def figure(part, what, value, batch, *, low=None, high=None, **details):
        unit = "ms per image" if part == "table" else "x"
        return {"part": part, "what": what, "value": value, "unit": unit,
                "target": "mnist_5x30", "batch": batch, "at_least": low, "at_most": high,
                "details": details}

    atomic.write_json(work / "speed.json", {"figures": [
        figure("table", "DGN", 0.25, 1), figure("table", "FGSM", 1.5, 1, break_even_images=12345.6),
        figure("table", "FGSM", 0.5, 100, break_even_images="never"),
        figure("step", "ratio", 1.0, None, low=1.15), figure("step", "seconds", 1.0, None, high=2.0)]})
    found = dgn.collect(work)
    assert dgn.speed_rows(found) == [["target", "attack", "batch 1", "batch 100"],
                                     ["mnist_5x30", "DGN", "0.25", "not run"],
                                     ["mnist_5x30", "FGSM", "1.5 (12,346)", "0.5 (never)"]]
    assert dgn.bar_rows(found)[1:] == [["step: ratio", "1 x", "≥ 1.15", "falls short"],
                                       ["step: seconds", "1 x", "≤ 2", ""]]


def test_without_a_grid_nothing_is_collected(tmp_path):
    with pytest.raises(InputError, match=r"expected the grid of results/dgn.sh"):
        dgn.collect(tmp_path)
    assert dgn.load(tmp_path) == {}


def test_report_and_page_hold_what_is_in_the_data():
    found = dgn.load()
    assert found, "results/dgn.json"
    text = (ROOT / "results/REPORT.md").read_text(encoding="utf-8")
    for rows in (dgn.published_rows(found), dgn.grid_rows(found), dgn.source_rows(found)):
        for cells in rows[1:]:
            assert f"| {' | '.join(cells)} |" in text
    assert grid.CAUTION in text and report.grid.CAUTION in (
        ROOT / "results/index.html").read_text(encoding="utf-8")
    for path in dgn.PICTURES:
        assert (ROOT / "results" / path).is_file()

"""The runs of results/rmc.sh as data: what is collected comes back as the same table."""

import json
import subprocess
import sys

import numpy as np
import pytest

from errors import InputError
from evaluation import defended_table
from files import atomic
from files import rmc as rmc_files
from results import page, report, rmc
from tests.evaluation.test_defended_table import save_run
from tests.helpers.script_runner import ROOT


@pytest.fixture
def work(tmp_path):
    rmc_files.save(tmp_path / "rmc_mnist", [np.zeros((6, 4, 4, 1), np.uint8)], np.zeros(6, int),
                   {"num_train": 3})
    return tmp_path


def test_what_is_collected_draws_the_same_table(work):
    own = rmc_files.load(work / "rmc_mnist").sha256
    save_run(work / "pgd/reset_nearest", state="reset", augmented_set=own)
    found = rmc.collect(work)
    assert set(found["runs"]) == {"pgd/reset_nearest"}
    atomic.write_json(work / "rmc.json", found)
    loaded = rmc.load(work)
    runs = defended_table.find([work], own, lambda sentence: None)
    assert rmc.table_rows(loaded) == defended_table.format_rows(defended_table.lines(runs))


def test_without_evaluations_nothing_is_collected(work):
    with pytest.raises(InputError, match=r"expected evaluations of results/rmc.sh"):
        rmc.collect(work)
    assert rmc.load(work) == {"rows": [], "runs": {}}


def test_report_and_page_hold_what_is_in_the_data():
    found = rmc.load()
    assert found["rows"], "results/rmc.json"
    rows = rmc.table_rows(found)
    text = (ROOT / "results/REPORT.md").read_text(encoding="utf-8")
    html = (ROOT / "results/index.html").read_text(encoding="utf-8")
    for cells in rows[1:]:
        assert f"| {' | '.join(cells)} |" in text
    assert report.CAUTION in text and "Runtime masking and cleansing, beside its controls" in html
    assert page.CAUTION == report.CAUTION


def test_the_script_shows_its_steps(tmp_path):
    done = subprocess.run([sys.executable, "-m", "results.rmc", str(tmp_path / "none")], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "expected the folder of results/rmc.sh" in done.stderr


def test_every_share_is_a_count():
    for row in json.loads((ROOT / "results/rmc.json").read_text(encoding="utf-8"))["rows"]:
        for name in ("clean", "attacked", "reached"):
            if row[name]:
                value, low, high, n = row[name]
                assert 0 <= low <= value <= high <= 1 and abs(value * n - round(value * n)) < 1e-9

"""files/provenance.py: what a run record tells, and the files that are none."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from errors import InputError
from files import provenance

ROOT = Path(__file__).resolve().parents[2]


def test_run_record_round_trip(tmp_path):
    assert provenance.read(tmp_path, "test_adv") is None
    path = provenance.write(
        tmp_path, "test_adv", flags={"seed": 3, "eps": 0.1},
        metrics={"eps": np.array([0.1]), "accuracy": math.nan})
    assert path == tmp_path / "test_adv_run.json"
    record = provenance.read(tmp_path, "test_adv")
    assert record["flags"] == {"seed": 3, "eps": 0.1}
    assert record["metrics"] == {"eps": [0.1], "accuracy": None}
    assert record["seed"] == 3
    assert record["versions"]["numpy"] == np.__version__
    assert record["date"].endswith("+00:00")


def test_run_record_names_the_revision_of_the_code_not_of_the_working_directory(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    provenance.write(tmp_path, "x", flags={}, metrics={})
    revision = provenance.read(tmp_path, "x")["git_revision"]
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True,
                          text=True, check=False)
    expected = done.stdout.strip() if done.returncode == 0 else None
    assert (revision.removesuffix("-dirty") if revision else None) == expected


def test_revision_is_none_outside_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance._git_revision() is None
    monkeypatch.setenv("PATH", "")
    assert provenance._git_revision() is None


@pytest.mark.parametrize(("text", "message"), [("{", "expected JSON in "),
                                               ("[1]", "run record with flags and metrics")])
def test_a_broken_run_record_is_refused(tmp_path, text, message):
    (tmp_path / "x_run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        provenance.read(tmp_path, "x")

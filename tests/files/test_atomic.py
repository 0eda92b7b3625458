"""data/files.py: files are written whole or not at all."""

import csv
import json
import math

import numpy as np
import pytest

from files import atomic


def test_atomic_path_makes_the_folder_keeps_the_suffix_and_renames(tmp_path):
    path = tmp_path / "new" / "file.npz"
    with atomic.atomic_path(path) as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.parent == path.parent
        temporary.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_path_leaves_the_old_file_when_the_block_raises(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    with pytest.raises(KeyboardInterrupt), atomic.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_renames_instead_of_writing_into_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with open(path) as reader:
        with atomic.atomic_path(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_json_holds_numpy_values_and_no_nan(tmp_path):
    path = tmp_path / "x.json"
    atomic.write_json(path, {"a": np.float32(0.5), "b": [math.nan, -math.inf, np.int64(2)],
                            "c": np.array([[1.0, np.nan]]), 3: (True, None, "t"), "p": path})
    assert json.loads(path.read_text()) == {
        "a": 0.5, "b": [None, None, 2], "c": [[1.0, None]], "3": [True, None, "t"], "p": str(path)}


def test_csv_round_trip(tmp_path):
    atomic.write_csv(tmp_path / "x.csv", ["step", "note"], [[1, "a,b"], [2, "c"]])
    with open(tmp_path / "x.csv", newline="") as file:
        assert list(csv.reader(file)) == [["step", "note"], ["1", "a,b"], ["2", "c"]]

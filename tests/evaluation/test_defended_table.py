"""The table of a defender: its controls, what was not run as a command, shares against counts."""

import itertools
import shlex

import numpy as np
import pytest

from evaluation import defended_table
from evaluation.model_space import KINDS
from evaluation.success import share
from files import provenance
from files import rmc as rmc_files

SET = "a" * 64
COMMAND = ("python rmc.py --mode=eval --dataset=mnist --log_root m --rmc_state=sequential "
           "--rmc_from=fgsm --eps 0.3 --save_pwd=x --target=random --rmc_lr=1e-3")


def save_run(folder, *, state="sequential", neighbors="nearest", variant="pgd", right=3, n=4,
             streams=(0, 1), augmented_set=SET, calibrate="all", target=-1, index=0):
    """A finished evaluation of which `right` of n points of each stream are answered rightly."""
    numbers = np.repeat(streams, n)
    label = np.full(len(numbers), 5)
    points = {name: np.zeros(len(numbers), np.int64) for name in rmc_files.POINTS}
    predicted = np.where(np.tile(np.arange(n), len(streams)) < right, 5, 6)
    points |= {"stream": numbers, "label": label, "predicted": predicted, "webnn": label,
               "static": label - 1, "deepnn": label, "target": np.full(len(numbers), target),
               "image_index": index + np.tile(np.arange(n), len(streams)),
               "epochs_adapt": np.full(len(numbers), 7)}
    rmc_files.save_points(folder, points)
    afterwards = {"adv": {"n": 10, "clean": 9, "attacked": 8, "attacked_anew": 1}}
    provenance.write(folder, "rmc", flags={"rmc_rounds": 3}, metrics={
        "variant": variant, "afterwards": afterwards if state == "sequential" else {},
        "defense": {"state": state, "neighbors": neighbors, "calibrate": calibrate, "k": 20,
                    "epochs": 9, "augmented_set": augmented_set}})


@pytest.fixture(autouse=True)
def typed(monkeypatch):
    monkeypatch.setattr(provenance.sys, "argv", shlex.split(COMMAND)[1:])


def lines(root):
    return defended_table.lines(defended_table.find([root], SET, lambda sentence: None))


def test_a_run_stands_beside_its_controls(tmp_path):
    save_run(tmp_path / "a", right=3)
    found = lines(tmp_path)
    run, = (line for line in found if line.defender == "RMC" and not line.command)
    assert run[:6] == ("RMC", "sequential", "nearest", "pgd", 20, 9)
    assert run.clean == run.attacked == share(np.arange(4) < 3)
    assert run.epochs_run == 7 and run.reached is None
    assert run.afterwards["attacked_anew"] == share(np.arange(10) < 1)
    static, webnn, _ = (line for line in found if line.state == "frozen")
    assert (static.defender, static.attacked) == ("none", share(np.zeros(4, bool)))
    assert (webnn.defender, webnn.clean) == ("WebNN", share(np.ones(4, bool)))


def test_what_was_not_run_is_the_command_that_runs_it(tmp_path):
    save_run(tmp_path / "a")
    missing = {(line.state, line.neighbors, line.attack): line.command for line in lines(tmp_path)
               if line.command}
    assert set(missing) == {
        ("sequential", "random", "pgd"), ("reset", "nearest", "pgd"), ("reset", "random", "pgd"),
        *((state, "nearest", kind) for state in ("sequential", "reset") for kind in KINDS)}
    kept = "python rmc.py --dataset=mnist --log_root m --rmc_from=fgsm --eps 0.3 --target=random"
    assert missing["reset", "random", "pgd"] == (
        f"{kept} --rmc_lr=1e-3 --mode=eval --rmc_state=reset --rmc_neighbors=random")
    # Who knows the defender takes no images of others and has no target.
    assert missing["reset", "nearest", "fpa"] == (
        "python rmc.py --dataset=mnist --log_root m --eps 0.3 --rmc_lr=1e-3 --mode=eval "
        "--rmc_state=reset --rmc_neighbors=nearest --rmc_attack=fpa --rmc_stream=adv")


def test_nothing_is_missing_where_all_was_run(tmp_path):
    for number, (state, neighbors) in enumerate(itertools.product(
            ("sequential", "reset"), ("nearest", "random"))):
        save_run(tmp_path / str(number), state=state, neighbors=neighbors)
        for kind in KINDS:
            save_run(tmp_path / f"{number}{kind}", state=state, neighbors=neighbors, variant=kind)
    assert not any(line.command for line in lines(tmp_path))


def test_runs_with_another_augmented_set_are_left_out_and_told(tmp_path):
    save_run(tmp_path / "a")
    save_run(tmp_path / "b", augmented_set="b" * 64)
    told = []
    found = defended_table.find([tmp_path], SET, told.append)
    assert [run.folder.name for run in found] == ["a"]
    assert told == [f"1 evaluations with another augmented set are left out: {tmp_path / 'b'}."]


def test_targets_and_half_runs(tmp_path):
    save_run(tmp_path / "a", streams=(1,), target=6, right=1)
    run, = (line for line in lines(tmp_path) if line.defender == "RMC" and not line.command)
    assert run.clean is None and run.reached == share(np.arange(4) < 3)
    rows = defended_table.format_rows([run])
    assert rows[1][7] == "not run" and rows[1][8].startswith("25.0 % [")
    rows = defended_table.format_rows(lines(tmp_path))
    assert {len(row) for row in rows} == {len(defended_table.HEAD)}


def test_a_calibration_that_is_not_the_usual_is_told(tmp_path):
    save_run(tmp_path / "a", calibrate="clean")
    assert "nearest, calibration clean" in {line.neighbors for line in lines(tmp_path)}


def test_runs_of_the_same_points_stand_beside_each_other(tmp_path):
    save_run(tmp_path / "a", right=1)
    save_run(tmp_path / "b", state="reset", right=2)
    save_run(tmp_path / "c", neighbors="random", index=9)  # of other points
    found = defended_table.beside(tmp_path / "a", SET)
    assert list(found) == [0, 1]
    assert {name: int(right.sum()) for name, right in found[1].items()} == {
        "sequential nearest": 1, "reset nearest": 2, "WebNN": 4, "DeepNN": 4, "as trained": 0}
    assert next(iter(found[1])) == "sequential nearest"

"""Nothing is lost that this program did not write, on whatever way to it."""

import dataclasses
import json
import os

import numpy as np
import pytest

from errors import InputError
from files import (
    attack_results,
    checkpoints,
    detectors,
    judgements,
    provenance,
    result_files,
    training_log,
)
from files.names import IMAGE_GRID
from files.result_files import WRITTEN
from tests.files.test_checkpoints import RUN, resume_toy, save_toy, toy_variables

OTHER_RUN = dataclasses.replace(RUN, seed=5)


# --- Checkpoints ---

def test_unfinished_saves_are_cleared_by_the_names_of_their_files(tmp_path):
    killed, theirs = tmp_path / ".saving-a1b2c3d4", tmp_path / ".saving-for-later"
    (killed / "model.ckpt_temp").mkdir(parents=True)
    theirs.mkdir()
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001",
                 "model.ckpt_temp/part-00000.index"):
        (killed / name).write_text("half")
    (theirs / "thesis.tex").write_text("the only copy")
    checkpoints.Checkpoints(str(tmp_path), RUN, toy_variables(), {}).remove_unfinished()
    assert not killed.exists() and os.listdir(theirs) == ["thesis.tex"]


def test_an_older_checkpoint_of_another_run_is_never_deleted(tmp_path):
    save_toy(str(tmp_path), OTHER_RUN, step=1)
    save_toy(str(tmp_path), RUN, step=3)
    _, network, optimizer = resume_toy(str(tmp_path))
    store = checkpoints.Checkpoints(str(tmp_path), RUN, network, optimizer, keep=1)
    store.resume()
    store.save(4)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [
        "model.ckpt-1.index", "model.ckpt-4.index"]


def test_a_newer_checkpoint_of_another_run_is_not_written_over(tmp_path):
    save_toy(str(tmp_path), OTHER_RUN, step=6)
    save_toy(str(tmp_path), RUN, step=3)  # the one that the state file names
    with pytest.raises(InputError, match=r"of one run. Received: .*model.ckpt-6, of another"):
        resume_toy(str(tmp_path))
    save_toy(str(tmp_path / "own"), RUN, step=6)
    save_toy(str(tmp_path / "own"), RUN, step=3)
    assert resume_toy(str(tmp_path / "own"))[0] == 3


# --- Figures of a training ---

def _record(folder, log_root):
    provenance.write(folder, "train", flags={"log_root": log_root}, metrics={})


def _table(folder, begin="step,cost,learning_rate,test_precision\n1,2,3,\n"):
    os.makedirs(folder, exist_ok=True)
    (folder / "training.csv").write_text(begin)


FIGURES = {  # what lies in the folder → whether a fresh run, and one that goes on, may write there
    "nothing": (lambda t: None, True, True),
    "record of another": (lambda t: _record(t / "f", str(t / "a")), False, False),
    "record of its own, moved": (lambda t: _record(t / "f", "/elsewhere/b"), False, True),
    "own record": (lambda t: _record(t / "f", str(t / "b")), False, True),
    "table of nobody": (lambda t: _table(t / "f"), False, False),
    "own table": (
        lambda t: training_log.TrainingLog(str(t / "f"), 0, str(t / "b")).close(), True, True),
    "table of another": (
        lambda t: (os.mkdir(t / "a"),
                   training_log.TrainingLog(str(t / "f"), 0, str(t / "a")).close()), False, False),
    "table of another program": (lambda t: _table(t / "f", "image,label\nx.png,3\n"), False, False),
    "a link to a table elsewhere": (
        lambda t: (_table(t, "image,label\n"), os.mkdir(t / "f"),
                   os.symlink(t / "training.csv", t / "f/training.csv")), False, False),
}


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("case", FIGURES)
def test_figures_of_another_training(tmp_path, case, is_fresh):
    make, *may = FIGURES[case]
    (tmp_path / "b").mkdir()
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def look():
        training_log.refuse_others(str(tmp_path / "f"), str(tmp_path / "b"), fresh=is_fresh)

    if may[0 if is_fresh else 1]:
        look()
    else:
        with pytest.raises(InputError, match=r"train_dir must not hold .* Received: train_dir="):
            look()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_table_of_another_program_below_log_root_is_kept(tmp_path):
    _table(tmp_path / "b/data", "image,label\nx.png,3\n")
    with pytest.raises(InputError, match="of another program"):
        training_log.refuse_others(str(tmp_path / "b/data"), str(tmp_path / "b"), fresh=True)


# --- Results and answers ---

@pytest.mark.parametrize("name", [*WRITTEN, IMAGE_GRID])
def test_results_that_no_record_tells_of(tmp_path, name):
    (tmp_path / "parts").mkdir()  # of the user's, too
    (tmp_path / name).write_text("the only copy")
    with pytest.raises(InputError, match=f"give --overwrite=True .* Received: {name}"):
        attack_results.refuse_others(tmp_path, {"weights_sha256": "1"})
    attack_results.refuse_others(tmp_path, {"weights_sha256": "1"}, goes_on=True)
    provenance.write(tmp_path, "test_adv", flags={}, metrics={"network": {"weights_sha256": "1"}})
    attack_results.refuse_others(tmp_path, {"weights_sha256": "1"})


@pytest.mark.parametrize("content", ["", "the only copy", "image,label\n", "answer,image\n", "\0"])
def test_answers_replace_nothing_but_answers(tmp_path, content):
    path = tmp_path / "x.csv"
    judgements.refuse_others(path)
    path.write_text(content)
    with pytest.raises(InputError, match="answers must be a new file, or one of earlier answers"):
        judgements.refuse_others(path)
    path.write_text("image,answer,label,confidence\n")
    judgements.refuse_others(path)


def test_a_detector_replaces_nothing_but_a_detector(tmp_path):
    np.savez(tmp_path / "weights.npz", w=np.ones(3))
    (tmp_path / "notes.npz").write_text("the only copy")
    (tmp_path / "x.json").write_text(json.dumps({}))
    for name in ("weights.npz", "notes.npz", "x.json"):
        with pytest.raises(InputError):
            detectors.load(tmp_path / name)


@pytest.mark.parametrize("name", ["checkpoint", "model.ckpt-9.index"])
def test_a_fifo_among_checkpoints_is_not_waited_for(tmp_path, name):
    path = save_toy(str(tmp_path))
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert checkpoints.newest_whole(str(tmp_path)) == (path, ())


def test_files_of_restarts_that_replaced_results_had_are_removed(tmp_path):
    for name in (*result_files.RESTART_FILES, "restarts.txt"):
        (tmp_path / name).write_text("old")
    result_files.remove_restart_files(tmp_path, ["restarts.png", "restarts.csv"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "restarts.csv", "restarts.png", "restarts.txt"]
    result_files.remove_restart_files(tmp_path, ())
    assert [path.name for path in tmp_path.iterdir()] == ["restarts.txt"]

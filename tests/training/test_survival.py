"""Runs that survive: killed anywhere, damaged checkpoints, full disks, two at once, diverging loss."""

import dataclasses
import errno
import glob
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data import inputs
from errors import InputError, RunError
from files import checkpoints, run_lock
from training import loop as training_loop

ROOT = Path(__file__).resolve().parents[2]
RUN = checkpoints.TrainingRun(
    dataset="digits", image_shape=(8, 8, 1), num_classes=10, blocks_per_stage=1, objective="rce",
    optimizer="mom", batch_size=16, lr_boundaries=(4, 5), total_steps=6, seed=1)


# Killed anywhere, started again: the same bytes.

STEPS = 24
FLAGS = ("--dataset=digits", "--num_residual_units=1", "--RCE_train=True", "--batch_size=16",
         "--checkpoint_every=3", "--keep_checkpoints=2", "--steps_per_loop=2", "--lr_boundaries=12,20",
         f"--total_steps={STEPS}", "--deterministic=True")
# In the order of the restarts; a call is counted anew in each process.
KILLS = (("step", 2), ("write", 1), ("rename", 1), ("state", 2), ("rename", 5), ("delete", 1))


def start_training(log_root, *before):
    """Runs train.py, or what `before` names, to its end; returns the finished process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [sys.executable, *(before or (str(ROOT / "train.py"),)), f"--log_root={log_root}", *FLAGS],
        env=environment, capture_output=True, text=True, timeout=120)


def start_killed(log_root, point, count):
    killed = str(ROOT / "tests" / "helpers" / "killed_training.py")
    done = start_training(log_root, killed, point, str(count))
    assert done.returncode == -9, done.stderr
    return done


def stored(log_root):
    """Name → array of everything in the newest checkpoint."""
    reader = tf.train.load_checkpoint(checkpoints.latest(str(log_root)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
            if "OBJECT_GRAPH" not in name}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    log_root = tmp_path_factory.mktemp("uninterrupted") / "run"
    done = start_training(log_root)
    assert done.returncode == 0, done.stderr
    return log_root


def assert_same_run(log_root, uninterrupted):
    """The same checkpoints, bytes of weights, slots and record, and the same CSV."""
    ours, expected = stored(log_root), stored(uninterrupted)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    names = [{path.name for path in Path(folder).iterdir()} for folder in (log_root, uninterrupted)]
    assert names[0] == names[1]
    rows = [(Path(folder) / "train" / "training.csv").read_text()
            for folder in (log_root, uninterrupted)]
    assert rows[0] == rows[1]


# All of them take nine processes; two hurt most, between the files of a checkpoint and behind them.
@pytest.mark.parametrize("kills", [KILLS[2:4], pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(tmp_path, uninterrupted, kills):
    log_root = tmp_path / "run"
    for point, count in kills:
        start_killed(log_root, point, count)
    last = start_training(log_root)
    assert last.returncode == 0, last.stderr
    assert "Resuming at step" in last.stdout
    assert "warning: Taken over from process" in last.stderr
    assert_same_run(log_root, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_random_ends_with_the_same_bytes(tmp_path, uninterrupted, seed):
    draw = random.Random(seed)
    log_root = tmp_path / "run"
    for _ in range(4):
        start_killed(log_root, draw.choice(("write", "rename", "step")), draw.randint(1, 3))
    assert start_training(log_root).returncode == 0
    assert_same_run(log_root, uninterrupted)


# Damaged checkpoints.


def variables(value):
    return {"init/init_conv/kernel": tf.Variable(np.full((3, 4), value, np.float32)),
            "logit/bias": tf.Variable(np.full(7, value + 0.5, np.float32))}


def save_steps(log_root, *steps, keep=5):
    """Checkpoints whose values are their steps."""
    for step in steps:
        store = checkpoints.Checkpoints(str(log_root), RUN, variables(step), {}, keep=keep)
        store.resume()
        for variable, value in zip(store._variables.values(), variables(step).values(), strict=True):
            variable.assign(value)
        path = store.save(step)
    return path


def resume(log_root):
    network = variables(-1.0)
    resumed = checkpoints.Checkpoints(str(log_root), RUN, network, {}).resume()
    return resumed, float(network["logit/bias"][0])


def flip_bit(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 16]))


def data_file(path):
    name, = glob.glob(f"{path}.data-*")
    return name


DAMAGES = {
    "cut data": lambda path: os.truncate(data_file(path), os.path.getsize(data_file(path)) // 2),
    "cut index": lambda path: os.truncate(f"{path}.index", 30),
    "empty": lambda path: os.truncate(data_file(path), 0),
    "no index": lambda path: os.remove(f"{path}.index"),
    "no data": lambda path: os.remove(data_file(path)),
    "bit in data": lambda path: flip_bit(data_file(path), os.path.getsize(data_file(path)) // 3),
    "bit in index": lambda path: flip_bit(f"{path}.index", 40),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_used(tmp_path, damage):
    newest = save_steps(tmp_path, 3, 6, 9)
    DAMAGES[damage](newest)
    resumed, value = resume(tmp_path)
    assert (resumed.step, value) == (6, 6.5)
    sentence, = resumed.damaged
    assert newest in sentence and "expected a whole checkpoint" in sentence and "\n" not in sentence


@pytest.mark.parametrize("damage", DAMAGES)
def test_with_all_checkpoints_damaged_nothing_is_touched(tmp_path, damage):
    save_steps(tmp_path, 3, 6)
    for step in (3, 6):
        DAMAGES[damage](f"{tmp_path}/model.ckpt-{step}")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(checkpoints.DamagedCheckpoint, match=r"whole checkpoint.*model\.ckpt-6"):
        resume(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_every_flipped_byte_of_a_checkpoint_is_noticed_or_harmless(tmp_path):
    path = save_steps(tmp_path / "whole", 3)
    expected = stored(tmp_path / "whole")
    for file in (f"{path}.index", data_file(path)):
        size = os.path.getsize(file)
        for position in range(0, size, max(1, size // 150)):
            shutil.rmtree(tmp_path / "flipped", ignore_errors=True)
            shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
            flip_bit(tmp_path / "flipped" / Path(file).name, position)
            try:
                resumed, _ = resume(tmp_path / "flipped")
            except InputError:
                continue
            assert resumed.step == 3
            for name, value in stored(tmp_path / "flipped").items():
                np.testing.assert_array_equal(value, expected[name], err_msg=f"{file}:{position}")


def test_the_next_save_replaces_the_damaged_one_and_keeps_the_good(tmp_path):
    newest = save_steps(tmp_path, 3, 6)
    DAMAGES["bit in data"](newest)
    save_steps(tmp_path, 6, keep=2)
    assert resume(tmp_path)[0][::2] == (6, ())
    assert checkpoints.read_record(f"{tmp_path}/model.ckpt-3")[1] == 3


@pytest.mark.parametrize("state", ["", "nonsense", 'model_checkpoint_path: "model.ckpt-99"\n'])
def test_without_a_good_state_file_the_newest_step_counts(tmp_path, state):
    save_steps(tmp_path, 9, 10)
    (tmp_path / "checkpoint").write_text(state)
    assert resume(tmp_path)[0].step == 10


def test_a_first_save_that_was_cut_short_is_none(tmp_path):
    path = save_steps(tmp_path, 3)
    os.remove(f"{path}.index")
    os.remove(tmp_path / "checkpoint")
    assert resume(tmp_path)[0] == (0, None, ())


def test_a_moved_folder_is_read(tmp_path):
    save_steps(tmp_path / "here", 3)
    state = tmp_path / "here" / "checkpoint"
    state.write_text(state.read_text().replace('"model', f'"{tmp_path}/here/model'))
    os.rename(tmp_path / "here", tmp_path / "there")
    assert resume(tmp_path / "there")[0].step == 3


def test_tensorflow_finds_the_newest(tmp_path):
    assert save_steps(tmp_path, 9, 10) == tf.train.latest_checkpoint(str(tmp_path))


def test_what_is_not_ours_is_never_deleted(tmp_path):
    save_steps(tmp_path, 3)
    foreign = tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "model.ckpt-1"))
    save_steps(tmp_path, 6, 9, keep=1)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [
        f"{Path(foreign).name}.index", "model.ckpt-9.index"]


# A disk that is full, or lies.


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_tensorflow(*_, **__):
    raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")


def write_noise(path):
    path = Path(path)
    for file in path.parent.glob(f"{path.name}.data-*"):
        os.truncate(file, 5)


@pytest.mark.parametrize(("name", "fault"), [
    ("tensorflow.train.Checkpoint.write", refuse_tensorflow),
    ("os.replace", no_space), ("os.fsync", no_space), ("tempfile.mkdtemp", no_space)])
@pytest.mark.parametrize("keep", [1, 5])
def test_a_full_disk_stops_the_run_and_leaves_the_checkpoints(tmp_path, monkeypatch, name, fault,
                                                              keep):
    older = save_steps(tmp_path, 3, keep=keep)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    store = checkpoints.Checkpoints(str(tmp_path), RUN, variables(6.0), {}, keep=keep)
    store.resume()
    monkeypatch.setattr(name, fault)
    with pytest.raises(RunError) as error:
        store.save(6)
    monkeypatch.undo()
    assert f"could not save step 6 in {tmp_path}" in str(error.value)
    assert "No space left on device" in str(error.value)
    assert f"The last good checkpoint is {older}." in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert resume(tmp_path)[0].step == 3


def test_what_cannot_be_read_back_replaces_nothing(tmp_path, monkeypatch):
    save_steps(tmp_path, 3, keep=1)
    write = tf.train.Checkpoint.write

    def write_badly(self, path):
        written = write(self, path)
        write_noise(written)
        return written

    monkeypatch.setattr(tf.train.Checkpoint, "write", write_badly)
    with pytest.raises(RunError, match="could not save step 6"):
        save_steps(tmp_path, 6, keep=1)
    assert resume(tmp_path)[0].step == 3


def test_a_full_disk_ends_the_script_with_one_line(tmp_path, monkeypatch, cpu, digits):
    monkeypatch.setattr(tf.train.Checkpoint, "write", refuse_tensorflow)
    with pytest.raises(RunError, match=r"could not save step 2 .*There is no checkpoint yet\."):
        training_loop.train(RUN, cpu, digits, None, training_loop.Options(
            str(tmp_path), str(tmp_path / "train"), checkpoint_every=2))
    assert not list(tmp_path.glob("*.lock")) and not list(tmp_path.glob(".saving*"))


# Two runs in one folder.


def test_a_second_run_is_refused(tmp_path):
    with run_lock.hold(str(tmp_path)) as line:
        assert line is None
        with (pytest.raises(InputError, match="which is running") as error,
              run_lock.hold(str(tmp_path))):
            pass
        assert f"process {os.getpid()} on host" in str(error.value)
        assert (tmp_path / "train.lock").exists()
    assert not (tmp_path / "train.lock").exists()


def leave_lock(folder, **changes):
    with run_lock.hold(str(folder)):
        holder = json.loads((folder / "train.lock").read_text())
    (folder / "train.lock").write_text(json.dumps(holder | changes))


def test_the_lock_of_a_dead_run_of_this_host_is_taken_over(tmp_path):
    # The number of a living process: a recycled one must not deceive.
    leave_lock(tmp_path, pid=os.getppid())
    with run_lock.hold(str(tmp_path)) as line:
        assert line.startswith(f"Taken over from process {os.getppid()} on host")
        assert json.loads((tmp_path / "train.lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1, "started": "x"}', "{", "[]"])
def test_the_lock_of_another_host_is_respected(tmp_path, content):
    (tmp_path / "train.lock").write_text(content)
    with pytest.raises(InputError) as error, run_lock.hold(str(tmp_path)):
        pass
    host = "elsewhere" if "elsewhere" in content else "unknown"
    assert f"delete {tmp_path}/train.lock if the one of host {host} is dead" in str(error.value)
    assert (tmp_path / "train.lock").read_text() == content


@pytest.mark.parametrize("another", [None, "another run's"])
def test_a_lock_that_was_deleted_by_hand_ends_no_run(tmp_path, another):
    lock = tmp_path / "train.lock"
    with run_lock.hold(str(tmp_path)):
        lock.unlink()
        if another:
            lock.write_text(another)
    assert (lock.read_text() if lock.exists() else None) == another


def test_train_holds_the_lock(tmp_path, cpu, digits):
    with run_lock.hold(str(tmp_path)), pytest.raises(InputError, match="which is running"):
        training_loop.train(RUN, cpu, digits, None, training_loop.Options(
            str(tmp_path), str(tmp_path / "train")))
    assert not list(tmp_path.iterdir())


# A loss that is not finite, or explodes.


@pytest.fixture(scope="module")
def digits():
    image_set = inputs.load("digits", "", "train")
    return dataclasses.replace(image_set, images=image_set.images[:64], labels=image_set.labels[:64])


def train_with_loss(tmp_path, cpu, digits, monkeypatch, factor_of_step):
    """Trains with the loss of every step multiplied by `factor_of_step`, a tensor function."""
    built = training_loop._build

    def build(run, strategy):
        network, optimizer = built(run, strategy)
        loss = network.head.loss
        changed = dataclasses.replace(network.head, loss=lambda labels, logits: (
            loss(labels, logits) * factor_of_step(optimizer.iterations)))
        return dataclasses.replace(network, head=changed), optimizer

    monkeypatch.setattr(training_loop, "_build", build)
    with pytest.raises(RunError) as error:
        training_loop.train(RUN, cpu, digits, None, training_loop.Options(
            str(tmp_path), str(tmp_path / "train"), checkpoint_every=2))
    return str(error.value)


@pytest.mark.parametrize(("bad", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (1e9, "e+09")])
def test_a_bad_loss_stops_the_run_with_its_step(tmp_path, cpu, digits, monkeypatch, bad, shown):
    message = train_with_loss(tmp_path, cpu, digits, monkeypatch, lambda step: tf.where(
        tf.cast(step, tf.int32) == 4, tf.constant(bad, tf.float32), 1.0))
    assert "the training has diverged: the loss of step 5 is" in message and shown in message
    assert f"The last good checkpoint is {tmp_path}/model.ckpt-4." in message
    assert resume_step(tmp_path) == 4


def resume_step(log_root):
    return checkpoints.step_of(checkpoints.require_whole(str(log_root), print))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    older = save_steps(tmp_path, 3)
    with pytest.raises(RunError, match=r"logit/bias is not finite at step 6.*model\.ckpt-3\.") as error:
        save_nan(tmp_path)
    assert older in str(error.value)
    assert resume(tmp_path)[0].step == 3


def save_nan(log_root):
    network = variables(0.0)
    store = checkpoints.Checkpoints(str(log_root), RUN, network, {})
    store.resume()
    network["logit/bias"].assign(np.full(7, np.nan, np.float32))
    store.save(6)

"""Several hosts: TF_CONFIG, and two real processes on the loopback interface."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from errors import InputError
from files import checkpoints
from tests.helpers import script_runner
from training import cluster

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40
FLAGS = ("--dataset=digits", "--num_residual_units=1", "--RCE_train=True", "--batch_size=16",
         "--lr_boundaries=20,30", "--checkpoint_every=4", "--steps_per_loop=2",
         f"--total_steps={STEPS}")


def tf_config(addresses, index, task="worker"):
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": task, "index": index}})


# What TF_CONFIG says.


@pytest.mark.parametrize(("text", "several"), [
    ("", False), ("  ", False), (tf_config(["a:1"], 0), False), (tf_config(["a:1", "b:1"], 1), True),
    ('{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}', True),
    ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": "1"}}', True),
])
def test_a_cluster_has_several_workers(monkeypatch, text, several):
    monkeypatch.setenv("TF_CONFIG", text)
    assert cluster.is_configured() is several


@pytest.mark.parametrize("text", [
    "{", "[]", "{}", "7", '{"cluster": {"worker": ["a:1", "b:1"]}}',
    tf_config(["a:1", "b:1"], 2), tf_config(["a:1", "b:1"], 0, task="chief"),
    tf_config(["a:1", "a:1"], 0), tf_config([], 0), tf_config(["a:1", "b:1"], -1),
    '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}'])
def test_a_bad_tf_config_is_refused_in_one_sentence(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG must be JSON like") as error:
        cluster.is_configured()
    assert f"Received: TF_CONFIG={text!r}." in str(error.value)


def test_train_refuses_a_bad_tf_config(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", "{")
    result = script_runner.run("train", *FLAGS, "--log_root=run", cwd=tmp_path)
    assert result.code == 1 and result.err.startswith("error: TF_CONFIG must be")
    assert not list(tmp_path.iterdir())


def test_a_negative_number_of_gpus_is_refused():
    with pytest.raises(InputError, match="num_gpus must lie between 0 and"):
        cluster.make_strategy(-1)


def test_cpu_replicas_are_refused_in_a_cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", tf_config(["a:1", "b:1"], 0))
    result = script_runner.run("train", *FLAGS, "--log_root=run", "--num_cpu_replicas=2", cwd=tmp_path)
    assert result.code == 1 and "num_cpu_replicas must be 1 where TF_CONFIG" in result.err


def test_one_worker_agrees_with_itself(cpu):
    workers = cluster.Workers(cpu)
    assert workers.is_chief
    assert (workers.any(15), workers.any(0)) == (True, False)
    workers.check_same(3, "anything")
    with pytest.raises(tf.errors.UnavailableError), workers.loss_reported("nowhere"):
        raise tf.errors.UnavailableError(None, None, "not of a cluster")


# Two processes.


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Pair:
    """Two workers in one log_root."""

    def __init__(self, log_root, *flags_):
        self.addresses = [f"localhost:{port}" for port in free_ports(2)]
        self.log_root = Path(log_root)
        self.processes = [self._start(index, flags_) for index in (0, 1)]

    def _start(self, index, flags_):
        environment = {**os.environ, "TF_CONFIG": tf_config(self.addresses, index),
                       "CUDA_VISIBLE_DEVICES": "-1"}
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *FLAGS, f"--log_root={self.log_root}", *flags_],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for_a_checkpoint(self, after=0):
        deadline = time.monotonic() + 120
        while checkpoints.latest(str(self.log_root)) is None or checkpoints.step_of(
                checkpoints.latest(str(self.log_root))) <= after:
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in self.processes), self.ends()
            time.sleep(0.05)

    def ends(self):
        """(exit code, standard output, standard error) of both."""
        done = [(p, *p.communicate(timeout=120)) for p in self.processes]
        return [(p.returncode, out, err) for p, out, err in done]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The same run on two logical CPUs of one process; one of its own, since TensorFlow takes the
    collective operations of two strategies in a process for the same."""
    folder = tmp_path_factory.mktemp("one_process")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *FLAGS, "--log_root=run", "--num_cpu_replicas=2"],
        cwd=folder, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True,
        timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def arrays(log_root):
    reader = tf.train.load_checkpoint(checkpoints.latest(str(log_root)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
            if "OBJECT_GRAPH" not in name}


def rows_of(log_root):
    return np.genfromtxt(log_root / "train" / "training.csv", delimiter=",", skip_header=1)


def test_two_hosts_stopped_killed_and_started_again_train_as_one_process(tmp_path, one_process):
    log_root = tmp_path / "run"
    # A signal to one host stops both in order.
    pair = Pair(log_root)
    pair.wait_for_a_checkpoint()
    pair.processes[1].send_signal(signal.SIGTERM)
    (chief, out, err), (worker, _, _) = pair.ends()
    assert (chief, worker) == (143, 143), err
    assert "Stopped by a signal to another host" in out
    stopped_at = checkpoints.step_of(checkpoints.latest(str(log_root)))
    assert 4 <= stopped_at < STEPS
    # A host that dies ends the other, with a message that names both.
    pair = Pair(log_root)
    pair.wait_for_a_checkpoint(after=stopped_at)
    pair.processes[0].kill()
    died = time.monotonic()
    _, (worker, _, err) = pair.ends()
    assert time.monotonic() - died < 60
    assert worker == 1
    message = err.strip().splitlines()[-1]
    assert message.startswith("error: ") and "was lost. The same command on every host" in message
    assert f"goes on from {log_root}/model.ckpt-" in message
    # And the cluster goes on.
    pair = Pair(log_root)
    for code, _, err in pair.ends():
        assert code == 0, err
    ours, expected = arrays(log_root), arrays(one_process)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    # Only the chief writes: what one process leaves, and nothing else.
    assert {path.name for path in log_root.iterdir()} == {path.name for path in one_process.iterdir()}
    # The printed loss is added up in another order: its last bit may differ.
    np.testing.assert_allclose(rows_of(log_root), rows_of(one_process), rtol=1e-6)


@pytest.mark.slow
def test_two_hosts_without_a_shared_folder_are_told(tmp_path):
    pair = Pair.__new__(Pair)
    pair.addresses = [f"localhost:{port}" for port in free_ports(2)]
    pair.log_root = tmp_path / "here"
    # Only this host has the checkpoint.
    result = script_runner.run("train", *FLAGS[:-1], "--total_steps=4", f"--log_root={pair.log_root}",
                               cwd=tmp_path)
    assert result.code == 0, result.err
    first = pair._start(0, ())
    pair.log_root = tmp_path / "there"
    pair.processes = [first, pair._start(1, ())]
    ends = pair.ends()
    assert all(code == 1 for code, _, _ in ends)
    assert any("expected that every host sees the step of the newest checkpoint" in err
               for _, _, err in ends)

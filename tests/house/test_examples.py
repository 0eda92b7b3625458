"""The examples run: clusters' with stubs in place of a cluster, the one in Python as it stands."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from tests.helpers import script_runner
from tests.helpers.script_runner import ROOT
from training import cluster

SLURM = ROOT / "examples/slurm_train.sbatch"
KUBERNETES = ROOT / "examples/kubernetes_train.yaml"

# Programs in place of Slurm's and of Python; what they are given is appended to `calls`.
STUBS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node1\\nnode2\\nnode7\\n"; '
                'else echo "scontrol $*" >> "$HERE/calls"; fi',
    "scancel": 'echo "scancel $*" >> "$HERE/calls"',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\n'
            'for SLURM_PROCID in 0 1 2; do export SLURM_PROCID; "$@"; done\n'
            '[ -z "${OUT_OF_TIME:-}" ] || { kill -USR1 "$PPID"; sleep 1; exit 143; }',
    "python": 'echo "$TF_CONFIG" | tr -d "\\n" >> "$HERE/configs"; echo >> "$HERE/configs"\n'
              'echo "python $*" >> "$HERE/calls"',
}


@pytest.fixture
def shell(tmp_path):
    """Runs bash with the stubs in front of PATH; returns its exit code, the TF_CONFIGs and calls."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def run(*arguments, **environment):
        variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HERE": str(tmp_path),
                                  "PYTHON": str(tmp_path / "python")} | environment
        done = subprocess.run(["bash", *map(str, arguments)], env=variables, cwd=ROOT,
                              capture_output=True, text=True, timeout=60)
        configs = (tmp_path / "configs").read_text().splitlines()
        return done.returncode, configs, (tmp_path / "calls").read_text().splitlines()

    return run


def _check(text, index, workers, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert cluster.is_configured()
    assert json.loads(text) == {"cluster": {"worker": workers},
                                "task": {"type": "worker", "index": index}}


def test_slurm_numbers_the_workers(shell, monkeypatch):
    code, configs, calls = shell(SLURM, "--log_root=a b", SLURM_JOB_ID="16005",
                                 SLURM_JOB_NODELIST="node[1-2,7]")
    assert code == 0
    workers = [f"{host}:12005" for host in ("node1", "node2", "node7")]
    for index, text in enumerate(configs):
        _check(text, index, workers, monkeypatch)
    assert calls == ["python train.py --log_root=a b"] * 3


def test_slurm_stops_the_workers_and_comes_again_when_time_runs_out(shell):
    code, _, calls = shell(SLURM, SLURM_JOB_ID="7", SLURM_JOB_NODELIST="node[1-2,7]", OUT_OF_TIME="1")
    assert (code, calls[-2:]) == (143, ["scancel --signal=TERM 7", "scontrol requeue 7"])


def test_kubernetes_numbers_the_workers(shell, monkeypatch):
    _, _, block = KUBERNETES.read_text(encoding="utf-8").partition("args:\n            - |\n")
    snippet = textwrap.dedent(block[:block.index("          resources:")])
    for index in (0, 1):
        code, configs, calls = shell("-c", snippet, WORKERS="2", JOB_COMPLETION_INDEX=str(index))
        assert code == 0
        _check(configs[index], index, ["rce-train-0.rce-train:2222", "rce-train-1.rce-train:2222"],
               monkeypatch)
    for call in calls:
        program, script, *arguments = call.split()
        assert (program, script) == ("python", "train.py")
        assert script_runner.parse("train", *arguments) == ["train.py"]


def test_a_network_of_ones_own():
    script = ROOT / "examples/keras_network.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 42
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True,
                          timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    told, *lines = done.stdout.splitlines()
    assert told.startswith("images (8, 8, 1) of pixels in 0..1, logits [n, 10]")
    wrong = {line.split(":")[0]: int(re.search(r": (\d+) of 100 wrong", line)[1]) for line in lines}
    assert list(wrong) == ["normal", "PGD", "C&W"]
    assert wrong["normal"] < min(wrong["PGD"], wrong["C&W"])
    assert all("NOT SURE" in line for line in lines[1:])

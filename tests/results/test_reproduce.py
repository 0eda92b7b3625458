"""results/reproduce.sh: its commands parse, finished steps stay, a killed one is begun again."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.helpers import script_runner

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "results" / "reproduce.sh")


def run(*arguments, cwd, **environment):
    return subprocess.run(["bash", SCRIPT, *arguments], cwd=cwd, env=os.environ | environment,
                          capture_output=True, text=True, timeout=60)


def _commands(listed):
    """Lines of --list but those of networks that were trained elsewhere."""
    return [line for line in listed.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("settings", ["floor", "paper"])
def test_every_command_parses(tmp_path, settings):
    done = run("--list", cwd=tmp_path, SETTINGS=settings)
    assert done.returncode == 0, done.stderr
    lines = _commands(done.stdout)
    assert len(set(lines)) == len(lines)
    commands = [shlex.split(line, comments=True) for line in lines]
    assert {command[0] for command in commands} == {
        "train.py", "test_nor.py", "test_adv.py", "others.py", "detect.py"}
    for script, *flags in commands:
        assert script_runner.parse(script.removesuffix(".py"), *flags) == [f"{script}"]
    assert not list(tmp_path.iterdir())


def test_unknown_settings_are_refused(tmp_path):
    done = run(cwd=tmp_path, SETTINGS="quick")
    assert done.returncode == 1
    assert done.stderr == "error: SETTINGS must be floor or paper. Received: SETTINGS=quick.\n"


def test_a_killed_step_is_begun_again_and_finished_ones_stay(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\necho "$(basename "$1")" >> "$LOG"\n'
                      '[[ $(wc -l < "$LOG") -ne 5 ]]\n')
    python.chmod(0o755)
    log = tmp_path / "log"
    environment = {"PYTHON": "./python", "LOG": str(log), "WORK": "work"}
    assert run(cwd=tmp_path, **environment).returncode == 1
    assert len(log.read_text().split()) == 5
    assert run(cwd=tmp_path, **environment).returncode == 0
    expected = [line.split()[0] for line in _commands(run("--list", cwd=tmp_path).stdout)]
    made = log.read_text().split()
    assert made == expected[:5] + expected[4:]
    assert run(cwd=tmp_path, **environment).returncode == 0
    assert log.read_text().split() == made


def test_a_folder_of_other_settings_is_refused(tmp_path):
    """Kernels and detectors there are of networks that these settings would train further."""
    environment = {"PYTHON": "true", "WORK": "work"}
    assert run(cwd=tmp_path, **environment).returncode == 0
    done = run(cwd=tmp_path, SETTINGS="paper", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("error: SETTINGS must be floor in WORK=work, or WORK another folder. "
                           "Received: SETTINGS=paper.\n")


def test_the_published_numbers_are_complete():
    published = json.loads((ROOT / "results" / "published.json").read_text())
    aucs = published["auc_percent_v4_resnet32"]
    assert aucs["columns"] == ["confidence", "non_me", "k_density"]
    for dataset in ("mnist", "cifar10"):
        for attack in ("fgsm", "bim", "tgsm", "jsma", "carliniL2", "carliniL2_highcon"):
            assert all(len(aucs[dataset][attack][objective]) == 3 for objective in ("ce", "rce"))

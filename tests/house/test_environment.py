"""environment.py: what is read when TensorFlow is loaded, and what is not shown of it."""

import os
import subprocess
import sys

import environment

import pytest

from tests.helpers.script_runner import ROOT

LINES = {"noise": b"I0000 00:00:1 1 port.cc:153] oneDNN custom operations are on. You may see\n",
         "news": b"W0000 00:00:1 1 cuda.cc:1] the driver is older than the card\n"}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module that writes LINES to file descriptor 2 and then does what it is told."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, then=""):
        (tmp_path / f"{name}.py").write_text(
            f"import os\nfor line in {list(LINES.values())}:\n    os.write(2, line)\n{then}\n")
        return name

    return make


def test_known_lines_of_an_import_are_dropped_and_others_shown(module, capfd):
    environment.import_quietly(module("noisy"))
    os.write(2, b"later\n")
    assert capfd.readouterr().err == LINES["news"].decode() + "later\n"


def test_everything_is_shown_where_the_import_fails(module, capfd):
    with pytest.raises(ValueError, match="no"):
        environment.import_quietly(module("failing", "raise ValueError('no')"))
    os.write(2, b"later\n")
    assert capfd.readouterr().err == b"".join(LINES.values()).decode() + "later\n"


@pytest.mark.parametrize("script", ["test_adv", "detect"])
def test_a_refusal_is_the_only_line(script, tmp_path):
    arguments = {"test_adv": ["--dataset=digits", "--mode=attack", "--log_root=nowhere"],
                 "detect": ["--dataset=digits", "--mode=fit"]}[script]
    done = subprocess.run([sys.executable, str(ROOT / f"{script}.py"), *arguments], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr

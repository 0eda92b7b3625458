"""What the variables, the home folder, the streams of whoever starts a script change: nothing."""

import json
import os
import subprocess
import sys

import environment

import numpy as np
import pytest

from errors import InputError
from files import attack_parts
from tests.helpers.script_runner import ROOT

# Prints what of ours and of the libraries could have been changed.
ASK = """
import environment, json
environment.open_streams()
environment.import_quietly("tensorflow")
environment.import_quietly("matplotlib")
import keras, matplotlib
print(json.dumps([keras.backend.backend(), keras.config.floatx(), keras.config.image_data_format(),
                  keras.config.epsilon(), matplotlib.get_backend(), matplotlib.rcParams["font.size"]]))
"""


@pytest.fixture
def hostile_home(tmp_path):
    """A home folder and a current folder with settings of other programs."""
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(json.dumps({
        "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1, "backend": "jax"}))
    (tmp_path / ".config/matplotlib").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / ".config/matplotlib"):
        (folder / "matplotlibrc").write_bytes(b"font.size: 30\nno such key: 1\n\xff\xfe")
    return tmp_path


def python(code, folder, **variables):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
                          timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)} | variables)


def test_settings_of_other_programs_change_nothing(hostile_home):
    home = str(hostile_home)
    done = python(ASK, hostile_home, HOME=home, KERAS_HOME=f"{home}/.keras", KERAS_BACKEND="torch",
                  MPLBACKEND="module://matplotlib_inline.backend_inline",
                  MATPLOTLIBRC=f"{home}/matplotlibrc", TMPDIR="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["tensorflow", "float32", "channels_last", 1e-7, "agg", 10.0]
    assert done.stderr == ""
    assert sorted(path.name for path in (hostile_home / ".keras").iterdir()) == ["keras.json"]


@pytest.mark.parametrize(("name", "value", "refused"), [
    ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2", True),
    ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", True),
    ("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit --tf_xla_auto_jit=fusible", True),
    ("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/usr/lib/cuda", False), ("TF_XLA_FLAGS", "", False)])
def test_variables_that_would_change_results_are_refused(monkeypatch, name, value, refused):
    monkeypatch.setenv(name, value)
    if refused:
        with pytest.raises(InputError, match=f"in the variable {name}, which changes results"):
            environment.refuse_variables()
    else:
        environment.refuse_variables()


@pytest.mark.parametrize(("value", "found"), [
    ("1", 1), ("7", 7), ("0", None), ("", None), ("many", None), ("-2", None)])
def test_threads_are_those_of_tensorflow(monkeypatch, value, found):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", value)
    assert environment.num_threads() == (found or len(os.sched_getaffinity(0)))


def test_parts_of_another_number_of_threads_are_refused(monkeypatch, tmp_path):
    name = "round00_image000000"
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    attack_parts.Parts(tmp_path, {"attack_method": "fgsm"}).save(name, {"x": np.arange(3)})
    assert list(attack_parts.Parts(tmp_path, {"attack_method": "fgsm"}).load(name)) == ["x"]
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    parts = attack_parts.Parts(tmp_path, {"attack_method": "fgsm"})
    with pytest.raises(InputError, match=r"3 threads.*TF_NUM_INTRAOP_THREADS=3.* Received: 1 threads"):
        parts.load(name)
    assert not attack_parts.Parts(tmp_path, {"attack_method": "fgsm"}, overwrite=True).names()


STREAMS = (">&-", "2>&-", ">&- 2>&-", "<&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1")


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize(("arguments", "code"), [("--help", 0), ("--dataset=digits", 1)])
def test_streams_that_take_nothing_end_in_order(tmp_path, streams, arguments, code):
    """--help prints; without results detect.py refuses."""
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} {ROOT}/detect.py {arguments} {streams}"], cwd=tmp_path,
        capture_output=True, text=True, timeout=60)
    full = code == 0 and ">/dev/full" in streams and not streams.startswith("2")
    assert done.returncode == (1 if full else code)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.stderr.count("\n") <= 1
    assert not list(tmp_path.iterdir())

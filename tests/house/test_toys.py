"""One of each kind is added to a copy of the project by the files named here, and runs."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.script_runner import ROOT

# File of the project → what is appended; a file that is not there is new.
ATTACK = {
    "attacks/add_constant.py": '''"""Adds a constant."""

import tensorflow as tf


def add_constant(x, *, eps, shift=0.5, clip_min=-0.5, clip_max=0.5):
    """x + shift · eps, clipped."""
    return tf.clip_by_value(x + shift * tf.cast(eps, x.dtype), clip_min, clip_max)
''',
    "attacks/__init__.py": '''
ATTACKS["add_constant"] = Attack("add_constant", "constant", takes=(), climbs="", settings=(
    Setting("toy_shift", "What add_constant adds, in units of eps.", "shift"),))
'''}
NETWORK = {
    "networks/one_dense.py": '''"""One dense layer."""

import keras


def build_one_dense(image_shape, num_classes, *, seed=0):
    """Its features are the pixels."""
    images = keras.Input(image_shape, name="images")
    features = keras.layers.Flatten()(images)
    initializer = keras.initializers.GlorotUniform(seed)
    logits = keras.layers.Dense(num_classes, kernel_initializer=initializer, name="logit")(features)
    return keras.Model(images, (logits, features), name="one_dense")
''',
    "networks/__init__.py": '''
NETWORKS["one_dense"] = Architecture("one_dense", "networks.one_dense:build_one_dense",
                                     {None: Variant((), _MNIST)})
'''}
OBJECTIVE = {
    "training/losses.py": '''

def squared_logits(batch):
    """The square of the norm of the logits."""
    return tf.reduce_sum(tf.square(batch.logits), axis=-1)


TERMS["squared_logits"] = squared_logits
''',
    "training/__init__.py": '''
OBJECTIVES["toy"] = Objective("toy", (("head_loss", 1.0), ("squared_logits", 0.1)))
'''}
SCORE = {
    "defenses/scores.py": '''

def toy_score(outputs, reference):
    """The square of the confidence."""
    return np.square(np.asarray(outputs.confidence, np.float64))
''',
    "defenses/__init__.py": '''
SCORES["toy"] = Score("toy_score", "toy", "toy", "#777777", "x")
'''}
# Its reader is one that is there: the first 20 digits, in a file.
DATASET = {"data/__init__.py": '''
DATASETS["twenty"] = DatasetSpec("twenty", (8, 8, 1), 10, augment=False, is_archive=True)
'''}
KINDS = {"attack": ATTACK, "network": NETWORK, "objective": OBJECTIVE, "score": SCORE,
         "data set": DATASET}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with a toy of each kind."""
    folder = tmp_path_factory.mktemp("copy") / "code"
    tracked = subprocess.run(["git", "ls-files", "*.py", "pyproject.toml"], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout.split()
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for added in KINDS.values():
        for name, text in added.items():
            with open(folder / name, "a", encoding="utf-8") as file:
                file.write(text)
    return folder


def run(copy, script, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, str(copy / f"{script}.py"), *arguments], cwd=cwd,
                          env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kind_is_one_or_two_files():
    assert {kind: len(added) for kind, added in KINDS.items()} == {
        "attack": 2, "network": 2, "objective": 2, "score": 2, "data set": 1}


@pytest.mark.slow
def test_toys_of_every_kind_from_the_command_line(copy, tmp_path):
    from data.formats import bundled_digits

    images, labels = bundled_digits("train")
    first = np.concatenate([np.flatnonzero(labels == c)[:2] for c in range(10)])
    np.savez(tmp_path / "twenty.npz", images=images[first], labels=labels[first])
    network = ("--dataset=twenty", "--train_data_path=twenty.npz", "--eval_data_path=twenty.npz",
               "--model=one_dense", "--log_root=m")
    run(copy, "train", *network, "--total_steps=300", "--batch_size=20", "--objective=toy",
        "--learning_rate=0.05", cwd=tmp_path)
    assert "precision: 1.0" in run(copy, "test_nor", *network, "--mode=eval", "--eval_once",
                                   "--eval_batch_count=-1", cwd=tmp_path)
    run(copy, "test_adv", *network, "--mode=attack", "--attack_method=add_constant",
        "--eps_sweep=0.2,1", "--eval_batch_count=-1", "--toy_shift=0.9", cwd=tmp_path)
    results = tmp_path / "add_constant_twenty/CE_toy"
    np.testing.assert_allclose(
        np.load(results / "adv_img.npy")[20:],
        np.clip(np.load(results / "nor_img.npy")[20:] + 0.9, -0.5, 0.5), atol=1e-6)
    run(copy, "others", *network, "--mode=kernel_para", "--eval_batch_count=-1", cwd=tmp_path)
    judged = ("--dataset=twenty", "--attack_method=add_constant", "--objective_tag=CE_toy")
    run(copy, "detect", *judged, "--mode=select_kernel", "--num_kernels=2", cwd=tmp_path)
    assert "toy" in run(copy, "detect", *judged, "--mode=fit", cwd=tmp_path)
    run(copy, "detect", *judged, "--mode=evaluate", cwd=tmp_path)
    rows = json.loads((tmp_path / "detection_twenty/evaluation_CE_toy.json").read_text())["rows"]
    assert {(row["attack"], row["score"]) for row in rows} >= {("add_constant", "toy")}


@pytest.mark.parametrize(("script", "words"), [
    ("train", ["one_dense", "twenty", "toy"]), ("detect", ["add_constant", "toy", "twenty"]),
    ("test_adv", ["add_constant", "--toy_shift: What add_constant adds, in units of eps."])])
def test_help_lists_the_toys(copy, tmp_path, script, words):
    listed = run(copy, script, "--help", cwd=tmp_path)
    assert all(word in listed for word in words), listed

"""Folders whose names TensorFlow takes for patterns or protocols work like any other."""

import os

import numpy as np
import pytest

from files import checkpoints, tf1_checkpoints, tf_paths
from tests.files.test_checkpoints import resume_toy, save_toy

ODD = ["exp[1]", "job_[!a-z]", "a*b", "what?", "back\\slash", "br{a,b}", "[", "ram://x", "**", "über ö",
       "a,b", "=", " "]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("is_relative", [False, True])
def test_checkpoints_in_a_folder_of_any_name(tmp_path, monkeypatch, name, is_relative):
    monkeypatch.chdir(tmp_path)
    folder = name if is_relative else str(tmp_path / name / "below")
    # What the pattern matches besides must not be read in its place.
    for beside in ("exp1", "job_1", "axb", "whatx"):
        save_toy(str(tmp_path / beside / "below"), step=1, start=7.0)
    path = save_toy(folder, step=3)
    assert path == f"{folder}/model.ckpt-3" and os.path.isfile(f"{path}.index")
    assert checkpoints.newest_whole(folder) == (path, ())
    step, network, _ = resume_toy(folder)
    assert step == 3
    np.testing.assert_array_equal(network["logit/bias"], np.arange(3) + 30)
    assert checkpoints.read_record(path)[1] == 3
    assert next(checkpoints.as_they_come(folder, 1)) == path
    save_toy(folder, step=4)
    assert checkpoints.latest(folder) == f"{folder}/model.ckpt-4"


def test_a_checkpoint_of_the_original_in_such_a_folder(tmp_path):
    folder = str(tmp_path / "exp[1]")
    path = tf1_checkpoints.save(folder, {"init/init_conv/kernel": np.ones((3, 3, 1, 16), np.float32),
                                         "logit/kernel": np.ones((64, 10), np.float32)}, {}, 5)
    assert tf1_checkpoints.is_tf1(path) and tf1_checkpoints.describe(path).step == 5


def test_a_plain_name_is_left_alone(tmp_path):
    with tf_paths.literal_folder(tmp_path) as folder:
        assert folder == str(tmp_path)

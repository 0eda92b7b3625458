"""What is looked at before a training: classes, splits, whether train and test are two."""

import numpy as np
import pytest

from data import formats, get_spec, sense
from data.inputs import ImageSet
from errors import InputError


def image_set(labels, *, fixed=False, start=0, num_classes=None, files=("a/train.npz",)):
    images = (np.arange(len(labels), dtype=np.uint8) + start).reshape(-1, 1, 1, 1)
    labels = np.array(labels, np.int32)
    return ImageSet(images, labels, num_classes or labels.max() + 1, "x.npz", False, files, fixed)


def check(train, test=None, classes_given=False):
    said, warned = [], []
    sense.check_training(train, test, classes_given=classes_given, note=said.append, warn=warned.append)
    return said, warned


def test_it_says_what_is_trained_on():
    said, warned = check(image_set([0, 1, 2, 1]), image_set([0, 1], start=100, files=("b/test.npz",)))
    assert said == ["Training on 4 images of 3 classes of train.npz; testing on 2 images of 2 classes "
                    "of test.npz."]
    assert not warned
    said, _ = check(image_set([0, 1], files=[f"batch_{k}" for k in range(5)]))
    assert said == ["Training on 2 images of 2 classes of batch_0, batch_1, batch_2 and 2 more."]


@pytest.mark.parametrize(("labels", "num_classes", "words"), [
    ([1, 2, 1], None, "--num_classes=3 where that is meant. Received: x.npz without images of class 0"),
    ([0, 3, 4], None, "without images of classes 1, 2 of 5"),
    ([0, 1, 9], None, "classes 2, 3, 4, 5, 6, ... of 10"),
    ([4, 4, 4], None, "at least two classes. Received: x.npz of class 4 alone"),
    ([0, 0, 0], 2, "class 0 alone"),
])
def test_classes_without_images_are_refused(labels, num_classes, words):
    with pytest.raises(InputError, match=words):
        check(image_set(labels, num_classes=num_classes))


@pytest.mark.parametrize("meant", [{"classes_given": True}, {"fixed": True}])
def test_classes_without_images_that_are_meant_are_said(meant):
    _, warned = check(image_set([0, 1, 3], fixed=meant.get("fixed", False)),
                      classes_given=meant.get("classes_given", False))
    assert warned == ["no training image of class 2 of 4: detect.py will need features of every class."]


def test_test_images_that_were_trained_on_are_said():
    _, warned = check(image_set([0, 1, 0, 1]), image_set([0, 1, 0, 1], start=2))
    assert warned == ["2 of the 4 test images are training images: the test precision is no measure of "
                      "others."]
    assert check(image_set([0, 1]), image_set([0, 1], start=2))[1] == []


@pytest.mark.parametrize(("names", "found"), [
    (["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"], True),
    (["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"], True),
    (["data_train.bin", "data_test.bin"], True), (["train.bin", "test.bin"], True),
    (["training.bin", "validation.bin"], True), (["TRAIN.bin", "VAL.bin"], True),
    (["data_batch_1.bin", "data_batch_2.bin"], False), (["a.bin", "b.bin"], False),
    (["test_1.bin", "test_2.bin"], False), (["latest.bin", "train.bin"], False),
    (["train_test_a.bin", "train_test_b.bin"], False), (["strain_7.bin", "contest.bin"], False),
])
def test_a_pattern_matches_one_split(tmp_path, names, found):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    pattern = str(tmp_path / "*")
    for split in ("train", "test"):
        if found:
            with pytest.raises(InputError, match="the files of one split alone"):
                formats.find_files(get_spec("mnist"), pattern, split)
        else:
            assert len(formats.find_files(get_spec("mnist"), pattern, split)[0]) == len(names)

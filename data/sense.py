"""Whether a training set makes sense, looked at before hours of training: its classes, its test set.

What a later step could not take is refused here, by a sentence that names the flag by which it may be
meant; what is odd and may be meant is said.
"""

import os
from collections.abc import Callable

import numpy as np

from data.inputs import ImageSet
from errors import InputError

# Of the test images, from which share of training images on it is said.
_SHARED = 0.01


def check_training(train: ImageSet, test: ImageSet | None, *, classes_given: bool,
                   note: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Looks at what is to be trained on.

    Args:
      train: training images.
      test: test images, if there are any.
      classes_given: whether --num_classes says that classes without images are meant.
      note: told what is trained on.
      warn: told what is odd.

    Raises:
      InputError: images of one class only, or classes without images that nobody has asked for.
    """
    note(_told("Training on", train) + (_told("; testing on", test) if test else "") + ".")
    counts = np.bincount(train.labels, minlength=train.num_classes)
    empty = np.flatnonzero(counts == 0)
    if len(empty) == train.num_classes - 1:
        raise InputError("expected training images of at least two classes. "
                         f"Received: {train.source} of class {int(counts.argmax())} alone.")
    if len(empty):
        words = f"{_classes(empty)} of {train.num_classes}"
        if not (classes_given or train.fixed_classes):
            raise InputError(
                f"expected training images of every class up to the largest label, or "
                f"--num_classes={train.num_classes} where that is meant. "
                f"Received: {train.source} without images of {words}.")
        warn(f"no training image of {words}: detect.py will need features of every class.")
    if test and (shared := _num_shared(train, test)) > _SHARED * len(test.labels):
        warn(f"{shared} of the {len(test.labels)} test images are training images: the test precision "
             "is no measure of others.")


def _told(begin, image_set):
    files = [os.path.basename(file) for file in image_set.files] or [image_set.source]
    named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    present = len(np.unique(image_set.labels))
    return f"{begin} {len(image_set.labels)} images of {present} classes of {named}"


def _classes(numbers):
    named = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"class{'es' * (len(numbers) > 1)} {named}"


def _num_shared(train, test):
    """How many test images are training images, pixel by pixel."""
    if train.images.shape[1:] != test.images.shape[1:] or train.images.dtype != test.images.dtype:
        return 0
    known = {hash(image.tobytes()) for image in train.images}
    return sum(hash(image.tobytes()) in known for image in test.images)

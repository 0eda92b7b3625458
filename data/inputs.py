"""Images in: loading the splits of a data set, and images of a user's own.

Images are kept in the stored form: uint8 stays uint8, float pixels lie in [0, 1]. Scaling to the
network's [-0.5, 0.5] happens once, in pixels.py. What the files look like is in formats.py.
"""

import dataclasses
import os
import zipfile

import numpy as np

from data import formats, get_spec, npy_files
from errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in their stored form.

    Attributes:
        images: [n, h, w, c]; uint8 in [0, 255] or float32 in [0, 1].
        labels: int32 [n] in [0, num_classes).
        num_classes: number of classes.
        source: where the images come from, for messages.
        has_splits: whether the source itself tells train from test.
        files: that the images were read from; none of a source without.
        fixed_classes: whether the data set says how many classes there are, and not its labels.
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    source: str
    has_splits: bool
    files: tuple[str, ...] = ()
    fixed_classes: bool = True

    def take(self, rows: np.ndarray | slice) -> "ImageSet":
        """Some of the images, with their labels."""
        return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])


def load(dataset: str, path: str, split: str, *, data_dir: str = "", num_classes: int = 0,
         any_size: bool = False) -> ImageSet:
    """Reads one split of a data set.

    Args:
        dataset: key in `DATASETS`.
        path: a file, a glob pattern (both taken as they are, whatever the split), a folder (its
            file names tell the splits), or "": the data set's own source.
        split: "train" or "test".
        data_dir: folder of tensorflow-datasets; "" is its default.
        num_classes: for `npz` only, where 0 stands for the largest label plus one.
        any_size: whether height and width need not be divisible by 4, as of a network of another hand.

    Returns:
        An `ImageSet` in stored form.

    Raises:
        InputError: unknown name or split, missing or damaged file, values out of range, or a
            download that failed.
    """
    spec = get_spec(dataset)
    if split not in formats.SPLITS:
        raise InputError(f"split must be one of {list(formats.SPLITS)}. Received: split={split!r}")
    if not path and spec.needs_path:
        raise InputError(f"dataset {dataset!r} needs the path of {_file_kind(spec)}. Received: path=''")
    has_splits, paths = True, ()
    limit = spec.num_classes or num_classes
    if path:
        paths, has_splits = formats.find_files(spec, path, split)
        parts = formats.read_files(paths, spec)
    else:
        parts = [formats.load_without_files(spec, split, data_dir)]
    parts = [formats.checked(part, spec, limit, any_size=any_size) for part in parts]
    shapes = {images.shape[1:] for images, _ in parts}
    if len(shapes) > 1:
        raise InputError(f"{path}: all files must hold one image shape. Received: shapes={shapes}")
    # One file is not copied: a training set is the largest array of a process.
    images = parts[0][0] if len(parts) == 1 else np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    fixed = bool(limit)
    limit = limit or int(labels.max()) + 1
    if not fixed and limit > len(labels):
        raise InputError(f"{path}: labels must be classes from 0 on, at most as many as images, or "
                         f"--num_classes be given. Received: {limit} classes, of {len(labels)} images.")
    if limit < 2:
        raise InputError(f"{path}: at least 2 classes are needed. Received: num_classes={limit}")
    return ImageSet(images, labels, limit, path or dataset, has_splits, tuple(paths),
                    bool(spec.num_classes))


def _file_kind(spec):
    return "an .npz file" if spec.is_archive else "a .bin or IDX file"


def load_for_training(
    dataset: str, train_path: str, eval_path: str, *, data_dir: str = "", num_classes: int = 0
) -> tuple[ImageSet, ImageSet | None]:
    """Reads the training images and, where they are known, the test images.

    Args:
        dataset: key in `DATASETS`.
        train_path: as `path` of `load`; its train split is taken.
        eval_path: as `path` of `load`; its test split is taken. With both paths empty the test
            split comes from the source of the training images.
        data_dir: as in `load`.
        num_classes: as in `load`; the test set follows the training set.

    Returns:
        (train, test); test is None when only `train_path` is given.

    Raises:
        InputError: as `load`; or the two sets differ in image shape.
    """
    train = load(dataset, train_path, "train", data_dir=data_dir, num_classes=num_classes)
    if train_path and not eval_path:
        return train, None
    return train, load_beside(train, dataset, eval_path, data_dir=data_dir)


def load_beside(train: ImageSet, dataset: str, eval_path: str, *, data_dir: str = "") -> ImageSet:
    """The test images for training images that are there; arguments and errors as
    `load_for_training`."""
    # The training images say how many classes there are: test images may lack the last one.
    test = load(dataset, eval_path, "test", data_dir=data_dir, num_classes=train.num_classes)
    shape, train_shape = test.images.shape[1:], train.images.shape[1:]
    if shape != train_shape:
        raise InputError(
            f"{test.source}: test images must have the shape of the training images, "
            f"{train_shape}. Received: shape={shape}"
        )
    return test


def load_images(path: str) -> tuple[np.ndarray, list[str]]:
    """Images without labels, of a `.npy` file or of the PNG files of a folder, in order of name.

    Returns:
        Images [n, h, w] or [n, h, w, c] as stored; what to call each: its row or its file.

    Raises:
        InputError: no such file, no array, no PNG, or pictures of different sizes.
    """
    if os.path.isdir(path):
        return formats.read_pngs(path)
    if zipfile.is_zipfile(path):
        raise InputError("expected a .npy file of images or a folder of PNG files. "
                         f"Received: {path!r}, an .npz file.")
    try:
        images = npy_files.read_npy(path)
    except InputError as error:
        raise InputError("expected a .npy file of images or a folder of PNG files. "
                         f"Received: {path!r} ({str(error).partition('Received: ')[2].rstrip('.')})."
                         ) from None
    if images.ndim < 3:
        raise InputError(f"expected images [n, h, w] or [n, h, w, c] in {path}. "
                         f"Received: shape={images.shape}.")
    return images, [str(row) for row in range(len(images))]


def checked_images(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Images of a network's shape, in stored form.

    Args:
        images: uint8 in [0, 255] or float in [0, 1], [n, h, w, c], or [n, h, w] of one channel.
        image_shape: (h, w, c) that the network takes.

    Returns:
        uint8 or float32 [n, h, w, c].

    Raises:
        InputError: no image, another shape or type, or pixels out of range.
    """
    images = np.asarray(images)
    received = images.shape
    images = _with_channels(images[..., None] if images.ndim == 3 else images, image_shape[-1])
    if images.ndim != 4 or images.shape[1:] != tuple(image_shape) or not len(images):
        raise InputError(f"expected images [n, h, w, c], at least one, of shape {tuple(image_shape)} "
                         f"each. Received: shape={received}.")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise InputError("expected images of type uint8 in [0, 255] or float in [0, 1]. "
                         f"Received: type={images.dtype}.")
    # Written so that NaN fails.
    if not (images.min() >= 0 and images.max() <= 1):
        raise InputError("expected float images in [0, 1]. "
                         f"Received: pixels in [{images.min():g}, {images.max():g}].")
    return images.astype(np.float32, copy=False)


def _with_channels(images, channels):
    """Greys as three equal channels where a network takes colours, and equal channels as one where it
    takes greys; others as they are."""
    if images.ndim != 4:
        return images
    if images.shape[-1] == 1 and channels == 3:
        return np.repeat(images, 3, axis=-1)
    if images.shape[-1] == 3 and channels == 1 and np.all(images == images[..., :1]):
        return images[..., :1]
    return images


def subset_indices(n: int, count: int, seed: int) -> np.ndarray:
    """Draws `count` of `n` rows, fixed by the seed alone.

    Args:
        n: number of rows.
        count: how many; -1, or n and more, is all of them, shuffled.
        seed: integer in [0, 2**32).

    Returns:
        int64 [min(count, n)] of distinct rows; a smaller count is a prefix of a larger one.

    Raises:
        InputError: count below 1 and not -1.
    """
    if count < 1 and count != -1:
        raise InputError(f"count must be positive, or -1 for all. Received: {count=}")
    # Differs from the original: its queue deals other images for every eps; one draw lets rounds,
    # attacks and objectives be compared on the same images.
    # RandomState, since NumPy promises that its stream never changes between releases.
    order = np.random.RandomState(seed).permutation(n).astype(np.int64)
    return order if count == -1 else order[:count]

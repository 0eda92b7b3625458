"""Images in: the data sets, the rule of their splits, and the training pipeline.

Images are kept in the stored form: uint8 stays uint8, float pixels lie in [0, 1]. Scaling to the
network's [-0.5, 0.5] happens once, in `to_network_input` or in `train_dataset`. What the files look
like is in data/formats.py. TensorFlow is imported where it is used.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from data import files, formats
from errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

CROP_PADDING = 2  # zero pixels on each side before the random crop: 32x32 is cropped from 36x36

_SHUFFLE_KEY = 498247692  # any number with mixed bits


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What is fixed by the name of a data set.

    Attributes:
        name: key in `DATASETS`.
        image_shape: (height, width, channels), or None where the file decides.
        num_classes: number of classes, or None where the file decides.
        augment: whether training crops and flips at random.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    num_classes: int | None
    augment: bool


DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec("mnist", (28, 28, 1), 10, augment=False),
        DatasetSpec("cifar10", (32, 32, 3), 10, augment=True),
        DatasetSpec("cifar100", (32, 32, 3), 100, augment=True),
        DatasetSpec("digits", (8, 8, 1), 10, augment=False),
        DatasetSpec("npz", None, None, augment=False),
    )
}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in their stored form.

    Attributes:
        images: [n, h, w, c]; uint8 in [0, 255] or float32 in [0, 1].
        labels: int32 [n] in [0, num_classes).
        num_classes: number of classes.
        source: where the images come from, for messages.
        has_splits: whether the source itself tells train from test.
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    source: str
    has_splits: bool


def get_spec(name: str) -> DatasetSpec:
    """Returns the spec of a data set; InputError if the name is not in `DATASETS`."""
    if name not in DATASETS:
        raise InputError(f"dataset must be one of {list(DATASETS)}. Received: dataset={name!r}")
    return DATASETS[name]


def load(dataset: str, path: str, split: str, *, data_dir: str = "", num_classes: int = 0) -> ImageSet:
    """Reads one split of a data set.

    Args:
        dataset: key in `DATASETS`.
        path: a file, a glob pattern (both taken as they are, whatever the split), a folder (its
            file names tell the splits), or "": scikit-learn's digits or a TFDS download.
        split: "train" or "test".
        data_dir: folder of tensorflow-datasets; "" is its default.
        num_classes: for `npz` only, where 0 stands for the largest label plus one.

    Returns:
        An `ImageSet` in stored form.

    Raises:
        InputError: unknown name or split, missing or damaged file, values out of range, or a
            download that failed.
    """
    spec = get_spec(dataset)
    if split not in formats.SPLITS:
        raise InputError(f"split must be one of {list(formats.SPLITS)}. Received: split={split!r}")
    if not path and dataset == "npz":
        raise InputError("dataset 'npz' needs the path of an .npz file. Received: path=''")
    has_splits = True
    limit = spec.num_classes or num_classes
    if path:
        paths, has_splits = formats.find_files(dataset, path, split)
        parts = [formats.checked(part, spec, limit) for part in formats.read_files(paths, spec)]
    elif dataset == "digits":
        parts = [formats.bundled_digits(split)]
    else:
        parts = [formats.checked(formats.download(dataset, split, data_dir), spec, limit)]
    shapes = {images.shape[1:] for images, _ in parts}
    if len(shapes) > 1:
        raise InputError(f"{path}: all files must hold one image shape. Received: shapes={shapes}")
    images = parts[0][0] if len(parts) == 1 else np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    limit = limit or int(labels.max()) + 1
    if limit < 2:
        raise InputError(f"{path}: at least 2 classes are needed. Received: num_classes={limit}")
    return ImageSet(images, labels, limit, path or dataset, has_splits)


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
    test = load(dataset, eval_path, "test", data_dir=data_dir, num_classes=train.num_classes)
    shape, train_shape = test.images.shape[1:], train.images.shape[1:]
    if shape != train_shape:
        raise InputError(
            f"{test.source}: test images must have the shape of the training images, "
            f"{train_shape}. Received: shape={shape}"
        )
    return train, test


def load_images(path: str) -> tuple[np.ndarray, list[str]]:
    """Images without labels, of a `.npy` file or of the PNG files of a folder, in order of name.

    Returns:
        Images [n, h, w] or [n, h, w, c] as stored; what to call each: its row or its file.

    Raises:
        InputError: no such file, no array, no PNG, or pictures of different sizes.
    """
    if os.path.isdir(path):
        return formats.read_pngs(path)
    try:
        images = np.load(path, allow_pickle=False)
        if not isinstance(images, np.ndarray):
            raise ValueError("an .npz file")
        return images, [str(row) for row in range(len(images))]
    except (OSError, TypeError, ValueError, EOFError) as error:
        raise InputError("expected a .npy file of images or a folder of PNG files. "
                         f"Received: {path!r} ({error}).") from None


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
    if images.ndim == 3 and image_shape[-1] == 1:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != tuple(image_shape) or not len(images):
        raise InputError(f"expected images [n, h, w, c], at least one, of shape {tuple(image_shape)} "
                         f"each. Received: shape={received}.")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise InputError("expected images of type uint8 in [0, 255] or float in [0, 1]. "
                         f"Received: type={images.dtype}.")
    if not (images.min() >= 0 and images.max() <= 1):
        raise InputError("expected float images in [0, 1]. "
                         f"Received: pixels in [{images.min():g}, {images.max():g}].")
    return images.astype(np.float32, copy=False)


def from_network_input(images: np.ndarray) -> np.ndarray:
    """Network inputs in [-0.5, 0.5] as uint8 of the same shape, rounded to the nearest grey level."""
    return np.clip(np.rint((images + 0.5) * 255), 0, 255).astype(np.uint8)


def to_network_input(images: np.ndarray) -> np.ndarray:
    """Scales stored images to the network's input.

    Args:
        images: any shape; uint8 in [0, 255] or float in [0, 1].

    Returns:
        float32 of the same shape in [-0.5, 0.5].
    """
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    return images.astype(np.float32, copy=False) - np.float32(0.5)


def train_dataset(
    image_set: ImageSet,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    augment: bool,
    num_replicas: int = 1,
    replica_ids: Sequence[int] | None = None,
) -> "tf.data.Dataset":
    """Builds the training batches, a pure function of (seed, step).

    Each epoch is a fresh permutation of the images, and a batch may span epochs. Starting at step
    k gives what an uninterrupted run gives at step k, and the replicas' batches joined in order are
    the batch of a run with one replica.

    Args:
        image_set: images [n, h, w, c] and labels [n].
        batch_size: global batch size, a multiple of `num_replicas`.
        seed: integer in [0, 2**32) that fixes order and augmentation.
        start_step: first step, 0-based.
        num_steps: the step to stop before.
        augment: zero-pad by 2 pixels, crop back and flip at random.
        num_replicas: number of parts of the global batch.
        replica_ids: the parts to yield at each step, in order; None is all.

    Returns:
        Dataset of (images float32 [b, h, w, c] in [-0.5, 0.5], labels int32 [b]) with
        b = batch_size // num_replicas: one element per step and replica.

    Raises:
        InputError: batch size not a positive multiple of the number of replicas.
    """
    import tensorflow as tf

    if batch_size < 1 or batch_size % num_replicas:
        raise InputError(
            f"batch_size must be a positive multiple of {num_replicas} replicas. "
            f"Received: {batch_size=}"
        )
    local = batch_size // num_replicas
    with tf.device("cpu:0"):  # captured by the graph, not copied into it; a GPU must not hold them
        images = tf.constant(image_set.images)
        labels = tf.constant(image_set.labels)
        ids = tf.constant(range(num_replicas) if replica_ids is None else replica_ids, tf.int64)

    def make_batch(step: "tf.Tensor", replica: "tf.Tensor"):
        first = step * batch_size + replica * local
        rows = _shuffled(first + tf.range(local, dtype=tf.int64), len(image_set.labels), seed)
        batch = tf.gather(images, rows)
        if augment:
            # Drawn for the global batch, then sliced: the number of replicas changes nothing.
            draws = tf.random.stateless_uniform(
                [batch_size], [seed, step], 0, 2 * (2 * CROP_PADDING + 1) ** 2, tf.int32, "philox"
            )
            batch = _crop_and_flip(batch, tf.reshape(draws, [num_replicas, local])[replica])
        if batch.dtype == tf.uint8:
            batch = tf.cast(batch, tf.float32) / 255.0
        return batch - 0.5, tf.gather(labels, rows)

    steps = tf.data.Dataset.range(start_step, num_steps)
    dataset = steps.flat_map(
        lambda step: tf.data.Dataset.from_tensor_slices(ids).map(lambda replica: (step, replica))
    )
    options = tf.data.Options()
    options.deterministic = True
    # One worker thread fills the queue many times faster than a step empties it; more would only
    # take cores from the step.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return dataset.map(make_batch).prefetch(2 * len(ids)).with_options(options)


def _shuffled(positions: "tf.Tensor", size: int, seed: int) -> "tf.Tensor":
    """Maps sample positions int64 [b] to image rows int64 [b], one permutation per epoch."""
    import tensorflow as tf

    epochs = positions // size
    # The public index_shuffle pads a matrix of seeds along the wrong axis (TF 2.21), hence the op.
    # It is a cipher whose key is the seed: with a key of zeros or few rounds small sets hardly move.
    words = [tf.fill(epochs.shape, tf.constant(word, tf.int64)) for word in (seed, _SHUFFLE_KEY)]
    seeds = tf.stack([words[0], epochs, words[1]], axis=1)
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % size, seed=seeds, max_index=tf.constant(size - 1, tf.int64), rounds=16
    )


def _crop_and_flip(images: "tf.Tensor", draws: "tf.Tensor") -> "tf.Tensor":
    """Shifts and flips images [b, h, w, c] by draws int32 [b] in [0, 2 * 5 * 5).

    Equal to cropping at (row, column) from the image zero-padded by 2 on each side, then flipping
    left to right: two gathers for the whole batch.
    """
    import tensorflow as tf

    height, width = images.shape[1:3]
    pad = [CROP_PADDING, CROP_PADDING]
    padded = tf.pad(images, [[0, 0], pad, pad, [0, 0]])
    offsets = 2 * CROP_PADDING + 1
    rows = (draws // 2 // offsets)[:, None] + tf.range(height)
    columns = tf.range(width)
    columns = tf.where((draws % 2 == 1)[:, None], width - 1 - columns, columns)
    columns += (draws // 2 % offsets)[:, None]
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


def padded_chunks(array: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (chunk of exactly `size` rows, number of valid rows); the last is zero-padded.

    Args:
        array: [n, ...].
        size: rows per chunk, at least 1. One shape means that a traced function traces once.

    Raises:
        InputError: size below 1.
    """
    if size < 1:
        raise InputError(f"size must be at least 1. Received: {size=}")
    for start in range(0, len(array), size):
        chunk = array[start : start + size]
        valid = len(chunk)
        if valid < size:
            chunk = np.concatenate([chunk, np.zeros((size - valid, *chunk.shape[1:]), chunk.dtype)])
        yield chunk, valid


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
    # RandomState, since NumPy promises that its stream never changes between releases.
    order = np.random.RandomState(seed).permutation(n).astype(np.int64)
    return order if count == -1 else order[:count]


def save_pngs(folder: str, images: np.ndarray) -> None:
    """Writes network inputs [n, h, w, 1 or 3] as 0.png, 1.png, ..., all or none.

    Raises:
        InputError: other shapes, or pixels that no network input has.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise InputError("expected at least one image of 1 or 3 channels. "
                         f"Received: shape={images.shape}.")
    if not np.abs(images).max() <= 0.5 + 1e-6:  # false of NaN, too
        raise InputError("expected network inputs in [-0.5, 0.5]. "
                         f"Received: pixels in [{images.min():g}, {images.max():g}].")
    formats.write_pngs(folder, from_network_input(images))


def save_bin(path: str, image_set: ImageSet, dataset: str = "") -> None:
    """Writes images as the original's .bin records, whole or not at all.

    One channel: float32 label and pixels in [0, 1]. Three channels: label byte and the R, G, B
    planes; `load` gives back the same network input.

    Args:
        path: file to write or replace.
        image_set: images [n, h, w, 1 or 3].
        dataset: "cifar100" adds its coarse label in front, as 0 because it is not known here.

    Raises:
        InputError: other channel counts, labels that fit no byte, or float colours that are no
            multiple of 1/255.
    """
    images, labels = image_set.images, image_set.labels
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise InputError(f"a .bin file takes 1 or 3 channels. Received: {channels=}")
    dtype, num_labels = formats.record_layout(dataset, channels)
    if channels == 3:
        images = _as_bytes(images)
        if labels.max() > 255:
            raise InputError(f"a label must fit one byte. Received: label={labels.max()}")
    elif images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    records = np.zeros((len(images), num_labels + images[0].size), dtype)
    records[:, num_labels - 1] = labels
    records[:, num_labels:] = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    try:
        with files.atomic_path(path) as temporary:
            records.tofile(temporary)
    except OSError as error:
        raise InputError(f"expected a writable path ({error}). Received: {path=}") from error


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images; InputError where that would change a float pixel."""
    if images.dtype == np.uint8:
        return images
    rounded = np.rint(images * np.float32(255)).astype(np.uint8)
    exact = rounded.astype(np.float32) / np.float32(255) == images
    if not exact.all():
        raise InputError(
            "float colours must be multiples of 1/255 to be stored as bytes. "
            f"Received: pixel={images.flat[np.argmin(exact)]}"
        )
    return rounded

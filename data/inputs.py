"""Images in: the data sets, their files on disk, and the training pipeline.

Readers return an `ImageSet` in the stored form: uint8 stays uint8, float pixels lie in [0, 1].
Scaling to the network's [-0.5, 0.5] happens once, in `to_network_input` or in `train_dataset`.
Reading needs NumPy alone; TensorFlow, TFDS and scikit-learn are imported where they are used.
"""

import contextlib
import dataclasses
import glob
import gzip
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "test")
CROP_PADDING = 2  # zero pixels on each side before the random crop: 32x32 is cropped from 36x36

_SHUFFLE_KEY = 498247692  # any number with mixed bits
_IDX_NDIM = {2051: 3, 2049: 1}  # magic number: images [n, h, w], labels [n]
_GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED_FILE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)

# Per split, the names looked for in a folder; the first that matches anything wins. The original's
# MNIST folder holds its test set twice (data_test.bin, test_batch.bin): it must count once.
_FOLDER_NAMES = {
    "train": (
        "data_batch_*.bin", "data_train.bin", "train.bin", "train-*ubyte", "train-*ubyte.gz",
    ),
    "test": ("data_test.bin", "test_batch.bin", "test.bin", "t10k-*ubyte", "t10k-*ubyte.gz"),
}  # fmt: skip

_DOWNLOAD_HOSTS = {
    "mnist": "https://storage.googleapis.com",
    "cifar10": "https://www.cs.toronto.edu",
    "cifar100": "https://www.cs.toronto.edu",
}


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
    if split not in SPLITS:
        raise InputError(f"split must be one of {list(SPLITS)}. Received: split={split!r}")
    if not path and dataset == "npz":
        raise InputError("dataset 'npz' needs the path of an .npz file. Received: path=''")
    has_splits = True
    limit = spec.num_classes or num_classes
    if path:
        files, has_splits = _find_files(dataset, path, split)
        parts = [_checked(part, spec, limit) for part in _read_files(files, spec)]
    elif dataset == "digits":
        parts = [_bundled_digits(split)]
    else:
        parts = [_checked(_download(dataset, split, data_dir), spec, limit)]
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


def _find_files(dataset: str, path: str, split: str) -> tuple[list[str], bool]:
    """Returns the files of a split and whether the path itself tells the splits apart."""
    path = os.path.expanduser(path)
    if not os.path.isdir(path):
        files = [path] if os.path.exists(path) else sorted(glob.glob(path))
        if not files:
            raise InputError(f"no file is at this path or matches this pattern. Received: {path=}")
        return files, False
    names = {key: (f"{key}.npz",) for key in SPLITS} if dataset == "npz" else _FOLDER_NAMES
    found = {}
    for key in SPLITS:
        matches = (sorted(glob.glob(os.path.join(glob.escape(path), n))) for n in names[key])
        found[key] = next(filter(None, matches), [])
    if not found[split]:
        raise InputError(
            f"no file of the {split} split is in this folder; looked for {list(names[split])}. "
            f"Received: {path=}"
        )
    return found[split], all(found.values())


def _read_files(files: list[str], spec: DatasetSpec) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Returns one unchecked (images, labels, file name) per file or per pair of IDX files."""
    if spec.name == "npz":
        return [_read_npz(file) for file in files]
    idx_files = [file for file in files if _is_idx(file)]
    if not idx_files:
        return [_read_bin(file, spec) for file in files]
    arrays = [(_read_idx(file), file) for file in idx_files]
    images = [(array[..., None], file) for array, file in arrays if array.ndim == 3]
    labels = [array for array, _ in arrays if array.ndim == 1]
    if len(images) != len(labels) or len(idx_files) != len(files):
        raise InputError(
            "IDX files must come in pairs, images and labels: give their folder or a pattern "
            f"that matches both. Received: {files=}"
        )
    return [(x, y, file) for (x, file), y in zip(images, labels, strict=True)]


def _read_bytes(file: str) -> bytes:
    """Returns the contents of a file, unzipped when it is gzipped."""
    try:
        with open(file, "rb") as stream:
            raw = stream.read()
        return gzip.decompress(raw) if raw.startswith(_GZIP_MAGIC) else raw
    except _DAMAGED_FILE as error:
        raise InputError(
            f"{file}: expected a readable file, whole if gzipped. Received: {error}"
        ) from error


def _is_idx(file: str) -> bool:
    """Whether a file is IDX. A .bin file never is: its pixels may happen to spell the magic."""
    name = os.path.basename(file)
    return not name.endswith(".bin") and ("idx" in name or "ubyte" in name or name.endswith(".gz"))


def _read_idx(file: str) -> np.ndarray:
    """Reads an IDX file: uint8 images [n, h, w] or labels [n]."""
    raw = _read_bytes(file)
    magic = int.from_bytes(raw[:4], "big")
    if magic not in _IDX_NDIM:
        raise InputError(
            f"{file}: an IDX file must start with one of {list(_IDX_NDIM)}. Received: {magic=}"
        )
    header = 4 + 4 * _IDX_NDIM[magic]
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4)]
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise InputError(f"{file}: the header asks for {expected} bytes. Received: bytes={len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _record_layout(dataset: str, channels: int) -> tuple[str, int]:
    """Returns the element type of the original's .bin records and the number of label elements."""
    # CIFAR-100 stores the coarse label and then the fine one, which is the one that counts.
    return ("<f4", 1) if channels == 1 else ("u1", 2 if dataset == "cifar100" else 1)


def _read_bin(file: str, spec: DatasetSpec) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads records of the original's format; images [n, h, w, c] float32 or uint8."""
    height, width, channels = spec.image_shape
    dtype, num_labels = _record_layout(spec.name, channels)
    length = num_labels + height * width * channels
    record_bytes = length * np.dtype(dtype).itemsize
    raw = _read_bytes(file)
    if len(raw) % record_bytes:
        raise InputError(
            f"{file}: a {spec.name} .bin file must be a whole number of {record_bytes}-byte "
            f"records. Received: bytes={len(raw)}"
        )
    records = np.frombuffer(raw, dtype).reshape(-1, length)
    planes = records[:, num_labels:].reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, num_labels - 1], file


def _read_npz(file: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads `images` and `labels` of an .npz file; images become [n, h, w, c], uint8 or float32."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
    except (*_DAMAGED_FILE, TypeError) as error:  # a bare .npy is no archive
        raise InputError(
            f"{file}: expected an .npz file with the arrays 'images' and 'labels'. Received: {error}"
        ) from error
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(f"{file}: images must be uint8 or float. Received: dtype={images.dtype}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(
            f"{file}: labels must be integers of shape [n]. "
            f"Received: dtype={labels.dtype}, shape={labels.shape}"
        )
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8:
        images = images.astype(np.float32, copy=False)
    return images, labels, file


def _checked(
    part: tuple[np.ndarray, np.ndarray, str], spec: DatasetSpec, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (images, int32 labels) or raises InputError; num_classes 0 sets no upper bound."""
    images, labels, source = part
    shape = images.shape[1:]
    if spec.image_shape and shape != spec.image_shape:
        raise InputError(f"{source}: images must be {spec.image_shape}. Received: {shape=}")
    if len(shape) != 3 or shape[0] % 4 or shape[1] % 4 or 0 in shape:
        raise InputError(
            f"{source}: images must be [n, h, w] or [n, h, w, c] with h and w divisible by 4. "
            f"Received: shape={images.shape}"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{source}: images and labels must be equally many. "
            f"Received: images={len(images)}, labels={len(labels)}"
        )
    if not len(images):
        raise InputError(f"{source}: expected at least one image. Received: images=0")
    # Written so that NaN fails each comparison.
    if images.dtype != np.uint8 and not (images.min() >= 0 and images.max() <= 1):
        raise InputError(
            f"{source}: pixels must lie in [0, 1]. Received: min={images.min()}, max={images.max()}"
        )
    upper = num_classes - 1 if num_classes else np.iinfo(np.int32).max - 1
    good = (labels >= 0) & (labels <= upper) & (labels == np.floor(labels))
    if not good.all():
        raise InputError(
            f"{source}: labels must be integers in [0, {upper}]. "
            f"Received: label={labels[np.argmin(good)]}"
        )
    return images, labels.astype(np.int32)


def _bundled_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's 8x8 digits, 1,437 for training and 360 for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # The same split for everyone: were it drawn from the user's seed, results of two runs would
    # speak of different test sets.
    rows = train_test_split(
        np.arange(len(digits.target)),
        train_size=1437, test_size=360, random_state=0, stratify=digits.target,
    )[SPLITS.index(split)]  # fmt: skip
    images = digits.images[rows, :, :, None].astype(np.float32) / np.float32(16)
    return images, digits.target[rows].astype(np.int32)


def _download(dataset: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns one unchecked split from tensorflow-datasets."""
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(dataset, data_dir=os.path.expanduser(data_dir) or None)
        if not builder.is_prepared():
            _require_host(_DOWNLOAD_HOSTS[dataset])
            builder.download_and_prepare()
        batches = list(tfds.as_numpy(builder.as_dataset(split=split, batch_size=1024)))
    except Exception as error:  # TFDS raises many kinds; to the user all mean "no data"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{dataset} could not be had from tensorflow-datasets: give --train_data_path and "
            f"--eval_data_path with .bin or IDX files, or a --data_dir which already holds it. "
            f"Received: data_dir={data_dir!r} ({reason})"
        ) from error
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    return images, labels, f"tensorflow-datasets {dataset}"


def _require_host(url: str) -> None:
    """Raises at once when a host cannot be reached; offline, TFDS retries for minutes."""
    with contextlib.suppress(urllib.error.HTTPError):  # any answer shows that the host is there
        urllib.request.urlopen(url, timeout=10).close()


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
    dtype, num_labels = _record_layout(dataset, channels)
    if channels == 3:
        images = _as_bytes(images)
        if labels.max() > 255:
            raise InputError(f"a label must fit one byte. Received: label={labels.max()}")
    elif images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    records = np.zeros((len(images), num_labels + images[0].size), dtype)
    records[:, num_labels - 1] = labels
    records[:, num_labels:] = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    temporary = f"{path}.{os.getpid()}.tmp"  # same folder, so that the replace is atomic
    try:
        records.tofile(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"expected a writable path ({error}). Received: {path=}") from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


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

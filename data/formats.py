"""The file formats of images: the original's .bin, IDX and .npz, and the sources without a path.

Readers return (images, labels, source) in the stored form: uint8, or float32 in [0, 1]. NumPy alone;
TFDS and scikit-learn are imported where they are used.

One trade, whatever its length: a reader of a dozen lines a format, and one check for what any of them
gives, so that a new format is trusted no more than the old ones.
"""

import contextlib
import glob
import gzip
import math
import os
import pkgutil
import re
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import numpy as np

from data import DATASETS, DatasetSpec, npy_files
from errors import InputError, first_line

SPLITS = ("train", "test")

# Names that tell a split, as the published files have them.
_SPLIT_NAMES = {"train": re.compile(r"(?<![a-z])(?:train|training)(?![a-z])|data_batch"),
                "test": re.compile(r"(?<![a-z])(?:test|t10k|val|validation)(?![a-z])")}
_IDX_NDIM = {2051: 3, 2049: 1}  # magic number: images [n, h, w], labels [n]
_GZIP_MAGIC = b"\x1f\x8b"
# Of a picture: larger than any data set's, small in memory.
_MOST_PIXELS = 2**24
# Ten times CIFAR-100 as floats: a small file may unzip to more than there is memory.
MOST_UNZIPPED = 2**33

# Per split, the names looked for in a folder; the first that matches anything wins. The original's
# MNIST folder holds its test set twice (data_test.bin, test_batch.bin): it must count once.
_FOLDER_NAMES = {
    "train": (
        "data_batch_*.bin", "data_train.bin", "train.bin", "train-*ubyte", "train-*ubyte.gz",
    ),
    "test": ("data_test.bin", "test_batch.bin", "test.bin", "t10k-*ubyte", "t10k-*ubyte.gz"),
}  # fmt: skip


def find_files(spec: DatasetSpec, path: str, split: str) -> tuple[list[str], bool]:
    """Returns the files of a split and whether the path itself tells the splits apart."""
    path = os.path.expanduser(path)
    # A file or a pattern is taken as it is, whatever the split: who names files has chosen.
    if not os.path.isdir(path):
        # An existing name first: it may hold characters of a pattern. Sorted, since glob's order is
        # the file system's, and a row must have the same number on every machine.
        paths = [path] if os.path.exists(path) else sorted(
            file for file in glob.glob(path) if os.path.isfile(file))
        if not paths:
            raise InputError(f"no file is at this path or matches this pattern. Received: {path=}")
        _refuse_mixed_splits(path, [os.path.basename(file) for file in paths])
        return paths, False
    names = {key: (f"{key}.npz",) for key in SPLITS} if spec.is_archive else _FOLDER_NAMES
    found = {key: _first_readable(spec, path, names[key]) for key in SPLITS}
    if not found[split]:
        raise InputError(
            f"no file of the {split} split is in this folder; looked for {list(names[split])}. "
            f"Received: {path=}"
        )
    return found[split], all(found.values())


def _first_readable(spec, folder, names):
    """The files of the first of some names that can be read; where none can, of the first there is."""
    # The folder is escaped: only the names are patterns. Folders and FIFOs are no candidates.
    matches = [[file for file in sorted(glob.glob(os.path.join(glob.escape(folder), name)))
                if os.path.isfile(file)] for name in names]
    matches = [files for files in matches if files]
    whole = [files for files in matches if all(_looks_whole(spec, file) for file in files)]
    if any(_is_idx(file) for file in (whole or matches or [[]])[0]):
        return _idx_pairs(spec, [file for files in matches for file in files if _is_idx(file)])
    return next(iter(whole or matches), [])


def _idx_pairs(spec, files):
    """Of IDX files each once, though a download may hold it under two spellings and zipped, too; those
    that cannot be read only where images and labels do not pair without them."""
    spellings = {}
    for file in files:
        name = os.path.basename(file).removesuffix(".gz")
        spellings.setdefault(re.sub(r"[^0-9a-z]", "", name.lower()), []).append(file)
    whole = {key: next((file for file in found if _looks_whole(spec, file)), None)
             for key, found in sorted(spellings.items())}
    ndims = [_IDX_NDIM[_beginning(file)[0]] for file in whole.values() if file]
    if ndims and ndims.count(3) == ndims.count(1):
        return [file for file in whole.values() if file]
    return [file or spellings[key][0] for key, file in whole.items()]


def _beginning(file):
    """The magic number of a file if it were IDX, the bytes its header would then ask for, and those
    there are, unzipped; of a zipped file modulo 2**32."""
    with open(file, "rb") as stream:
        begin, length = stream.read(16), os.path.getsize(file)
        if begin[:2] == _GZIP_MAGIC:
            # The last thing in a zipped file is its length before.
            stream.seek(-min(4, length), os.SEEK_END)
            length = int.from_bytes(stream.read(4), "little")
            with gzip.open(file) as unzipped:
                begin = unzipped.read(16)
    magic = int.from_bytes(begin[:4], "big")
    header = 4 + 4 * _IDX_NDIM.get(magic, 0)
    # Of Python's integers: a product in 64 bits may wrap round.
    shape = [int.from_bytes(begin[at:at + 4], "big") for at in range(4, header, 4)]
    return magic, header + math.prod(shape), length


def _looks_whole(spec, file):
    """Whether the beginning and the length of a file are what its name promises; the rest is read
    later."""
    try:
        magic, asked, length = _beginning(file)
    # Unzipping raises what zlib and Python have.
    except Exception:
        return False
    if _is_idx(file):
        return magic in _IDX_NDIM and (asked - length) % 2**32 == 0
    return spec.is_archive or (length > 0 and length % _record_bytes(spec) == 0)


def _refuse_mixed_splits(path, files):
    """Raises an InputError when a pattern matches files of both splits: whatever is computed of them
    would be of images that were trained on."""
    def of(split, other):
        return next((file for file in files if _SPLIT_NAMES[split].search(file.lower())
                     and not _SPLIT_NAMES[other].search(file.lower())), None)

    train, test = of("train", "test"), of("test", "train")
    if train and test:
        raise InputError(f"{path}: expected a pattern that matches the files of one split alone. "
                         f"Received: {train} and {test}.")


def read_files(paths: list[str], spec: DatasetSpec) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Returns one unchecked (images, labels, file name) per file or per pair of IDX files."""
    if spec.is_archive:
        return [_read_npz(file) for file in paths]
    idx_files = [file for file in paths if _is_idx(file)]
    if not idx_files:
        return [_read_bin(file, spec) for file in paths]
    arrays = [(_read_idx(file), file) for file in idx_files]
    images = [(array[..., None], file) for array, file in arrays if array.ndim == 3]
    labels = [array for array, _ in arrays if array.ndim == 1]
    if len(images) != len(labels) or len(idx_files) != len(paths):
        raise InputError(
            "IDX files must come in pairs, images and labels: give their folder or a pattern "
            f"that matches both. Received: files={paths}"
        )
    return [(x, y, file) for (x, file), y in zip(images, labels, strict=True)]


def _read_bytes(file: str, most: int | None = None) -> bytes:
    """Returns the contents of a file, unzipped when it is gzipped; of more than `most` bytes the first
    `most` + 1."""
    try:
        if not os.path.isfile(file):
            raise OSError("no regular file")
        with open(file, "rb") as stream:
            if stream.read(2) != _GZIP_MAGIC:
                stream.seek(0)
                # No size that a header claims: it may be none that a read takes.
                size = os.path.getsize(file)
                return stream.read(size if most is None else min(most + 1, size))
        with gzip.open(file) as stream:
            raw = stream.read(min(MOST_UNZIPPED if most is None else most, MOST_UNZIPPED) + 1)
        if len(raw) > MOST_UNZIPPED:
            raise OSError(f"more than {MOST_UNZIPPED} bytes, unzipped")
        return raw
    # Unzipping raises what zlib and Python have, also for want of memory.
    except Exception as error:
        raise InputError(
            f"{file}: expected a readable file, whole if gzipped. Received: {first_line(error)}"
        ) from error


def _is_idx(file: str) -> bool:
    """Whether a file is IDX. A .bin file never is: its pixels may happen to spell the magic."""
    name = os.path.basename(file)
    return not name.endswith(".bin") and ("idx" in name or "ubyte" in name or name.endswith(".gz"))


def _read_idx(file: str) -> np.ndarray:
    """Reads an IDX file: uint8 images [n, h, w] or labels [n]."""
    head = _read_bytes(file, 15)[:16]
    magic = int.from_bytes(head[:4], "big")
    if magic not in _IDX_NDIM:
        raise InputError(
            f"{file}: an IDX file must start with one of {list(_IDX_NDIM)}. Received: {magic=}"
        )
    header = 4 + 4 * _IDX_NDIM[magic]
    shape = [int.from_bytes(head[i : i + 4], "big") for i in range(4, header, 4)]
    # Of Python's integers: a product in 64 bits may wrap round.
    expected = header + math.prod(shape)
    # No more is unzipped than is asked for: a small file may hold more than there is memory.
    raw = _read_bytes(file, expected)
    if len(raw) != expected:
        raise InputError(f"{file}: the header asks for {expected} bytes. "
                         f"Received: bytes={len(raw)}{' or more' * (len(raw) > expected)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def record_layout(dataset: str, channels: int) -> tuple[str, int]:
    """Returns the element type of the original's .bin records and the number of label elements.

    Args:
        dataset: key in `DATASETS`; one that is none has one label.
        channels: 1 (float records) or 3 (bytes).
    """
    if channels == 1:
        return "<f4", 1
    return "u1", DATASETS[dataset].labels_per_record if dataset in DATASETS else 1


def _record_bytes(spec):
    """Bytes of one record of the original's .bin format."""
    dtype, num_labels = record_layout(spec.name, spec.image_shape[-1])
    return (num_labels + math.prod(spec.image_shape)) * np.dtype(dtype).itemsize


def _read_bin(file: str, spec) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads records of the original's format; images [n, h, w, c] float32 or uint8."""
    height, width, channels = spec.image_shape
    dtype, num_labels = record_layout(spec.name, channels)
    record_bytes = _record_bytes(spec)
    length = record_bytes // np.dtype(dtype).itemsize
    raw = _read_bytes(file)
    # The format has no header: a remainder is all that tells of a file that was cut, or of another
    # data set.
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
        arrays = npy_files.read_npz(file, ("images", "labels"))
        received = f"arrays={sorted(arrays)}"
    except InputError as error:
        arrays, received = {}, str(error).partition("Received: ")[2]
    if len(arrays) < 2:
        raise InputError(
            f"{file}: expected an .npz file with the arrays 'images' and 'labels'. Received: {received}"
        )
    images, labels = arrays["images"], arrays["labels"]
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


def checked(
    part: tuple[np.ndarray, np.ndarray, str], spec, num_classes: int, *, any_size: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (images, int32 labels) or raises InputError; num_classes 0 sets no upper bound.

    `any_size` allows heights and widths that are not divisible by 4.
    """
    images, labels, source = part
    shape = images.shape[1:]
    if spec.image_shape and shape != spec.image_shape:
        raise InputError(f"{source}: images must be {spec.image_shape}. Received: {shape=}")
    # The ResNet's SAME convolutions and VALID pooling agree on sizes divisible by 4 only.
    step, words = (1, "") if any_size else (4, " with h and w divisible by 4")
    if len(shape) != 3 or shape[0] % step or shape[1] % step or 0 in shape:
        raise InputError(
            f"{source}: images must be [n, h, w] or [n, h, w, c]{words}. "
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
    # One below the largest int32: the number of classes is the largest label plus one.
    upper = num_classes - 1 if num_classes else np.iinfo(np.int32).max - 1
    # Whole numbers are asked for: MNIST's .bin holds labels as float32, too.
    good = (labels >= 0) & (labels <= upper) & (labels == np.floor(labels))
    if not good.all():
        raise InputError(
            f"{source}: labels must be integers in [0, {upper}]. "
            f"Received: label={labels[np.argmin(good)]}"
        )
    return images, labels.astype(np.int32)


def load_without_files(
    spec: DatasetSpec, split: str, data_dir: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns one unchecked split of a data set that has a source of its own."""
    if not spec.loader:
        return download(spec, split, data_dir)
    images, labels = pkgutil.resolve_name(spec.loader)(split)
    return images, labels, spec.name


def bundled_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
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


def download(spec: DatasetSpec, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns one unchecked split from tensorflow-datasets."""
    try:
        # Inside the try: where the package is missing, the way out is a path, too. Not at the top of
        # the file: reading files starts without TensorFlow.
        import tensorflow_datasets as tfds

        builder = tfds.builder(spec.name, data_dir=os.path.expanduser(data_dir) or None)
        # Only then: a copy that is there is read without a network.
        if not builder.is_prepared():
            _require_host(spec.download_host)
            builder.download_and_prepare()
        batches = list(tfds.as_numpy(builder.as_dataset(split=split, batch_size=1024)))
    except Exception as error:  # TFDS raises many kinds; to the user all mean "no data"
        raise InputError(
            f"{spec.name} could not be had from tensorflow-datasets: give --train_data_path and "
            f"--eval_data_path with .bin or IDX files, or a --data_dir which already holds it. "
            f"Received: data_dir={data_dir!r} ({first_line(error)})"
        ) from error
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    return images, labels, f"tensorflow-datasets {spec.name}"


def _require_host(url: str) -> None:
    """Raises at once when a host cannot be reached; offline, TFDS retries for minutes."""
    with contextlib.suppress(urllib.error.HTTPError):  # any answer shows that the host is there
        urllib.request.urlopen(url, timeout=10).close()


def read_pngs(folder: str) -> tuple[np.ndarray, list[str]]:
    """The PNG files of a folder in order of name, uint8 [n, h, w] (grey) or [n, h, w, 3], without
    their transparency; and their names.

    Raises:
        InputError: no PNG there, one that cannot be read, or pictures of different shapes.
    """
    # In order of name: detect.py gives its answers by name, and the file system has no order.
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() == ".png")
    if not paths:
        raise InputError(f"expected PNG files in {folder}. Received: none.")
    pictures = [_read_png(path) for path in paths]
    if any(picture.ndim == 3 for picture in pictures):
        # Programs that make files smaller store colours as greys where they are.
        pictures = [picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
                    for picture in pictures]
    odd = next((path for path, p in zip(paths, pictures, strict=True)
                if p.shape != pictures[0].shape), None)
    if odd:
        raise InputError(f"expected PNG files of one size in {folder}. Received: {odd.name} "
                         f"differs from {paths[0].name}.")
    return np.stack(pictures), [path.name for path in paths]


def _read_png(path):
    from PIL import Image

    try:
        if not path.is_file():
            raise ValueError("no regular file")
        # Pillow knows many formats by their contents, some by handing them to another program.
        with warnings.catch_warnings(), Image.open(path, formats=["PNG"]) as picture:
            warnings.simplefilter("ignore")
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height} pixels, at most {_MOST_PIXELS}")
            if getattr(picture, "n_frames", 1) > 1:
                raise ValueError("an animation")
            # Pillow would squeeze 16 bits into 8 without a word, those of colours while it reads.
            stored = [str(tile[-1]) for tile in picture.tile]
            if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA") or any(
                    "16" in kind for kind in stored):
                raise ValueError(f"8 bits per channel are read, not {stored[0] if stored else '16'}")
            return np.asarray(picture.convert("L" if _is_grey(picture) else "RGB"))
    # A broken file surfaces as one of many exceptions of Pillow and zlib.
    except Exception as error:
        raise InputError(f"expected a PNG file at {path}. "
                         f"Received: {first_line(error).rstrip('.')}.") from None


def _is_grey(picture):
    # A palette of greys is a grey picture: as RGB it would not fit a network of one channel.
    if picture.mode == "P":
        palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return picture.mode in ("1", "L", "LA")

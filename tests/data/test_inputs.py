"""Readers by round trip and by error; the training pipeline by its promises."""

import gzip
import importlib.util
import itertools
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import DATASETS, DatasetSpec, formats, get_spec, inputs, pipeline
from data.pixels import to_network_input
from errors import InputError
from files.images import save_bin
from networks.running import padded_chunks
from training import optimizers

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("RCE_SHARED", REPOSITORY.parent / "shared"))
RNG = np.random.default_rng(0)


def make_set(n=10, shape=(8, 8, 1), dtype=np.uint8, num_classes=10):
    images = RNG.integers(0, 256, (n, *shape), dtype=np.uint8)
    if dtype == np.float32:
        images = images.astype(np.float32) / np.float32(255)
    labels = RNG.permutation(np.arange(n) % num_classes).astype(np.int32)
    return inputs.ImageSet(images, labels, num_classes, "made up", False)


def idx_bytes(array):
    magic = {3: 2051, 1: 2049}[array.ndim]
    return b"".join(x.to_bytes(4, "big") for x in (magic, *array.shape)) + array.tobytes()


def write_idx(folder, split, n, zipped=False):
    images = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        raw = idx_bytes(array)
        file = folder / f"{split}-{kind}-ubyte{'.gz' if zipped else ''}"
        file.write_bytes(gzip.compress(raw) if zipped else raw)
    return images, labels


def write_npz(path, images=None, labels=None):
    images = np.zeros((4, 8, 8), np.uint8) if images is None else images
    labels = np.arange(len(images)) if labels is None else labels
    np.savez(path, images=images, labels=labels)
    return str(path)


def write_records(path, labels, pixels):
    records = np.concatenate([np.reshape(labels, (-1, 1)), np.atleast_2d(pixels)], 1)
    records.astype("<f4").tofile(path)
    return str(path)


def batches(image_set, **changes):
    arguments = {"batch_size": 8, "seed": 1, "start_step": 0, "num_steps": 4, "augment": False}
    dataset = pipeline.train_dataset(image_set, **(arguments | changes))
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def rejects(*words):
    """InputError whose message has all the words and the received value."""
    return pytest.raises(InputError, match="(?s)" + ".*".join(map(re.escape, (*words, "Received"))))


# --- real files --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Returns (tool, folder): shared/tools/make_data.py as a module, and a folder for its files."""
    path, folder = SHARED / "tools" / "make_data.py", tmp_path_factory.mktemp("real")
    if not path.exists():
        pytest.skip(f"real data absent: no {path}; set RCE_SHARED to the folder that has it")
    spec = importlib.util.spec_from_file_location("make_data", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    yield tool, folder
    shutil.rmtree(folder)  # 250 MB, which pytest would keep for three sessions


def test_mnist_bin_equals_mnist_idx(real):
    tool, folder = real
    tool.mnist_idx(folder)
    tool.mnist_bin(folder)
    for split, n in (("train", 60_000), ("test", 10_000)):
        idx = inputs.load("mnist", str(folder / "mnist_idx"), split)
        records = inputs.load("mnist", str(folder / "mnist_dataset"), split)
        assert idx.images.shape == records.images.shape == (n, 28, 28, 1)
        assert idx.images.dtype == np.uint8 and records.images.dtype == np.float32
        assert idx.has_splits and records.has_splits
        np.testing.assert_array_equal(idx.labels, records.labels)
        np.testing.assert_array_equal(
            to_network_input(idx.images), to_network_input(records.images)
        )
    assert list(idx.labels[:5]) == [7, 2, 1, 0, 4]  # as published


def test_cifar10_bin_is_read_in_file_order(real, monkeypatch):
    pytest.importorskip("PIL")
    tool, folder = real
    with np.load(SHARED / "data" / "cifar10_jpeg.npz") as archive:
        pack = {key: archive[key] for key in archive.files}
    for key in ("train_lengths", "train_labels", "test_lengths", "test_labels"):
        pack[key] = pack[key][:500]  # decoding all 60,000 takes longer than all other tests
    monkeypatch.setattr(tool.np, "load", lambda path: pack)
    tool.cifar_bin(folder)
    folder /= "cifar-10-batches-bin"
    train = inputs.load("cifar10", str(folder / "data_batch_*.bin"), "train")
    assert train.images.shape == (500, 32, 32, 3) and not train.has_splits
    np.testing.assert_array_equal(train.labels, pack["train_labels"])
    raw = np.fromfile(folder / "data_batch_3.bin", np.uint8)[3073 * 17 :][:3073]
    for channel, plane in enumerate(raw[1:].reshape(3, 32, 32)):
        np.testing.assert_array_equal(train.images[217, :, :, channel], plane)
    test = inputs.load("cifar10", str(folder), "test")
    np.testing.assert_array_equal(test.labels, pack["test_labels"])
    assert test.has_splits


# --- what the readers give ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset, shape, dtype",
    [
        ("mnist", (28, 28, 1), np.uint8),
        ("mnist", (28, 28, 1), np.float32),
        ("digits", (8, 8, 1), np.float32),
        ("cifar10", (32, 32, 3), np.uint8),
        ("cifar10", (32, 32, 3), np.float32),
        ("cifar100", (32, 32, 3), np.uint8),
    ],
)
def test_save_bin_round_trip(tmp_path, dataset, shape, dtype):
    written = make_set(20, shape, dtype)
    save_bin(str(tmp_path / "x.bin"), written, dataset)
    read = inputs.load(dataset, str(tmp_path / "x.bin"), "test")
    np.testing.assert_array_equal(
        to_network_input(read.images), to_network_input(written.images)
    )
    np.testing.assert_array_equal(read.labels, written.labels)
    assert read.labels.dtype == np.int32
    assert read.num_classes == get_spec(dataset).num_classes
    assert os.listdir(tmp_path) == ["x.bin"]


def test_save_bin_layouts(tmp_path):
    grey = make_set(2, (28, 28, 1))
    save_bin(str(tmp_path / "g.bin"), grey)
    records = np.fromfile(tmp_path / "g.bin", "<f4").reshape(2, 785)
    np.testing.assert_array_equal(records[:, 0], grey.labels)
    np.testing.assert_array_equal(
        records[:, 1:], grey.images.reshape(2, 784).astype(np.float32) / np.float32(255)
    )
    colour = make_set(2, (32, 32, 3))
    save_bin(str(tmp_path / "c.bin"), colour, "cifar100")
    records = np.fromfile(tmp_path / "c.bin", np.uint8).reshape(2, 3074)
    np.testing.assert_array_equal(records[:, 0], [0, 0])
    np.testing.assert_array_equal(records[:, 1], colour.labels)
    np.testing.assert_array_equal(records[0, 2:1026], colour.images[0, :, :, 0].ravel())


def test_failed_save_bin_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with rejects("writable", "disk full"):
        save_bin(str(path), make_set())
    assert os.listdir(tmp_path) == ["x.bin"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folder_and_glob(tmp_path, zipped):
    train, _ = write_idx(tmp_path, "train", 6, zipped)
    alone = inputs.load("mnist", str(tmp_path), "train")
    assert not alone.has_splits
    test, labels = write_idx(tmp_path, "t10k", 4, zipped)
    for split, images in (("train", train), ("test", test)):
        read = inputs.load("mnist", str(tmp_path), split)
        np.testing.assert_array_equal(read.images[..., 0], images)
        assert read.has_splits
    globbed = inputs.load("mnist", str(tmp_path / "t10k-*"), "train")
    np.testing.assert_array_equal(globbed.images[..., 0], test)
    np.testing.assert_array_equal(globbed.labels, labels)


def test_bin_folder_counts_no_test_set_twice(tmp_path):
    for name, n in (("data_train", 5), ("data_test", 3), ("test_batch", 3)):
        save_bin(str(tmp_path / f"{name}.bin"), make_set(n, (28, 28, 1)))
    assert len(inputs.load("mnist", str(tmp_path), "train").labels) == 5
    assert len(inputs.load("mnist", str(tmp_path), "test").labels) == 3


def test_glob_is_sorted_and_bin_is_never_idx(tmp_path):
    for digit, name in enumerate(("idx_b.bin", "idx_a.bin", "idx_c.bin")):
        write_records(tmp_path / name, [digit], np.zeros(784))
    read = inputs.load("mnist", str(tmp_path / "idx_*.bin"), "test")
    assert list(read.labels) == [1, 0, 2]


@pytest.mark.parametrize("shape", [(12, 8), (12, 8, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_npz(tmp_path, shape, dtype):
    images = RNG.integers(0, 2, (5, *shape)).astype(dtype)
    path = write_npz(tmp_path / "x.npz", images, np.array([0, 1, 2, 1, 0]))
    read = inputs.load("npz", path, "train")
    assert read.images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(read.images, images.reshape(5, 12, 8, -1))
    assert read.num_classes == 3 and list(read.labels) == [0, 1, 2, 1, 0]
    assert inputs.load("npz", path, "train", num_classes=7).num_classes == 7


def test_digits_split_is_fixed_stratified_and_complete():
    from sklearn.datasets import load_digits

    train, test = inputs.load_for_training("digits", "", "")
    assert train.images.shape == (1437, 8, 8, 1) and test.images.shape == (360, 8, 8, 1)
    assert train.images.dtype == np.float32 and train.images.max() == 1 and train.has_splits
    rows = np.concatenate([train.images, test.images]).reshape(-1, 64) * 16
    original = load_digits().data
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], original[np.lexsort(original.T)])
    share = np.bincount(test.labels) / np.bincount(np.append(train.labels, test.labels))
    assert np.abs(share - 0.2).max() < 0.01
    np.testing.assert_array_equal(test.images, inputs.load("digits", "", "test").images)
    assert list(test.labels[:8]) == [7, 6, 3, 7, 7, 3, 2, 8]  # the split of every version of this code


@pytest.mark.parametrize("dataset", ["mnist", "cifar10", "cifar100"])
def test_tfds(dataset, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(formats, "_require_host", lambda url: None)
    spec = get_spec(dataset)
    with tfds.testing.mock_data(num_examples=7):
        train, test = inputs.load_for_training(dataset, "", "")
        features = tfds.as_numpy(tfds.load(dataset, split="test"))
        expected = [row["label"] for row in features]
    assert train.images.shape == test.images.shape == (7, *spec.image_shape)
    assert train.images.dtype == np.uint8 and train.has_splits
    assert train.num_classes == spec.num_classes
    assert list(test.labels) == expected


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")

    def offline(*_, **__):
        raise OSError("no network\nand a long trace")

    monkeypatch.setattr(formats.urllib.request, "urlopen", offline)
    with rejects("--train_data_path", "--eval_data_path", "--data_dir") as caught:
        inputs.load("cifar100", "", "train", data_dir=str(tmp_path))
    assert "no network" in str(caught.value) and "\n" not in str(caught.value)


def test_load_for_training_takes_each_split_where_it_is_known(tmp_path):
    write_idx(tmp_path, "train", 6)
    write_idx(tmp_path, "t10k", 4)
    train, test = inputs.load_for_training("mnist", str(tmp_path), str(tmp_path))
    assert (len(train.labels), len(test.labels)) == (6, 4)
    train, test = inputs.load_for_training("mnist", str(tmp_path), "")
    assert len(train.labels) == 6 and test is None


def test_load_for_training_keeps_classes_and_shape(tmp_path):
    train = write_npz(tmp_path / "train.npz")
    few = write_npz(tmp_path / "few.npz", labels=np.zeros(4, int))
    assert inputs.load_for_training("npz", train, few)[1].num_classes == 4
    many = write_npz(tmp_path / "many.npz", labels=np.array([0, 1, 2, 4]))
    with rejects("many.npz", "[0, 3]"):
        inputs.load_for_training("npz", train, many)
    wide = write_npz(tmp_path / "wide.npz", np.zeros((4, 8, 12), np.uint8))
    with rejects("wide.npz", "shape"):
        inputs.load_for_training("npz", train, wide)


# --- what the readers refuse -------------------------------------------------------------------


def test_names_are_checked():
    assert tuple(DATASETS) == ("mnist", "cifar10", "cifar100", "digits", "npz")
    with rejects("'mnist', 'cifar10', 'cifar100', 'digits', 'npz'"):
        get_spec("imagenet")
    with rejects("train", "test"):
        inputs.load("digits", "", "validation")
    with rejects("npz"):
        inputs.load("npz", "", "train")


def test_absent_files(tmp_path):
    for path in (tmp_path / "absent.bin", tmp_path / "*.bin"):
        with rejects("no file"):
            inputs.load("mnist", str(path), "train")
    write_idx(tmp_path, "train", 3)
    with rejects("test split", "t10k"):
        inputs.load("mnist", str(tmp_path), "test")


@pytest.mark.parametrize("label", [10, -1, 1.5, np.nan])
def test_bin_labels(tmp_path, label):
    with rejects("x.bin", "[0, 9]"):
        inputs.load("digits", write_records(tmp_path / "x.bin", [3, label], np.zeros((2, 64))), "test")


@pytest.mark.parametrize("pixel", [-0.01, 1.01, np.nan, np.inf])
def test_bin_pixels(tmp_path, pixel):
    pixels = np.zeros(64)
    pixels[9] = pixel
    with rejects("x.bin", "[0, 1]"):
        inputs.load("digits", write_records(tmp_path / "x.bin", [3], pixels), "test")


def test_cifar_labels(tmp_path):
    record = np.zeros((1, 3074), np.uint8)
    record[0, :2] = 150, 99  # the coarse label does not count
    record.tofile(tmp_path / "x.bin")
    assert inputs.load("cifar100", str(tmp_path / "x.bin"), "test").labels == [99]
    record[0, 1] = 100
    record.tofile(tmp_path / "x.bin")
    with rejects("[0, 99]"):
        inputs.load("cifar100", str(tmp_path / "x.bin"), "test")


@pytest.mark.parametrize("dataset", ["mnist", "cifar10", "cifar100", "digits"])
def test_truncated_and_empty_records(tmp_path, dataset):
    path = tmp_path / "x.bin"
    save_bin(str(path), make_set(3, get_spec(dataset).image_shape), dataset)
    path.write_bytes(path.read_bytes()[:-1])
    with rejects("x.bin", "record"):
        inputs.load(dataset, str(path), "test")
    path.write_bytes(b"")
    with rejects("x.bin", "at least one image"):
        inputs.load(dataset, str(path), "test")


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda raw: b"\0\0\x08\x02" + raw[4:], ["[2051, 2049]"]),
        (lambda raw: raw[:2], ["[2051, 2049]"]),
        (lambda raw: raw[:-1], ["header"]),
        (lambda raw: raw + b"\0", ["header"]),
        (lambda raw: gzip.compress(raw)[:-20], ["gzipped"]),
        (lambda raw: idx_bytes(np.zeros((3, 28, 24), np.uint8)), ["(28, 28, 1)"]),
        (lambda raw: idx_bytes(np.zeros((4, 28, 28), np.uint8)), ["equally many"]),
        (lambda raw: idx_bytes(np.zeros(3, np.uint8)), ["pairs"]),
    ],
)
def test_damaged_idx(tmp_path, damage, words):
    write_idx(tmp_path, "train", 3)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with rejects("train-images-idx3-ubyte", *words) if words != ["pairs"] else rejects("pairs"):
        inputs.load("mnist", str(tmp_path), "train")


def test_idx_without_labels(tmp_path):
    write_idx(tmp_path, "train", 3)
    with rejects("pairs"):
        inputs.load("mnist", str(tmp_path / "train-images-idx3-ubyte"), "train")


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (np.zeros((2, 8, 8), np.int64), None, "uint8 or float"),
        (np.zeros((2, 8, 8), np.uint8), np.array([0.0, 1.0]), "labels must be integers"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 1), int), "labels must be integers"),
        (np.zeros((2, 8, 8), np.uint8), np.array([0, -1]), "labels must be integers"),
        (np.zeros((2, 8, 8), np.uint8), np.array([0, 0]), "2 classes"),
        (np.zeros((2, 8, 8), np.uint8), np.arange(3), "equally many"),
        (np.zeros((2, 8, 10), np.uint8), None, "divisible by 4"),
        (np.zeros((2, 64), np.uint8), None, "divisible by 4"),
        (np.full((2, 8, 8), 255.0), None, "[0, 1]"),
        (np.full((2, 8, 8), np.nan), None, "[0, 1]"),
        (np.zeros((0, 8, 8), np.uint8), None, "at least one image"),
        (np.array([None, {}]), None, "expected an .npz"),
    ],
)
def test_npz_contents(tmp_path, images, labels, words):
    path = write_npz(tmp_path / "x.npz", images, labels)
    with rejects("x.npz", words):
        inputs.load("npz", path, "train")


def test_npz_files(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((2, 8, 8), np.uint8))
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    bare = (tmp_path / "array.npy").read_bytes()
    for raw in (whole, whole[:-30], b"not a zip", b"", bare):
        path.write_bytes(raw)
        with rejects("x.npz", "'images' and 'labels'"):
            inputs.load("npz", str(path), "train")


def test_save_bin_refusals(tmp_path):
    path, colour = str(tmp_path / "x.bin"), make_set(2, (4, 4, 3), np.float32)
    colour.images[1, 2, 3, 1] = 0.5
    with rejects("multiples of 1/255"):
        save_bin(path, colour)
    with rejects("1 or 3 channels"):
        save_bin(path, make_set(2, (4, 4, 2)))
    with rejects("one byte"):
        save_bin(path, make_set(300, (4, 4, 3), num_classes=300))
    assert not os.listdir(tmp_path)


# --- network input and training batches --------------------------------------------------------


def test_network_input_is_exact():
    levels = np.arange(256, dtype=np.uint8)
    expected = levels.astype(np.float32) / np.float32(255) - np.float32(0.5)
    np.testing.assert_array_equal(to_network_input(levels), expected)
    fractions = levels.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(to_network_input(fractions), expected)
    assert expected.min() == -0.5 and expected.max() == 0.5


def test_network_input_equals_the_original():
    golden = SHARED / "golden" / "forward_mnist_u1_rce.npz"
    if not golden.exists():
        pytest.skip(f"real data absent: no {golden}; set RCE_SHARED to the folder that has it")
    with np.load(golden) as arrays:
        found = to_network_input(arrays["images_uint8"])
        np.testing.assert_array_equal(found, arrays["images"])
        assert found.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_have_the_exact_network_input(dtype):
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    if dtype == np.float32:
        images = images.astype(np.float32) / np.float32(255)
    image_set = inputs.ImageSet(images, np.arange(4, dtype=np.int32), 4, "levels", False)
    for x, y in batches(image_set, batch_size=4):
        assert x.dtype == np.float32 and y.dtype == np.int32
        np.testing.assert_array_equal(x, to_network_input(images)[y])


@pytest.mark.parametrize("n, batch_size", [(1, 4), (2, 3), (7, 3), (10, 25), (100, 10)])
def test_each_epoch_is_a_permutation(n, batch_size):
    image_set = make_set(n, num_classes=n)
    labels = [y for _, y in batches(image_set, batch_size=batch_size, num_steps=3 * n)]
    epochs = np.concatenate(labels)[: 3 * n].reshape(3, n)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(n), (3, 1)))
    if n >= 7:
        assert not any(np.array_equal(a, b) for a, b in itertools.combinations(epochs, 2))


@pytest.mark.parametrize("augment", [False, True])
def test_resuming_and_replicas_change_nothing(augment):
    image_set = make_set(30, (8, 8, 3))
    whole = batches(image_set, augment=augment, num_steps=12)
    assert len(whole) == 12
    resumed = batches(image_set, augment=augment, num_steps=12, start_step=5)
    parts = batches(image_set, augment=augment, num_steps=12, num_replicas=4)
    second = batches(image_set, augment=augment, num_steps=12, num_replicas=4, replica_ids=[2, 1])
    assert parts[0][0].shape == (2, 8, 8, 3)
    for field in (0, 1):
        columns = [np.stack([b[field] for b in x]) for x in (whole, resumed, parts, second)]
        np.testing.assert_array_equal(columns[1], columns[0][5:])
        np.testing.assert_array_equal(columns[2].reshape(columns[0].shape), columns[0])
        by_replica = columns[2].reshape(12, 4, *columns[2].shape[1:])
        np.testing.assert_array_equal(columns[3].reshape(by_replica[:, :2].shape)[:, 0],
                                      by_replica[:, 2])  # fmt: skip
        np.testing.assert_array_equal(columns[3][1::2], by_replica[:, 1])


def test_static_shapes():
    dataset = pipeline.train_dataset(
        make_set(30), batch_size=8, seed=0, start_step=0, num_steps=1, augment=True, num_replicas=2
    )
    assert [tuple(spec.shape) for spec in dataset.element_spec] == [(4, 8, 8, 1), (4,)]


def test_seeds_differ():
    image_set = make_set(100, num_classes=100)
    orders = [np.concatenate([y for _, y in batches(image_set, seed=s)]) for s in range(4)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(orders, 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_epochs_are_well_mixed(seed):
    image_set = make_set(100, num_classes=100)
    labels = [y for _, y in batches(image_set, seed=seed, batch_size=100, num_steps=4)]
    for a, b in itertools.combinations([image_set.labels, *labels], 2):
        assert np.sum(a == b) <= 6  # 1 is expected; a poor key leaves 20 and more in place


def naive_augmentations(image):
    """All 25 crops of the padded raw image, each as it is and flipped, as network input."""
    padded = np.zeros((12, 12, 3), np.uint8)
    padded[2:10, 2:10] = image
    for row, column, step in itertools.product(range(5), range(5), (1, -1)):
        crop = padded[row : row + 8, column : column + 8][:, ::step]
        yield (row, column, step), to_network_input(crop)


def test_augmentation_is_a_shift_of_at_most_2_and_a_flip():
    image_set, found = make_set(40, (8, 8, 3), num_classes=40), []
    for x, y in batches(image_set, batch_size=40, num_steps=25, augment=True):
        for image, label in zip(x, y, strict=True):
            raw = image_set.images[np.flatnonzero(image_set.labels == label)[0]]
            matches = [k for k, v in naive_augmentations(raw) if np.array_equal(v, image)]
            assert len(matches) == 1
            found += matches
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 50  # all 25 x 2 occur, about equally often: 20 +- 4.4 each
    assert counts.min() >= 5 and counts.max() <= 40
    steps = np.reshape([row * 10 + column * 2 + (flip > 0) for row, column, flip in found], (25, -1))
    assert len(np.unique(steps, axis=0)) == 25  # drawn anew at each step


def test_only_colour_photographs_are_augmented():
    assert [n for n, spec in DATASETS.items() if spec.augment] == ["cifar10", "cifar100"]


def test_batch_size_must_divide():
    with rejects("3 replicas"):
        batches(make_set(), num_replicas=3)
    with rejects("batch_size"):
        batches(make_set(), batch_size=0)


# --- evaluation helpers ------------------------------------------------------------------------


@pytest.mark.parametrize("n, size", [(7, 3), (6, 3), (2, 5), (0, 3)])
def test_padded_chunks(n, size):
    array = np.arange(2 * n, dtype=np.int32).reshape(n, 2) + 1
    chunks = list(padded_chunks(array, size))
    assert len(chunks) == -(-n // size)
    assert all(chunk.shape == (size, 2) and chunk.dtype == np.int32 for chunk, _ in chunks)
    joined = [chunk[:valid] for chunk, valid in chunks]
    np.testing.assert_array_equal(np.concatenate([array[:0], *joined]), array)
    assert not any(chunk[valid:].any() for chunk, valid in chunks)
    with rejects("size"):
        next(padded_chunks(array, 0))


def test_subset_indices():
    everything = inputs.subset_indices(50, -1, 3)
    assert everything.dtype == np.int64
    np.testing.assert_array_equal(np.sort(everything), np.arange(50))
    assert not np.array_equal(everything, np.arange(50))
    np.testing.assert_array_equal(inputs.subset_indices(50, 60, 3), everything)
    np.testing.assert_array_equal(inputs.subset_indices(50, 9, 3), everything[:9])
    assert not np.array_equal(inputs.subset_indices(50, 9, 4), everything[:9])
    with rejects("count"):
        inputs.subset_indices(50, 0, 3)


def test_reading_needs_no_tensorflow(tmp_path):
    path = write_npz(tmp_path / "x.npz")
    code = (
        "import sys; from data import inputs, pixels; "
        f"pixels.to_network_input(inputs.load('npz', {path!r}, 'train').images); "
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'sklearn', 'tensorflow_datasets')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


# Rows.


def load_toy(split):
    """What a row's loader gives: 20 images for training, 4 for testing."""
    count = {"train": 20, "test": 4}[split]
    return np.full((count, 4, 4, 1), 7, np.uint8), np.arange(count) % 2


def test_a_data_set_is_one_row(monkeypatch):
    row = DatasetSpec("toy", (4, 4, 1), 2, augment=False, loader=f"{__name__}:load_toy",
                      lr_boundaries=(3, 5))
    monkeypatch.setitem(DATASETS, "toy", row)
    train, test = inputs.load_for_training("toy", "", "")
    assert (train.images.shape, test.images.shape) == ((20, 4, 4, 1), (4, 4, 4, 1))
    assert (train.num_classes, train.source, train.has_splits) == (2, "toy", True)
    assert optimizers.default_boundaries("toy", 100) == (3, 5)


def test_what_a_loader_gives_is_checked(monkeypatch):
    row = DatasetSpec("toy", (8, 8, 1), 2, augment=False, loader=f"{__name__}:load_toy")
    monkeypatch.setitem(DATASETS, "toy", row)
    with rejects("toy: images must be (8, 8, 1)"):
        inputs.load("toy", "", "train")


def test_a_data_set_without_a_source_asks_for_a_path(monkeypatch):
    monkeypatch.setitem(DATASETS, "toy", DatasetSpec("toy", (4, 4, 1), 2, augment=False))
    with rejects("'toy' needs the path of a .bin or IDX file"):
        inputs.load("toy", "", "train")


@pytest.mark.parametrize("spec", DATASETS.values())
def test_rows_are_whole(spec):
    assert spec.name == next(name for name, row in DATASETS.items() if row is spec)
    assert not (spec.loader and spec.download_host)
    assert spec.is_archive == (spec.image_shape is None) == (spec.num_classes is None)
    assert sorted(set(spec.lr_boundaries)) == list(spec.lr_boundaries)
    assert not spec.loader or callable(pkgutil.resolve_name(spec.loader))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_asks_for_more_than_a_read_takes(tmp_path, zipped):
    path = tmp_path / "t10k-images-idx3-ubyte"
    raw = b"".join(number.to_bytes(4, "big") for number in (2051, 2**31, 2**31, 4))
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(InputError, match=f"asks for {2**64 + 16} bytes. Received: bytes=16$"):
        formats.read_files([str(path)], get_spec("mnist"))

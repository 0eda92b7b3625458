"""Every reader against damaged files: one InputError that names the file, or what is still readable; no
other exception, no hang, no gigabyte, and the file as it was.

The mutations of a file are drawn from its name: truncated, bits flipped, extended, pieces swapped, runs
of huge numbers. Files are small, so that a claim of much memory is one that no file bears out.
"""

import gzip
import json
import random
import resource
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import formats, inputs
from data.inputs import ImageSet
from data.npy_files import read_npy, read_npz
from errors import InputError
from files import checkpoints, detectors, provenance
from files.arrays import read_mat
from files.images import save_bin
from files.result_files import load_per_image

NUM = 300
GIGABYTE = 2**30


def mutated(data: bytes, seed: str) -> bytes:
    """One mutation of a file."""
    draw = random.Random(seed)
    data = bytearray(data)
    at, length = draw.randrange(len(data)), draw.randrange(1, 17)
    match draw.randrange(6):
        case 0:
            return bytes(data[:at])
        case 1:
            for _ in range(draw.randrange(1, 9)):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case 2:
            data += draw.randbytes(length * 16)
        case 3:
            other = draw.randrange(len(data))
            data[at:at + length], data[other:other + length] = (
                data[other:other + length], data[at:at + length])
        case 4:
            data[at:at + 4] = draw.choice((b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\0\0\0\x80", b"9999"))
        case 5:
            # Near the beginning, where headers make their claims.
            data[draw.randrange(min(64, len(data)))] = draw.randrange(256)
    return bytes(data)


def survives(path, read, num=NUM):
    """Reads `num` mutations of the file at `path`; counts those that are refused."""
    whole, refused = path.read_bytes(), 0
    read()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(num):
        data = mutated(whole, f"{path.name}/{number}")
        path.write_bytes(data)
        try:
            read()
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
            assert path.name.split(".")[0] in str(error) or str(path.parent) in str(error), error
        assert path.read_bytes() == data
    # Linux tells kilobytes.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) * 1024 < GIGABYTE
    assert refused
    return refused


@pytest.fixture
def images():
    """Four pictures of two classes, grey, 8 × 8."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (4, 8, 8, 1), np.uint8), np.array([0, 1, 1, 0])


def load(dataset, path):
    return lambda: inputs.load(dataset, str(path), "test")


def test_bin(tmp_path):
    draw = np.random.default_rng(0)
    path = tmp_path / "test.bin"
    save_bin(str(path), ImageSet(draw.integers(0, 256, (2, 28, 28, 1), np.uint8),
                                 np.array([0, 1]), 10, "", False), "mnist")
    survives(path, load("mnist", path))


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path, zipped):
    suffix, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8).tobytes()
    files = {f"t10k-images-idx3-ubyte{suffix}": struct.pack(">4I", 2051, 2, 28, 28) + pixels,
             f"t10k-labels-idx1-ubyte{suffix}": struct.pack(">2I", 2049, 2) + b"\0\1"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(pack(data))
    for name in files:
        survives(tmp_path / name, load("mnist", tmp_path))
        (tmp_path / name).write_bytes(pack(files[name]))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, images, save):
    path = tmp_path / "test.npz"
    save(path, images=images[0], labels=images[1])
    survives(path, load("npz", path))
    save(path, images=images[0], labels=images[1])
    survives(path, lambda: read_npz(path))


def test_npy(tmp_path, images):
    path = tmp_path / "images.npy"
    np.save(path, images[0])
    survives(path, lambda: inputs.load_images(str(path)))
    np.save(path, images[0])
    survives(path, lambda: read_npy(path, mmap_mode="r"))


@pytest.mark.parametrize("compressed", [False, True])
def test_mat(tmp_path, compressed):
    path = tmp_path / "kernels.mat"
    scipy.io.savemat(path, {"kernel_RCE": np.random.default_rng(0).normal(size=(3, 4, 2)), "x": "text"},
                     do_compression=compressed)
    survives(path, lambda: read_mat(path, "kernel_RCE"))


def test_mat_of_version_73(tmp_path):
    import h5py

    path = tmp_path / "kernels.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["kernel_RCE"] = np.random.default_rng(0).normal(size=(2, 4, 3))
    assert read_mat(path, "kernel_RCE").shape == (3, 4, 2)
    survives(path, lambda: read_mat(path, "kernel_RCE"))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA"])
def test_png(tmp_path, mode):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    path = tmp_path / "picture.png"
    picture.convert(mode).save(path)
    survives(path, lambda: formats.read_pngs(str(tmp_path)), NUM // 3)


def test_png_that_claims_many_pixels(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for size in (5000, 20000, 60000):
        (tmp_path / "x.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
        with pytest.raises(InputError, match="pixels"):
            formats.read_pngs(str(tmp_path))


def test_detector(tmp_path):
    path = tmp_path / "detector.npz"
    draw = np.random.default_rng(0)
    detectors.save(path, {
        "kernels": draw.normal(size=(3, 4, 2)), "thresholds": draw.normal(size=(2, 2)),
        "false_refusal_rates": [0.01, 0.05], "fitted_on": [0, 1], "fitted_images": np.uint64([5, 6]),
        "bandwidth": 1.0, "non_me_variance": 0.5, "eta": 1.0, "scores": ("confidence", "non_me"),
        "network": {"dataset": "digits", "image_shape": [8, 8, 1], "num_classes": 2,
                    "objective": "ce", "weights_sha256": "0" * 64}})
    survives(path, lambda: detectors.load(path))


def test_run_record(tmp_path):
    path = provenance.write(tmp_path, "test_adv", flags={"seed": 0}, metrics={"eps": [0.1, None]})
    survives(path, lambda: provenance.read(tmp_path, "test_adv"))
    for text in ("[" * 100000, "9" * 5000, json.dumps({"flags": {}, "metrics": []}), '{"flags": {}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="test_adv_run"):
            provenance.read(tmp_path, "test_adv")


def test_results(tmp_path):
    path = tmp_path / "results.npz"
    np.savez(path, image_index=np.arange(5), eps=np.full(5, 0.1), success=np.ones(5, bool))
    survives(path, lambda: load_per_image(tmp_path, 5))


def _checkpoint(tmp_path):
    import tensorflow as tf

    run = checkpoints.TrainingRun(
        dataset="digits", image_shape=(8, 8, 1), num_classes=10, blocks_per_stage=1, objective="ce",
        optimizer="mom", batch_size=1, lr_boundaries=(1,), total_steps=2, seed=0)
    variables = {f"layer_{k}/kernel": tf.Variable(tf.random.normal([3, 4])) for k in range(4)}
    checkpoints.Checkpoints(str(tmp_path), run, variables, {}).save(1)
    return variables


@pytest.mark.parametrize("num", [30, pytest.param(NUM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001", ""])
def test_checkpoint(tmp_path, num, suffix):
    variables = _checkpoint(tmp_path)
    file = tmp_path / "checkpoint" if not suffix else tmp_path / f"model.ckpt-1{suffix}"

    def read():
        found, _ = checkpoints.newest_whole(str(tmp_path))
        if found:
            checkpoints.read_record(found)
            checkpoints.restore_network(found, variables)

    if suffix:
        survives(file, read, num)
        return
    for number in range(num):  # whatever the state file says, the checkpoint beside it is found
        file.write_bytes(mutated(b'model_checkpoint_path: "model.ckpt-1"\n', f"state/{number}"))
        try:
            read()
        except InputError as error:
            assert str(tmp_path) in str(error)


@pytest.mark.parametrize("num", [30, pytest.param(NUM, marks=pytest.mark.slow)])
def test_keras(tmp_path, num):
    import keras

    from networks import portable

    path = tmp_path / "mine.keras"
    keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten(),
                      keras.layers.Dense(2)]).save(path)
    survives(path, lambda: portable.load_model(path), num)

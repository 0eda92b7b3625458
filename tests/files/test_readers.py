"""What is read is what was promised: members of each kind of file that people bring, good and bad."""

import gzip
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import formats, inputs
from data.npy_files import read_npy, read_npz
from errors import InputError
from files import attack_parts, attack_results, detectors
from files.arrays import as_labels, read_mat
from files.features import load_kernels

HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n"


def npy(descr, shape, data=b"", version=b"\1\0"):
    """A `.npy` file whose header says what it is told to."""
    header = HEADER.format(descr, shape).encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=">f4").reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.zeros((0, 3)), np.array(5), np.array(["a", "bc"]), np.array([True]), np.array([1 + 2j])])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", x=array)
    for found in (read_npy(tmp_path / "a.npy"), read_npz(tmp_path / "a.npz")["x"]):
        np.testing.assert_array_equal(found, np.load(tmp_path / "a.npy"))
        assert found.dtype == array.dtype and found.shape == array.shape


@pytest.mark.parametrize("raw", [
    npy("|u1", "(200000000, 28, 28, 1)"), npy("|u1", "(4,)", b"12345"), npy("|u1", "(-1,)", b""),
    npy("|u1", "(4294967296, 4294967296)"), npy("|O", "(1,)", pickle.dumps([print])),
    npy("|V0", "(1000000000000,)"), npy("<f8", "(2,)", b"\0" * 8), npy("|u1", "(1,)", b"1", b"\3\0"),
    npy("|u1", "(" * 3000, b""), npy("|u1", "__import__('os')", b""), b"text", b"", b"\x93NUMPY"])
def test_arrays_that_are_not_as_they_claim_are_refused(tmp_path, raw):
    (tmp_path / "a.npy").write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", raw)
        archive.writestr("labels.npy", npy("|u1", "(2,)", b"\0\1"))
    for read in (lambda: read_npy(tmp_path / "a.npy"), lambda: read_npz(tmp_path / "a.npz"),
                 lambda: inputs.load("npz", str(tmp_path / "a.npz"), "test")):
        with pytest.raises(InputError, match=r"a\.np[yz]"):
            read()


def test_an_archive_that_claims_more_than_it_can_hold_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy("|u1", "(100000,)", bytes(100000)))
    raw = bytearray(path.read_bytes())
    at = raw.rindex(struct.pack("<I", len(npy("|u1", "(100000,)", bytes(100000)))))
    raw[at:at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.npz.*claims 2147483648 bytes"):
        read_npz(path)


# --- Kernels as Matlab saves them ---

KERNELS = np.arange(24.0).reshape(3, 4, 2)


@pytest.mark.parametrize("array", [KERNELS, KERNELS.astype(np.float32), KERNELS.astype(np.int16)])
def test_real_numbers_of_every_type_are_read(tmp_path, array):
    scipy.io.savemat(tmp_path / "k.mat", {"kernel": array, "other": "text"})
    np.testing.assert_array_equal(read_mat(tmp_path / "k.mat", "kernel"), KERNELS)


@pytest.mark.parametrize("options", [
    {"do_compression": True}, {"do_compression": False}])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i2", ">f4"])
def test_matlabs_earlier_format_is_read_as_scipy_reads_them(tmp_path, options, dtype):
    numbers = np.arange(6).reshape(2, 3).astype(dtype)
    scipy.io.savemat(tmp_path / "k.mat", {"before": "text", "k": numbers, "after": KERNELS[0]},
                     **options)
    np.testing.assert_array_equal(read_mat(tmp_path / "k.mat", "k"), numbers)
    with pytest.raises(InputError, match=r"arrays=\['after', 'before', 'k'\]"):
        read_mat(tmp_path / "k.mat", "none")


@pytest.mark.parametrize("kind", [0, 8, 10, 14, 16, 200, 2**15])
def test_an_unknown_type_of_numbers_does_not_end_the_process(tmp_path, kind):
    scipy.io.savemat(tmp_path / "k.mat", {"kernel": KERNELS}, do_compression=False)
    raw = bytearray((tmp_path / "k.mat").read_bytes())
    at = raw.rindex(struct.pack("<2I", 9, KERNELS.nbytes))
    raw[at:at + 4] = struct.pack("<I", kind)
    (tmp_path / "k.mat").write_bytes(raw)
    with pytest.raises(InputError, match=r"k\.mat"):
        read_mat(tmp_path / "k.mat", "kernel")


@pytest.mark.parametrize("value", ["1e300", "1e18", "4294967296", "-1", "0.5", "nan"])
def test_what_is_no_class_number_is_named_with_its_row(tmp_path, value):
    with pytest.raises(InputError, match=r"class numbers .*labels.*row 2="):
        as_labels(tmp_path / "labels", np.array([0.0, float(value)]))


@pytest.mark.parametrize("array", [
    "text", {"field": 1.0}, KERNELS * 1j, np.array([1, "a"], object), scipy.sparse.eye(3),
    np.ones((2, 2), bool)])
def test_what_is_no_real_numbers_is_refused(tmp_path, array):
    scipy.io.savemat(tmp_path / "k.mat", {"kernel": array})
    with pytest.raises(InputError, match=r"the array kernel of real numbers in .*k\.mat"):
        read_mat(tmp_path / "k.mat", "kernel")


def test_version_73_is_read_with_its_axes_reversed(tmp_path):
    import h5py

    with h5py.File(tmp_path / "k.mat", "w", userblock_size=512) as file:
        file["kernel"] = KERNELS.T
        file["text"] = np.array([104, 105], np.uint16)
        file["complex"] = np.zeros(2, [("real", "f8"), ("imag", "f8")])
        for kind in ("char", "logical", "cell"):
            file[kind] = np.ones((2, 4, 3), np.uint16)
            file[kind].attrs["MATLAB_class"] = np.bytes_(kind)
        file["empty"] = np.array([0, 4, 2], np.uint64)
        file["empty"].attrs["MATLAB_empty"] = 1
        file.create_dataset("outside", shape=(2, 4, 3), dtype="f8", external=[("/etc/passwd", 0, 192)])
        layout = h5py.VirtualLayout(shape=(2, 4, 3), dtype="f8")
        layout[...] = h5py.VirtualSource("other.h5", "k", shape=(2, 4, 3))
        file.create_virtual_dataset("virtual", layout)
        file.create_group("struct")
        file.create_dataset("huge", shape=(2**40,), dtype="f8", chunks=(1024,))
    np.testing.assert_array_equal(read_mat(tmp_path / "k.mat", "kernel"), KERNELS)
    for name in ("complex", "struct", "huge", "char", "logical", "cell", "empty", "outside", "virtual"):
        with pytest.raises(InputError, match=rf"the array {name} of real numbers"):
            read_mat(tmp_path / "k.mat", name)
    with pytest.raises(InputError, match=r"Received: arrays=\['cell', .*'text'"):
        read_mat(tmp_path / "k.mat", "kernels")


def test_data_of_other_files_is_not_read(tmp_path):
    import h5py

    (tmp_path / "secret").write_bytes(KERNELS.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = KERNELS
    layout = h5py.VirtualLayout(shape=KERNELS.shape, dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", shape=KERNELS.shape)
    with h5py.File(tmp_path / "k.mat", "w", userblock_size=512) as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", KERNELS.shape, "f8",
                            external=[(str(tmp_path / "secret"), 0, KERNELS.nbytes)])
    for name in ("virtual", "external"):
        with pytest.raises(InputError, match=rf"the array {name} of real numbers"):
            read_mat(tmp_path / "k.mat", name)


# --- Pictures ---

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def test_greys_among_colours_become_colours(tmp_path):
    colour = np.stack([GREY, GREY.T, GREY], axis=-1)
    for number, picture in enumerate((colour, GREY, np.repeat(GREY[..., None], 3, axis=-1))):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    found, names = formats.read_pngs(str(tmp_path))
    assert found.shape == (3, 8, 8, 3) and names == ["0.png", "1.png", "2.png"]
    np.testing.assert_array_equal(found[0], colour)
    np.testing.assert_array_equal(found[1], found[2])


@pytest.mark.parametrize(("images", "shape", "fits"), [
    (GREY[None], (8, 8, 1), True), (GREY[None], (8, 8, 3), True),
    (GREY[None, ..., None], (8, 8, 3), True),
    (np.repeat(GREY[None, ..., None], 3, axis=-1), (8, 8, 1), True),
    (np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3), (8, 8, 1), False)])
def test_the_networks_channels_decide(images, shape, fits):
    if fits:
        found = inputs.checked_images(images, shape)
        assert found.shape == (1, *shape)
        np.testing.assert_array_equal(found[..., 0], images.reshape(1, 8, 8, -1)[..., 0])
    else:
        with pytest.raises(InputError, match="of shape"):
            inputs.checked_images(images, shape)


def saved_as(kind, **options):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("raw", [
    saved_as("GIF"), saved_as("BMP"), saved_as("TIFF"), saved_as("JPEG"), saved_as("PPM"),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
    b"<svg/>", b"", saved_as("PNG")[:40],
    saved_as("PNG", save_all=True, append_images=[Image.fromarray(GREY.T)])])
def test_what_is_no_picture_in_png_is_refused_and_starts_no_program(tmp_path, monkeypatch, raw):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "x.png").write_bytes(raw)
    with pytest.raises(InputError, match=r"expected a PNG file at .*x\.png\. Received: .+\."):
        formats.read_pngs(str(tmp_path))
    assert not (tmp_path / "started").exists()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("bits", "kind", "row"), [
    (16, 0, 16), (16, 2, 48), (16, 4, 32), (16, 6, 64), (2, 0, 2), (4, 0, 4)])
def test_what_8_bits_cannot_hold_is_refused_in_every_kind_of_png(tmp_path, bits, kind, row):
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(8 * (1 + row)))) + chunk(b"IEND", b""))
    if bits < 16:
        assert formats.read_pngs(str(tmp_path))[0].shape == (1, 8, 8)
        return
    with pytest.raises(InputError, match=r"x\.png.*8 bits"):
        formats.read_pngs(str(tmp_path))


# --- Folders as people have them ---

def idx(array):
    magic = 2051 if array.ndim == 3 else 2049
    return struct.pack(f">{array.ndim + 1}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("beside", ["folder", "fifo", "page", "cut"])
def test_of_what_matches_the_files_that_can_be_read_are_taken(tmp_path, beside):
    arrays = {"images-idx3": np.zeros((2, 28, 28)), "labels-idx1": np.array([0, 1])}
    for name, array in arrays.items():
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
        other = tmp_path / f"t10k-{name}-ubyte"
        match beside:
            case "folder":
                other.mkdir()
            case "fifo":
                os.mkfifo(other)
            case "page":
                other.write_bytes(b"<html>404</html>")
            case "cut":
                other.write_bytes(b"")
    assert len(inputs.load("mnist", str(tmp_path), "test").labels) == 2


PAIR = {"train-images-idx3-ubyte": idx(np.zeros((2, 28, 28))),
        "train-labels-idx1-ubyte": idx(np.array([0, 1]))}
ZIPPED = {f"{name}.gz": gzip.compress(data) for name, data in PAIR.items()}
IMAGES, LABELS = PAIR


@pytest.mark.parametrize("beside", [
    PAIR, {IMAGES: PAIR[IMAGES][:700]}, {IMAGES: PAIR[IMAGES] + b"x"}, {LABELS: PAIR[LABELS]},
    {LABELS: PAIR[LABELS][:9]}, {name.replace("-idx", ".idx"): data for name, data in PAIR.items()},
    {"train-images-old-ubyte": b"<html>"}, {"train.bin": b"odd"}])
def test_whole_zipped_files_are_read_once_whatever_lies_beside(tmp_path, beside):
    for name, data in {**ZIPPED, **beside}.items():
        (tmp_path / name).write_bytes(data)
    assert len(inputs.load("mnist", str(tmp_path), "train").labels) == 2


@pytest.mark.parametrize("names", [[IMAGES, f"{LABELS}.gz"], [f"{IMAGES}.gz", LABELS]])
def test_one_of_a_pair_may_be_zipped(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes({**PAIR, **ZIPPED}[name])
    assert len(inputs.load("mnist", str(tmp_path), "train").labels) == 2


def test_no_more_is_unzipped_than_a_header_asks_for(tmp_path):
    bomb = gzip.compress(struct.pack(">4I", 2051, 1, 28, 28) + bytes(10**8), 1)
    (tmp_path / f"{IMAGES}.gz").write_bytes(bomb)
    (tmp_path / LABELS).write_bytes(idx(np.array([0])))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"ubyte\.gz: the header asks for 800 bytes"):
        inputs.load("mnist", str(tmp_path), "train")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**7


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("x"), AttributeError("x")])
def test_whatever_unzipping_raises_names_the_file(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    for name, data in ZIPPED.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(gzip, "open", fail)
    with pytest.raises(InputError, match=r"ubyte\.gz: expected a readable file"):
        inputs.load("mnist", str(tmp_path), "train")


@pytest.mark.parametrize("header", [
    (2051, 2**31, 2**31, 4), (2051, 2**32 - 1, 2**32 - 1, 2**32 - 1), (2051, 0, 28, 28),
    (2050, 1, 28, 28)])
def test_idx_headers_are_compared_with_the_file(tmp_path, header):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">4I", *header))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1])))
    with pytest.raises(InputError, match="Received: "):
        inputs.load("mnist", str(tmp_path), "test")


# --- Numbers that mean nothing, and tables that disagree ---

DETECTOR = {"kernels": np.ones((3, 4, 2)), "thresholds": np.ones((2, 2)),
            "false_refusal_rates": np.array([0.01, 0.05]), "fitted_on": np.arange(2),
            "fitted_images": np.uint64([5, 6]), "bandwidth": 1.0, "non_me_variance": 0.5, "eta": 1.0,
            "scores": ("confidence", "non_me")}
NETWORK = {"dataset": "digits", "image_shape": [8, 8, 1], "num_classes": 2, "objective": "ce",
           "weights_sha256": "0" * 64}


@pytest.mark.parametrize(("changed", "words"), [
    ({"bandwidth": 0.0}, r"bandwidth to be above 0 in .*\. Received: bandwidth=0\.$"),
    ({"bandwidth": -1.0}, "bandwidth to be above 0"),
    ({"eta": -1.0}, "eta to be above 0"), ({"non_me_variance": -0.5}, "at least 0"),
    ({"bandwidth": np.nan}, "finite numbers"),
    ({"kernels": np.full((3, 4, 2), np.inf)}, "finite numbers"),
    ({"false_refusal_rates": np.array([-0.1, 0.05])}, r"in \[0, 1\)"),
    ({"false_refusal_rates": np.array([0.05, 0.05])}, "different numbers"),
    ({"false_refusal_rates": np.array([0.5, 1.5])}, r"in \[0, 1\)"),
    ({"fitted_on": np.array([-1, 0])}, "row numbers"), ({"fitted_on": np.arange(3)}, "equally many"),
    ({"kernels": np.ones((3, 4, 5))}, "kernels of the 2 classes"),
    ({"kernels": np.ones((0, 4, 2))}, "at least one"),
    ({"thresholds": np.ones((2, 3))}, "2 scores at 2 rates"),
    ({"network": NETWORK | {"num_classes": "two"}}, "num_classes of at least 2"),
    ({"network": NETWORK | {"image_shape": [8, -8, 1]}}, "image_shape of sizes"),
    ({"network": NETWORK | {"objective": None}}, "and names"),
    ({"network": {}}, "a JSON object with")])
def test_a_detector_of_numbers_that_mean_nothing_is_refused(tmp_path, changed, words):
    path = tmp_path / "d.npz"
    detectors.save(path, DETECTOR | {"network": NETWORK})
    detectors.load(path)
    detectors.save(path, DETECTOR | {"network": NETWORK} | changed)
    with pytest.raises(InputError, match=words) as error:
        detectors.load(path)
    assert "d.npz" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("part", "name", "value"), [
    ("metrics", "num_per_eps", None), ("metrics", "eps", None), ("metrics", "num_per_eps", 2.5),
    ("metrics", "num_per_eps", True), ("metrics", "num_per_eps", -1), ("metrics", "eps", []),
    ("metrics", "eps", "0.1"), ("metrics", "eps", [0.1, "x"]), ("metrics", "eps", [2.0]),
    ("metrics", "network", "resnet"), ("metrics", "network", {"num_classes": "ten"}),
    ("metrics", "network", {"num_classes": True}), ("metrics", "network", {"num_classes": -3}),
    ("metrics", "network", {"weights_sha256": 5}), ("metrics", "network", {"dataset": ["digits"]}),
    ("flags", "attack_cost", 3)])
def test_half_a_record_is_not_none(tmp_path, part, name, value):
    record = {"metrics": {"eps": [0.1], "num_per_eps": 4}, "flags": {}}
    table = {name: np.zeros(4) for name in ("labels_true", "labels_nor", "labels_adv")}
    for kind in ("entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "L2_distance",
                 "logits_nor", "logits_adv", *table):
        np.savetxt(tmp_path / kind, np.zeros((4, 1)))
    path = tmp_path / "test_adv_run.json"
    path.write_text(json.dumps(record))
    assert attack_results.load("ce", tmp_path).num_per_eps == 4
    record[part][name] = value
    if value is None:
        del record[part][name]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=rf"expected {name} of an attack in .*test_adv_run\.json"):
        attack_results.load("ce", tmp_path)


@pytest.mark.parametrize(("name", "array"), [
    ("success", np.ones(3, bool)), ("eps", np.full((4, 1), 0.1)), ("l2", np.array(["a"] * 4))])
def test_arrays_of_one_table_are_of_one_length(tmp_path, name, array):
    from files.result_files import load_per_image

    good = {"image_index": np.arange(4), "success": np.ones(4, bool), "eps": np.full(4, 0.1)}
    np.savez(tmp_path / "results.npz", **good)
    assert load_per_image(tmp_path, 4)["eps"].shape == (4,)
    np.savez(tmp_path / "results.npz", **good | {name: array})
    with pytest.raises(InputError, match=rf"4 numbers in {name} of .*results\.npz"):
        load_per_image(tmp_path, 4)
    with pytest.raises(InputError, match="expected 5 numbers"):
        load_per_image(tmp_path, 5)


def test_kernels_behind_a_link_into_another_file_are_not_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["k"] = np.ones((2, 3, 4))
    with h5py.File(tmp_path / "kernel1000_RCE.mat", "w", userblock_size=512) as file:
        file["kernel_RCE"] = h5py.ExternalLink("other.h5", "k")
    with pytest.raises(InputError, match=r"kernel1000_RCE\.mat"):
        load_kernels(tmp_path, "rce")


@pytest.mark.parametrize("threads", ["x", np.array([1, 2]), np.nan, np.inf, 2.5])
def test_a_part_whose_threads_are_no_number_is_made_anew(tmp_path, threads):
    parts = attack_parts.Parts(tmp_path, {"a": 1})
    parts.save("round00_image000000", {"x": np.ones(2)})
    np.savez(tmp_path / "parts" / "round00_image000000.npz", x=np.ones(2), threads=threads)
    assert parts.load("round00_image000000") is None
    attack_parts.Parts(tmp_path, {"a": 1}, overwrite=True)
    (tmp_path / "parts" / "identity.json").write_text("[" * 100000)
    with pytest.raises(InputError, match="unfinished parts of another run"):
        attack_parts.Parts(tmp_path, {"a": 1})

"""files/result_files.py and files/features.py: round trips, names and every refused file."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from errors import InputError
from files import result_files
from files.features import (
    kernels_are_stale,
    kernels_path,
    load_kernels,
    load_training_features,
    save_kernels,
    save_training_features,
    save_tsne,
)
from files.names import (
    attack_dir,
    head_of_tag,
    is_tag,
    kernel_dir,
    normal_tsne_dir,
    results_dir,
    tag_of,
    training_features_path,
    tsne_dir,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("head", "training", "tag"), [
    ("rce", "plain", "RCE"), ("ce", "plain", "CE"), ("rce", "at50", "RCE_at50"),
    ("ce", "at100_alp", "CE_at100_alp")])
def test_a_tag_names_the_head_and_what_is_not_plain(head, training, tag):
    assert tag_of(head, training) == tag and head_of_tag(tag) == head


@pytest.mark.parametrize("text", ["", "rce", "RCE_", "XCE", "RCE_../x", "RCE_a__b", "RCE of x"])
def test_what_is_no_tag_is_refused(text):
    assert not is_tag(text)
    with pytest.raises(InputError, match=r"objective_tag must be one of \[CE, RCE\], or .*Received"):
        head_of_tag(text)


@pytest.fixture
def results():
    rng = np.random.default_rng(0)
    arrays = {"L2_distance": rng.uniform(0, 0.2, 6).astype(np.float32)}
    for side in ("nor", "adv"):
        arrays |= {f"entropy_{side}": rng.uniform(0, 2, 6).astype(np.float32),
                   f"confidence_{side}": rng.uniform(0, 1, 6).astype(np.float32),
                   f"logits_{side}": rng.normal(size=(6, 3)).astype(np.float32),
                   f"{side}_img": rng.uniform(-0.5, 0.5, (6, 4, 4, 1))}
    return arrays | {name: rng.integers(0, 10, 6)
                     for name in ("labels_nor", "labels_adv", "labels_true")}


@pytest.fixture
def saved(results, tmp_path):
    result_files.save_attack_results(tmp_path, results)
    return tmp_path


# --- Result files ---

def test_folders_are_those_of_the_original():
    assert str(results_dir("fgsm", "mnist", "rce")) == "fgsm_mnist/RCE"
    assert str(results_dir("bim", "cifar10", "ce")) == "bim_cifar10/CE"
    assert str(results_dir("bim", "cifar10", "ce", "here")) == "here"
    assert str(results_dir("bim", "cifar10", "RCE_at50")) == "bim_cifar10/RCE_at50"
    assert str(training_features_path("k", "RCE_at50")) == "k/training_logits_RCE_at50"
    assert str(attack_dir("bim", "cifar10")) == "bim_cifar10"
    assert str(kernel_dir("mnist")) == "kernel_para_mnist"


def test_results_round_trip_without_loss(saved, results):
    loaded = result_files.load_attack_results(saved, images=True)
    assert set(loaded) == set(results)
    for name, array in results.items():
        expected = array.astype(np.float32) if name.endswith("_img") else array
        np.testing.assert_array_equal(loaded[name], expected)
    assert loaded["labels_true"].dtype == np.int64
    assert loaded["logits_nor"].dtype == np.float64
    assert loaded["nor_img"].dtype == np.float32
    assert "nor_img" not in result_files.load_attack_results(saved)


def test_result_files_are_text_as_numpy_writes_it(saved, results):
    assert sorted(path.name for path in saved.iterdir()) == sorted([
        "entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "logits_nor",
        "logits_adv", "labels_nor", "labels_adv", "labels_true", "L2_distance", "nor_img.npy",
        "adv_img.npy"])
    first = (saved / "labels_true").read_text().split("\n")[0]
    assert first == f"{results['labels_true'][0]:.18e}"


def test_one_row_stays_a_row(results, tmp_path):
    result_files.save_attack_results(tmp_path, {name: array[:1] for name, array in results.items()})
    loaded = result_files.load_attack_results(tmp_path)
    assert loaded["logits_nor"].shape == (1, 3)
    assert loaded["labels_nor"].shape == (1,)


def test_a_failing_save_leaves_the_old_results(saved, results):
    before = {path: path.read_bytes() for path in saved.iterdir()}
    results["adv_img"] = np.array(["no", "image"] * 3)
    with pytest.raises(ValueError, match="could not convert"):
        result_files.save_attack_results(saved, results)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize(("change", "message"), [
    ({"labels_adv": np.zeros(5)}, r"6 rows.*Received: labels_adv=5\."),
    ({"extra": np.zeros(6)}, r"missing or unknown=\['extra'\]"),
])
def test_save_refuses_what_does_not_belong_together(results, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        result_files.save_attack_results(tmp_path / "out", results | change)
    assert not (tmp_path / "out").exists()


def test_nan_is_allowed_in_entropy_only(saved):
    for name in ("entropy_nor", "entropy_adv"):
        np.savetxt(saved / name, [np.nan, 1, 2, 3, 4, np.nan])
    assert np.isnan(result_files.load_attack_results(saved)["entropy_adv"]).sum() == 2


@pytest.mark.parametrize(("name", "values", "message"), [
    ("entropy_nor", [0, 1, np.inf, 1, 1, 1], r"entropy_nor\. Received: row 3=inf"),
    ("confidence_nor", [0, 1, 1, 1, np.nan, 1], r"confidence_nor\. Received: row 5=nan"),
    ("confidence_adv", [0, 1, 1, 1.1, 1, 1], r"\[0, 1\].*confidence_adv.*row 4=1\.1"),
    ("confidence_adv", [-0.1, 1, 1, 1, 1, 1], r"row 1=-0\.1"),
    ("L2_distance", [0, 1, 1, 1, 1, np.nan], r"L2_distance\. Received: row 6=nan"),
    ("labels_true", [0, 1, 1.5, 1, 1, 1], r"labels_true\. Received: row 3=1\.5"),
    ("labels_adv", [0, -1, 1, 1, 1, 1], r"labels_adv\. Received: row 2=-1"),
    ("labels_nor", [0, np.nan, 1, 1, 1, 1], r"labels_nor\. Received: row 2=nan"),
    ("logits_adv", np.vstack([np.zeros((5, 3)), [0, np.nan, 0]]), r"logits_adv\. .*row 6=nan"),
    ("logits_adv", np.zeros((6, 4)), r"columns in logits_adv.*Received: columns=4 and 3"),
    ("labels_adv", np.zeros((6, 2)), r"one number per row in .*labels_adv.*shape=\(6, 2\)"),
    ("entropy_adv", np.zeros(5), r"Received: entropy_adv=5\."),
])
def test_bad_values_are_named_with_file_and_row(saved, name, values, message):
    np.savetxt(saved / name, values)
    with pytest.raises(InputError, match=message):
        result_files.load_attack_results(saved)


def test_confidence_may_exceed_1_by_rounding(saved):
    np.savetxt(saved / "confidence_nor", np.full(6, 1.0000001))
    result_files.load_attack_results(saved)


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty or ends in the middle of a line"),
    ("\n", r"numbers per row.*shape=\(0, 1\)"),
    ("1 2 3\n4 5 6\n7 8", "ends in the middle of a line"),
    ("1 2 3\n4 5\n", "rows of numbers of equal length.*number of columns changed"),
    ("1 2 3\n4 x 6\n", "could not convert string 'x'"),
])
def test_text_that_does_not_parse_names_the_file(saved, text, message):
    (saved / "logits_nor").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        result_files.load_attack_results(saved)
    assert str(saved / "logits_nor") in str(error.value)


def test_a_missing_file_is_named(saved):
    (saved / "labels_true").unlink()
    with pytest.raises(InputError, match=r"labels_true in .*Received: no such file"):
        result_files.load_attack_results(saved)


def test_images_that_are_no_array_or_of_other_length_are_refused(saved):
    np.save(saved / "adv_img.npy", np.zeros((5, 4, 4, 1)))
    result_files.load_attack_results(saved)
    with pytest.raises(InputError, match="Received: adv_img=5"):
        result_files.load_attack_results(saved, images=True)
    (saved / "adv_img.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"NumPy array in .*adv_img\.npy"):
        result_files.load_attack_results(saved, images=True)


# --- Training features and kernels ---

def test_training_features_round_trip(tmp_path):
    features = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    save_training_features(tmp_path, "ce", features, np.arange(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training_logits_CE",
                                                                "training_logitslabels_CE"]
    loaded, labels = load_training_features(tmp_path, "ce")
    np.testing.assert_array_equal(loaded, features)
    np.testing.assert_array_equal(labels, np.arange(8))
    assert labels.dtype == np.int64
    with pytest.raises(InputError, match=r"training_logits_RCE in .*no such file"):
        load_training_features(tmp_path, "rce")


def test_training_features_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(InputError, match="Received: labels=2"):
        save_training_features(tmp_path, "ce", np.zeros((3, 2)), np.zeros(2))
    save_training_features(tmp_path, "ce", np.zeros((3, 2)), np.zeros(3))
    np.savetxt(tmp_path / "training_logitslabels_CE", np.zeros(2))
    with pytest.raises(InputError, match="Received: training_logitslabels_CE=2"):
        load_training_features(tmp_path, "ce")


def test_training_features_that_are_not_finite_are_refused(tmp_path):
    save_training_features(tmp_path, "rce", np.array([[0, 1], [np.inf, 1]]), np.zeros(2))
    with pytest.raises(InputError, match=r"training_logits_RCE\. Received: row 2=inf"):
        load_training_features(tmp_path, "rce")


def test_kernels_round_trip_and_npz_comes_before_mat(tmp_path):
    kernels = np.random.default_rng(0).normal(size=(4, 3, 2))
    assert kernels_path(tmp_path, "rce") is None
    scipy.io.savemat(tmp_path / "kernel1000_RCE.mat", {"kernel_RCE": kernels + 1})
    np.testing.assert_array_equal(load_kernels(tmp_path, "rce"), kernels + 1)
    path = save_kernels(tmp_path, "rce", kernels)
    assert path == kernels_path(tmp_path, "rce") == tmp_path / "kernel1000_RCE.npz"
    np.testing.assert_array_equal(load_kernels(tmp_path, "rce"), kernels)
    with np.load(path) as file:
        assert list(file) == ["kernel_RCE"]


def test_kernels_are_stale_when_features_are_newer(tmp_path):
    assert not kernels_are_stale(tmp_path, "ce")
    save_training_features(tmp_path, "ce", np.zeros((3, 2)), np.zeros(3))
    save_kernels(tmp_path, "ce", np.zeros((1, 2, 1)))
    assert not kernels_are_stale(tmp_path, "ce")
    save_training_features(tmp_path, "ce", np.zeros((3, 2)), np.zeros(3))
    assert kernels_are_stale(tmp_path, "ce")


def test_what_the_white_box_attacks_need_round_trips_and_reads_matlab(tmp_path):
    kernels = np.random.default_rng(0).normal(size=(4, 3, 2))
    medians = np.array([0.25, 0.5])
    scipy.io.savemat(tmp_path / "kernel1000_for_attack_CE.mat", {"kernel_CE_for_attack": kernels})
    scipy.io.savemat(tmp_path / "kernel1000_median_for_attack_CE.mat",
                     {"median_out": medians[:, None]})
    for _ in range(2):  # Matlab's, then ours
        np.testing.assert_array_equal(
            load_kernels(tmp_path, "ce", "attack_kernels"), kernels)
        np.testing.assert_array_equal(
            load_kernels(tmp_path, "ce", "attack_medians"), medians)
        save_kernels(tmp_path, "ce", kernels, "attack_kernels")
        path = save_kernels(tmp_path, "ce", medians, "attack_medians")
    assert path.name == "kernel1000_median_for_attack_CE.npz"
    for wrong in (np.zeros((2, 2)), np.array([0.5, 0.0]), np.array([0.5, np.nan])):
        with pytest.raises(InputError, match=r"expected (positive )?medians .*Received: "):
            save_kernels(tmp_path, "ce", wrong, "attack_medians")


def test_each_kind_is_stale_when_what_it_is_made_from_is_newer(tmp_path):
    order = ("kernels", "attack_kernels", "attack_medians")

    def write(kind, seconds):
        path = save_kernels(
            tmp_path, "ce", np.ones(1) if kind == "attack_medians" else np.zeros((1, 2, 1)), kind)
        os.utime(path, (seconds, seconds))

    save_training_features(tmp_path, "ce", np.zeros((3, 2)), np.zeros(3))
    os.utime(tmp_path / "training_logits_CE", (1, 1))
    for seconds, kind in enumerate(order, 2):
        write(kind, seconds)
    stale = [kernels_are_stale(tmp_path, "ce", kind) for kind in order]
    assert stale == [False, False, False]
    write("attack_kernels", 9)
    assert kernels_are_stale(tmp_path, "ce", "attack_medians")
    write("kernels", 10)
    assert kernels_are_stale(tmp_path, "ce", "attack_kernels")
    os.utime(tmp_path / "training_logits_CE", (20, 20))
    assert all(kernels_are_stale(tmp_path, "ce", kind) for kind in order)


def test_per_image_results_are_a_table_and_an_array_file(results, tmp_path):
    count = len(results["labels_true"])
    per_image = {name: np.arange(count) for name in result_files.PER_IMAGE}
    per_image["success"] = np.arange(count) % 2 == 0
    result_files.save_attack_results(tmp_path / "a", results, per_image)
    result_files.save_attack_results(tmp_path / "b", results, per_image)
    for name in ("results.npz", "per_image.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    head, first, *_ = (tmp_path / "a/per_image.csv").read_text().splitlines()
    assert head == ",".join(result_files.PER_IMAGE)
    assert first.split(",")[result_files.PER_IMAGE.index("success")] == "True"
    with np.load(tmp_path / "a/results.npz") as file:
        assert tuple(file) == result_files.PER_IMAGE
    per_image["odd"] = per_image.pop("rms")
    with pytest.raises(InputError, match=r"missing or unknown=\['odd', 'rms'\]"):
        result_files.save_attack_results(tmp_path / "c", results, per_image)
    assert not (tmp_path / "c").exists()


def test_kernels_that_are_missing_broken_or_misshapen_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"kernel1000_CE\.npz or kernel1000_CE\.mat in "):
        load_kernels(tmp_path, "ce")
    path = tmp_path / "kernel1000_CE.npz"
    for arrays, message in (({"kernel_RCE": np.zeros((1, 2, 3))}, r"arrays=\['kernel_RCE'\]"),
                            ({"kernel_CE": np.zeros((2, 3))}, r"shape=\(2, 3\)"),
                            ({"kernel_CE": np.zeros((0, 2, 3))}, r"shape=\(0, 2, 3\)"),
                            ({"kernel_CE": np.full((1, 2, 3), np.nan)}, "6 NaN or infinite")):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=message):
            load_kernels(tmp_path, "ce")
    for suffix in (".npz", ".mat"):
        path.unlink(missing_ok=True)
        path = tmp_path / f"kernel1000_CE{suffix}"
        path.write_bytes(b"broken")
        with pytest.raises(InputError, match=rf"readable {suffix} file at "):
            load_kernels(tmp_path, "ce")


def test_save_refuses_misshapen_kernels(tmp_path):
    with pytest.raises(InputError, match=r"shape=\(2, 3\)"):
        save_kernels(tmp_path, "ce", np.zeros((2, 3)))
    assert list(tmp_path.iterdir()) == []


# --- t-SNE ---

def test_tsne_files_are_those_of_the_original(tmp_path):
    assert str(normal_tsne_dir("mnist")) == "nor_tsne_results_mnist"
    assert str(tsne_dir("fgsm", "mnist")) == "fgsm_mnist/tSNE"
    points = np.random.default_rng(0).normal(size=(3, 2))
    assert save_tsne(tmp_path, "ce", points, np.arange(3)) == "tSNE_CE"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tSNE_CE", "tSNElabels_CE"]
    save_tsne(tmp_path, "rce", points, np.arange(3), np.array([False, True, True]))
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "tSNE_RCE"), points)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "tSNElabels_RCE"), [0, 1, 2])
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "tSNEisadv_RCE"), [0, 1, 1])
    with pytest.raises(InputError, match="Received: tSNElabels=2"):
        save_tsne(tmp_path, "ce", points, np.arange(2))


def test_artifacts_import_neither_tensorflow_nor_scipy():
    code = ("import sys, files.attack_results, files.result_files, files.features; "
            "print([name for name in ('tensorflow', 'scipy') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "[]\n"

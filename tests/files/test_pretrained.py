"""Networks to ship: their folder, what is checked of it, what every script makes of it; PNG files."""

import errno
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data import inputs
from data.pixels import to_network_input
from defenses import deployed
from errors import InputError
from files import detectors as detector_files
from files import pretrained, provenance
from files.images import save_pngs
from results import cells
from tests.data.test_inputs import SHARED
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, ROOT, run, succeeded

MNIST = SHARED / "data/mnist"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Folder with shipped/tiny, made from the tiny run and its fitted detector; read only."""
    tiny = script_runner.tiny_run(tmp_path_factory)
    folder = tmp_path_factory.mktemp("pretrained")
    script_runner.fit_detector(f"{tiny}/models/tiny", folder)
    succeeded("others", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=export_pretrained",
              "--output_dir=shipped/tiny", "--data_note=Eight by eight.", cwd=folder)
    return folder


@pytest.fixture
def copy(work, tmp_path):
    """A copy of the shipped folder that may be spoiled."""
    shutil.copytree(work / "shipped/tiny", tmp_path / "tiny")
    return tmp_path / "tiny"


def test_the_folder_holds_the_network_alone_and_its_detector(work, tmp_path_factory):
    folder = work / "shipped/tiny"
    prefix = f"model.ckpt-{script_runner.STEPS}"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "SHA256SUMS", "checkpoint", "detector.npz", f"{prefix}.index",
        f"{prefix}.data-00000-of-00001"}
    tiny = script_runner.tiny_run(tmp_path_factory)
    trained = tf.train.load_checkpoint(str(tiny / "models/tiny" / prefix))
    shipped = tf.train.load_checkpoint(str(folder / prefix))
    names = {name for name in shipped.get_variable_to_shape_map() if name.startswith("network/")}
    assert names == {name for name in trained.get_variable_to_shape_map()
                     if name.startswith("network/")}
    assert not any(name.startswith("optimizer/") for name in shipped.get_variable_to_shape_map())
    for name in names:
        np.testing.assert_array_equal(shipped.get_tensor(name), trained.get_tensor(name))
    assert (folder / "detector.npz").read_bytes() == (
        work / "kernel_para_digits/detector_RCE.npz").read_bytes()


def test_the_sums_are_those_of_sha256sum(work):
    folder = work / "shipped/tiny"
    listed = dict(reversed(line.split("  ")) for line in
                  (folder / "SHA256SUMS").read_text().splitlines())
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                      for path in folder.iterdir() if path.name != "SHA256SUMS"}


def test_the_card_says_what_was_measured(work):
    text = (work / "shipped/tiny/README.md").read_text()
    result = succeeded("test_nor", *NETWORK, "--log_root=shipped/tiny", "--eval_once=True",
                       "--mode=eval", "--eval_batch_count=-1", "--eval_dir=eval", cwd=work)
    precision = float(result.out.split("precision: ")[1].split(",")[0])
    assert f"of 360 test images right: {100 * precision:.2f} %" in text
    assert "\n- Data: Eight by eight.\n" in text
    assert f"{script_runner.STEPS} steps of 32 training images, --seed=3" in text
    run_of = json.loads(text.split("```")[1])
    assert (run_of["dataset"], run_of["objective"]) == ("digits", "rce")


def test_every_script_takes_the_folder(work, tmp_path):
    network = (*NETWORK, f"--log_root={work}/shipped/tiny")
    succeeded("test_nor", *network, "--mode=eval", "--eval_dir=eval", cwd=tmp_path)
    succeeded("test_adv", *network, "--mode=attack", "--attack_method=fgsm", "--eps=0.1",
              "--eval_batch_count=1", cwd=tmp_path)
    succeeded("others", *network, "--mode=kernel_para", "--eval_batch_count=1", cwd=tmp_path)
    succeeded("others", *network, "--mode=export_model", "--output_dir=out", cwd=tmp_path)
    assert "newest at step" in succeeded("others", *network, "--mode=info", cwd=tmp_path).out
    record = provenance.read(tmp_path / "fgsm_digits/RCE", "test_adv")
    assert record["metrics"]["network"] == provenance.read(
        work / "fgsm_digits/RCE", "test_adv")["metrics"]["network"]


def test_load_detector_finds_the_network_beside_it(work):
    images = inputs.load("digits", "", "test").images[:20]
    shipped = deployed.load_detector(
        work / "shipped/tiny/detector.npz", false_refusal_rate=0.05)(images)
    assert shipped.labels.shape == (20,)
    assert np.isfinite(list(shipped.scores.values())).all()


def test_train_does_not_write_there(work):
    before = {path: path.stat().st_mtime_ns for path in (work / "shipped/tiny").iterdir()}
    result = run("train", *NETWORK, "--log_root=shipped/tiny", "--total_steps=80", cwd=work)
    assert (result.code, result.err) == (
        1, "error: log_root must be a folder of your own: what is pretrained stays as it is. "
           "Received: log_root='shipped/tiny'.\n")
    result = run("train", *NETWORK, "--log_root=mine", "--train_dir=shipped/tiny", "--total_steps=80",
                 cwd=work)
    assert (result.code, result.err) == (
        1, "error: train_dir must be a folder of your own: what is pretrained stays as it is. "
           "Received: train_dir='shipped/tiny'.\n")
    assert {path: path.stat().st_mtime_ns for path in (work / "shipped/tiny").iterdir()} == before


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_other_weights_are_refused(copy, tmp_path, suffix):
    file = copy / f"model.ckpt-{script_runner.STEPS}.{suffix}"
    file.write_bytes(file.read_bytes() + b"\0")
    result = run("test_nor", *NETWORK, f"--log_root={copy}", "--mode=eval", "--eval_once=True",
                 cwd=tmp_path)
    assert result.code == 1
    assert f"expected {file} as it was shipped, with the SHA-256 " in result.err


def test_a_changed_detector_is_refused(copy):
    file = copy / "detector.npz"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"detector\.npz as it was shipped"):
        deployed.load_detector(file)


def test_weights_that_were_not_shipped_are_refused(copy, tmp_path):
    """Another network beside the shipped one, which the file `checkpoint` names as the newest."""
    for suffix in ("index", "data-00000-of-00001"):
        shipped = copy / f"model.ckpt-{script_runner.STEPS}.{suffix}"
        shutil.copy(shipped, copy / f"model.ckpt-99.{suffix}")
    (copy / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-99"\n')
    result = run("others", *NETWORK, f"--log_root={copy}", "--mode=info", cwd=tmp_path)
    assert result.code == 1
    assert f"only what was shipped in {copy}, the files of SHA256SUMS. Received: model" in result.err


def test_no_detector_is_fitted_into_what_was_shipped(copy):
    path = copy / "detector.npz"
    before = path.read_bytes()
    with pytest.raises(InputError, match="detector must be a file of your own"):
        detector_files.save(path, detector_files.load(path))
    assert path.read_bytes() == before


def test_a_missing_file_is_named(copy):
    (copy / "detector.npz").unlink()
    with pytest.raises(InputError, match=r"Received: no such file"):
        pretrained.check(copy / "detector.npz")


def test_only_the_files_in_question_are_compared(copy):
    (copy / "README.md").write_text("a note of one's own")
    pretrained.check(copy / "detector.npz")
    pretrained.check(copy / f"model.ckpt-{script_runner.STEPS}")


def test_export_refuses_a_detector_of_another_network(work, tmp_path):
    succeeded("train", *NETWORK, "--log_root=models/other", "--total_steps=1", "--batch_size=32",
              "--seed=9", cwd=tmp_path)
    shutil.copytree(work / "kernel_para_digits", tmp_path / "kernel_para_digits")
    result = run("others", *NETWORK, "--log_root=models/other", "--mode=export_pretrained",
                 "--output_dir=out", cwd=tmp_path)
    assert result.code == 1
    assert result.err.startswith("error: expected kernel_para_digits/detector_RCE.npz to be of this ")
    assert not (tmp_path / "out").exists()


def test_an_export_that_the_disk_cuts_short_leaves_nothing(
        work, tmp_path_factory, tmp_path, monkeypatch):
    tiny = script_runner.tiny_run(tmp_path_factory)

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pretrained, "write_sums", full)
    result = run("others", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=export_pretrained",
                 f"--output_dir={tmp_path}/out", cwd=work)
    assert result.code == 1 and "No space left on device" in result.err
    assert not list((tmp_path / "out").iterdir())


def test_export_needs_a_detector(tmp_path_factory, tmp_path):
    tiny = script_runner.tiny_run(tmp_path_factory)
    result = run("others", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=export_pretrained",
                 "--output_dir=out", cwd=tmp_path)
    assert result.code == 1
    assert "`python detect.py --mode=fit` writes" in result.err
    assert not (tmp_path / "out").exists()


# What is shipped.

SHIPPED = sorted(path for path in (ROOT / "pretrained").iterdir() if path.is_dir())


def test_there_are_shipped_networks():
    assert {path.name for path in SHIPPED} >= {"mnist_resnet32_ce", "mnist_resnet32_rce"}


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_network_is_whole_small_and_answers(folder):
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    for name in sizes.keys() - {"SHA256SUMS"}:
        pretrained.check(folder / name)
    assert sum(size for name, size in sizes.items() if name.startswith("model.ckpt")) < 2_000_000
    assert sizes["detector.npz"] < 3_000_000
    loaded = deployed.load_detector(folder / "detector.npz")
    answer = loaded(np.zeros((2, *loaded.detector.network["image_shape"]), np.uint8))
    assert np.isfinite(list(answer.scores.values())).all()


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_network_is_that_of_the_tables(folder):
    dataset, network, objective = folder.name.split("_")
    accuracy, = (cell for cell in cells.load()[dataset]["cells"] if cell["figure"] == "accuracy"
                 and (cell["network"], cell["objective"]) == (network, objective))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"test images right: {accuracy['value']:.2f} %" in card
    assert f" {accuracy['steps']} steps of 128 training images" in card
    assert ("JPEG" in card) == ("JPEG" in cells.DATASETS[dataset])


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"real data absent: no {MNIST}")
def test_the_shipped_detector_tells_ten_images_from_their_adversarial_twins(tmp_path):
    """What the README has a new user do."""
    shipped = ROOT / "pretrained/mnist_resnet32_rce"
    succeeded("test_adv", "--dataset=mnist", f"--eval_data_path={MNIST}", f"--log_root={shipped}",
              "--RCE_train=True", "--mode=attack", "--attack_method=fgsm", "--eps=0.2", "--seed=1",
              "--eval_batch_count=1", cwd=tmp_path)
    answered = {}
    for side in ("nor", "adv"):
        succeeded("others", "--mode=export_png", f"--images=fgsm_mnist/RCE/{side}_img.npy",
                  f"--output_dir={side}", cwd=tmp_path)
        result = succeeded("detect", "--mode=apply", f"--detector={shipped}/detector.npz",
                           f"--images={side}", cwd=tmp_path)
        answered[side] = int(re.search(r"(\d+) of 10 answered", result.out)[1])
    assert answered["nor"] >= 9 and answered["adv"] <= 2


# PNG files.


def test_pngs_of_an_attack_are_answered_as_its_images(work, tmp_path):
    adversarial = work / "fgsm_digits/RCE/adv_img.npy"
    succeeded("others", "--mode=export_png", f"--images={adversarial}", "--num_images=12",
              "--output_dir=pngs", cwd=tmp_path)
    images, names = inputs.load_images(str(tmp_path / "pngs"))
    assert names[:2] == ["00.png", "01.png"] and len(names) == 12
    x = np.load(adversarial)[:12]
    np.testing.assert_allclose(to_network_input(images[..., None]), x, atol=0.5 / 255 + 1e-6)
    result = succeeded("detect", "--mode=apply", f"--detector={work}/shipped/tiny/detector.npz",
                       "--images=pngs", "--false_refusal_rate=0.05", cwd=tmp_path)
    assert "of 12 answered" in result.out


def test_pngs_of_test_images(tmp_path):
    result = succeeded("others", "--dataset=digits", "--mode=export_png", "--output_dir=pngs",
                       cwd=tmp_path)
    assert result.out == "Wrote 10 images to pngs.\n"
    images, _ = inputs.load_images(str(tmp_path / "pngs"))
    expected = inputs.load("digits", "", "test").images[:10]
    np.testing.assert_allclose(images[..., None] / 255, expected, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (3, 8, 8, 3), (12, 4, 4, 3)])
def test_pngs_give_grey_levels_back(tmp_path, shape):
    levels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    save_pngs(str(tmp_path), to_network_input(levels))
    images, _ = inputs.load_images(str(tmp_path))
    np.testing.assert_array_equal(images.reshape(shape), levels)


@pytest.mark.parametrize(("images", "words"), [
    (np.zeros((0, 8, 8, 1)), "at least one image"), (np.zeros((2, 8, 8)), "1 or 3 channels"),
    (np.zeros((2, 8, 8, 2)), "1 or 3 channels"), (np.full((2, 8, 8, 1), 0.7), "in [-0.5, 0.5]"),
    (np.full((2, 8, 8, 1), np.nan), "in [-0.5, 0.5]")])
def test_what_is_no_network_input_is_refused(tmp_path, images, words):
    with pytest.raises(InputError) as caught:
        save_pngs(str(tmp_path / "pngs"), images)
    assert words in str(caught.value)
    assert not (tmp_path / "pngs").exists()


def test_pngs_that_are_there_stay(tmp_path):
    (tmp_path / "pngs").mkdir()
    (tmp_path / "pngs/mine.png").write_bytes(b"mine")
    result = run("others", "--dataset=digits", "--mode=export_png", "--output_dir=pngs", cwd=tmp_path)
    assert (result.code, result.err) == (
        1, "error: output_dir must not hold PNG files yet. Received: output_dir='pngs'.\n")
    assert [path.name for path in (tmp_path / "pngs").iterdir()] == ["mine.png"]

"""dgn.py from a small target to its generated images, and test_adv.py with the same generators."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from attacks.dgn.generate import project
from attacks.dgn.relevance import most_relevant
from evaluation import generated
from files import dgn as dgn_files
from files import provenance, result_files
from networks import restoring
from networks.network import Network
from networks.spec import NetworkSpec
from tests.helpers.script_runner import refused, succeeded

TARGET = ("--dataset=npz", "--model=mnist_5x30")
SPEC = NetworkSpec("npz", (28, 28, 1), 3, 0, "ce", "mnist_5x30")
TAG = "npz_mnist_5x30_CE"
# Images of a class.
N_TRAIN, N_TEST = 10, 4
RECIPE = ("--dgn_batch=4", "--dgn_epochs=1", "--dgn_lr=1e-3")
EPS = 0.25


class Work(NamedTuple):
    """A folder, what the runs in it printed, and the target."""

    folder: Path
    results: dict
    network: Network

    def flags(self, *more, log_root="m", dgn_dir=None):
        """Command line of the target, from whatever folder."""
        return (*TARGET, f"--train_data_path={self.folder}/train.npz",
                f"--eval_data_path={self.folder}/test.npz", f"--log_root={self.folder}/{log_root}",
                *([f"--dgn_dir={dgn_dir or self.folder / 'dgn_npz'}"] if dgn_dir != "" else []), *more)

    @property
    def target_dir(self):
        return self.folder / "dgn_npz" / TAG

    def images(self, split):
        arrays = np.load(self.folder / f"{split}.npz")
        return arrays["images"], arrays["labels"]

    def analysis(self, name, folder=None):
        """What `analyze` wrote, and its identity."""
        path = (folder or self.target_dir) / f"{name}.npz"
        return dgn_files.load_arrays(path, self.network.digests(), "")

    def adversarial(self, split, folder=None):
        """What `generate` wrote, and its identity."""
        path = (folder or self.target_dir) / f"nce/adv_{split}.npz"
        return dgn_files.load_arrays(path, self.network.digests(), "")


def _save_images(path, per_class, seed):
    """A bright bar of each class among much noise, the classes in turn."""
    generator = np.random.default_rng(seed)
    labels = np.arange(3 * per_class, dtype=np.int32) % 3
    images = generator.integers(0, 120, (len(labels), 28, 28, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[6 + 6 * label:9 + 6 * label, 5:23] += 70
    np.savez(path, images=images, labels=labels)


@pytest.fixture(scope="module")
def work(tmp_path_factory, cpu):
    """A target, both analyses of it, generators of NCE and what they make of both splits: read only."""
    folder = tmp_path_factory.mktemp("dgn")
    _save_images(folder / "train.npz", N_TRAIN, 0)
    _save_images(folder / "test.npz", N_TEST, 1)
    paths = ("--train_data_path=train.npz", "--eval_data_path=test.npz")
    for name, seed in (("m", 0), ("other", 1)):
        succeeded("train", *TARGET, *paths, f"--log_root={name}", "--total_steps=30", "--batch_size=15",
                  f"--seed={seed}", cwd=folder)
    results = {name: succeeded("dgn", *TARGET, *paths, "--log_root=m", *flags, cwd=folder)
               for name, flags in {
                   "lrp": ("--mode=analyze", "--custom_loss=lrp"),
                   "susp": ("--mode=analyze", "--custom_loss=susp"),
                   "train": ("--mode=train", "--custom_loss=nce", *RECIPE),
                   "generate": ("--mode=generate", "--custom_loss=nce", f"--eps={EPS}")}.items()}
    return Work(folder, results, restoring.restore(cpu, str(folder / "m"), SPEC))


@pytest.fixture(scope="module")
def generate(work, cpu):
    """Images as stored and their classes to what the generators of the run make of them, in [0, 1]."""
    folders = dgn_files.find_generators(work.target_dir, "nce", work.network.digests(), 3)
    generators = generated.Generators(cpu, folders, (28, 28, 1))
    return lambda images, labels: generators(generated.pixels_of(images), labels)


# --- analyze ---

def test_relevance_of_the_target(work):
    arrays, identity = work.analysis("relevance")
    assert arrays["scores"].shape == (3, 784) and arrays["scores"].dtype == np.float64
    np.testing.assert_array_equal(arrays["order"], most_relevant(arrays["scores"], 783))
    assert arrays["num_images"].tolist() == [N_TEST] * 3  # of the test split
    assert {"rule": "epsilon", "stabiliser": 0.01, "analysis_split": "test"}.items() <= identity.items()
    record = provenance.read(work.target_dir, "relevance")
    assert record["metrics"] == identity and record["flags"]["custom_loss"] == "lrp"
    assert re.search(r"^\d+ of 12 images started below 0", work.results["lrp"].out)


def test_hits_of_the_target(work):
    arrays, identity = work.analysis("suspicion")
    assert sorted(arrays) == [f"counts_{number:03d}" for number in range(5)]
    for spectrum in arrays.values():
        assert spectrum.shape == (3, 4, 30)
        np.testing.assert_array_equal(spectrum.sum(axis=1), N_TEST)
    images, labels = work.images("test")
    outputs, _ = work.network.logits_and_features(generated.pixels_of(images) - np.float32(0.5))
    wrong = np.argmax(outputs, axis=1) != labels
    for label in range(3):
        number = int(np.sum(wrong & (labels == label)))
        counted = arrays["counts_002"][label, 1::2].sum(axis=0)
        np.testing.assert_array_equal(counted, number)
        assert (f"class {label} with 0 errors" in work.results["susp"].err) == (number == 0)
    assert identity["activation_threshold"] == 0.0
    assert provenance.read(work.target_dir, "suspicion")["metrics"] == identity


def test_the_training_images_can_be_analysed(work, tmp_path):
    succeeded("dgn", *work.flags("--mode=analyze", "--custom_loss=lrp", "--analysis_split=train",
                                 dgn_dir="d"), cwd=tmp_path)
    arrays, identity = work.analysis("relevance", tmp_path / "d" / TAG)
    assert arrays["num_images"].tolist() == [N_TRAIN] * 3 and identity["analysis_split"] == "train"


# --- train ---

def test_what_a_training_leaves(work):
    lines = work.results["train"].out.splitlines()
    assert len(lines) == 3
    for label, line in enumerate(lines):
        folder = work.target_dir / f"nce/class_{label}"
        assert sorted(path.name for path in folder.iterdir()) == [
            "generator.json", "model.ckpt-2.data-00000-of-00001", "model.ckpt-2.index", "training.csv"]
        header, row = (folder / "training.csv").read_text().splitlines()
        epoch, step, loss = row.split(",")
        assert (header, epoch, step) == ("epoch,step,loss", "1", "2")
        assert line == (f"class {label}: 2 steps on 10 images, mean loss of the last epoch "
                        f"{float(loss):.4g}: dgn_npz/{TAG}/nce/class_{label}")
        identity = json.loads((folder / "generator.json").read_text())
        assert identity["class"] == label and identity["total_steps"] == 2
        assert identity["weights_sha256"] == work.network.weights_sha256()
        assert (identity["learning_rate"], identity["eps"], identity["decays"]) == (1e-3, 0.3, False)


def test_a_finished_training_is_left_and_another_refused(work, tmp_path):
    path = work.target_dir / "nce/class_1"
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    train = ("--mode=train", "--custom_loss=nce", "--classes=1")
    again = succeeded("dgn", *work.flags(*train, *RECIPE), cwd=tmp_path)
    assert again.out.splitlines() == [
        work.results["train"].out.splitlines()[1].replace("dgn_npz/", f"{work.folder}/dgn_npz/")]
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before
    refused("dgn", *work.flags(*train, *RECIPE, "--dgn_epochs=2"), cwd=tmp_path, also=[work.folder],
            words=[rf"{path} holds a generator with epochs=1: give another --dgn_dir, or remove it\. "
                   r"Received: epochs=2\."])


@pytest.mark.parametrize("loss", ["lrp", "susp"])
def test_the_losses_with_an_analysis(work, tmp_path, loss):
    own = tmp_path / "d" / TAG
    own.mkdir(parents=True)
    for name in ("relevance.npz", "suspicion.npz"):
        shutil.copy(work.target_dir / name, own / name)
    succeeded("dgn", *work.flags("--mode=train", f"--custom_loss={loss}", "--classes=2", "--k=7",
                                 "--dgn_init=he", *RECIPE, dgn_dir="d"), cwd=tmp_path)
    identity = json.loads((own / loss / "class_2/generator.json").read_text())
    assert (identity["custom_loss"], identity["k"], identity["init"]) == (loss, 7, "he")
    # The original's numbers where none are given.
    assert (identity["alpha"], identity["decays"]) == ((0.5, False) if loss == "lrp" else (0.8, True))
    assert [path.name for path in (own / loss).iterdir()] == ["class_2"]


# --- generate ---

GENERATE = ("--mode=generate", "--custom_loss=nce")


@pytest.mark.parametrize(("split", "number"), [("train", 3 * N_TRAIN), ("test", 3 * N_TEST)])
def test_each_generated_image_has_its_label_and_its_index(work, generate, split, number):
    found, identity = work.adversarial(split)
    images, labels = work.images(split)
    np.testing.assert_array_equal(found["index"], np.arange(number))
    np.testing.assert_array_equal(found["labels"], labels[found["index"]])
    u = generated.pixels_of(images)
    expected = project(u, generate(images, labels), EPS).numpy() - np.float32(0.5)
    assert found["x_adv"].dtype == np.float32
    np.testing.assert_allclose(found["x_adv"], expected, rtol=0, atol=1e-6)
    change = np.abs(found["x_adv"] + np.float32(0.5) - u).max(axis=(1, 2, 3))
    assert change.max() <= EPS + 2e-7 and change.min() > EPS / 2
    assert np.abs(found["x_adv"]).max() <= 0.5
    for name, x in (("pred_clean", u - np.float32(0.5)), ("pred_adv", found["x_adv"])):
        logits, _ = work.network.logits_and_features(x)
        np.testing.assert_array_equal(found[name], np.argmax(logits, axis=1))
    told = {"custom_loss": "nce", "split": split, "eps": EPS, "clipping": True, "changed_only": False}
    assert told.items() <= identity.items()
    right = 100 * np.mean(found["pred_adv"] == labels)
    assert f"{split}: {number} of {number} images, right {right:.2f} %" in work.results["generate"].out
    assert (work.target_dir / "nce/images.png").stat().st_size > 1000


@pytest.fixture
def own_dir(work, tmp_path):
    """A copy of the generators that may be written to, as its target's folder."""
    shutil.copytree(work.target_dir, tmp_path / "d" / TAG)
    return tmp_path / "d" / TAG


def test_only_what_has_changed_is_kept(work, own_dir, tmp_path):
    every, _ = work.adversarial("test")
    succeeded("dgn", *work.flags(*GENERATE, f"--eps={EPS}", "--splits=test",
                                 "--mis_classification_check", dgn_dir="d"), cwd=tmp_path)
    kept, identity = work.adversarial("test", own_dir)
    rows = np.flatnonzero(every["pred_clean"] != every["pred_adv"])
    assert len(rows) and identity["changed_only"]
    for name, values in every.items():
        np.testing.assert_array_equal(kept[name], values[rows], err_msg=name)
    np.testing.assert_array_equal(kept["labels"], work.images("test")[1][kept["index"]])
    # The other split is that of the run before.
    before, _ = work.adversarial("train", own_dir)
    np.testing.assert_array_equal(before["index"], np.arange(3 * N_TRAIN))
    refused("dgn", *work.flags(*GENERATE, "--eps=1e-6", "--mis_classification_check", dgn_dir="d"),
            cwd=tmp_path,
            words=["mis_classification_check left no image", "Received: 30 images of train"])


def test_without_clipping_the_generators_output_is_left(work, own_dir, tmp_path, generate):
    succeeded("dgn", *work.flags(*GENERATE, "--noclipping", "--splits=test", dgn_dir="d"), cwd=tmp_path)
    found, _ = work.adversarial("test", own_dir)
    expected = generate(*work.images("test")) - np.float32(0.5)
    np.testing.assert_allclose(found["x_adv"], expected, rtol=0, atol=1e-6)


# --- test_adv.py ---

ATTACK = ("--mode=attack", "--attack_method=dgn_nce", "--eval_batch_count=-1")


@pytest.mark.parametrize("more", [(), ("--attack_batch_size=5",)])
def test_the_attack_is_the_projection_of_the_same_output(work, tmp_path, generate, more):
    result = succeeded("test_adv", *work.flags(*ATTACK, f"--eps_sweep=0.1,{EPS}", *more), cwd=tmp_path)
    folder = tmp_path / "dgn_nce_npz/CE"
    rows = result_files.load_per_image(folder)
    assert len(rows["image_index"]) == 2 * 3 * N_TEST
    found, _ = work.adversarial("test")
    ours = result_files.load_adversarial_images(folder)
    at = rows["eps"] == EPS
    index = rows["image_index"][at]
    assert sorted(index) == list(range(3 * N_TEST)) and len(ours) == 2 * len(index)
    # Of network inputs plus 0.5, which are other numbers by 3e-8: a generator of large weights makes
    # 1e-6 of that.
    np.testing.assert_allclose(ours[at], found["x_adv"][index], rtol=0, atol=5e-6)
    images, labels = (array[index] for array in work.images("test"))
    x = generated.pixels_of(images) - np.float32(0.5)
    for of_eps, eps in ((at, EPS), (~at, 0.1)):
        expected = project(x + np.float32(0.5), generate(x + np.float32(0.5), labels), eps) - 0.5
        np.testing.assert_allclose(ours[of_eps], expected, rtol=0, atol=2e-7)
    np.testing.assert_array_equal(rows["label"][at], found["labels"][index])
    np.testing.assert_array_equal(rows["predicted_after"][at], found["pred_adv"][index])
    np.testing.assert_array_equal(rows["predicted_before"][at], found["pred_clean"][index])
    assert "Num of sample per eps is 12" in result.out


def test_the_attack_without_its_generators(work, tmp_path):
    missing = r"those of 0, 1, 2 are missing; dgn\.py --mode=train --custom_loss=lrp --classes=0,1,2 "
    refused("test_adv", *work.flags(*ATTACK, "--attack_method=dgn_lrp"), cwd=tmp_path,
            also=[work.folder], words=[missing, r"Received: 0 generators\."])
    refused("test_adv", *work.flags(*ATTACK, log_root="other"), cwd=tmp_path, also=[work.folder],
            words=["nce/class_0 was made for another network: expected weights_sha256=[0-9a-f]{12}…"])
    # By default where dgn.py writes by default.
    refused("test_adv", *work.flags(*ATTACK, dgn_dir=""), cwd=tmp_path, also=[work.folder],
            words=[f"in dgn_npz/{TAG}/nce, and"])


# --- Bad input ---

@pytest.mark.parametrize(("flags", "words"), [
    (("--mode=",), r"^error: mode must be one of \[analyze, train, generate\]\. Received: mode=''\.$"),
    (("--custom_loss=lpr",),
     r"^error: custom_loss must be one of \[lrp, nce, susp\]\. Received: custom_loss='lpr'\.$"),
    (("--custom_loss=",), r"custom_loss must be one of \[lrp, nce, susp\]"),
    (("--classes=0-12",), r"^error: classes must be different classes below 3, separated by commas, or "
                          r"a range a-b\. Received: classes=0-12\.$"),
    (("--classes=3",), "classes=3"), (("--classes=0,0",), "classes=0,0"), (("--classes=2-1",), "2-1"),
    (("--classes=0,x",), "classes=0,x"), (("--classes=-1",), "classes=-1"),
    (("--classes=,",), "classes=,"),
    (("--eps=0",), r"^error: eps must lie in \(0, 1\]\. Received: eps=0\.0\.$"),
    (("--eps=1.5",), "eps=1.5"), (("--eps=nan",), "eps=nan"), (("--eps=-0.1",), "eps=-0.1"),
    (("--custom_loss=lrp", "--k=784"), r"^error: k must lie in \[1, 783\]\. Received: k=784\.$"),
    (("--custom_loss=susp", "--k=151"), r"^error: k must lie in \[1, 150\]\. Received: k=151\.$"),
    (("--k=0",), "k must be at least 1.*Received: k=0"),
    (("--dgn_batch=11",), r"^error: dgn_batch must be at most the images of the smallest class, 10\. "
                          r"Received: dgn_batch=11\.$"),
    (("--dgn_batch=0",), "dgn_batch must be at least 1"),
    (("--dgn_epochs=0",), "dgn_epochs must be at least 1"),
    (("--dgn_lr=0",), "dgn_lr must be"), (("--dgn_lr_decay=yes",), r"one of \[auto, on, off\]"),
    (("--dgn_init=glorot", *RECIPE), r"dgn_init must be one of \[original, he\]"),
    (("--custom_loss_constant=1.1",), r"must lie in \[0, 1\].*custom_loss_constant=1\.1"),
    (("--lrp_eps=0",), "lrp_eps must be"),
    (("--splits=train,valid",), "splits must be of train, test.*Received: splits='train,valid'"),
    (("--analysis_split=valid",), r"analysis_split must be one of \[train, test\]"),
    (("--mode=analyze",), "nce needs no analysis.*Received: custom_loss='nce'"),
    (("--mode=generate", "--custom_loss=lrp"), (
        rf"^error: expected generators of classes 0 to 2 in .*/{TAG}/lrp, and those of 0, 1, 2 are "
        r"missing; dgn\.py --mode=train --custom_loss=lrp --classes=0,1,2 makes them\. "
        r"Received: 0 generators\.$")),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_bad_input(work, tmp_path, flags, words):
    refused("dgn", *work.flags("--mode=train", "--custom_loss=nce", *flags), cwd=tmp_path,
            also=[work.folder], words=[words])


def test_some_generators_are_missing(work, own_dir, tmp_path):
    shutil.rmtree(own_dir / "nce/class_1")
    (own_dir / "nce/class_2/model.ckpt-2.index").unlink()
    refused("dgn", *work.flags("--mode=generate", "--custom_loss=nce", dgn_dir="d"), cwd=tmp_path,
            words=[r"those of 1, 2 are missing; dgn\.py .*--classes=1,2 makes them", "Received: 1 gen"])


@pytest.mark.parametrize(("loss", "name"), [("lrp", "relevance"), ("susp", "suspicion")])
def test_no_analysis_or_that_of_another_network(work, tmp_path, loss, name):
    train = ("--mode=train", f"--custom_loss={loss}")
    refused("dgn", *work.flags(*train, dgn_dir="d"), cwd=tmp_path, words=[
        rf"^error: dgn_dir has no {name}\.npz of this network; dgn\.py --mode=analyze "
        rf"--custom_loss={loss} makes it\. Received: d/{TAG}/{name}\.npz\.$"])
    refused("dgn", *work.flags(*train, log_root="other"), cwd=tmp_path, also=[work.folder], words=[
        rf"{name}\.npz was made for another network: expected weights_sha256=[0-9a-f]{{12}}…\. "
        "Received: [0-9a-f]{12}…"])


def test_generators_of_another_network(work, tmp_path):
    for mode, words in (("generate", "class_0 was made for another network: expected weights_sha256="),
                        ("train", "class_0 holds a generator with weights_sha256=")):
        refused("dgn", *work.flags(f"--mode={mode}", "--custom_loss=nce", *RECIPE, log_root="other"),
                cwd=tmp_path, also=[work.folder], words=[words])


def test_images_without_a_generator(tmp_path):
    digits = ("--dataset=digits", "--model=mlp", "--log_root=m")
    succeeded("train", *digits, "--total_steps=1", cwd=tmp_path)
    refused("dgn", *digits, "--mode=train", "--custom_loss=nce", cwd=tmp_path, words=[
        r"^error: DGNs exist for images of 28\u00d728\u00d71 and 32\u00d732\u00d73\. "
        r"Received: image_shape=\(8, 8, 1\)\.$"])


def test_a_file_where_the_folder_belongs(work, tmp_path):
    (tmp_path / "kept").write_text("kept")
    for mode in ("train", "generate"):
        refused("dgn", *work.flags(f"--mode={mode}", "--custom_loss=nce", dgn_dir="kept"), cwd=tmp_path,
                words=["dgn_dir must be a folder", "kept"])

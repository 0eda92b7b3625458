"""dgn.py from a small target to its generated images, its hardened networks and their grid, and
test_adv.py with the same generators."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from attacks.dgn.generate import project
from attacks.dgn.relevance import most_relevant
from attacks.fgsm import fgsm
from evaluation import generated, grid
from files import checkpoints, provenance, result_files
from files import dgn as dgn_files
from networks import restoring
from networks.network import Network
from networks.spec import NetworkSpec
from tests.helpers.script_runner import ROOT, refused, run, succeeded
from training import mixed, reporter

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

    def adversarial(self, split, folder=None, source="nce"):
        """What `generate` wrote, and its identity."""
        path = (folder or self.target_dir) / source / f"adv_{split}.npz"
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
    folders = dgn_files.find_generators(work.target_dir, "nce", work.network.digests(), range(3))
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
    told = {"source": "nce", "split": split, "eps": EPS, "clipping": True, "changed_only": False}
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


# --- generate, of an attack ---

FGSM = ("--mode=generate", "--attack_method=fgsm")
PGD = ("--mode=generate", "--attack_method=pgd", "--attack_iterations=3", "--attack_step_size=0.05",
       "--num_restarts=2")
# Of a network that is hardened: three steps in each of twenty epochs.
ADV_TRAIN = ("--mode=adv_train", "--adv_batch=8", "--adv_epochs=20", "--adv_lr=3e-3")
ONLINE = (*ADV_TRAIN, "--adv_type=online", "--attack_iterations=2", "--attack_step_size=0.1",
          f"--eps={EPS}")
STEPS = 60


@pytest.fixture(scope="module")
def hardened(work):
    """Beside what `work` has: images of both attacks, a hardened network of each type, generators
    against the first of them, and the grid; what the runs printed."""
    robust = work.target_dir / "robust"
    nce, of_fgsm = (f"--adv_data={work.target_dir}/{source}/adv_train.npz"
                    for source in ("nce", "fgsm"))
    of_gf = f"--log_root={robust}/nce_gf"
    return {name: succeeded("dgn", *work.flags(*flags), cwd=work.folder) for name, flags in {
        "fgsm": (*FGSM, f"--eps={EPS}"), "pgd": (*PGD, f"--eps={EPS}"),
        "gf": (*ADV_TRAIN, nce), "default": (*ADV_TRAIN, "--adv_type=default", of_fgsm),
        "online": ONLINE,
        "against it": ("--mode=train", "--custom_loss=nce", *RECIPE, of_gf),
        "adaptive": (*GENERATE, f"--eps={EPS}", "--splits=test", of_gf),
        "grid": ("--mode=evaluate", f"--eps={EPS}", *PGD[2:]),
    }.items()}


def inputs_of(work, split):
    """Images as networks take them, and their classes."""
    images, labels = work.images(split)
    return generated.pixels_of(images) - np.float32(0.5), labels


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("source", ["fgsm", "pgd"])
def test_images_of_an_attack_lie_where_those_of_generators_do(work, hardened, source, split):
    found, identity = work.adversarial(split, source=source)
    x, labels = inputs_of(work, split)
    np.testing.assert_array_equal(found["index"], np.arange(len(x)))
    np.testing.assert_array_equal(found["labels"], labels)
    change = np.abs(np.float64(found["x_adv"]) - x)
    assert change.max() <= EPS + 1e-6 and np.abs(found["x_adv"]).max() <= 0.5
    numbers = {"step_size": 0.05, "num_steps": 3, "num_restarts": 2, "random_start": True}
    told = {"source": source, "split": split, "eps": EPS, "seed": 0,
            "settings": numbers if source == "pgd" else {}}
    assert told.items() <= identity.items()
    for name, values in (("pred_clean", x), ("pred_adv", found["x_adv"])):
        logits, _ = work.network.logits_and_features(values)
        np.testing.assert_array_equal(found[name], np.argmax(logits, axis=1))
    record = provenance.read(work.target_dir / source, f"adv_{split}")["metrics"]
    assert record["distances"]["linf"] == pytest.approx(change.max(), abs=1e-6)
    assert record["distances"]["l1"] == pytest.approx(change.mean(), rel=1e-5)
    right = np.mean(found["pred_adv"] == labels)
    assert record["right"][0] == right and record["changed"][0] == np.mean(
        found["pred_adv"] != found["pred_clean"])
    assert (f"{split}: {len(x)} of {len(x)} images, right {100 * right:.2f} %, changed "
            in hardened[source].out)
    assert (work.target_dir / source / "images.png").stat().st_size > 1000


def test_fgsm_is_the_attack_itself(work, hardened):
    x, _ = inputs_of(work, "test")
    found, _ = work.adversarial("test", source="fgsm")
    expected = fgsm(work.network.logits, tf.constant(x), eps=EPS)
    np.testing.assert_allclose(found["x_adv"], expected, rtol=0, atol=1e-7)
    # PGD starts anywhere within eps, FGSM at the image.
    of_pgd, _ = work.adversarial("test", source="pgd")
    inner = np.abs(x) < 0.2
    assert len(np.unique(np.abs(of_pgd["x_adv"] - x)[inner].round(4))) > 100


def test_distances_of_generators_are_told_before_and_after_projection(work, generate):
    record = provenance.read(work.target_dir / "nce", "adv_test")["metrics"]
    images, labels = work.images("test")
    raw = np.abs(generate(images, labels) - generated.pixels_of(images))
    assert record["distances_before_projection"]["linf"] == pytest.approx(raw.max(), rel=1e-5)
    assert record["distances_before_projection"]["l1"] == pytest.approx(raw.mean(), rel=1e-5)
    assert record["distances"]["linf"] == pytest.approx(min(EPS, raw.max()), rel=1e-5)


def test_images_of_some_classes_alone(work, own_dir, tmp_path):
    every, _ = work.adversarial("test")
    # Of the other classes no generator is needed.
    shutil.rmtree(own_dir / "nce/class_1")
    result = succeeded("dgn", *work.flags(*GENERATE, f"--eps={EPS}", "--splits=test", "--classes=0,2",
                                          dgn_dir="d"), cwd=tmp_path)
    found, _ = work.adversarial("test", own_dir)
    rows = np.flatnonzero(every["labels"] != 1)
    for name, values in every.items():
        np.testing.assert_array_equal(found[name], values[rows], err_msg=name)
    assert f"test: {2 * N_TEST} of {3 * N_TEST} images" in result.out


# --- adv_train ---

def robust_dir(work, name):
    return work.target_dir / "robust" / name


@pytest.mark.parametrize(("key", "name", "source", "told"), [
    ("gf", "nce_gf", "nce", {"kind": "gf", "shuffle": False}),
    ("default", "fgsm_default", "fgsm", {"kind": "default"}),
    ("online", "pgd_online", "pgd", {"kind": "online"})])
def test_what_a_hardened_network_leaves(work, hardened, key, name, source, told):
    folder = robust_dir(work, name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint", "hardened.json", "model.ckpt-60.data-00000-of-00001", "model.ckpt-60.index",
        "train"]
    assert hardened[key].out.splitlines()[-1] == f"The hardened network is --log_root={folder}."
    identity = json.loads((folder / "hardened.json").read_text())
    numbers = {"source": source, "ratio": 0.5, "learning_rate": 3e-3, "epochs": 20, "batch_size": 8,
               "seed": 0, "total_steps": STEPS, "weights_sha256": work.network.weights_sha256()}
    assert (numbers | told).items() <= identity.items()
    record, step = checkpoints.read_record(str(folder / "model.ckpt-60"))
    assert step == STEPS
    recipe = mixed.Recipe(key, 0.5, 3e-3, 20, 8, False, 0)
    attack = mixed.TrainingAttack(EPS, 0.1, 2)
    assert record == mixed.run_of(recipe, SPEC, source, 3 * N_TRAIN, attack)
    with open(folder / "train/training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    # Of images that are given beforehand the loss is of two terms, half and half.
    if key != "default":
        for row in rows:
            parts = [float(row[term]) for term in ("head_loss", "adversarial_loss")]
            assert float(row["cost"]) == pytest.approx(np.mean(parts), rel=1e-5)
    run_record = provenance.read(folder / "train", "train")
    assert run_record["metrics"]["step"] == STEPS and run_record["flags"]["adv_type"] == key


@pytest.mark.parametrize(("name", "tag"), [
    ("nce_gf", "CE_nce_gf"), ("fgsm_default", "CE_fgsm_default"), ("pgd_online", "CE_at50")])
def test_a_hardened_network_is_restored_under_its_own_name(work, hardened, cpu, name, tag):
    network = restoring.restore(cpu, str(robust_dir(work, name)), SPEC)
    assert network.tag == tag
    assert network.weights_sha256() != work.network.weights_sha256()


def test_test_nor_takes_a_hardened_network(work, hardened, cpu, tmp_path):
    folder = robust_dir(work, "nce_gf")
    result = succeeded("test_nor", *TARGET, f"--eval_data_path={work.folder}/test.npz",
                       f"--log_root={folder}", f"--eval_dir={tmp_path}/eval", "--mode=eval",
                       "--eval_once=True", cwd=tmp_path)
    x, labels = inputs_of(work, "test")
    network = restoring.restore(cpu, str(folder), SPEC)
    right = np.mean(np.argmax(network.logits(x), axis=1) == labels)
    assert f"precision: {right:.5f}" in result.out
    # As the training has told at its end.
    assert f"Step: {STEPS} Test precision: {right:.5f}" in hardened["gf"].out


def test_the_first_step_of_gf_is_that_of_the_originals_start(work, hardened, cpu):
    """Its loss is that of the first rows, in file order, under the seed's fresh weights."""
    found, _ = work.adversarial("train")
    x, labels = inputs_of(work, "train")
    network = restoring.build_network(cpu, SPEC)
    mixed.start_as_original(network, 0)
    losses = [np.mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels[:8], network.logits(values[:8]))) for values in (x, found["x_adv"])]
    with open(robust_dir(work, "nce_gf") / "train/training.csv", newline="") as file:
        first = next(csv.DictReader(file))
    np.testing.assert_allclose([float(first[term]) for term in ("head_loss", "adversarial_loss")],
                               losses, rtol=1e-5)


# Of a filtered file, and shuffled: pairs are told by their index.
def test_what_was_kept_alone_is_trained_on(work, hardened, own_dir, tmp_path):
    shutil.rmtree(own_dir / "robust")
    filtered = own_dir / "nce/adv_train.npz"
    arrays, identity = work.adversarial("train")
    rows = np.flatnonzero(np.arange(len(arrays["labels"])) % 3 != 1)
    dgn_files.save_arrays(filtered, {name: values[rows] for name, values in arrays.items()}, identity)
    succeeded("dgn", *work.flags("--mode=adv_train", f"--adv_data={filtered}", "--adv_batch=20",
                                 "--adv_epochs=1", "--adv_shuffle=True", "--seed=4", dgn_dir="d"),
              cwd=tmp_path)
    # One batch of all there are, whatever their order: the loss is that of all of them.
    x, labels = inputs_of(work, "train")
    network = restoring.build_network(tf.distribute.OneDeviceStrategy("/cpu:0"), SPEC)
    mixed.start_as_original(network, 4)
    losses = [np.mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[rows], network.logits(
        values[rows]))) for values in (x, arrays["x_adv"])]
    with open(own_dir / "robust/nce_gf/train/training.csv", newline="") as file:
        row, = csv.DictReader(file)
    np.testing.assert_allclose([float(row[term]) for term in ("head_loss", "adversarial_loss")],
                               losses, rtol=1e-5)


# --- adv_train, killed ---

def stored(folder):
    """Name → bytes of everything in the checkpoint, and the rows that were told of."""
    reader = tf.train.load_checkpoint(checkpoints.latest(str(folder)))
    arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
              if "OBJECT_GRAPH" not in name}
    return ({name: value if isinstance(value, bytes) else value.tobytes()
             for name, value in arrays.items()}, (folder / "train/training.csv").read_text(),
            {path.name for path in folder.iterdir()})


def gf(work, *more):
    return work.flags(*ADV_TRAIN, f"--adv_data={work.target_dir}/nce/adv_train.npz", *more, dgn_dir="d")


def test_a_hardening_that_is_stopped_or_killed_ends_with_the_same_bytes(work, hardened, tmp_path,
                                                                         monkeypatch):
    # SIGTERM within the second epoch.
    report = reporter.Reporter.report

    def report_and_stop(self, step, cost, parts):
        report(self, step, cost, parts)
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(reporter.Reporter, "report", report_and_stop)
        stopped = run("dgn", *gf(work), cwd=tmp_path)
    folder = tmp_path / "d" / TAG / "robust/nce_gf"
    assert stopped.code == 128 + signal.SIGTERM and "The hardened network" not in stopped.out
    assert checkpoints.step_of(checkpoints.latest(str(folder))) == 5
    assert dgn_files.find_robust(folder.parents[1], work.network.digests(), lambda _: None) == {}
    # SIGKILL within the third, whose steps so far are lost.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    killed = subprocess.run(
        [sys.executable, "-m", "tests.helpers.killed_dgn", "8", *gf(work)], cwd=tmp_path,
        env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoints.step_of(checkpoints.latest(str(folder))) == 6
    last = succeeded("dgn", *gf(work), cwd=tmp_path)
    assert f"Resuming at step 6 from d/{TAG}/robust/nce_gf." in last.out
    assert "warning: Taken over from process" in last.err
    assert stored(folder) == stored(robust_dir(work, "nce_gf"))


def test_one_that_was_killed_before_its_record_is_recorded(work, hardened, own_dir, tmp_path):
    train_dir = own_dir / "robust/nce_gf/train"
    (train_dir / "train_run.json").unlink()
    succeeded("dgn", *gf(work), cwd=tmp_path)
    assert provenance.read(train_dir, "train")["metrics"]["step"] == STEPS


def test_a_finished_hardening_is_left_and_another_refused(work, hardened, tmp_path):
    folder = robust_dir(work, "nce_gf")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    nce = f"--adv_data={work.target_dir}/nce/adv_train.npz"
    again = succeeded("dgn", *work.flags(*ADV_TRAIN, nce), cwd=tmp_path)
    assert f"{folder} has a checkpoint at step 60: nothing left" in again.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for flag, words in (("--adv_epochs=5", "epochs=20.* Received: epochs=5"),
                        ("--adv_ratio=0.4", "ratio=0.5.* Received: ratio=0.4"),
                        ("--seed=1", "seed=0.* Received: seed=1")):
        refused("dgn", *work.flags(*ADV_TRAIN, nce, flag), cwd=tmp_path, also=[work.folder], words=[
            rf"^error: {folder} holds a network with {words}\.$",
            "give another --dgn_dir, or remove it"])


# --- evaluate ---

def of_share(values):
    return [np.mean(values), len(values)]


def grid_of(work):
    return json.loads((work.target_dir / "grid.json").read_text())


def test_the_grid_has_the_networks_and_the_columns_that_there_are(work, hardened):
    found = grid_of(work)
    assert list(found) == ["target", "fgsm_default", "nce_gf", "pgd_online"]
    columns = ["clean", "nce", "fgsm", "pgd", "nce of a wrong class",
               "nce of a wrong class: that class", "white-box fgsm", "white-box pgd"]
    for name, row in found.items():
        assert set(row) == {*columns, *(["adaptive nce"] if name == "nce_gf" else [])}
    with open(work.target_dir / "grid.csv", newline="") as file:
        lines = {(line["network"], line["column"]): line for line in csv.DictReader(file)}
    assert list(lines) == [(name, column) for name, row in found.items() for column in row]
    for (name, column), line in lines.items():
        right = [float(line[key]) for key in ("right", "low", "high", "n")]
        assert right == found[name][column]["right"]
    height, width = matplotlib.image.imread(work.target_dir / "grid.png").shape[:2]
    assert height > 200 and width > 400
    record = provenance.read(work.target_dir, "grid")["metrics"]
    assert record == {"n": 3 * N_TEST, "eps": EPS, "networks": list(found)}


def test_each_cell_is_what_its_network_says_of_its_images(work, hardened, generate, cpu):
    images, labels = work.images("test")
    x, _ = inputs_of(work, "test")
    wrong = grid.wrong_classes(labels, 3, 0)
    u = generated.pixels_of(images)
    of_wrong = project(u, generate(images, wrong), EPS).numpy() - np.float32(0.5)
    networks = {name: restoring.restore(cpu, str(robust_dir(work, name)), SPEC)
                for name in ("nce_gf", "fgsm_default", "pgd_online")} | {"target": work.network}
    for name, network in networks.items():
        def answer(values, network=network):
            return np.argmax(network.logits(values), axis=1)

        row, before = grid_of(work)[name], answer(x)
        assert row["clean"]["right"][::3] == of_share(before == labels)
        made = {source: work.adversarial("test", source=source)[0]["x_adv"]
                for source in ("nce", "fgsm", "pgd")}
        made |= {"nce of a wrong class": of_wrong,
                 "white-box fgsm": fgsm(network.logits, tf.constant(x), eps=EPS).numpy()}
        for column, x_adv in made.items():
            after, was_right = answer(x_adv), before == labels
            expected = {"right": after == labels, "changed": after != before,
                        "success": after[was_right] != labels[was_right]}
            for field, values in expected.items():
                if len(values):
                    assert row[column][field][::3] == of_share(values), (name, column, field)
        assert row["nce of a wrong class: that class"] == {
            "right": row["nce of a wrong class: that class"]["right"]}
        assert row["nce of a wrong class: that class"]["right"][::3] == of_share(
            answer(of_wrong) == wrong)
        # Of the target stored images are those of the white box.
        if name == "target":
            assert row["white-box fgsm"] == row["fgsm"] and row["white-box pgd"] == row["pgd"]


def test_a_network_that_reads_the_class_off_the_perturbation_is_found_out(work, hardened):
    """It knows the images of the generators that it was trained on, and of a wrong class that class."""
    row = {column: cell["right"][0] for column, cell in grid_of(work)["nce_gf"].items()}
    assert row["clean"] > 0.8 and row["nce"] > 0.8
    assert row["nce of a wrong class"] < 0.2 and row["nce of a wrong class: that class"] > 0.8
    of_target = {column: cell["right"][0] for column, cell in grid_of(work)["target"].items()}
    assert of_target["nce of a wrong class: that class"] < 0.2 > of_target["nce"]


def test_generators_against_a_hardened_network_are_its_adaptive_column(work, hardened, cpu):
    own = work.folder / "dgn_npz" / f"{TAG}_nce_gf"
    network = restoring.restore(cpu, str(robust_dir(work, "nce_gf")), SPEC)
    arrays, _ = dgn_files.load_arrays(own / "nce/adv_test.npz", network.digests(), "")
    _, labels = work.images("test")
    cell = grid_of(work)["nce_gf"]["adaptive nce"]
    assert cell["right"][::3] == of_share(arrays["pred_adv"] == labels)
    assert cell["changed"][::3] == of_share(arrays["pred_adv"] != arrays["pred_clean"])
    assert cell["right"] != grid_of(work)["nce_gf"]["nce"]["right"]


def test_the_caution_and_the_table_are_printed(work, hardened):
    text = hardened["grid"].out
    assert text.startswith(f"{grid.CAUTION}\n\n| right, % of | target | fgsm_default | nce_gf | ")
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    head, dashes, *rows = table
    found = grid_of(work)
    assert head[1:] == list(found) and set(dashes) == {"---"}
    assert [row[0] for row in rows] == grid.columns(["lrp", "nce", "susp"], ("fgsm", "pgd"))
    for column, *values in rows:
        assert values == [f"{100 * row[column]['right'][0]:.2f}" if column in row else "not run"
                          for row in found.values()]
    # Nobody trained generators of the other losses.
    assert dict.fromkeys(("lrp", "adaptive susp"), ["not run"] * 4) == {
        row[0]: row[1:] for row in rows if row[0] in ("lrp", "adaptive susp")}
    own = {"nce_gf": "nce", "fgsm_default": "fgsm", "pgd_online": "pgd"}
    for name, source in own.items():
        (_, low, *_), (*_, high, _) = (found[name][column]["right"] for column in (source, "clean"))
        assert (f"{name} is right on " in text) == (low > high)
    assert text.rstrip().endswith(f"The grid is in {work.target_dir}: grid.json, grid.csv, grid.png.")


def test_some_of_the_images_and_a_network_that_is_not_finished(work, hardened, own_dir, tmp_path,
                                                              monkeypatch):
    shutil.rmtree(own_dir / "robust/fgsm_default")
    shutil.rmtree(own_dir / "robust/pgd_online")
    (own_dir / "robust/nce_gf/model.ckpt-60.index").unlink()
    monkeypatch.setattr("options.dgn.EVAL_BATCH", 5)
    result = succeeded("dgn", *work.flags("--mode=evaluate", "--eval_batch_count=1", f"--eps={EPS}",
                                          *PGD[2:], dgn_dir="d"), cwd=tmp_path)
    assert f"warning: d/{TAG}/robust/nce_gf is left out: its training is not finished." in result.err
    found = json.loads((own_dir / "grid.json").read_text())
    assert list(found) == ["target"] and {
        cell["right"][3] for cell in found["target"].values()} == {5}
    x, labels = (values[:5] for values in inputs_of(work, "test"))
    assert found["target"]["clean"]["right"][0] == np.mean(
        np.argmax(work.network.logits(x), axis=1) == labels)
    arrays, _ = work.adversarial("test")
    assert found["target"]["nce"]["right"][0] == np.mean(arrays["pred_adv"][:5] == labels)
    assert found["target"]["fgsm"] == found["target"]["white-box fgsm"]


# --- Bad input ---

@pytest.mark.parametrize(("flags", "words"), [
    (("--mode=",), (
        r"^error: mode must be one of \[analyze, train, generate, adv_train, evaluate\]\. "
        r"Received: mode=''\.$")),
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
    for flags, words in (
            (GENERATE, "class_0 was made for another network: expected weights_sha256="),
            (("--mode=train", "--custom_loss=nce", *RECIPE),
             "class_0 holds a generator with weights_sha256=")):
        refused("dgn", *work.flags(*flags, log_root="other"), cwd=tmp_path, also=[work.folder],
                words=[words])


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


# --- Bad input of hardening and of the grid ---

NCE = "--adv_data={}/nce/adv_train.npz"
ADV = ("--mode=adv_train", NCE, "--adv_batch=8")


@pytest.mark.parametrize(("flags", "words"), [
    ((*ADV, "--adv_ratio=-0.1"),
     r"^error: adv_ratio must lie in \[0, 1\]\. Received: adv_ratio=-0\.1\.$"),
    ((*ADV, "--adv_ratio=1.1"), r"adv_ratio=1\.1"), ((*ADV, "--adv_ratio=nan"), "adv_ratio=nan"),
    ((*ADV, "--adv_type=trades"),
     r"^error: adv_type must be one of \[gf, default, online\]\. Received: adv_type='trades'\.$"),
    (("--mode=adv_train",), r"^error: --adv_data must be given\. Received: adv_data=''\.$"),
    (("--mode=adv_train", "--adv_data=none.npz"),
     r"no none\.npz of this network; dgn\.py --mode=generate makes it\. Received: none\.npz\.$"),
    (("--mode=adv_train", "--adv_data={}/nce/adv_test.npz"), (
        r"^error: adv_data and the training images must have the same rows\. Received: 30 images, 12 "
        r"adversarial ones of others\.$")),
    (("--mode=adv_train", "--adv_data={}/relevance.npz"),
     r"^error: expected images of dgn\.py --mode=generate in .*/relevance\.npz\. Received: something"),
    (("--mode=adv_train", "--adv_data={}/../../train.npz"), r"what the arrays of .*train\.npz are of"),
    (("--mode=adv_train", "--adv_data={}/nce"), "adv_data must be a file"),
    ((*ADV, "--adv_batch=31"), (r"^error: adv_batch must be at most the 30 images that it trains on\. "
                                r"Received: adv_batch=31\.$")),
    (("--mode=adv_train", "--adv_type=online"), "at most the 30 images.* Received: adv_batch=100"),
    ((*ADV, "--adv_batch=0"), "adv_batch must be at least 1"),
    ((*ADV, "--adv_epochs=0"), "adv_epochs must be at least 1"),
    ((*ADV, "--adv_lr=0"), "adv_lr must be"), ((*ADV, "--adv_lr=nan"), "adv_lr must be"),
    ((*ADV, "--log_root={0}/../../m,{0}/../../other"),
     r"^error: adv_train hardens one network\. Received: log_root='.*/m,.*/other'\.$"),
    ((*ADV, "--log_root={}/../../other"), "adv_train.npz was made for another network: expected"),
    # Flags that a mode does not take.
    ((*ADV, "--custom_loss=nce"), "--mode=adv_train takes no --custom_loss"),
    ((*ADV, "--classes=1"), "--mode=adv_train takes no --classes"),
    ((*ADV, "--attack_iterations=3"), "--adv_type=gf takes no --attack_iterations"),
    ((*ADV, "--adv_type=default", "--num_restarts=0"), "--adv_type=default takes no --num_restarts"),
    ((*ADV, "--adv_type=online"), "--adv_type=online takes no --adv_data"),
    (("--mode=adv_train", "--adv_type=online", "--adv_shuffle"),
     "--adv_type=online takes no --adv_shuffle"),
    (("--mode=adv_train", "--adv_type=online", "--num_restarts=3"),
     "--adv_type=online takes no --num_restarts"),
    (("--mode=train", "--custom_loss=nce", "--adv_ratio=0.3"), "--mode=train takes no --adv_ratio"),
    (("--mode=train", "--attack_method=pgd"), "--mode=train takes no --attack_method"),
    (("--mode=analyze", "--custom_loss=lrp", "--num_restarts=0"),
     "--mode=analyze takes no --num_restarts"),
    (("--mode=generate", "--custom_loss=nce", "--adv_lr=0.1"), "--mode=generate takes no --adv_lr"),
    (("--mode=generate", "--custom_loss=nce", "--attack_iterations=3"),
     "--mode=generate of generators takes no --attack_iterations"),
    ((*FGSM, "--attack_step_size=0.1"),
     "--mode=generate of fgsm takes no --attack_step_size"),
    ((*FGSM, "--custom_loss=nce"), "--attack_method takes no --custom_loss"),
    ((*PGD, "--noclipping"), "--attack_method takes no --clipping"),
    (("--mode=evaluate", "--custom_loss=nce"), "--mode=evaluate takes no --custom_loss"),
    (("--mode=evaluate", "--classes=1"), "--mode=evaluate takes no --classes"),
    (("--mode=evaluate", "--adv_type=gf"), "--mode=evaluate takes no --adv_type"),
    # Numbers of the attack, and of the grid.
    (("--mode=generate", "--attack_method=bim"),
     r"^error: attack_method must be one of \[fgsm, pgd\]\. Received: attack_method='bim'\.$"),
    ((*PGD, "--attack_iterations=0"), "attack_iterations must be at least 1"),
    ((*PGD, "--attack_step_size=0"), "attack_step_size must be"),
    ((*PGD, "--num_restarts=-1"), "num_restarts must be at least 0"),
    (("--mode=evaluate", "--eval_batch_count=0"), "eval_batch_count must be"),
    (("--mode=evaluate", "--log_root={}/../../other"), "was made for another network: expected"),
    (("--mode=evaluate", "--eval_data_path={}/../../train.npz"),
     r"nce/adv_test\.npz was made of other test images: --mode=generate makes it anew"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_bad_input_of_hardening_and_grid(work, tmp_path, flags, words):
    given = [flag.format(work.target_dir) for flag in flags]
    refused("dgn", *work.flags(*given), cwd=tmp_path, also=[work.folder], words=[words])


def test_a_file_of_keras_is_not_hardened(work, tmp_path):
    (tmp_path / "net.keras").write_bytes(b"")
    given = (f"--train_data_path={work.folder}/train.npz", "--adv_type=online", "--mode=adv_train")
    refused("dgn", "--dataset=npz", "--model=net.keras", *given, cwd=tmp_path, words=[
        r"--mode=adv_train expected a network of train\.py, of --log_root\. "
        r"Received: model='net\.keras'\.$"])


def test_a_damaged_record_of_a_hardened_network(work, hardened, own_dir, tmp_path):
    (own_dir / "robust/nce_gf/hardened.json").write_text("[]")
    refused("dgn", *work.flags("--mode=evaluate", dgn_dir="d"), cwd=tmp_path, words=[
        r"^error: expected what a network was hardened with in .*/robust/nce_gf/hardened\.json\. "
        r"Received: something else\.$"])


# --- Flags that would do nothing, folders that nobody has claimed ---

@pytest.mark.parametrize("mode", ["adv_train", "evaluate"])
def test_attack_method_where_it_would_do_nothing_is_refused(work, own_dir, tmp_path, mode):
    given = (f"--adv_data={work.target_dir}/nce/adv_train.npz",) if mode == "adv_train" else ()
    refused("dgn", *work.flags(f"--mode={mode}", *given, "--attack_method=fgsm", dgn_dir="d"),
            cwd=tmp_path,
            words=[f"--mode={mode} takes no --attack_method"])


@pytest.mark.parametrize("how", [GENERATE, FGSM])
def test_a_class_that_the_split_lacks(work, own_dir, tmp_path, how):
    arrays = np.load(work.folder / "test.npz")
    kept = arrays["labels"] != 1
    np.savez(tmp_path / "no1.npz", images=arrays["images"][kept], labels=arrays["labels"][kept])
    refused("dgn", *work.flags(*how, "--splits=test", "--classes=1", dgn_dir="d"),
            "--eval_data_path=no1.npz", cwd=tmp_path, words=["classes=1"])


def test_a_wrong_test_set_claims_no_folder(work, tmp_path):
    nce = f"--adv_data={work.target_dir}/nce/adv_train.npz"
    refused("dgn", *work.flags(*ADV_TRAIN, nce, dgn_dir="d"), "--eval_data_path=nowhere.npz",
            cwd=tmp_path, words=["nowhere.npz"])


def test_nor_does_a_batch_that_replicas_cannot_share(work, tmp_path):
    refused("dgn", *work.flags(*ONLINE, "--adv_batch=7", "--num_cpu_replicas=2", dgn_dir="d"),
            cwd=tmp_path, words=[r"divisible by the 2 replicas\. Received: adv_batch=7"])


def test_a_shuffle_that_would_do_nothing_is_refused(work, own_dir, tmp_path):
    given = (*ADV_TRAIN, "--adv_type=default", f"--adv_data={work.target_dir}/nce/adv_train.npz")
    shutil.rmtree(own_dir / "robust", ignore_errors=True)
    refused("dgn", *work.flags(*given, "--adv_shuffle", dgn_dir="d"), cwd=tmp_path,
            words=["takes no --adv_shuffle"])


def test_another_attack_of_online_is_refused(work, own_dir, tmp_path):
    shutil.rmtree(own_dir / "robust", ignore_errors=True)
    succeeded("dgn", *work.flags(*ONLINE, dgn_dir="d"), cwd=tmp_path)
    refused("dgn", *work.flags(*ONLINE, "--attack_step_size=0.05", dgn_dir="d"), cwd=tmp_path,
            words=[r"attack_step_size=0\.1: .*Received: attack_step_size=0\.05\."])


def test_arrays_of_other_lengths_are_refused(work, own_dir, tmp_path):
    arrays = dict(np.load(own_dir / "nce/adv_test.npz"))
    np.savez(own_dir / "nce/adv_test.npz", **arrays | {"x_adv": arrays["x_adv"][:3]})
    refused("dgn", *work.flags("--mode=evaluate", "--num_restarts=0", "--eps=0.25", dgn_dir="d"),
            cwd=tmp_path, words=["adv_test.npz"])

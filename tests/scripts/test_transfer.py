"""An attack made on one network is tried on another: the same images, judged anew."""

import json
import shutil

import numpy as np
import pytest

from data import inputs
from evaluation import transfer as transfer_from
from files import attack_results, result_files
from tests.helpers.script_runner import run, succeeded

NETWORK = ("--dataset=digits", "--model=mlp")
FGSM = ("--mode=attack", "--attack_method=fgsm", "--eval_batch_count=1", "--eps_sweep=0.1,0.2")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two small networks in a folder, and FGSM against the first of them."""
    folder = tmp_path_factory.mktemp("transfer")
    for name in ("a", "b"):
        succeeded("train", *NETWORK, "--total_steps=20", f"--seed={ord(name)}", f"--log_root={name}",
                  cwd=folder)
    succeeded("test_adv", *NETWORK, "--log_root=a", *FGSM, cwd=folder)
    return folder


def transfer(work, *flags, log_root="b", cwd=None):
    return run("test_adv", *NETWORK, f"--log_root={work}/{log_root}", "--mode=transfer",
               f"--transfer_from={work}/fgsm_digits/CE", *flags, cwd=cwd or work)


def test_the_images_are_those_of_the_source_and_their_scores_those_of_the_network_here(work, tmp_path):
    result = transfer(work, cwd=tmp_path)
    assert result.code == 0, result.err
    folder, = tmp_path.glob("fgsm_from_*_digits/CE")
    record = json.loads((folder / "test_adv_run.json").read_text())["metrics"]
    source = json.loads((work / "fgsm_digits/CE/test_adv_run.json").read_text())["metrics"]
    assert folder.parent.name == f"fgsm_from_{source['network']['weights_sha256'][:8]}_digits"
    assert record["knowledge"] == "transfer" and record["norm"] == "linf"
    assert record["transferred_from"] == source["network"] != record["network"]
    assert record["eps"] == [0.1, 0.2] and record["num_per_eps"] == 200
    here, there = (result_files.load_attack_results(path, images=True)
                   for path in (folder, work / "fgsm_digits/CE"))
    for name in ("adv_img", "nor_img", "labels_true"):
        np.testing.assert_array_equal(here[name], there[name])
    assert np.any(here["confidence_adv"] != there["confidence_adv"])
    assert (folder / "images.png").is_file()


def test_images_in_another_order_are_found_by_their_pixels(work):
    source = np.load(work / "fgsm_digits/CE/results.npz")
    images = np.load(work / "fgsm_digits/CE/nor_img.npy")[:200]
    order = np.random.default_rng(0).permutation(200)
    image_set = inputs.ImageSet(np.uint8(np.round((images[order] + 0.5) * 255)),
                                source["label"][:200][order], 10, "own", False)
    left_out = attack_results.digests_of(images[:3])
    found = transfer_from.load(work / "fgsm_digits/CE", image_set, {"weights_sha256": "b"}, left_out)
    np.testing.assert_array_equal(order[found.image_index], np.arange(3, 200))
    np.testing.assert_array_equal(found.labels, source["label"][3:200])
    np.testing.assert_array_equal(found.x, images[3:])
    adversarial = np.load(work / "fgsm_digits/CE/adv_img.npy")
    for number, made in enumerate(found.rounds):
        np.testing.assert_array_equal(made["adversarial"], adversarial[200 * number:][3:200])


@pytest.mark.parametrize(("flags", "words"), [
    (("--log_root=a",), "must hold the results of another network"),
    (("--transfer_from=a",), "with test_adv_run.json"),
    (("--transfer_from=",), "transfer needs --transfer_from"),
    (("--attack_method=bim",), "attack_method must be fgsm"),
    (("--eps=0.1",), "transfer takes no --eps. Received: eps=0.1"),
    (("--num_restarts=2",), "transfer takes no --num_restarts"),
    (("--mode=attack",), "--transfer_from needs --mode=transfer. Received: mode=attack"),
])
def test_refused_in_one_sentence(work, flags, words):
    before = sorted(work.rglob("*"))
    result = run("test_adv", *NETWORK, "--log_root=b", "--mode=transfer",
                 "--transfer_from=fgsm_digits/CE", *flags, cwd=work)
    assert result.code == 1 and words in result.err and result.err.count("\n") == 1
    assert sorted(work.rglob("*")) == before


def test_results_of_other_images_are_refused(work, tmp_path):
    shutil.copytree(work / "fgsm_digits", tmp_path / "fgsm_digits")
    path = tmp_path / "fgsm_digits/CE/nor_img.npy"
    images = np.load(path)
    images[3:5, 0, 0] += 0.25
    np.save(path, images)
    result = run("test_adv", *NETWORK, f"--log_root={work}/b", "--mode=transfer",
                 "--transfer_from=fgsm_digits/CE", cwd=tmp_path)
    assert result.code == 1 and "of which 2 of 200 are others" in result.err

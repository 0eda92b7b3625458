"""What a seed is worth, and the deeper network: tables of rows whose answers are known."""

import subprocess
import sys

import numpy as np
import pytest

from files import provenance, result_files
from files.features import save_kernels
from results import beyond
from tests.helpers.script_runner import ROOT


def accuracy(seed, right):
    return {"network": "resnet8", "objective": "rce", "n": 1000, "num_right": right, "seed": seed}


def aucs(seed, values, eps=0.04):
    return {"attack": "fgsm", "objective": "rce", "eps": eps, "n": 7, "aucs": values, "seed": seed}


def test_mean_and_range_over_the_seeds():
    table = beyond.seeds_table({"seeds": [
        accuracy(0, 990), accuracy(1, 970), aucs(0, [0.9, 0.5, 1.0]), aucs(1, [0.8, None, 1.0]),
        aucs(0, [None, None, None], eps=0.16)]})
    assert table[1:] == [
        ["accuracy of resnet8", "RCE", "2", "98.00 (97.00 to 99.00)", "", ""],
        ["fgsm, eps 0.04", "RCE", "2", "85.0 (80.0 to 90.0)", "50.0 (50.0 to 50.0)",
         "100.0 (100.0 to 100.0)"],
        ["fgsm, eps 0.16", "RCE", "1", "n/a", "n/a", "n/a"]]
    assert beyond.seeds_table({"seeds": []}) == []


def test_the_deeper_network_is_shown_in_the_rounds_of_the_other_tables():
    rows = [aucs(0, [0.5, None, 1.0], eps) for eps in (0.02, 0.04, 0.16)]
    rows.append(aucs(0, [1.0, 1.0, 1.0], None) | {"attack": "carliniL2"})
    table = beyond.deeper_table({"deeper": rows})
    assert [row[0] for row in table[1:]] == ["fgsm, eps 0.04", "fgsm, eps 0.16", "carliniL2"]
    assert table[1][3:] == ["50.0", "n/a", "100.0"]


@pytest.fixture
def work(tmp_path):
    """A seed whose FGSM is told from normal images by confidence always, by non-ME never."""
    folder = tmp_path / "seeds/3"
    save_kernels(folder / "kernel_para_mnist", "rce", np.array([[[0.0, 3.0]]]))
    num, one = 4, np.ones(4)
    result_files.save_attack_results(folder / "fgsm_mnist/RCE", {
        "labels_true": 0 * one, "labels_nor": 0 * one, "labels_adv": one,
        "confidence_nor": 0.9 * one, "confidence_adv": 0.6 * one, "entropy_nor": 0 * one,
        "entropy_adv": one, "logits_nor": np.zeros((num, 1)), "logits_adv": np.full((num, 1), 3.0),
        **{f"{side}_img": np.zeros((num, 2, 2, 1), np.float32) for side in ("nor", "adv")},
        "L2_distance": 0 * one}, {name: np.zeros(num) for name in result_files.PER_IMAGE})
    provenance.write(folder / "fgsm_mnist/RCE", "test_adv", flags={}, metrics={
        "eps": [0.04], "num_per_eps": num, "rounds": [{"seconds": 1.0}]})
    log_root = folder / "models_mnist/resnet8_rce"
    provenance.write(log_root / "train", "train", flags={"seed": 3}, metrics={"step": 5})
    provenance.write(log_root / "eval", "test_nor", flags={},
                     metrics={"precision": 0.75, "num_images": 8, "step": 5})
    return tmp_path


def test_rows_are_collected_from_the_folders_of_the_seeds(work):
    found = beyond.collect(work)
    assert found["seeds"] == [
        {"network": "resnet8", "objective": "rce", "n": 8, "num_right": 6, "seed": 3},
        {"attack": "fgsm", "objective": "rce", "eps": 0.04, "n": 4, "aucs": [1.0, 0.0, 0.5], "seed": 3}]
    assert not found["deeper"] and not found["cells"]
    assert found["runs"]["train_resnet8_rce_seed_3"]["seed"] == 3


def test_no_folder_is_one_sentence(tmp_path):
    done = subprocess.run([sys.executable, "-m", "results.beyond", "nowhere"], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("error: expected the folder of results/")

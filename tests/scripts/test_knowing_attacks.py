"""test_adv.py with attacks that know a detector: files, records, shards, what is refused."""

import json

import numpy as np
import pytest

from attacks import ATTACKS
from defenses import detector as detectors
from defenses.kernels import log_kernel_density
from files.result_files import PER_IMAGE
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, refused, succeeded

KNOWING = [name for name, attack in ATTACKS.items()
           if {"scores", "scores_if_given"} & set(attack.takes)]
FEW = ("--mode=attack", "--eval_batch_count=2", "--eps=0.15", "--attack_iterations=6")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """--log_root of the tiny run, and the path of its detector."""
    log_root = f"{script_runner.tiny_run(tmp_path_factory)}/models/tiny"
    folder = tmp_path_factory.mktemp("detector")
    script_runner.fit_detector(log_root, folder)
    return f"--log_root={log_root}", f"--detector={folder}/kernel_para_digits/detector_RCE.npz"


def attacked(tiny, name, *more, cwd):
    """Runs the attack; its folder."""
    succeeded("test_adv", *NETWORK, *tiny, *FEW, f"--attack_method={name}", "--against=all", *more,
              cwd=cwd)
    return cwd / f"{name}_all_digits/RCE"


# Where eps bounds the change.
@pytest.mark.parametrize("name", [name for name in KNOWING if ATTACKS[name].uses_eps])
def test_results_and_record(tiny, tmp_path, name):
    folder = attacked(tiny, name, "--num_restarts=2", cwd=tmp_path)
    saved, row = np.load(folder / "results.npz"), ATTACKS[name]
    assert set(saved) == {*PER_IMAGE, *row.records, "first_broken", "evades_rounded"}
    assert len(saved["evaded"]) == 20 and saved["linf"].max() <= 0.15 + 1e-6
    assert not np.any(saved["evaded"] & (saved["predicted_after"] == saved["label"]))
    metrics = json.loads((folder / "test_adv_run.json").read_text())["metrics"]
    assert metrics["knowledge"] == row.knowledge and metrics["norm"] == "linf"
    # Of three target classes each has its own.
    assert (metrics["num_steps"], metrics["num_restarts"]) == (6, 6 if name == "matching_pgd" else 2)
    assert metrics["forward_spread"] == 0 and len(metrics["trivial_success"]) == 1
    assert ("path_length" in metrics) == ("flat_loss_share" in metrics) == bool(row.climbs)
    assert metrics["against_rate"] == 0.05 and len(metrics["against"]) == 5


def test_an_attack_by_answers_tells_how_near_it_came(tiny, tmp_path):
    succeeded("test_adv", *NETWORK, *tiny, *FEW[:2], "--attack_iterations=200",
              "--attack_method=hopskipjump", "--against=confidence", "--attack_norm=l2", cwd=tmp_path)
    folder = tmp_path / "hopskipjump_confidence_l2_digits/RCE"
    saved = np.load(folder / "results.npz")
    assert saved["evaded"].all() and np.isnan(saved["eps"]).all()
    # Only a wrong image needs no attack.
    assert np.all((saved["l2"] > 0) | (saved["predicted_before"] != saved["label"]))
    assert saved["queries"].max() <= 200 and saved["iterations"].tolist() == [200] * 20
    metrics = json.loads((folder / "test_adv_run.json").read_text())["metrics"]
    assert (metrics["knowledge"], metrics["norm"]) == ("answers", "l2")


def test_shards_and_batches_leave_the_same_bytes(tiny, tmp_path):
    for folder in ("whole", "shards"):
        (tmp_path / folder).mkdir()
    whole = attacked(tiny, "square", cwd=tmp_path / "whole")
    for shard in range(2):
        merged = attacked(tiny, "square", "--num_shards=2", f"--shard_index={shard}",
                          "--attack_batch_size=7", cwd=tmp_path / "shards")
    attacked(tiny, "square", "--num_shards=2", "--mode=merge", cwd=tmp_path / "shards")
    for name in ("results.npz", "adv_img.npy"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes()


def test_pgd_with_restarts_tells_what_they_add(tiny, tmp_path):
    result = succeeded("test_adv", *NETWORK, tiny[0], *FEW[:1], "--eval_batch_count=1", "--eps=0.05",
                       "--attack_iterations=2", "--attack_method=pgd", "--num_restarts=3",
                       "--drop_broken=False", "--save_losses=True", cwd=tmp_path)
    folder = tmp_path / "pgd_digits/RCE"
    losses, saved = np.load(folder / "losses.npy"), np.load(folder / "results.npz")
    assert losses.shape == (3, 200) and losses.dtype == np.float32 and losses.min() >= 0
    assert "After 3 restarts: accuracy" in result.out and "Mean accuracy over the" in result.out
    rows = (folder / "restarts.csv").read_text().splitlines()
    accuracy = float(rows[3].split(",")[-1])
    right = [saved[f"predicted_{when}"] == saved["label"] for when in ("before", "after")]
    assert accuracy == pytest.approx(100 * np.mean(right[0] & right[1]))
    assert (folder / "restarts.png").is_file()
    command = (*NETWORK, tiny[0], "--mode=loss_histogram", "--attack_method=pgd")
    shown = succeeded("test_adv", *command, "--image_index=5", cwd=tmp_path)
    bins = (folder / "loss_histogram.csv").read_text().splitlines()
    assert len(bins) == 23 and sum(int(row.split(",")[2]) for row in bins[1:]) == 3
    above = np.count_nonzero(losses[:, 5] > np.log(10))
    assert f"{above} of 3 restarts of image 5 lie above log 10" in shown.out
    refused("test_adv", *command, "--image_index=200", cwd=tmp_path, words=[
        "image_index must be below the 200 images"])
    refused("test_adv", *command, "--save_pwd=elsewhere", cwd=tmp_path, words=["expected losses.npy"])


def test_pictures_of_what_surrounds_images(tiny, tmp_path):
    shown = succeeded("test_adv", *NETWORK, tiny[0], "--mode=heatmap", "--attack_method=pgd",
                      "--eval_batch_count=1", "--eps=0.1", "--heatmap_step_sizes=0.01,0.05",
                      "--heatmap_iterations=1,2,4", cwd=tmp_path)
    folder = tmp_path / "pgd_digits/RCE"
    accuracy = np.load(folder / "heatmap.npy")
    assert accuracy.shape == (2, 3) and f"to {100 * accuracy.min():.1f} %" in shown.out
    assert len((folder / "heatmap.csv").read_text().splitlines()) == 7
    assert (folder / "heatmap.png").is_file() and not (folder / "parts").exists()
    record = folder / "heatmap_run.json"
    other = json.loads(record.read_text())
    other["metrics"]["networks"][0]["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(other))
    again = (*NETWORK, tiny[0], "--mode=heatmap", "--attack_method=pgd", "--eval_batch_count=1",
             "--eps=0.1", "--heatmap_step_sizes=0.05", "--heatmap_iterations=2")
    refused("test_adv", *again, cwd=tmp_path, words=["holds the heatmap of another network, with"])
    succeeded("test_adv", *again, "--overwrite=True", cwd=tmp_path)
    assert np.load(folder / "heatmap.npy").shape == (1, 1)
    command = (*NETWORK, f"{tiny[0]},{tiny[0].partition('=')[2]}/.", "--mode=loss_surface")
    shown = succeeded("test_adv", *command, "--surface_grid=5", "--image_index=3", cwd=tmp_path)
    folder = tmp_path / "loss_surface_digits/RCE"
    first, second = (np.load(folder / f"surface_{k}.npy") for k in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (5, 5) and shown.out.count("Cross entropy around image 3 of") == 2
    assert len((folder / "surface.csv").read_text().splitlines()) == 51
    assert (folder / "surface.png").is_file()
    succeeded("test_adv", *NETWORK, tiny[0], "--mode=loss_surface", "--surface_grid=3", cwd=tmp_path)
    assert not (folder / "surface_1.npy").exists()
    refused("test_adv", *NETWORK, f"{tiny[0]},{tiny[0].partition('=')[2]}", "--mode=loss_surface",
            cwd=tmp_path, words=["log_root must be different folders"])
    refused("test_adv", *command, "--image_index=99999", cwd=tmp_path, words=[
        "image_index must be below"])
    (folder / "loss_surface_run.json").unlink()
    refused("test_adv", *command, cwd=tmp_path, words=["expected no surface_0.npy in"])


def test_square_without_a_detector_knows_the_network_alone(tiny, tmp_path):
    succeeded("test_adv", *NETWORK, tiny[0], *FEW, "--attack_method=square", cwd=tmp_path)
    folder = tmp_path / "square_digits/RCE"
    saved = np.load(folder / "results.npz")
    np.testing.assert_array_equal(saved["evaded"], saved["success"])
    assert json.loads((folder / "test_adv_run.json").read_text())["metrics"]["knowledge"] == "oblivious"


def test_the_white_box_attack_reaches_the_detectors_threshold(tiny, tmp_path):
    few = ("--mode=attack", "--eval_batch_count=3", "--attack_iterations=20", "--attack_search_steps=2",
           "--attack_learning_rate=0.1", "--attack_confidence=0", "--attack_method=carliniL2_highden")
    succeeded("test_adv", *NETWORK, *tiny, *few, "--attack_kernels=detector",
              "--density_goal=threshold", "--against_rate=0.1", cwd=tmp_path)
    saved = np.load(tmp_path / "carliniL2_highden_digits/RCE/results.npz")
    detector = detectors.load(tiny[1].removeprefix("--detector="))
    kernels = detector.reference.kernels
    features = np.loadtxt(tmp_path / "carliniL2_highden_digits/RCE/logits_adv", ndmin=2)
    density = log_kernel_density(features, saved["target"], kernels.features, kernels.bandwidth)
    over = density - detector.threshold("k_density", 0.1)
    assert saved["success"].any() and np.all(over[saved["success"]] > -1e-3)


def test_a_sweep_over_kappa_tells_which_one_each_image_took(tiny, tmp_path):
    few = ("--mode=attack", "--eval_batch_count=2", "--attack_iterations=20", "--attack_search_steps=2",
           "--attack_learning_rate=0.1", "--attack_method=carliniL2_highden", "--target=all")
    succeeded("test_adv", *NETWORK, *tiny, *few, "--attack_kernels=detector", "--kappa_sweep=0,2",
              "--density_goal=threshold", "--against_rate=0.1", cwd=tmp_path)
    folder = tmp_path / "carliniL2_highden_digits/RCE"
    saved = np.load(folder / "results.npz")
    assert set(saved["kappa"]) <= {0.0, 2.0} and saved["kappa"].shape == (2,)
    assert "kappa" in (folder / "per_image.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(("arguments", "words"), [
    (("--attack_method=carliniL2_highden", "--attack_kernels=detector"), "needs the --detector"),
    (("--attack_method=carliniL2", "--kappa_sweep=0,1"), "carliniL2 takes no --kappa_sweep"),
    (("--attack_method=carliniL2_highden", "--kappa_sweep=0,1", "--attack_confidence=2"),
     "--kappa_sweep takes no --attack_confidence"),
    (("--attack_method=carliniL2_highden", "--kappa_sweep=1,1"), "kappa_sweep must be different"),
    (("--attack_method=carliniL2_highden", "--kappa_sweep=-1"), "kappa_sweep must be"),
    (("--attack_method=carliniL2", "--density_goal=threshold"), "carliniL2 takes no --density_goal"),
    (("--attack_method=square", "--against=all"), "square needs the --detector"),
    (("--attack_method=square", "--against_rate=0.1"), "without --against takes no --against_rate"),
    (("--attack_method=square", "--attack_norm=l2"), "square takes no --attack_norm"),
    (("--attack_method=jsma", "--attack_norm=l2"), "jsma takes no --attack_norm"),
    (("--attack_method=apgd_detector",), "apgd_detector needs the --detector"),
    (("--attack_method=apgd_ce", "--against=all"), "apgd_ce takes no --against")])
def test_what_does_nothing_is_refused(tiny, tmp_path, arguments, words):
    refused("test_adv", *NETWORK, tiny[0], "--mode=attack", *arguments, cwd=tmp_path, words=[words])


# --- The shipped network ---

# Of the workplace, beside the checkout: pictures of MNIST are no part of the project.
MNIST = script_runner.ROOT.parent / "shared/data/mnist"


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="needs MNIST")
def test_the_shipped_detector_is_passed_by_who_knows_it(tmp_path):
    """The floor of shared/specs/ADAPTIVE.md, section 8: 90 % of 50 images, 100 steps."""
    shipped = script_runner.ROOT / "pretrained/mnist_resnet32_rce"
    succeeded("test_adv", "--dataset=mnist", "--num_residual_units=5", "--RCE_train=True",
              f"--log_root={shipped}", f"--eval_data_path={MNIST}/t10k*",
              f"--detector={shipped}/detector.npz", "--mode=attack", "--attack_method=selective_pgd",
              "--against=all", "--eps_sweep=0.2", "--attack_iterations=100",
              "--eval_batch_count=5", cwd=tmp_path)
    saved = np.load(tmp_path / "selective_pgd_all_mnist/RCE/results.npz")
    assert len(saved["label"]) == 50 and np.mean(saved["evaded"]) >= 0.9
    assert np.mean(saved["zero_gradient_steps"]) < 5

"""detect.py: scores, kernels, AUCs and the program, against golden numbers and by identity."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from defenses import PUBLISHED_SCORES
from defenses import kernels as kernels_module
from defenses import scores as formulas
from defenses.kernels import (
    KERNEL_BANDWIDTH,
    Kernels,
    density_medians,
    log_kernel_density,
    select_kernels,
)
from defenses.scores import Reference, log_probabilities
from errors import InputError
from evaluation import judging, metrics
from evaluation.rounds import rounds_of, successful
from files import provenance, result_files
from files.features import (
    kernels_path,
    load_kernels,
    load_training_features,
    save_kernels,
    save_training_features,
)
from files.names import RESULT_TEXTS, kernel_dir, results_dir
from tests.helpers.results import auc_table, results_of

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAME = "mnist_u1_rce"
RCE = KERNEL_BANDWIDTH["rce"]


def _load(name):
    with np.load(GOLDEN / f"{name}_{NAME}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return {key: array.astype(np.int64) if array.dtype.kind in "iu" else array
            for key, array in arrays.items()}


@pytest.fixture(scope="module")
def golden():
    """Results of the original's FGSM run, kernels as its Octave run drew them, and its figures."""
    results = _load("detection_fgsm")
    training = _load("detection_training_features")
    drawn = _load("detection_kernels")
    features = training["training_logits_RCE"]
    pick = lambda index: np.stack([features[rows] for rows in index.T], axis=2)  # noqa: E731
    with open(GOLDEN / f"detection_auc_fgsm_{NAME}.json", encoding="utf-8") as file:
        aucs = json.load(file)
    return {"results": results, "features": features,
            "labels": training["training_logitslabels_RCE"],
            "kernels": pick(drawn["kernel_RCE_row_index"]),
            "attack_kernels": pick(drawn["kernel_RCE_for_attack_row_index"]),
            "medians": drawn["median_out"][:, 0], "auc": aucs,
            "round3": _load("detection_density_round3_fgsm")}


def _texts(results):
    """The arrays of `results` that are files, not golden extras."""
    return {name: results[name] for name in RESULT_TEXTS}


# --- Golden ---

def test_the_densities_of_round_3_are_those_of_the_original(golden):
    rows = 600 + golden["round3"]["selected_index"]
    for side in ("nor", "adv"):
        density = Kernels(golden["kernels"], RCE).density(
            golden["results"][f"logits_{side}"][rows], golden["results"][f"labels_{side}"][rows])
        np.testing.assert_allclose(density, golden["round3"][f"density_{side}"], rtol=1e-12)


def test_the_aucs_of_ten_rounds_are_those_of_the_original(golden):
    eps = [round(0.02 * k, 2) for k in range(1, 11)]
    table = auc_table(_texts(golden["results"]), golden["kernels"], RCE, eps, 300)
    assert [row["n"] for row in table] == golden["auc"]["num_correct"]
    assert [row["eps"] for row in table] == eps
    non_me = np.array(golden["auc"]["auc_nonME"])
    non_me[5] += 0.5 / 269**2  # the one tie of the golden run counts half here
    for score, expected in (("confidence", golden["auc"]["auc_confidence"]), ("non_me", non_me),
                            ("k_density", golden["auc"]["auc_density"])):
        ours = [row["auc"][score] for row in table]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


def test_matlab_ties_give_the_originals_aucs_as_they_are(golden):
    table = auc_table(_texts(golden["results"]), golden["kernels"], RCE, [None] * 10,
                                    300, matlab_ties=True)
    for score, name in (("confidence", "auc_confidence"), ("non_me", "auc_nonME"),
                        ("k_density", "auc_density")):
        np.testing.assert_allclose([row["auc"][score] for row in table], golden["auc"][name],
                                   rtol=0, atol=1e-9)


def test_matlab_ties_count_against_detection():
    normal, adversarial = np.array([1.0, 2.0, np.nan]), np.array([1.0, 0.0, np.nan])
    assert metrics.auc(normal, adversarial, matlab_ties=True) == (1 + 2 + 2) / 9
    assert metrics.auc(normal, adversarial) == (1.5 + 2 + 2.5) / 9


def test_one_round_alone_gives_its_line_of_the_table(golden):
    arguments = _texts(golden["results"]), golden["kernels"], RCE, [None] * 10, 300
    assert auc_table(*arguments, 4) == [auc_table(*arguments)[3]]


def test_the_medians_are_those_of_the_original(golden):
    medians = density_medians(golden["features"], golden["labels"],
                              Kernels(golden["attack_kernels"], RCE))
    np.testing.assert_allclose(medians, golden["medians"], rtol=1e-12)


@pytest.mark.parametrize("side", ["nor", "adv"])
def test_scores_from_logits_are_those_of_the_result_files(golden, side):
    results = golden["results"]
    logits = -(results[f"logits_{side}"] @ results["logit_DW"] + results["logit_biases"])
    np.testing.assert_array_equal(logits.argmax(axis=1), results[f"labels_{side}"])
    np.testing.assert_allclose(formulas.confidence(logits), results[f"confidence_{side}"], atol=3e-6)
    np.testing.assert_allclose(formulas.non_me(logits), results[f"entropy_{side}"], atol=3e-6)


# --- Scores by identity ---

@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=3, size=(200, 10))


def test_log_probabilities_are_the_logarithm_of_softmax(logits):
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_probabilities(logits)), probabilities, rtol=1e-12)
    np.testing.assert_allclose(formulas.confidence(logits), probabilities.max(axis=1), rtol=1e-12)


def test_non_me_is_the_entropy_without_the_largest(logits):
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for p, score in zip(probabilities, formulas.non_me(logits), strict=True):
        others = np.delete(p, p.argmax())
        others /= others.sum()
        assert score == pytest.approx(-(others * np.log(others)).sum(), rel=1e-12)


def test_non_me_is_at_most_log_of_the_other_classes_and_reaches_it(logits):
    scores = formulas.non_me(logits)
    assert (scores >= 0).all()
    assert (scores < math.log(9)).all()
    equal = np.full((1, 10), -2.0)
    equal[0, 3] = 5
    assert formulas.non_me(equal)[0] == pytest.approx(math.log(9), abs=1e-14)


def test_scores_do_not_change_with_a_constant_on_the_logits(logits):
    shifted = logits + np.linspace(-500, 500, len(logits))[:, None]
    np.testing.assert_allclose(formulas.non_me(shifted), formulas.non_me(logits), atol=1e-11)
    np.testing.assert_allclose(formulas.confidence(shifted), formulas.confidence(logits), atol=1e-11)


@pytest.mark.parametrize("size", [1e4, 1e30, 1.7e308])
def test_scores_are_finite_for_extreme_logits(size):
    extreme = size * np.array([[1, -1, 0], [1, 1, 1], [-1, -1, 1], [1, 1, -1]])
    with np.errstate(all="raise", under="ignore"):
        non_me, confidence = formulas.non_me(extreme), formulas.confidence(extreme)
    assert np.isfinite(log_probabilities(extreme)).all()
    np.testing.assert_allclose(non_me, [0, math.log(2), math.log(2), 0], atol=1e-12)
    np.testing.assert_allclose(confidence, [1, 1 / 3, 1, 1 / 2], atol=1e-12)


def test_of_tied_largest_logits_exactly_one_is_left_out():
    tied = np.array([[2.0, 2.0, 2.0, -1.0]])
    others = np.exp([2.0, 2.0, -1.0]) / np.exp([2.0, 2.0, -1.0]).sum()
    assert formulas.non_me(tied)[0] == pytest.approx(-(others * np.log(others)).sum(), rel=1e-12)


def test_non_me_of_two_classes_is_zero():
    np.testing.assert_array_equal(formulas.non_me(np.array([[1.0, 3.0], [0.0, 0.0]])), [0, 0])


@pytest.mark.parametrize("shape", [(4, 1), (4,), (2, 3, 4)])
def test_non_me_refuses_what_is_no_matrix_of_logits(shape):
    with pytest.raises(InputError, match=r"at least 2 classes\]\. Received: shape="):
        formulas.non_me(np.zeros(shape))


# --- K-density ---

def _random_features(seed=0, n=60, num_kernels=7, d=5, num_classes=3):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)), rng.integers(0, num_classes, n),
            rng.normal(size=(num_kernels, d, num_classes)))


def test_density_equals_its_naive_twin():
    features, classes, kernels = _random_features()
    naive = [np.mean([np.exp(-np.sum((f - k) ** 2) / 0.7) for k in kernels[:, :, c]])
             for f, c in zip(features, classes, strict=True)]
    np.testing.assert_allclose(Kernels(kernels, 0.7).density(features, classes), naive, rtol=1e-12)


def test_density_does_not_depend_on_chunks(monkeypatch):
    features, classes, kernels = _random_features()
    whole = log_kernel_density(features, classes, kernels, 0.7)
    monkeypatch.setattr(kernels_module, "_CHUNK_ELEMENTS", 3 * len(kernels))
    np.testing.assert_allclose(log_kernel_density(features, classes, kernels, 0.7), whole,
                               rtol=1e-13)


def test_log_density_is_exact_where_the_density_underflows():
    kernels = np.zeros((3, 2, 1))
    features = np.array([[30.0, 40.0]])
    assert log_kernel_density(features, [0], kernels, 0.5)[0] == pytest.approx(-5000)
    assert Kernels(kernels, 0.5).density(features, [0])[0] == 0


def test_density_of_a_kernel_far_from_the_origin_is_one():
    kernels = np.full((4, 8, 2), 1e6)
    np.testing.assert_array_equal(
        Kernels(kernels, RCE).density(np.full((1, 8), 1e6), [1]), [1])


def test_density_takes_the_kernels_of_the_given_class():
    kernels = np.stack([np.zeros((2, 3)), np.ones((2, 3))], axis=2)
    features = np.ones((2, 3))
    density = Kernels(kernels, 1.0).density(features, np.array([0, 1]))
    np.testing.assert_allclose(density, [math.exp(-3), 1])


def test_density_of_no_image_is_empty():
    density = Kernels(np.zeros((2, 3, 4)), 1.0).density(np.empty((0, 3)), np.empty(0, int))
    assert density.shape == (0,)


@pytest.mark.parametrize(("features", "classes", "message"), [
    (np.zeros((1, 4)), np.zeros(1, int), r"shapes=\(1, 4\), \(2, 3, 5\)"),
    (np.zeros((1, 3)), np.full(1, 5), r"classes in \[0, 5\).*Received: classes from 5 to 5"),
    (np.zeros((1, 3)), np.full(1, -1), r"Received: classes from -1 to -1"),
])
def test_density_refuses_what_does_not_fit_the_kernels(features, classes, message):
    with pytest.raises(InputError, match=message):
        log_kernel_density(features, classes, np.zeros((2, 3, 5)), 1.0)


def test_medians_name_a_class_without_features():
    with pytest.raises(InputError, match="Received: class 1=0 features"):
        density_medians(np.zeros((2, 3)), np.array([0, 2]), Kernels(np.zeros((2, 3, 3)), 1.0))


# --- Kernels ---

def test_kernels_are_distinct_features_of_their_class():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), 25))
    features = np.arange(100.0)[:, None] * np.ones(3)
    kernels = select_kernels(features, labels, 20, 4, seed=0)
    assert kernels.shape == (20, 3, 4)
    for c in range(4):
        rows = kernels[:, 0, c].astype(int)
        assert len(set(rows)) == 20
        assert (labels[rows] == c).all()


def test_kernels_depend_on_the_seed_alone():
    features, labels, _ = _random_features(n=90)
    draw = lambda seed: select_kernels(features, labels, 9, 3, seed)  # noqa: E731
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


def test_all_features_of_a_class_can_be_kernels():
    features, labels, _ = _random_features(n=3)
    kernels = select_kernels(features, np.arange(3), 1, 3, seed=0)
    np.testing.assert_array_equal(kernels[0].T, features)
    assert labels.shape == (3,)


def test_too_few_features_name_class_count_and_largest_value():
    labels = np.array([0] * 12 + [1] * 7 + [2] * 9)
    with pytest.raises(InputError, match=r"num_kernels must lie in \[1, 7\]: class 1 has 7 training"
                                         r" features. Received: num_kernels=8\."):
        select_kernels(np.zeros((28, 2)), labels, 8, 3, seed=0)


def test_a_label_out_of_range_is_refused():
    with pytest.raises(InputError, match="Received: labels from 0 to 3"):
        select_kernels(np.zeros((2, 2)), np.array([0, 3]), 1, 3, seed=0)


# --- AUC ---

def _brute_force(normal, adversarial):
    return np.mean([(a > b) + 0.5 * (a == b) for a in normal for b in adversarial])


def test_auc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    normal, adversarial = rng.integers(0, 12, 40) / 8, rng.integers(0, 9, 55) / 8
    assert metrics.auc(normal, adversarial) == pytest.approx(_brute_force(normal, adversarial))
    assert metrics.auc(adversarial, normal) == pytest.approx(1 - metrics.auc(normal, adversarial))


def test_auc_counts_nan_as_highest_and_takes_infinity():
    assert metrics.auc(np.array([np.nan, 2.0]), np.array([np.inf, 1.0])) == pytest.approx(3 / 4)
    assert metrics.auc(np.array([-np.inf]), np.array([np.nan])) == 0
    assert metrics.auc(np.array([np.nan]), np.array([np.nan])) == 0.5


def test_auc_of_an_empty_side_is_nan():
    assert math.isnan(metrics.auc(np.empty(0), np.ones(3)))
    assert math.isnan(metrics.auc(np.ones(3), np.empty(0)))


def test_roc_encloses_the_auc():
    rng = np.random.default_rng(0)
    normal, adversarial = rng.normal(1, 1, 80), rng.normal(0, 1, 90)
    fpr, tpr = metrics.roc(normal, adversarial)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auc(normal, adversarial))


# --- Selection and rounds ---

def _results(labels_true, labels_nor, labels_adv, seed=0):
    n = len(labels_true)
    rng = np.random.default_rng(seed)
    results = {"labels_true": labels_true, "labels_nor": labels_nor, "labels_adv": labels_adv}
    results = {name: np.array(array) for name, array in results.items()}
    for side in ("nor", "adv"):
        results[f"confidence_{side}"] = rng.uniform(0.2, 1, n)
        results[f"entropy_{side}"] = rng.uniform(0, 1, n)
        results[f"logits_{side}"] = rng.normal(size=(n, 5))
        results[f"{side}_img"] = rng.uniform(-0.5, 0.5, (n, 4, 4, 1))
    return results | {"L2_distance": rng.uniform(0, 0.1, n)}


def test_only_images_right_when_normal_and_wrong_when_adversarial_count():
    arrays = _results([0, 1, 2, 0], [0, 1, 0, 0], [1, 1, 1, 2])
    results = results_of(arrays, [None], 4)
    kernels = np.random.default_rng(1).normal(size=(3, 5, 3))
    assert successful(results).tolist() == [True, False, False, True]
    r, = rounds_of("fgsm", results, PUBLISHED_SCORES, Reference(Kernels(kernels, 1.0)),
                   rows=successful(results))
    assert r.subset("successful").all() and r.image.tolist() == [0, 3]
    np.testing.assert_array_equal(r.normal["confidence"], arrays["confidence_nor"][[0, 3]])
    np.testing.assert_array_equal(r.adversarial["non_me"], arrays["entropy_adv"][[0, 3]])
    expected = log_kernel_density(arrays["logits_adv"][[0, 3]], np.array([1, 2]), kernels, 1.0)
    np.testing.assert_array_equal(r.adversarial["k_density"], expected)


def test_rounds_are_rows_of_one_eps_and_can_be_thinned():
    results = results_of(_results([0] * 6, [0] * 6, [1, 0] * 3), [0.1, 0.2, 0.3], 2)
    rounds = rounds_of("bim", results, ["confidence"], None)
    assert [(r.attack, r.eps, r.image.tolist()) for r in rounds] == [
        ("bim", eps, [0, 1]) for eps in (0.1, 0.2, 0.3)]
    np.testing.assert_array_equal(rounds[1].normal["confidence"], results.normal.confidence[2:4])
    thinned = rounds[2].where(np.array([False, True]))
    assert thinned.image.tolist() == [1] and thinned.right_adversarial.tolist() == [True]
    np.testing.assert_array_equal(thinned.adversarial["confidence"], results.adversarial.confidence[5:])


def test_a_round_without_a_qualifying_image_has_n_0_and_no_auc():
    results = _results([0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 1, 0])
    first, second = auc_table(results, np.zeros((1, 5, 2)), 1.0, [0.1, 0.2], 2)
    assert first["n"] == 0
    assert all(math.isnan(value) for value in first["auc"].values())
    assert second["n"] == 2


@pytest.mark.parametrize("eps_round", [-1, 3])
def test_an_unknown_round_is_refused(eps_round):
    with pytest.raises(InputError, match=rf"\[0, 2\].*Received: eps_round={eps_round}"):
        auc_table(_results([0] * 4, [0] * 4, [1] * 4), np.zeros((1, 5, 2)), 1.0,
                               [0.1, 0.2], 2, eps_round)


def test_rows_that_are_no_rounds_are_refused():
    with pytest.raises(InputError, match=r"2 rounds of 3 images\. Received: rows=4"):
        auc_table(_results([0] * 4, [0] * 4, [1] * 4), np.zeros((1, 5, 2)), 1.0,
                               [0.1, 0.2], 3)


def test_the_table_fits_100_columns_and_says_na():
    row = {"eps": 0.02, "n": 10000, "auc": dict.fromkeys(PUBLISHED_SCORES, 1.0)}
    empty = {"eps": 0.04, "n": 0, "auc": dict.fromkeys(PUBLISHED_SCORES, math.nan)}
    lines = judging.format_aucs({"CE": [row, empty], "RCE": [row]}).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["|", "CE", "|", "RCE"]
    assert lines[2].split() == ["0.02", *(["|", "10000", "100.00", "100.00", "100.00"] * 2)]
    assert lines[3].split() == ["0.04", "|", "0", "n/a", "n/a", "n/a", "|", "-", "-", "-", "-"]


# --- The program ---

def _run(folder, *arguments):
    return subprocess.run([sys.executable, str(ROOT / "detect.py"), *arguments], cwd=folder,
                          capture_output=True, text=True, timeout=120, check=False)


def _check_error(done, *parts):
    """Exit code 1, one line on standard error with all `parts`, nothing on standard output."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Received: " in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.fixture
def workspace(tmp_path):
    """A folder as test_adv.py and others.py leave it: two objectives, 3 rounds of 20 images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    for objective in ("ce", "rce"):
        folder = tmp_path / results_dir("fgsm", "digits", objective)
        results = _results(labels, labels, (labels + 1) % 3, seed=len(objective))
        result_files.save_attack_results(folder, results)
        provenance.write(
            folder, "test_adv", flags={"RCE_train": objective == "rce", "seed": 0},
            metrics={"eps": [0.05, 0.12, 0.3], "num_per_eps": 20})
        save_training_features(tmp_path / kernel_dir("digits"), objective,
                                         rng.normal(size=(90, 5)), np.arange(90) % 3)
    return tmp_path


def _snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_class_without_training_images_is_named_where_a_record_tells_how_many_there_are(workspace):
    """The last class of four has none: from the features alone nobody could tell."""
    provenance.write(workspace / "kernel_para_digits", "kernel_para_RCE", flags={},
                      metrics={"network": {"num_classes": 4}})
    done = _run(workspace, "--dataset=digits", "--mode=select_kernel", "--objective_tag=RCE",
                "--num_kernels=5")
    _check_error(done, "class 3")
    assert not list((workspace / "kernel_para_digits").glob("*.npz"))


def test_a_reader_that_goes_away_is_no_error_of_ours(workspace):
    """`detect.py ... | head`."""
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "detect.py"), "--dataset=digits", "--num_kernels=10"],
        cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.stdout.close()
    assert started.stderr.read() == ""
    started.stderr.close()
    assert started.wait(timeout=120) == 141


def test_the_program_prints_one_table_and_leaves_json_record_and_picture(workspace):
    done = _run(workspace, "--dataset=digits", "--num_kernels=10")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("Drew 10 kernels for each of 3 classes from 90") == 2
    assert "AUC (%) of normal against adversarial images: fgsm on digits" in done.stdout
    assert "ROC curves, eps 0.12: fgsm_digits/roc_fgsm_digits.png" in done.stdout
    folder = workspace / "fgsm_digits"
    assert (folder / "roc_fgsm_digits.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((folder / "auc_fgsm_digits.json").read_text())["objectives"]
    results = result_files.load_attack_results(folder / "RCE")
    kernels = load_kernels(workspace / "kernel_para_digits", "rce")
    assert kernels.shape == (10, 5, 3)
    assert written["RCE"] == auc_table(results, kernels, RCE, [0.05, 0.12, 0.3], 20)
    record = provenance.read(folder, "detect")
    assert record["flags"]["num_kernels"] == 10
    assert record["metrics"]["auc"] == written
    again = _run(workspace, "--dataset=digits")  # takes the kernels that are there
    assert "Drew" not in again.stdout
    assert again.stdout in done.stdout


def test_results_of_another_training_objective_have_their_own_names(workspace):
    (workspace / "fgsm_digits/RCE").rename(workspace / "fgsm_digits/RCE_at50")
    for path in (workspace / "kernel_para_digits").glob("*_RCE"):
        path.rename(f"{path}_at50")
    done = _run(workspace, "--dataset=digits", "--num_kernels=10", "--objective_tag=RCE_at50")
    assert done.returncode == 0, done.stderr
    assert (workspace / "kernel_para_digits/kernel1000_RCE_at50.npz").is_file()
    results = result_files.load_attack_results(workspace / "fgsm_digits/RCE_at50")
    kernels = load_kernels(workspace / "kernel_para_digits", "RCE_at50")
    written = json.loads((workspace / "fgsm_digits/auc_fgsm_digits.json").read_text())["objectives"]
    # The bandwidth is that of the head.
    assert written == {"RCE_at50": auc_table(results, kernels, RCE, [0.05, 0.12, 0.3], 20)}


def test_select_kernel_draws_for_each_objective_or_the_one_named(workspace):
    folder = workspace / "kernel_para_digits"
    arguments = "--dataset=digits", "--mode=select_kernel", "--num_kernels=30"
    assert _run(workspace, *arguments, "--objective_tag=CE").returncode == 0
    assert kernels_path(folder, "rce") is None
    before = load_kernels(folder, "ce")
    assert _run(workspace, *arguments, "--seed=1").returncode == 0
    assert load_kernels(folder, "rce").shape == (30, 5, 3)
    assert (load_kernels(folder, "ce") != before).any()


def test_kernels_for_the_attack_are_some_of_the_kernels_with_their_medians(workspace):
    folder = workspace / "kernel_para_digits"

    def made(mode, *more):
        return _run(workspace, "--dataset=digits", f"--mode={mode}", *more)

    _check_error(made("select_kernel_for_attack"), "kernel1000_<CE or RCE>.npz",
                 "--mode=select_kernel ")
    assert made("select_kernel", "--num_kernels=20").returncode == 0
    _check_error(made("median_for_attack"), "kernel1000_for_attack_<CE or RCE>.npz",
                 "--mode=select_kernel_for_attack ")
    # 100 are asked for where --num_kernels is not given.
    _check_error(made("select_kernel_for_attack"), "[1, 20]", "num_kernels=100")
    done = made("select_kernel_for_attack", "--num_kernels=6")
    assert "Drew 6 kernels for each of 3 classes from the 20 of " in done.stdout
    # Of one objective the features are gone: the other's medians are made.
    (folder / "training_logits_CE").unlink()
    done = made("median_for_attack")
    assert done.stdout.count("Median densities of 3 classes from 90 training features") == 1
    for objective in ("ce", "rce"):
        kernels = load_kernels(folder, objective)
        some = load_kernels(folder, objective, "attack_kernels")
        assert some.shape == (6, 5, 3)
        for c in range(3):
            rows = [np.flatnonzero((kernels[:, :, c] == row).all(axis=1)) for row in some[:, :, c]]
            assert len({int(row[0]) for row in rows}) == 6
    features, labels = load_training_features(folder, "rce")
    medians = load_kernels(folder, "rce", "attack_medians")
    for c in range(3):
        rows = labels == c
        density = Kernels(some, RCE).density(features[rows], labels[rows])
        assert medians[c] == np.median(density)
    assert kernels_path(folder, "ce", "attack_medians") is None


def test_the_seed_alone_decides_the_kernels_of_both_modes(workspace):
    folder = workspace / "kernel_para_digits"
    assert _run(workspace, "--dataset=digits", "--num_kernels=10", "--seed=3").returncode == 0
    drawn = load_kernels(folder, "ce")
    _run(workspace, "--dataset=digits", "--num_kernels=10", "--seed=3", "--mode=select_kernel")
    np.testing.assert_array_equal(load_kernels(folder, "ce"), drawn)


def test_one_round_and_one_objective(workspace):
    done = _run(workspace, "--dataset=digits", "--num_kernels=5", "--eps_round=3",
                "--objective_tag=RCE")
    assert done.returncode == 0, done.stderr
    assert "ROC curves, eps 0.30: " in done.stdout
    written = json.loads((workspace / "fgsm_digits/auc_fgsm_digits.json").read_text())
    assert list(written["objectives"]) == ["RCE"]
    assert [row["round"] for row in written["objectives"]["RCE"]] == [3]


def test_save_pwd_takes_the_objective_from_the_record_or_the_flag(workspace):
    folder = workspace / "fgsm_digits" / "RCE"
    arguments = "--dataset=digits", "--num_kernels=5", "--save_pwd=fgsm_digits/RCE"
    done = _run(workspace, *arguments)
    assert done.returncode == 0, done.stderr
    assert list(json.loads((folder / "auc_fgsm_digits.json").read_text())["objectives"]) == ["RCE"]
    (folder / "test_adv_run.json").unlink()
    _check_error(_run(workspace, *arguments), "objective_tag must be RCE or CE", "fgsm_digits/RCE")
    assert _run(workspace, *arguments, "--objective_tag=RCE").returncode == 0


def test_the_originals_own_files_have_ten_rounds(workspace):
    for tag in ("CE", "RCE"):
        (workspace / "fgsm_digits" / tag / "test_adv_run.json").unlink()
    arguments = "--dataset=digits", "--num_kernels=5"
    done = _run(workspace, *arguments)
    assert done.returncode == 0, done.stderr
    rows = json.loads((workspace / "fgsm_digits/auc_fgsm_digits.json").read_text())["objectives"]
    assert [row["eps"] for row in rows["CE"]] == [round(0.02 * k, 2) for k in range(1, 11)]
    assert [row["n"] for row in rows["CE"]] == [6] * 10
    assert _run(workspace, *arguments, "--num_per_eps=15").stdout.count("\n  0.0") == 4
    _check_error(_run(workspace, *arguments, "--num_per_eps=7"), "num_per_eps=7", "60 rows")
    _check_error(_run(workspace, *arguments, "--num_per_eps=61"), "num_per_eps=61")


def test_rows_that_are_not_ten_rounds_need_num_per_eps(tmp_path):
    result_files.save_attack_results(tmp_path, _results([0] * 22, [0] * 22, [1] * 22))
    arguments = "--dataset=digits", "--save_pwd=.", "--objective_tag=CE"
    _check_error(_run(tmp_path, *arguments), "22 rows", "Received: num_per_eps=0.")


def test_no_qualifying_image_at_all_is_no_error(tmp_path):
    result_files.save_attack_results(tmp_path, _results([0] * 10, [1] * 10, [1] * 10))
    save_kernels(tmp_path, "ce", np.zeros((2, 5, 2)))
    done = _run(tmp_path, "--dataset=digits", "--save_pwd=.", "--objective_tag=CE",
                "--kernel_dir=.")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("n/a") == 30
    assert "no image counts" in done.stdout
    assert not (tmp_path / "roc_fgsm_digits.png").exists()
    rows = json.loads((tmp_path / "auc_fgsm_digits.json").read_text())["objectives"]["CE"]
    assert rows[0] == {"round": 1, "eps": 0.02, "n": 0, "auc": dict.fromkeys(PUBLISHED_SCORES)}


def test_nan_in_entropy_is_one_warning_with_the_count(workspace):
    path = workspace / "fgsm_digits" / "CE" / "entropy_nor"
    values = np.loadtxt(path)
    values[[2, 7]] = np.nan
    np.savetxt(path, values)
    done = _run(workspace, "--dataset=digits", "--num_kernels=5")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert "warning: 2 NaN in entropy_nor and entropy_adv of fgsm_digits/CE" in done.stderr


def test_kernels_older_than_the_training_features_are_a_warning(workspace):
    assert _run(workspace, "--dataset=digits", "--num_kernels=5").returncode == 0
    save_training_features(workspace / "kernel_para_digits", "rce",
                                     np.ones((90, 5)), np.arange(90) % 3)
    done = _run(workspace, "--dataset=digits")
    assert done.returncode == 0
    assert "warning: kernel_para_digits/kernel1000_RCE.npz is older" in done.stderr
    assert done.stderr.count("\n") == 1


def _break_rows(folder):
    path = folder / "fgsm_digits/CE/confidence_adv"
    np.savetxt(path, np.loadtxt(path)[:-1])


def _break_value(folder):
    path = folder / "fgsm_digits/RCE/logits_nor"
    values = np.loadtxt(path)
    values[4, 2] = np.nan
    np.savetxt(path, values)


def _remove_features(folder):
    (folder / "kernel_para_digits/training_logits_RCE").unlink()


def _other_network(folder):
    save_kernels(folder / "kernel_para_digits", "rce", np.zeros((4, 6, 3)))


def _wrong_record(folder):
    provenance.write(folder / "fgsm_digits/CE", "test_adv", flags={},
                               metrics={"eps": [0.1], "num_per_eps": 20})


@pytest.mark.parametrize(("damage", "arguments", "parts"), [
    (_break_rows, [], ["fgsm_digits/CE", "Received: confidence_adv=59."]),
    (_break_value, [], ["finite numbers in fgsm_digits/RCE/logits_nor. Received: row 5=nan"]),
    (_remove_features, [], ["training_logits_RCE in kernel_para_digits", "--mode=kernel_para"]),
    (_other_network, [], ["fgsm_digits/RCE, kernels of kernel_para_digits", "(4, 6, 3)"]),
    (_wrong_record, [], ["fgsm_digits/CE", "1 rounds of 20 images", "rows=60"]),
    (None, ["--eps_round=4"], ["eps_round must lie in [0, 3]", "Received: eps_round=4."]),
    (None, ["--eps_round=-1"], ["Received: eps_round=-1."]),
    (None, ["--num_kernels=31"], ["[1, 30]", "class 0 has 30", "Received: num_kernels=31."]),
    (None, ["--num_kernels=0"], ["Received: num_kernels=0."]),
    (None, ["--mode=select_kernel", "--num_kernels=31"], ["[1, 30]"]),
    (None, ["--mode=select_kernel", "--kernel_dir=no"], ["training_logits_<CE or RCE> in no"]),
    (None, ["--mode=roc"], ["mode must be one of [auc, select_kernel, ", "mode='roc'"]),
    (None, ["--objective_tag=rce"], ["objective_tag must be one of", "objective_tag='rce'"]),
    (None, ["--attack_method=bim"], ["bim_digits/CE or bim_digits/RCE", "python test_adv.py"]),
    (None, ["--save_pwd=no", "--objective_tag=CE"], ["entropy_nor in no", "no such file"]),
    (None, ["--dataset="], ["dataset must be one of [mnist, ", "Received: dataset=''."]),
])
def test_bad_input_is_one_sentence_and_touches_no_file(workspace, damage, arguments, parts):
    if damage:
        damage(workspace)
    before = _snapshot(workspace)
    _check_error(_run(workspace, "--dataset=digits", "--num_kernels=4", *arguments), *parts)
    assert _snapshot(workspace) == before


def test_another_number_of_kernels_than_the_files_is_refused(workspace):
    assert _run(workspace, "--dataset=digits", "--num_kernels=5").returncode == 0
    _check_error(_run(workspace, "--dataset=digits", "--num_kernels=6"), "num_kernels must be 5",
                 "kernel1000_CE.npz", "Received: num_kernels=6.")


def test_the_program_imports_nothing_heavy_at_its_start(tmp_path):
    code = ("import sys, detect; print([name for name in "
            "('tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "[]\n"
    done = _run(tmp_path, "--help")
    assert "--num_kernels" in done.stdout

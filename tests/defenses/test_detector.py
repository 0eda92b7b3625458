"""The detector as a user has it: fitted, judged and applied by detect.py, and from Python."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from data import inputs
from defenses import SCORES, deployed
from defenses import detector as detectors
from defenses import scores as formulas
from defenses.kernels import KERNEL_BANDWIDTH
from defenses.scores import non_me_variance
from errors import InputError
from evaluation import judging, metrics, rounds
from figures import drawing
from files import attack_results, provenance, result_files
from files import detectors as detector_files
from files.features import load_kernels, load_training_scores
from files.images import save_bin
from networks import restoring
from networks.spec import NetworkSpec
from tests.helpers import script_runner
from tests.helpers.script_runner import FIT, NETWORK, run, succeeded


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Folder with the tiny run's features, two attacks and a fitted detector; read only."""
    tiny = script_runner.tiny_run(tmp_path_factory)
    folder = tmp_path_factory.mktemp("detector")
    result = script_runner.fit_detector(f"{tiny}/models/tiny", folder)
    succeeded("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=attack",
              "--attack_method=bim", "--eps=0.1", "--eval_batch_count=1", cwd=folder)
    assert "Fitted on 100 normal images" in result.out
    return folder, f"--log_root={tiny}/models/tiny", str(tiny / "models/tiny")


@pytest.fixture(scope="module")
def fitted(work):
    return detectors.load(work[0] / "kernel_para_digits/detector_RCE.npz")


@pytest.fixture(scope="module")
def loaded(work):
    return deployed.load_detector(work[0] / "kernel_para_digits/detector_RCE.npz", log_root=work[2],
                                  score="non_me", false_refusal_rate=0.05)


# Fitting.


def test_the_detector_is_made_from_the_files(work, fitted):
    folder = work[0] / "kernel_para_digits"
    np.testing.assert_array_equal(
        fitted.reference.kernels.features, load_kernels(folder, "rce").astype(np.float32))
    training = load_training_scores(folder, "rce")
    assert fitted.reference.non_me_variance == non_me_variance(training["non_me"], 10)
    assert fitted.reference.kernels.bandwidth == KERNEL_BANDWIDTH["rce"]
    assert fitted.false_refusal_rates.tolist() == [0.05, 0.1]
    record = provenance.read(work[0] / "fgsm_digits/RCE", "test_adv")
    assert fitted.network == record["metrics"]["network"]
    assert set(fitted.network) == {"dataset", "image_shape", "num_classes", "model",
                                   "blocks_per_stage", "objective", "weights_sha256"}


@pytest.mark.parametrize("score", SCORES)
def test_thresholds_refuse_their_share_of_the_fitting_images(work, fitted, score):
    results = attack_results.load("RCE", work[0] / "fgsm_digits/RCE")
    index = results.image_index[:200]
    rows = np.flatnonzero(np.isin(index, fitted.fitted_on))
    assert len(rows) == 100
    scores = formulas.score(SCORES, results.normal.rows(rows), fitted.reference)
    for rate in (0.05, 0.1):
        assert abs((~fitted.accepts(scores, score, rate)).sum() - 100 * rate) <= 1


def test_ties_that_keep_a_threshold_from_its_share_are_named(work, tmp_path):
    result = succeeded("detect", *FIT, "--eta=1e-12", f"--detector={tmp_path}/d.npz", cwd=work[0])
    for score in ("kernel_non_me", "j_score"):  # exp(−large) is 0
        assert (f"T(10 %) of {score}, RCE, refuses 0 of the 100 images instead of 10: others are equal "
                "to it.") in result.err
    assert "of non_me" not in result.err and "of k_density" not in result.err


def test_a_detector_of_two_networks_is_refused(work, tmp_path):
    other = tmp_path / "kernel_para_digits"
    other.mkdir()
    for path in (work[0] / "kernel_para_digits").iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    record = other / "kernel_para_RCE_run.json"
    changed = json.loads(record.read_text())
    changed["metrics"]["network"]["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(changed))
    result = run("detect", *FIT, f"--kernel_dir={other}", f"--detector={tmp_path}/d.npz", cwd=work[0])
    assert result.code == 1 and "fgsm_digits/RCE of the network of the training" in result.err
    assert not (tmp_path / "d.npz").exists()
    result = run("detect", "--dataset=digits", "--attack_method=bim", f"--kernel_dir={other}",
                 cwd=work[0])
    assert result.code == 1 and "bim_digits/RCE of the network of the training" in result.err


# Applying.


def test_from_python_and_by_the_program_the_answers_are_the_same(work, loaded, tmp_path):
    images = inputs.load("digits", "", "test").images[:12]
    np.save(tmp_path / "x.npy", images)
    result = succeeded("detect", "--dataset=digits", "--mode=apply", "--images=x.npy", work[1],
                       f"--detector={work[0]}/kernel_para_digits/detector_RCE.npz", "--score=non_me",
                       "--false_refusal_rate=0.05", cwd=tmp_path)
    answer = loaded(images)
    with open(tmp_path / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == answer.words()
    for name in SCORES:
        np.testing.assert_allclose([float(row[name]) for row in rows], answer.scores[name])
    assert f"{answer.accepted.sum()} of 12 answered, non_me at least" in result.out
    assert set(answer.words()) <= {str(label) for label in range(10)} | {deployed.NOT_SURE}


def test_png_files_are_read_in_order_of_name(loaded, tmp_path):
    images = np.round(inputs.load("digits", "", "test").images[:3] * 255).astype(np.uint8)
    for name, image in zip("bca", images, strict=True):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{name}.png")
    read, names = inputs.load_images(str(tmp_path))
    assert names == ["a.png", "b.png", "c.png"]
    expected = loaded(images[[2, 0, 1]])
    np.testing.assert_array_equal(loaded(read).scores["k_density"], expected.scores["k_density"])


def test_png_files_of_every_grey_kind_are_grey(tmp_path):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    palette = grey.convert("P")
    palette.putpalette([level for grey_level in range(256) for level in [grey_level] * 3])
    for name, picture in {"a.png": grey, "b.PNG": grey.convert("LA"), "c.png": palette}.items():
        picture.save(tmp_path / name, format="png")
    images, names = inputs.load_images(str(tmp_path))
    assert names == ["a.png", "b.PNG", "c.png"]
    np.testing.assert_array_equal(images, [np.asarray(grey)] * 3)


def test_files_that_are_no_png_are_named(work, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("1.png", "2.jpg", "3.jpg"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    result = succeeded("detect", "--mode=apply", "--images=pictures", work[1],
                       f"--detector={work[0]}/kernel_para_digits/detector_RCE.npz",
                       "--false_refusal_rate=0.05", cwd=tmp_path)
    assert "of 1 answered" in result.out
    assert "2 files of pictures are left out, as they are no .png: 2.jpg, 3.jpg." in result.err


def test_an_image_answers_alone_as_in_company(loaded):
    images = inputs.load("digits", "", "test").images[:30]
    together = loaded(images)
    for row in (0, 7, 29):
        alone = loaded(images[row:row + 1])
        assert alone.labels[0] == together.labels[row]
        for name in SCORES:
            np.testing.assert_allclose(alone.scores[name], together.scores[name][row], rtol=1e-5)


def test_noise_is_refused_more_often_than_digits(loaded):
    noise = np.random.default_rng(0).uniform(size=(200, 8, 8, 1)).astype(np.float32)
    digits = inputs.load("digits", "", "test").images[:200]
    assert loaded(noise).accepted.mean() < loaded(digits).accepted.mean()


@pytest.mark.parametrize(("images", "words"), [
    (np.zeros((0, 8, 8, 1), np.uint8), "at least one, of shape"),
    (np.zeros((2, 8, 9, 1), np.uint8), r"shape \(8, 8, 1\) each. Received: shape=\(2, 8, 9, 1\)"),
    (np.zeros((8, 8), np.uint8), "at least one, of shape"),
    (np.zeros((8, 8, 1), np.uint8), r"Received: shape=\(8, 8, 1\)"),
    (np.arange(384, dtype=np.uint8).reshape(2, 8, 8, 3), "at least one, of shape"),
    (np.full((2, 8, 8, 1), 1.5), r"in \[0, 1\]. Received: pixels in \[1.5, 1.5\]"),
    (np.full((2, 8, 8), -0.5), r"in \[0, 1\]"), (np.full((2, 8, 8), np.nan), r"in \[0, 1\]"),
    (np.zeros((2, 8, 8, 1), np.int64), "type uint8 in"),
    (np.array(["a"]), "at least one, of shape")])
def test_bad_images_are_refused(loaded, images, words):
    with pytest.raises(InputError, match=words):
        loaded(images)


def apply(work, tmp_path, *arguments):
    result = run("detect", "--dataset=digits", "--mode=apply", work[1],
                 f"--kernel_dir={work[0]}/kernel_para_digits", *arguments, cwd=tmp_path)
    assert result.code == 1 and result.err.startswith("error: ") and result.err.count("\n") == 1
    assert not (tmp_path / "answers.csv").exists()
    return result.err


def test_bad_folders_and_files_are_refused(work, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no picture")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    tag = "--objective_tag=RCE"
    assert "expected PNG files in empty" in apply(work, tmp_path, tag, "--images=empty")
    assert "expected a PNG file at bad/x.png" in apply(work, tmp_path, tag, "--images=bad")
    assert "expected a .npy file of images" in apply(work, tmp_path, tag, "--images=bad.npy")
    assert "expected a .npy file of images" in apply(work, tmp_path, tag, "--images=nowhere")
    assert "--images must be given" in apply(work, tmp_path, tag)
    assert "objective_tag must be RCE or CE" in apply(work, tmp_path, "--images=x.npy")
    assert "expected a detector.npz" in apply(work, tmp_path, "--objective_tag=CE", "--images=x.npy")
    assert "one of [0.05, 0.1], which were fitted" in apply(
        work, tmp_path, tag, "--images=x.npy", "--false_refusal_rate=0.2")
    assert "score must be one of" in apply(work, tmp_path, tag, "--images=x.npy", "--score=beauty")


def test_a_detector_of_another_network_is_refused(work, cpu, fitted):


    expected = NetworkSpec("digits", (8, 8, 1), 10, 1, "rce")
    other = restoring.build_network(cpu, expected, seed=5)
    with pytest.raises(InputError, match="the network that the detector was fitted on"):
        deployed.LoadedDetector(other, fitted, cpu, false_refusal_rate=0.05)


@pytest.mark.parametrize("content", [b"", b"PK no zip", None])
def test_what_is_no_detector_is_refused(tmp_path, content):
    path = tmp_path / "detector.npz"
    if content is None:
        np.savez(path, kernels=np.zeros((1, 2, 3)))
    else:
        path.write_bytes(content)
    with pytest.raises(InputError):
        detector_files.load(path)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("network", "x", "network in .* to be a JSON object with dataset, image_shape"),
    ("network", "{}", "to be a JSON object with"), ("eta", np.zeros(2), "eta to be finite numbers"),
    ("kernels", np.full((2, 3, 4), np.nan), "kernels to be finite numbers of 3 dimensions"),
    ("bandwidth", "wide", "bandwidth to be finite numbers")])
def test_a_damaged_detector_is_refused(work, tmp_path, name, value, words):
    with np.load(work[0] / "kernel_para_digits/detector_RCE.npz") as arrays:
        np.savez(tmp_path / "detector.npz", **{**arrays, name: value})
    with pytest.raises(InputError, match=words):
        detector_files.load(tmp_path / "detector.npz")


@pytest.mark.parametrize("shape", [(3, 2), (5, 1)])
def test_thresholds_of_other_scores_or_rates_are_refused(fitted, shape):
    with pytest.raises(InputError, match=r"thresholds of shape \(5, 2\), scores by false refusal"):
        dataclasses.replace(fitted, thresholds=np.zeros(shape))


# Judging.


@pytest.fixture(scope="module")
def judged(work):
    result = succeeded("detect", "--dataset=digits", "--mode=evaluate", cwd=work[0])
    with open(work[0] / "detection_digits/evaluation_RCE.json") as file:
        return result.out, json.load(file)["rows"]


def test_the_table_fits_120_columns_and_names_every_round(judged):
    out, _ = judged
    lines = out.splitlines()
    assert max(map(len, lines)) <= 120
    assert sum(line.startswith("fgsm") for line in lines) == 10
    assert sum(line.startswith("bim") for line in lines) == 1
    assert sum(line.startswith("worst case") for line in lines) == 1


def test_every_figure_has_its_interval(judged, work):
    _, rows = judged
    assert len(rows) == 11 * 2 * 5 + 5
    names = {*metrics.SEPARATION, "accepted_at_5", "good_at_5", "accepted_at_10", "good_at_10"}
    for row in rows:
        assert set(row["figures"]) == (names if row["n"] else set())
        for estimate in row["figures"].values():
            assert 0 <= estimate["low"] <= estimate["high"] <= 1
    with open(work[0] / "detection_digits/evaluation_RCE.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(len(row["figures"]) for row in rows)


def test_images_of_the_fit_are_left_out(judged):
    _, rows = judged
    assert {row["n"] for row in rows if row["subset"] == "all"} == {100}


def test_figures_are_those_of_the_slow_way(judged, work, fitted):
    _, rows = judged
    results = result_files.load_attack_results(work[0] / "bim_digits/RCE")
    index = result_files.load_per_image(work[0] / "bim_digits/RCE")["image_index"]
    chosen = (~np.isin(index, fitted.fitted_on) & (results["labels_nor"] == results["labels_true"])
              & (results["labels_adv"] != results["labels_true"]))
    row, = (row for row in rows if (row["attack"], row["subset"], row["score"]) == (
        "bim", "successful", "non_me"))
    normal, adversarial = results["entropy_nor"][chosen], results["entropy_adv"][chosen]
    assert row["n"] == chosen.sum()
    assert row["figures"]["auroc"]["value"] == pytest.approx(metrics.auc(normal, adversarial))
    threshold = fitted.threshold("non_me", 0.05)
    assert row["figures"]["accepted_at_5"]["value"] == pytest.approx(
        np.mean(adversarial >= threshold))
    good = np.concatenate([normal >= threshold, adversarial < threshold]).mean()
    assert row["figures"]["good_at_5"]["value"] == pytest.approx(good)


def test_results_in_a_folder_of_their_own_are_judged(work, judged, tmp_path):
    result = succeeded("detect", "--mode=evaluate", "--attack_method=bim",
                       f"--save_pwd={work[0]}/bim_digits/RCE", f"--output_dir={tmp_path}/out",
                       f"--detector={work[0]}/kernel_para_digits/detector_RCE.npz", cwd=tmp_path)
    assert "RCE on digits" in result.out  # the data set is that of the detector
    with open(tmp_path / "out/evaluation_RCE.json") as file:
        rows = [row for row in json.load(file)["rows"] if row["attack"] == "bim"]
    assert rows == [row for row in judged[1] if row["attack"] == "bim"]


def test_images_of_the_fit_are_known_in_a_file_of_another_order(work, fitted, tmp_path):
    test_set = inputs.load("digits", "", "test")
    order = np.random.default_rng(4).permutation(len(test_set.labels))
    save_bin(str(tmp_path / "permuted.bin"), dataclasses.replace(
        test_set, images=test_set.images[order], labels=test_set.labels[order]), "digits")
    succeeded("test_adv", *NETWORK, work[1], "--mode=attack", "--attack_method=fgsm", "--eps=0.3",
              "--eval_data_path=permuted.bin", "--eval_batch_count=-1", cwd=tmp_path)
    succeeded("detect", "--mode=evaluate", "--attack_method=fgsm",
              f"--detector={work[0]}/kernel_para_digits/detector_RCE.npz", cwd=tmp_path)
    with open(tmp_path / "detection_digits/evaluation_RCE.json") as file:
        judged_images, = {row["n"] for row in json.load(file)["rows"]
                          if row["subset"] == "all"}
    # No two of the pictures are equal.
    assert judged_images == len(order) - len(fitted.fitted_on)


def test_an_unfinished_attack_is_left_out_and_named(work, tmp_path):
    folder = copied(work, tmp_path)
    (folder / "jsma_digits/RCE/parts").mkdir(parents=True)
    result = succeeded("detect", "--dataset=digits", "--mode=evaluate", cwd=folder)
    assert "jsma_digits/RCE is left out: its attack is unfinished" in result.err
    assert "jsma" not in result.out


def test_images_that_were_all_fitted_on_are_not_judged(work, tmp_path):
    folder = copied(work, tmp_path)
    succeeded("detect", *FIT, "--holdout_share=0.999", cwd=folder)
    for mode in ("evaluate", "figures"):
        result = run("detect", "--dataset=digits", f"--mode={mode}", cwd=folder)
        assert result.code == 1
        assert "fgsm_digits/RCE: expected images that the detector was not fitted on" in result.err


def test_the_worst_case_is_the_highest_success_of_each_image():
    def make(attack, values, right_adversarial):
        scores = {"non_me": np.array(values)}
        return rounds.Round(attack, None, np.array([3, 4, 5]), {"non_me": np.ones(3)}, scores,
                                np.array([True, True, False]), np.array(right_adversarial))

    worst = judging._worst_case(
        [make("a", [0.1, 0.9, 0.5], [False, True, False]), make("b", [0.3, 0.2, 0.9], [False] * 3)],
        "non_me")
    assert worst.image.tolist() == [3, 4]
    np.testing.assert_array_equal(worst.adversarial["non_me"], [0.3, 0.2])


def test_without_a_detector_or_results_there_is_nothing_to_judge(work, tmp_path):
    result = run("detect", "--dataset=digits", "--mode=evaluate", cwd=tmp_path)
    assert result.code == 1 and "detect.py --mode=fit" in result.err
    result = run("detect", "--dataset=digits", "--mode=evaluate", "--objective_tag=RCE",
                 f"--detector={work[0]}/kernel_para_digits/detector_RCE.npz", cwd=tmp_path)
    assert result.code == 1 and "expected result files of test_adv.py" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flag", "words"), [
    ("--false_refusal_rate=1", "false_refusal_rate must be"),
    ("--false_refusal_rate=-0.1", "false_refusal_rate must be"),
    ("--false_refusal_rate=a", "false_refusal_rate must be"), ("--eta=0", "eta must be finite"),
    ("--eta=inf", "eta must be finite and above 0. Received: eta=inf."),
    ("--num_per_eps=7", "rounds of 7 images. Received: rows="),
    ("--num_per_eps=20000", "rounds of 20000 images. Received: rows="),
    ("--holdout_share=0", "holdout_share must lie"), ("--holdout_share=1", "holdout_share must lie")])
def test_bad_flags_of_a_fit_are_refused(work, tmp_path, flag, words):
    result = run("detect", *FIT, flag, f"--detector={tmp_path}/d.npz", cwd=work[0])
    assert result.code == 1 and words in result.err
    assert not list(tmp_path.iterdir())


# Figures.


def test_figures_are_drawn_of_what_was_swept_and_hold_the_evaluations_numbers(work, judged):
    result = succeeded("detect", "--dataset=digits", "--mode=figures", cwd=work[0])
    folder = work[0] / "detection_digits"
    names = {"robustness", "distortions", "auroc_fgsm", "top_half_fgsm", "thresholds_fgsm",
             "scores_fgsm", "roc_fgsm", "roc_bim", "sr_curve_linf"}
    assert {path.stem for path in folder.glob("*.png")} == names
    assert {path.stem for path in folder.glob("*.csv")} == names | {"evaluation_RCE"}
    assert "9 figures" in result.out
    with open(folder / "auroc_fgsm.csv", newline="") as file:
        drawn = {float(row["x"]): row["y"] for row in csv.DictReader(file)
                 if row["curve"] == "RCE non-ME"}
    for row in judged[1]:
        if (row["attack"], row["subset"], row["score"]) == ("fgsm", "successful", "non_me"):
            expected = 100 * row["figures"]["auroc"]["value"] if row["n"] else float("nan")
            assert float(drawn[row["eps"]]) == pytest.approx(expected, nan_ok=True)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_sweep_there_are_the_figures_of_one_round(work, judged, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "tsne", lambda features, seed: features[:, :2])
    succeeded("detect", "--dataset=digits", "--mode=figures", "--attack_method=bim",
              "--tsne_attack=bim", f"--output_dir={tmp_path}", cwd=work[0])
    assert {path.stem for path in tmp_path.iterdir()} == {
        "distortions", "roc_bim", "tsne_bim", "sr_curve_linf", "figures_run"}
    assert provenance.read(tmp_path, "figures")["metrics"]["networks"]["rce"] == provenance.read(
        work[0] / "bim_digits/RCE", "test_adv")["metrics"]["network"]
    # The label of each curve ends in its area.
    labels = {row["curve"] for row in rows_of(tmp_path / "roc_bim.csv")}
    auroc, = (row["figures"]["auroc"]["value"] for row in judged[1] if (
        row["attack"], row["subset"], row["score"]) == ("bim", "successful", "k_density"))
    assert f"K-density, AUROC {100 * auroc:.2f} %" in labels and len(labels) == 5
    per_image = result_files.load_per_image(work[0] / "bim_digits/RCE")
    bar, = rows_of(tmp_path / "distortions.csv")
    assert int(bar["n"]) == per_image["kept"].sum()
    assert float(bar["mean"]) == pytest.approx(255 * per_image["rms"][per_image["kept"]].mean())
    points = rows_of(tmp_path / "tsne_bim.csv")
    assert len(points) == 2 * 200
    assert [row["is_adversarial"] for row in points] == ["0"] * 200 + ["1"] * 200


def test_figures_of_nothing_are_refused(work, tmp_path):
    figures_of = ("detect", "--dataset=digits", "--mode=figures", f"--output_dir={tmp_path}")
    result = run(*figures_of, "--attack_method=jsma", cwd=work[0])
    assert result.code == 1 and "files of test_adv.py in <attack>_digits/RCE. Received" in result.err
    result = run(*figures_of, "--tsne_attack=fgsm,jsma", cwd=work[0])
    assert result.code == 1 and "all or of the attacks with results, fgsm, bim. Received" in result.err
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_ones_own(work, tmp_path):
    result = succeeded("test_adv", *NETWORK, work[1], "--mode=attack", "--attack_method=fgsm",
                       "--eps_sweep=0.1,0.4", "--eval_batch_count=1", cwd=tmp_path)
    assert "the eps = 0.400000" in result.out
    record = provenance.read(tmp_path / "fgsm_digits/RCE", "test_adv")
    assert record["metrics"]["eps"] == [0.1, 0.4]


@pytest.mark.parametrize(("values", "words"), [
    ("0.1,0.1", "different values"), ("0.1,2", "eps_sweep must be different values in"),
    ("0,0.1", "eps_sweep must be numbers above"), ("a", "eps_sweep must be numbers above")])
def test_a_bad_sweep_is_refused(work, tmp_path, values, words):
    result = run("test_adv", *NETWORK, work[1], "--mode=attack", "--attack_method=fgsm",
                 f"--eps_sweep={values}", cwd=tmp_path)
    assert result.code == 1 and words in result.err
    assert not list(tmp_path.iterdir())


# One detector, one network.


def copied(work, folder):
    """The work folder's files in a folder of their own."""
    import shutil

    shutil.copytree(work[0], folder, dirs_exist_ok=True)
    return folder


def test_results_of_another_network_are_not_judged(work, tmp_path):
    record = copied(work, tmp_path) / "bim_digits/RCE/test_adv_run.json"
    changed = json.loads(record.read_text())
    changed["metrics"]["network"]["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(changed))
    result = run("detect", "--dataset=digits", "--mode=evaluate", cwd=tmp_path)
    assert result.code == 1
    assert "expected results in bim_digits/RCE of the network of the detector" in result.err


def test_a_given_detector_tells_its_objective(work, tmp_path):
    given = ("--dataset=digits", f"--detector={work[0]}/kernel_para_digits/detector_RCE.npz")
    copied(work, tmp_path)
    succeeded("detect", *given, "--mode=evaluate", "--attack_method=bim", cwd=tmp_path)
    result = run("detect", *given, "--mode=evaluate", "--objective_tag=CE", cwd=tmp_path)
    assert result.code == 1 and "objective_tag must be that of the detector" in result.err


def test_one_detector_file_is_not_written_for_two_objectives(work, tmp_path):
    (copied(work, tmp_path) / "fgsm_digits/CE").mkdir()
    result = run("detect", *FIT, "--detector=d.npz", cwd=tmp_path)
    assert result.code == 1 and "objective_tag must be RCE or CE where both" in result.err
    assert not (tmp_path / "d.npz").exists()


# Beside another network.


def test_figures_beside_an_ensemble(work, tmp_path_factory, tmp_path):
    """Attack, features, detector and figure of the ensemble of a network with itself: its own lines."""
    folder, _, log_root = work
    other = tmp_path / "twice"
    other.mkdir()
    script_runner.fit_detector(f"{log_root},{log_root}", other)
    succeeded("detect", "--dataset=digits", "--mode=figures", "--attack_method=fgsm",
              f"--beside={other}", f"--output_dir={tmp_path}", cwd=folder)
    with open(tmp_path / "thresholds_fgsm.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = {label: [float(row["y"]) for row in rows if row["curve"] == label]
             for label in dict.fromkeys(row["curve"] for row in rows)}
    assert list(lines) == ["RCE", "RCE of twice", "RCE normal", "RCE adversarial",
                           "RCE of twice normal", "RCE of twice adversarial"]
    np.testing.assert_allclose(lines["RCE of twice normal"], lines["RCE normal"], atol=1.01)


def test_beside_must_hold_results(work, tmp_path):
    result = run("detect", "--dataset=digits", "--mode=figures", f"--beside={tmp_path}", cwd=work[0])
    assert result.code == 1
    assert result.err.startswith("error: beside must be a folder with results of test_adv.py and a ")

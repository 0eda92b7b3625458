"""Each script does its one real step on a tiny run, and what it prints and writes is right."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import test_adv as adv_script
import test_nor as nor_script
from data import inputs
from data.pixels import to_network_input
from defenses import PUBLISHED_SCORES, scores
from figures import drawing
from files import checkpoints, result_files
from files.features import load_kernels, load_training_features
from files.images import save_bin
from files.names import RESULT_TEXTS
from networks import restoring
from networks.network import count_correct
from networks.spec import NetworkSpec
from options import attack as attack_options
from tests.helpers import script_runner
from tests.helpers.script_runner import LOG_ROOT, NETWORK, STEPS, TRAINING, run, succeeded
from training import reporter

DIGITS = NetworkSpec("digits", (8, 8, 1), 10, 1, "rce")
PER_EPS = 200
ATTACK = ("--mode=attack", "--eval_batch_count=1")
# The attacks of one call; test_attack_runs.py runs those that search.
SWEPT = ("random", "fgsm", "bim", "tgsm", "pgd")
ROUND_OF_01 = slice(4 * PER_EPS, 5 * PER_EPS)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of the tiny run; read only."""
    return script_runner.tiny_run(tmp_path_factory)


@pytest.fixture
def log_root(tiny):
    """--log_root of the tiny run, from anywhere."""
    return f"--log_root={tiny}/models/tiny"


@pytest.fixture(scope="session")
def network(tiny, cpu):
    """The network of the tiny run."""
    return restoring.restore(cpu, f"{tiny}/models/tiny", DIGITS)


@pytest.fixture(scope="session")
def swept(tiny, tmp_path_factory):
    """Runs the sweep of an attack once: (folder it ran in, what it printed)."""
    done = {}

    def sweep(attack):
        if attack not in done:
            folder = tmp_path_factory.mktemp(attack)
            few = ("--attack_iterations=8",) if attack == "pgd" else ()  # for the tests' time
            result = succeeded("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", *ATTACK,
                               f"--attack_method={attack}", *few, cwd=folder)
            done[attack] = (folder, result.out)
        return done[attack]

    return sweep


def _events(folder):
    """{(tag, step): value} of the TensorBoard files in a folder."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- train.py ---

def test_train_leaves_checkpoints_scalars_and_a_record(tiny):
    models = tiny / "models/tiny"
    assert {path.name for path in models.glob("model.ckpt-*.index")} == {
        "model.ckpt-25.index", "model.ckpt-50.index", "model.ckpt-60.index"}
    rows = _rows(models / "train/training.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [0.1] * 40 + [0.01] * 10 + [0.001] * 10, rtol=1e-6)
    assert [row["test_precision"] != "" for row in rows] == [False] * (STEPS - 1) + [True]
    events = _events(models / "train")
    for row in rows:
        assert events["cost", int(row["step"])] == pytest.approx(float(row["cost"]), rel=1e-6)
        assert ("learning_rate", int(row["step"])) in events
    record = json.loads((models / "train/train_run.json").read_text())
    assert record["seed"] == 3 and record["flags"]["batch_size"] == 32
    assert record["metrics"]["step"] == STEPS
    assert record["metrics"]["cost"] == float(rows[-1]["cost"])


def test_train_prints_the_test_precision(tiny, network, cpu):
    test_set = inputs.load("digits", "", "test")
    correct = count_correct(network.forward_stored(cpu), test_set, 360)
    assert f"Step: {STEPS} Test precision: {correct / 360:.5f}\n" in script_runner.tiny_output()
    assert float(_rows(tiny / "models/tiny/train/training.csv")[-1]["test_precision"]) == correct / 360


def test_training_learns(tiny):
    costs = [float(row["cost"]) for row in _rows(tiny / "models/tiny/train/training.csv")]
    # RCE is at least log(9) = 2.197, and 2.303 where the network knows nothing.
    assert np.mean(costs[-5:]) < np.mean(costs[:5]) - 0.02


def test_a_finished_run_says_so(tiny, tmp_path):
    shutil.copytree(tiny / "models", tmp_path / "models")
    files = [tmp_path / "models/tiny/train" / name for name in ("training.csv", "train_run.json")]
    before = [path.read_bytes() for path in files]
    result = run("train", *NETWORK, *TRAINING, LOG_ROOT, f"--total_steps={STEPS}", cwd=tmp_path)
    assert result.code == 0
    assert f"has a checkpoint at step {STEPS}: nothing left" in result.out
    assert [path.read_bytes() for path in files] == before  # the figures of the run, too
    # One that was killed behind its last checkpoint has not been recorded.
    files[1].unlink()
    succeeded("train", *NETWORK, *TRAINING, LOG_ROOT, f"--total_steps={STEPS}", cwd=tmp_path)
    assert json.loads(files[1].read_text())["metrics"] == {"step": STEPS, "found_finished": True}


def test_keep_checkpoints_and_train_dir(tmp_path):
    result = run("train", "--dataset=digits", "--num_residual_units=1", "--log_root=m",
                 "--train_dir=elsewhere", "--total_steps=4", "--checkpoint_every=1", "--batch_size=8",
                 "--keep_checkpoints=2", cwd=tmp_path)
    assert result.code == 0
    assert {path.name for path in tmp_path.glob("m/*.index")} == {
        "model.ckpt-3.index", "model.ckpt-4.index"}
    assert {"training.csv", "train_run.json"} <= set(os.listdir(tmp_path / "elsewhere"))


def test_train_without_a_test_set_says_so(tmp_path):
    image_set = inputs.load("digits", "", "test")
    save_bin(str(tmp_path / "x.bin"), image_set)
    result = run("train", "--dataset=digits", "--num_residual_units=1", "--log_root=m",
                 "--train_data_path=x.bin", "--total_steps=1", "--batch_size=8", cwd=tmp_path)
    assert result.code == 0
    assert result.out.count("No --eval_data_path: no test precision") == 1
    assert "Test precision:" not in result.out


def test_sigint_saves_and_exits_with_130(tmp_path, monkeypatch):
    report = reporter.Reporter.report

    def interrupt(self, step, cost, parts):
        report(self, step, cost, parts)
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(reporter.Reporter, "report", interrupt)
    before = signal.getsignal(signal.SIGINT)
    result = run("train", "--dataset=digits", "--num_residual_units=1", "--log_root=m",
                 "--total_steps=50", "--batch_size=8", cwd=tmp_path)
    assert result.code == 130
    assert "Stopped by SIGINT at step 3; saved in m." in result.out
    assert tf.train.latest_checkpoint(tmp_path / "m").endswith("model.ckpt-3")
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    """A real process, stopped while it trains."""
    command = ["--dataset=digits", "--num_residual_units=1", "--log_root=m", "--batch_size=16"]
    process = subprocess.Popen(
        [sys.executable, script_runner.ROOT / "train.py", *command, "--total_steps=20000"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        log = tmp_path / "m/train/training.csv"
        deadline = time.monotonic() + 90
        while (not log.exists() or log.read_text().count("\n") < 2) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, err
    stopped = int(re.search(r"Stopped by SIGTERM at step (\d+); saved in m\.", out)[1])
    assert tf.train.latest_checkpoint(tmp_path / "m").endswith(f"model.ckpt-{stopped}")
    with open(log, "a") as file:  # as if the process had been killed after another summary
        file.write(f"{stopped + 2000},9,9,\n")
    result = run("train", *command, f"--total_steps={stopped + 5}", "--checkpoint_every=5",
                 cwd=tmp_path)
    assert result.code == 0
    assert f"Resuming at step {stopped} from m." in result.out
    steps = [int(row["step"]) for row in _rows(log)]
    assert steps == sorted(set(steps)) and steps[-1] == stopped + 5
    assert tf.train.latest_checkpoint(tmp_path / "m").endswith(f"model.ckpt-{stopped + 5}")


# --- test_nor.py ---

def test_nor_evaluates_once_and_stops(tiny, log_root, network, cpu, tmp_path):
    result = run("test_nor", *NETWORK, log_root, "--eval_dir=eval", "--mode=eval",
                 "--eval_batch_count=3", cwd=tmp_path)
    correct = count_correct(
        network.forward_stored(cpu), inputs.load("digits", "", "test"), 300)
    assert result == (0, f"precision: {correct / 300:.5f}, best precision: {correct / 300:.5f}\n", "")
    events = _events(tmp_path / "eval")
    assert set(events) == {("Precision", STEPS), ("Best Precision", STEPS)}
    assert events["Precision", STEPS] == pytest.approx(correct / 300)
    record = json.loads((tmp_path / "eval/test_nor_run.json").read_text())
    assert record["metrics"] == {"step": STEPS, "precision": correct / 300,
                                 "best_precision": correct / 300, "num_images": 300,
                                 "network": json.loads(json.dumps(network.identity()))}


def test_nor_evaluates_the_one_before_a_damaged_checkpoint(tiny, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(tiny / "models/tiny", folder)
    newest = folder / f"model.ckpt-{STEPS}"
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(f"{newest}{suffix}", folder / f"model.ckpt-99{suffix}")
    weights = folder / "model.ckpt-99.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[:1000])
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-99"\n')
    result = run("test_nor", *NETWORK, "--log_root=m", "--eval_dir=eval", "--mode=eval",
                 "--eval_batch_count=1", "--eval_timeout=1", cwd=tmp_path)
    assert result.code == 0 and result.out.count("precision: ") == 2  # one line, with the best
    assert f"Using m/model.ckpt-{STEPS} instead." in result.err
    assert json.loads((tmp_path / "eval/test_nor_run.json").read_text())["metrics"]["step"] == STEPS


def test_kernel_para_takes_the_training_file_where_both_are_given(log_root, tmp_path):
    succeeded("others", "--dataset=digits", "--mode=export_bin", cwd=tmp_path)
    data = [f"--{kind}_data_path=digits_dataset/data_{name}.bin"
            for kind, name in (("train", "train"), ("eval", "test"))]
    result = succeeded("others", *NETWORK, log_root, "--mode=kernel_para", "--eval_batch_count=-1",
                       *data, cwd=tmp_path)
    assert "Features of 1437 training images" in result.out


def test_images_of_two_channels_are_attacked_without_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", labels=np.arange(40) % 4,
             images=rng.integers(0, 256, (40, 8, 8, 2)).astype(np.uint8))
    data = "--dataset=npz", "--train_data_path=x.npz", "--eval_data_path=x.npz"
    network = "--num_residual_units=1", "--log_root=m"
    succeeded("train", *data, *network, "--total_steps=1", "--batch_size=8", cwd=tmp_path)
    result = succeeded("test_adv", *data, *network, "--mode=attack", "--attack_method=fgsm",
                       "--eps=0.1", "--eval_batch_count=1", cwd=tmp_path)
    assert "Results are in fgsm_npz/CE." in result.out
    names = set(os.listdir(tmp_path / "fgsm_npz/CE"))
    assert "test_adv_run.json" in names and not names & {"images.png", "parts"}


def test_nor_watches_while_total_steps_lie_ahead(log_root, tmp_path, monkeypatch):
    """More steps than the run has: evaluates, waits for another checkpoint, ends by the time-out."""
    watch, seen = checkpoints.as_they_come, []

    def watched(folder, timeout):
        yield from watch(folder, timeout)
        seen.append(timeout)

    monkeypatch.setattr(checkpoints, "as_they_come", watched)
    result = run("test_nor", *NETWORK, log_root, "--eval_dir=a", "--total_steps=1000",
                 "--eval_timeout=1", "--eval_batch_count=-1", cwd=tmp_path)
    assert result.code == 0 and len(re.findall("^precision: ", result.out, re.M)) == 1
    assert seen == [1]  # to its end, which only the time-out brings
    assert json.loads((tmp_path / "a/test_nor_run.json").read_text())["metrics"]["num_images"] == 360


def test_nor_eval_once_ends_at_once(log_root, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("--eval_once must not watch the folder")

    monkeypatch.setattr(checkpoints, "as_they_come", never)
    result = run("test_nor", *NETWORK, log_root, "--eval_dir=a", "--total_steps=1000", "--eval_once",
                 cwd=tmp_path)
    assert result.code == 0 and result.out.count("best precision: ") == 1
    assert "5000 images asked for, 360 found: each is evaluated once." in result.out


@pytest.mark.parametrize(("total_steps", "evaluated"), [(None, 3), (50, 2), (1, 1)])
def test_nor_keeps_the_best_and_ends_at_total_steps(
        tiny, cpu, tmp_path, capsys, monkeypatch, total_steps, evaluated):
    correct = iter((30, 50, 20))
    monkeypatch.setattr(nor_script, "count_correct", lambda *_: next(correct))
    paths = [f"{tiny}/models/tiny/model.ckpt-{step}" for step in (25, 50, 60)]
    figures = nor_script.evaluate(
        restoring.build_network(cpu, DIGITS), cpu, iter(paths), DIGITS,
        inputs.load("digits", "", "test"), 100, eval_dir=str(tmp_path), total_steps=total_steps)
    assert capsys.readouterr().out.splitlines() == [
        "precision: 0.30000, best precision: 0.30000",
        "precision: 0.50000, best precision: 0.50000",
        "precision: 0.20000, best precision: 0.50000"][:evaluated]
    assert figures["step"] == (25, 50, 60)[evaluated - 1]
    assert figures["best_precision"] == (0.3, 0.5, 0.5)[evaluated - 1]


def test_nor_says_that_it_waits(tmp_path):
    result = run("test_nor", *NETWORK, "--log_root=none", "--eval_timeout=1",
                 "--eval_batch_count=1", cwd=tmp_path)
    assert result.code == 1
    assert result.out == "No checkpoint in none yet: waiting for train.py.\n"
    assert re.fullmatch(r"error: .*--eval_timeout=1 .*Received: .*log_root='none'\.\n", result.err)


# --- test_adv.py ---

def _expected_lines(folder, attack):
    """ORIGINAL.md section 9, with the averages of the result files; seconds as a pattern."""
    results = result_files.load_attack_results(folder, images=True)
    yield f"attacking method is {attack}"
    yield "mode is attack"
    yield f"Num of sample per eps is {PER_EPS}"
    for k, eps in enumerate(attack_options.SWEEP_EPS):
        r = {name: array[k * PER_EPS:(k + 1) * PER_EPS] for name, array in results.items()}
        yield f"The 0 batch in total 1, the eps = {eps:f} (SECONDS sec)"
        correct = [np.mean(r[f"labels_{side}"] == r["labels_true"]) for side in ("nor", "adv")]
        yield f"Precision on nor images is {correct[0]:f}, on adv images is {correct[1]:f}"
        for words, name in (("Confidence", "confidence"), ("non-ME", "entropy")):
            yield (f"{words} on nor images is {r[name + '_nor'].mean():f}, "
                   f"on adv images is {r[name + '_adv'].mean():f}")
        yield f"Average L2-distance between nor and adv imgs is {r['L2_distance'].mean():f}"


@pytest.mark.parametrize("attack", SWEPT)
def test_sweep_prints_the_words_of_the_original(swept, attack):
    folder, out = swept(attack)
    lines = re.sub(r"\(\d+\.\d{6} sec\)", "(SECONDS sec)", out).splitlines()
    expected = list(_expected_lines(folder / f"{attack}_digits/RCE", attack))
    # A mean of float32 may differ in the last digit printed from that of the file.
    assert len(lines) == len(expected) + 1
    assert "images.png" in lines[-1]
    for line, other in zip(lines, expected, strict=False):
        words = [re.sub(r"\d+\.\d+", "#", text) for text in (line, other)]
        assert words[0] == words[1]
        numbers = [[float(n) for n in re.findall(r"\d+\.\d+", text)] for text in (line, other)]
        np.testing.assert_allclose(*numbers, atol=1.1e-6)


@pytest.mark.parametrize("attack", SWEPT)
def test_sweep_leaves_result_files(swept, attack):
    folder, _ = swept(attack)
    files = folder / f"{attack}_digits/RCE"
    assert set(os.listdir(files)) == {
        "entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "logits_nor", "logits_adv",
        "labels_nor", "labels_adv", "labels_true", "L2_distance", "nor_img.npy", "adv_img.npy",
        "images.png", "results.npz", "per_image.csv", "test_adv_run.json"}
    results = result_files.load_attack_results(files, images=True)
    shapes = {name: array.shape for name, array in results.items()}
    assert shapes.pop("logits_nor") == shapes.pop("logits_adv") == (10 * PER_EPS, 64)
    assert shapes.pop("nor_img") == shapes.pop("adv_img") == (10 * PER_EPS, 8, 8, 1)
    assert set(shapes.values()) == {(10 * PER_EPS,)}
    metrics = json.loads((files / "test_adv_run.json").read_text())["metrics"]
    assert metrics["eps"] == list(attack_options.SWEEP_EPS) and metrics["num_per_eps"] == PER_EPS
    assert [averages["eps"] for averages in metrics["rounds"]] == list(attack_options.SWEEP_EPS)


@pytest.mark.parametrize("attack", SWEPT)
def test_every_round_attacks_the_same_images_within_eps(swept, attack):
    results = result_files.load_attack_results(swept(attack)[0] / f"{attack}_digits/RCE", images=True)
    test_set = inputs.load("digits", "", "test")
    rows = np.tile(inputs.subset_indices(360, PER_EPS, 0), 10)
    np.testing.assert_array_equal(results["nor_img"], to_network_input(test_set.images[rows]))
    np.testing.assert_array_equal(results["labels_true"], test_set.labels[rows])
    change = results["adv_img"].astype(np.float64) - results["nor_img"]
    largest = np.abs(change).reshape(10, -1).max(axis=1)
    np.testing.assert_allclose(largest, attack_options.SWEEP_EPS, rtol=0.01)
    assert np.all(largest <= np.array(attack_options.SWEEP_EPS) + 1e-6)
    assert np.abs(results["adv_img"]).max() <= 0.5
    np.testing.assert_allclose(results["L2_distance"], np.sqrt(np.mean(change**2, axis=(1, 2, 3))),
                               rtol=1e-5)


@pytest.mark.parametrize("attack", SWEPT)
def test_scores_are_those_of_the_images(swept, network, cpu, attack):
    results = result_files.load_attack_results(swept(attack)[0] / f"{attack}_digits/RCE", images=True)
    forward = network.forward(cpu)
    for side in ("nor", "adv"):
        logits, features = forward(results[f"{side}_img"])
        np.testing.assert_array_equal(results[f"labels_{side}"], logits.argmax(axis=1))
        np.testing.assert_allclose(results[f"confidence_{side}"], scores.confidence(logits), rtol=1e-6)
        np.testing.assert_allclose(results[f"entropy_{side}"], scores.non_me(logits), rtol=1e-6)
        np.testing.assert_allclose(results[f"logits_{side}"], features, rtol=1e-5, atol=1e-6)


def test_gradients_lower_the_precision_and_noise_hardly(swept):
    at_02 = slice(9 * PER_EPS, 10 * PER_EPS)

    def precision(attack):
        results = result_files.load_attack_results(swept(attack)[0] / f"{attack}_digits/RCE")
        return np.mean((results["labels_adv"] == results["labels_true"])[at_02])

    assert max(precision("fgsm"), precision("bim")) < precision("random") - 0.05


def _files(folder):
    """Name → bytes of the result files, of which the picture and the record hold more."""
    return {path.name: path.read_bytes() for path in folder.iterdir()
            if path.suffix not in (".json", ".png")}


def _single(log_root, folder, attack, save_pwd, *more):
    result = succeeded("test_adv", *NETWORK, log_root, *ATTACK, f"--attack_method={attack}",
                       "--eps=0.1", f"--save_pwd={save_pwd}", *more, cwd=folder)
    assert result.out.count("The 0 batch in total 1, the eps = 0.100000 (") == 1
    assert set(os.listdir(folder / save_pwd)) > set(RESULT_TEXTS)
    return _files(folder / save_pwd)


@pytest.mark.parametrize("attack", ["random", "bim"])
def test_eps_gives_one_round_whatever_the_attack_batch_size(swept, log_root, tmp_path, attack):
    """Run twice with one seed, in other batches: the same bytes, and those of the sweep."""
    first = _single(log_root, tmp_path, attack, "deep/a")
    assert not (tmp_path / f"{attack}_digits").exists()
    assert _single(log_root, tmp_path, attack, "b", "--attack_batch_size=7") == first
    sweep = result_files.load_attack_results(swept(attack)[0] / f"{attack}_digits/RCE", images=True)
    for name, array in result_files.load_attack_results(tmp_path / "deep/a", images=True).items():
        np.testing.assert_array_equal(array, sweep[name][ROUND_OF_01])


def test_the_seed_decides(log_root, tmp_path):
    first = _single(log_root, tmp_path, "random", "a", "--seed=1")
    other = _single(log_root, tmp_path, "random", "c", "--seed=2")
    assert other["adv_img.npy"] != first["adv_img.npy"]
    assert other["nor_img.npy"] != first["nor_img.npy"]


@pytest.fixture
def caught_tsne(monkeypatch):
    """t-SNE takes seconds and has tests of its own: the features it is given, numbered as points."""
    caught = []

    def tsne(features, seed=0):
        caught.append(features)
        return np.stack([np.arange(len(features)), features[:, 0]], axis=1)

    monkeypatch.setattr(drawing, "tsne", tsne)
    return caught


def test_adv_tsne_has_the_order_of_the_original(log_root, network, cpu, tmp_path, caught_tsne):
    """Batches of 200 of 360 images: the normal rows, then for fgsm a tenth as many adversarial."""
    result = run("test_adv", *NETWORK, log_root, "--mode=tSNE_logits", "--eps=0.2", cwd=tmp_path)
    assert result.code == 0
    assert "1000 images asked for, 360 found" in result.out
    folder = tmp_path / "fgsm_digits/tSNE"
    assert set(os.listdir(folder)) == {"tSNE_RCE", "tSNElabels_RCE", "tSNEisadv_RCE", "tSNE_RCE.png",
                                       "tSNE_RCE_run.json"}
    is_adversarial = np.loadtxt(folder / "tSNEisadv_RCE")
    expected = np.repeat([0, 1, 0, 1], [200, 20, 160, 16])
    np.testing.assert_array_equal(is_adversarial, expected)
    rows = inputs.subset_indices(360, 360, 0)
    order = np.concatenate([np.arange(200), np.arange(20), np.arange(200, 360), np.arange(200, 216)])
    test_set = inputs.load("digits", "", "test")
    np.testing.assert_array_equal(np.loadtxt(folder / "tSNElabels_RCE"), test_set.labels[rows][order])
    _, normal = network.forward_stored(cpu)(test_set.images[rows])
    features, = caught_tsne
    np.testing.assert_allclose(features[expected == 0], normal, rtol=1e-5, atol=1e-6)
    assert np.abs(features[expected == 1] - normal[order[expected == 1]]).max() > 0.01
    np.testing.assert_array_equal(np.loadtxt(folder / "tSNE_RCE")[:, 0], np.arange(396))


def test_tsne_of_other_attacks_takes_every_adversarial_image():
    np.testing.assert_array_equal(adv_script._tsne_rows(5, 2, tenth=False),
                                  [0, 1, 5, 6, 2, 3, 7, 8, 4, 9])
    np.testing.assert_array_equal(adv_script._tsne_rows(25, 20, tenth=True),
                                  [*range(20), 25, 26, *range(20, 25), 45])


# --- others.py and detect.py ---

@pytest.fixture(scope="module")
def kernels(swept, tiny):
    """Folder of the fgsm sweep, with the features of all training images."""
    folder, _ = swept("fgsm")
    succeeded("others", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=kernel_para",
              "--eval_batch_count=-1", cwd=folder)
    return folder


def test_kernel_para_writes_features_of_training_images_in_order(kernels, network, cpu):
    features, labels = load_training_features(kernels / "kernel_para_digits", "rce")
    train_set = inputs.load("digits", "", "train")
    np.testing.assert_array_equal(labels, train_set.labels)
    _, expected = network.forward_stored(cpu)(train_set.images)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert (kernels / "kernel_para_digits/kernel_para_RCE_run.json").is_file()


def test_kernel_para_counts_in_batches_of_100(log_root, tmp_path):
    result = run("others", *NETWORK, log_root, "--mode=kernel_para", "--eval_batch_count=2",
                 cwd=tmp_path)
    assert result.code == 0
    assert len(np.loadtxt(tmp_path / "kernel_para_digits/training_logitslabels_RCE")) == 200
    assert "The 0 batch in total 2\nThe 1 batch in total 2\n" in result.out


def test_detect_selects_kernels_and_tells_the_auc(kernels, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(kernels, work)
    result = run("detect", "--dataset=digits", "--mode=select_kernel", "--num_kernels=50", cwd=work)
    assert result.code == 0
    assert "Drew 50 kernels for each of 10 classes from 1437 training features" in result.out
    assert load_kernels(work / "kernel_para_digits", "rce").shape == (50, 64, 10)
    result = run("detect", "--dataset=digits", "--attack_method=fgsm", cwd=work)
    assert (result.code, result.err) == (0, "")
    table = json.loads((work / "fgsm_digits/auc_fgsm_digits.json").read_text())["objectives"]["RCE"]
    files = result_files.load_attack_results(work / "fgsm_digits/RCE")
    counted = ((files["labels_nor"] == files["labels_true"])
               & (files["labels_adv"] != files["labels_true"])).reshape(10, PER_EPS).sum(axis=1)
    assert [row["n"] for row in table] == list(counted) and counted[-1] > 0
    assert [row["eps"] for row in table] == list(attack_options.SWEEP_EPS)
    last = result.out.split("\n  0.20 | ")[1].split("\n")[0]
    assert last.split() == [str(counted[-1]), *(
        f"{100 * table[-1]['auc'][name]:.2f}" for name in PUBLISHED_SCORES)]
    assert (work / "fgsm_digits/roc_fgsm_digits.png").is_file()
    assert (work / "fgsm_digits/detect_run.json").is_file()


def test_detect_draws_kernels_itself_when_there_are_none(kernels, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(kernels, work)
    result = run("detect", "--dataset=digits", "--num_kernels=50", "--eps_round=10", cwd=work)
    assert result.code == 0 and "Drew 50 kernels" in result.out
    assert "\n  0.20 | " in result.out and "\n  0.02 | " not in result.out


def test_others_tsne_takes_the_test_images_in_order(log_root, network, cpu, tmp_path, caught_tsne):
    result = run("others", *NETWORK, log_root, "--mode=tSNE_logits", cwd=tmp_path)
    assert result.code == 0
    folder = tmp_path / "nor_tsne_results_digits"
    assert set(os.listdir(folder)) == {"tSNE_RCE", "tSNElabels_RCE", "tSNE_RCE.png",
                                       "tSNE_RCE_run.json"}
    test_set = inputs.load("digits", "", "test")
    np.testing.assert_array_equal(np.loadtxt(folder / "tSNElabels_RCE"), test_set.labels)
    _, expected = network.forward_stored(cpu)(test_set.images)
    np.testing.assert_allclose(caught_tsne[0], expected, rtol=1e-5, atol=1e-6)


def test_export_bin_and_training_from_it(tiny, tmp_path):
    result = succeeded("others", "--dataset=digits", "--mode=export_bin", cwd=tmp_path)
    assert "Wrote 1437 images to digits_dataset/data_train.bin." in result.out
    for split in ("train", "test"):
        got = inputs.load("digits", str(tmp_path / f"digits_dataset/data_{split}.bin"), split)
        expected = inputs.load("digits", "", split)
        np.testing.assert_array_equal(got.images, expected.images)
        np.testing.assert_array_equal(got.labels, expected.labels)
    result = succeeded("train", *NETWORK, *TRAINING, "--log_root=m", "--total_steps=2",
                       "--train_data_path=digits_dataset/data_train.bin",
                       "--eval_data_path=digits_dataset/data_test.bin", cwd=tmp_path)
    assert "Step: 2 Test precision: " in result.out
    costs = [row["cost"] for row in _rows(tmp_path / "m/train/training.csv")]
    expected = [row["cost"] for row in _rows(tiny / "models/tiny/train/training.csv")]
    assert costs == expected[:2]


def test_info_tells_what_is_in_a_log_root(log_root, tmp_path):
    result = run("others", "--dataset=digits", log_root, "--mode=info", cwd=tmp_path)
    assert result.code == 0
    lines = result.out.splitlines()
    assert {"dataset: digits", "objective: rce", "blocks_per_stage: 1", "seed: 3",
            f"newest at step {STEPS} of {STEPS}"} <= set(lines)
    assert sum(line.startswith("checkpoint: ") for line in lines) == 3


# --- The original's commands, and processes ---

def test_commands_of_the_original_run_as_typed(tmp_path):
    """Flags and paths as in the original's README; what is appended makes them cheap."""
    generator = np.random.default_rng(0)
    (tmp_path / "mnist_dataset").mkdir()
    for name, count in (("data_train", 300), ("data_test", 100), ("test_batch", 40)):
        images = generator.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        save_bin(str(tmp_path / f"mnist_dataset/{name}.bin"), inputs.ImageSet(
            images, np.arange(count) % 10, 10, name, False))
    cheap = {"train": ("--num_residual_units=1", "--total_steps=2", "--batch_size=16"),
             "detect": ("--num_kernels=20",)}
    for script, arguments in script_runner.ORIGINAL_COMMANDS:
        result = run(script, *arguments, *cheap.get(script, ("--num_residual_units=1",)),
                     cwd=tmp_path)
        assert result.code == 0, (script, result.err)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {"models_mnist/resnet32/checkpoint", "models_mnist/resnet32/train/training.csv",
            "models_mnist/resnet32/eval/test_nor_run.json", "fgsm_mnist/RCE/adv_img.npy",
            "kernel_para_mnist/training_logits_RCE", "fgsm_mnist/auc_fgsm_mnist.json"} <= made
    assert len(np.loadtxt(tmp_path / "fgsm_mnist/RCE/labels_adv")) == 400
    assert len(np.loadtxt(tmp_path / "kernel_para_mnist/training_logits_RCE")) == 300


def _process(script, *arguments, cwd):
    return subprocess.run([sys.executable, script_runner.ROOT / f"{script}.py", *arguments], cwd=cwd,
                          capture_output=True, text=True, timeout=120)


def test_a_process_ends_bad_input_with_one_line_and_code_1(tmp_path):
    done = _process("train", "--dataset=digits", cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines()
             if not re.match(r"[IWE]0000|WARNING: All log messages|\d{4}-\d\d-\d\d ", line)]
    assert done.returncode == 1
    assert lines == ["error: --log_root must be given. Received: log_root=''."]
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)


def test_help_lists_the_flags_of_the_script(tmp_path):
    done = _process("detect", "--help", cwd=tmp_path)
    for name in script_runner.define("detect"):
        assert re.search(rf"--(\[no\])?{name}:", done.stdout), name
    assert "--total_steps" not in done.stdout

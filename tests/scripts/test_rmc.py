"""rmc.py from the augmented set to the results of its streams: files, kills, shards, refusals."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import inputs
from data.pixels import to_network_input
from evaluation import augmenting
from files import attack_parts, attack_results, provenance, result_files
from files import rmc as rmc_files
from files.names import defended_dir
from options import rmc as rmc_options
from tests.helpers import script_runner
from tests.helpers.script_runner import ROOT, refused, run, succeeded

MLP = ("--dataset=digits", "--model=mlp")
# Images in a block of the set, which has two attacked ones.
N = 24
SET = (f"--rmc_num_train={N}", "--rmc_augment=3:1.6,4:2.4")
POINTS, HELDOUT = 3, 20
SMALL = ("--rmc_k=20", "--rmc_epochs=2", "--rmc_lr=1e-3", "--rmc_batch_size=16",
         f"--rmc_num_eval={POINTS}", f"--rmc_num_heldout={HELDOUT}")
EVAL = ("--mode=eval", *SMALL, "--attack_iterations=3")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A small network and its augmented set, another network, and FGSM against the first: read only."""
    folder = tmp_path_factory.mktemp("rmc")
    for name, seed in (("m", 0), ("other", 1)):
        succeeded("train", *MLP, f"--log_root={name}", "--total_steps=20", f"--seed={seed}", cwd=folder)
    for mode in (("--mode=augment", *SET), ("--mode=features",)):
        succeeded("rmc", *MLP, "--log_root=m", *mode, cwd=folder)
    succeeded("test_adv", *MLP, "--log_root=m", "--mode=attack", "--attack_method=fgsm",
              "--eval_batch_count=1", "--eps_sweep=0.1,0.2", cwd=folder)
    return folder


@pytest.fixture
def rmc(work, tmp_path):
    """Command line of a mode with the small network and its set, from another folder."""
    def flags_of(*more):
        return (*MLP, f"--log_root={work}/m", f"--rmc_dir={work}/rmc_digits", *more)

    return flags_of


@pytest.fixture
def evaluate(rmc, tmp_path):
    """Runs --mode=eval, which must succeed, and leaves its results in a folder, which it returns."""
    def run_eval(name, *more):
        succeeded("rmc", *rmc(*EVAL, f"--save_pwd={name}", *more), cwd=tmp_path)
        return tmp_path / name

    return run_eval


_results = {}


@pytest.fixture
def sequential(evaluate):
    """What a folder of results of the defaults holds, as of `contents`; made once."""
    if not _results:
        folder = evaluate("whole")
        _results.update(contents(folder), points=rmc_files.load_points(folder),
                        arrays=attack_results.load("ce", folder),
                        images=result_files.load_adversarial_images(folder),
                        record=provenance.read(folder, "rmc"))
    return _results


def contents(folder):
    """Name → bytes of all files of results, without what a second run has others of."""
    found = {}
    for path in folder.iterdir():
        if path.is_dir() or path.name in {"rmc_run.json", "augment_run.json"}:
            continue
        found[path.name] = path.read_bytes()
        if path.name == "points.npz":
            found[path.name] = {name: array.tobytes() for name, array in np.load(path).items()
                                if name != "seconds"}
        if path.name == "points.csv":
            found[path.name] = [{name: value for name, value in row.items() if name != "seconds"}
                                for row in csv.DictReader(path.read_text().splitlines())]
    return found


def assert_same(folder, expected):
    found = contents(folder)
    for name in found:
        assert name in expected and found[name] == expected[name], name
    assert not (folder / "parts").exists()


def same_rows(one, other):
    return [name for name in one if name != "seconds" and not np.array_equal(one[name], other[name])]


# --- The augmented set and its features ---

def test_the_augmented_set_of_the_script(work):
    folder = work / "rmc_digits"
    assert sorted(path.name for path in folder.iterdir()) == [
        "augment_run.json", "features_final.json", "features_final.npy", "identity.json", "images.npy",
        "labels.npy"]
    found = rmc_files.with_features(folder, "final", rmc_files.load(folder))
    assert found.images.shape == (3 * N, 8, 8, 1) and found.num_clean == N
    training = inputs.load("digits", "", "train")
    rows = inputs.subset_indices(len(training.labels), N, 0)
    np.testing.assert_array_equal(found.labels, np.tile(training.labels[rows], 3))
    clean = found.images[-N:]
    np.testing.assert_array_equal(clean, to_network_input_levels(training.images[rows]))
    for block in (found.images[:N], found.images[N:2 * N]):
        change = np.abs(block.astype(int) - clean).max(axis=(1, 2, 3))
        assert np.all((change >= 1) & (change <= 8))  # eps is 8/255
    identity = found.identity
    assert identity["variants"] == [[3, 1.6], [4, 2.4]] and identity["num_train"] == N
    assert identity["dataset"] == "digits" and identity["eps"] == 8 / 255
    record = provenance.read(folder, "augment")
    assert record["flags"]["mode"] == "augment" and record["metrics"]["num_train"] == N


def to_network_input_levels(images):
    """Float images as the nearest grey levels."""
    return np.rint((to_network_input(images) + 0.5) * 255).astype(np.uint8)


def test_a_set_that_is_there_is_left_and_others_are_refused(work, rmc, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (work / "rmc_digits").iterdir()}
    result = succeeded("rmc", *rmc("--mode=augment", *SET), cwd=tmp_path)
    assert result.out.startswith(f"The augmented set is in {work}/rmc_digits")
    assert {path: path.stat().st_mtime_ns for path in (work / "rmc_digits").iterdir()} == before
    for more, words in (("--rmc_augment=3:1.6", "variants"), ("--rmc_augment_eps=0.1", "eps"),
                        ("--rmc_num_train=25", "num_train=24"),
                        (f"--log_root={work}/other", "weights")):
        refused("rmc", *rmc("--mode=augment", *SET, more), cwd=tmp_path, also=[work],
                words=[f"holds an augmented set with {words}", "--overwrite=True"])


def test_overwrite_makes_a_set_anew_and_its_features_no_longer_fit(work, rmc, tmp_path):
    shutil.copytree(work / "rmc_digits", tmp_path / "set")
    own = rmc("--rmc_dir=set")
    succeeded("rmc", *own, "--mode=augment", *SET, "--rmc_augment_eps=0.1", "--overwrite=True",
              cwd=tmp_path)
    assert rmc_files.load(tmp_path / "set").identity["eps"] == 0.1
    refused("rmc", *own, *EVAL, cwd=tmp_path, words=["features of another one"])
    succeeded("rmc", *own, "--mode=features", cwd=tmp_path)
    succeeded("rmc", *own, *EVAL, "--rmc_state=frozen", cwd=tmp_path)


def test_shards_of_the_set_are_joined(work, rmc, tmp_path, monkeypatch):
    monkeypatch.setattr(augmenting, "PART_SIZE", 10)
    own = (*rmc("--rmc_dir=set", *SET), "--num_shards=2")
    for index in (1, 0):
        refused("rmc", *own, "--mode=merge", cwd=tmp_path,
                words=[r"merge needs all 6 parts of the 2 shards in set/parts, and [63] are missing, "
                       "the first round00_image000000.npz of --shard_index=0"])
        result = succeeded("rmc", *own, "--mode=augment", f"--shard_index={index}", cwd=tmp_path)
        assert f"Shard {index} of 2 has made its parts in set/parts; --mode=merge" in result.out
        assert os.listdir(tmp_path / "set") == ["parts"]
    succeeded("rmc", *own, "--mode=merge", cwd=tmp_path)
    for name in ("images.npy", "labels.npy", "identity.json"):
        assert (tmp_path / "set" / name).read_bytes() == (work / "rmc_digits" / name).read_bytes()
    assert not (tmp_path / "set/parts").exists()


# --- Results ---

def test_the_files_of_results(sequential, work):
    names = set(sequential) - {"points", "arrays", "images", "record"}
    assert names >= {*rmc_files.POINTS_WRITTEN, "results.npz", "per_image.csv", "labels_true",
                     "labels_nor", "labels_adv", "confidence_adv", "logits_adv", "nor_img.npy",
                     "adv_img.npy"}
    found, arrays = sequential["points"], sequential["arrays"]
    np.testing.assert_array_equal(found["stream"], [0] * POINTS + [1] * POINTS)
    np.testing.assert_array_equal(found["position"], [*range(POINTS)] * 2)
    test = inputs.load("digits", "", "test")
    rows = inputs.subset_indices(len(test.labels), POINTS, 0)
    np.testing.assert_array_equal(found["image_index"], [*rows, *rows])
    np.testing.assert_array_equal(found["label"], [*test.labels[rows]] * 2)
    assert np.all(found["target"] == -1) and np.all(found["epochs_adapt"] == 2)
    assert np.all(found["epochs_calibrate"] == 2) and np.all(found["drift"] > 0)
    # As in the files that detect.py reads.
    np.testing.assert_array_equal(arrays.normal.predicted, found["predicted"][:POINTS])
    np.testing.assert_array_equal(arrays.adversarial.predicted, found["predicted"][POINTS:])
    np.testing.assert_array_equal(arrays.labels, test.labels[rows])
    change = np.abs(sequential["images"] - to_network_input(test.images[rows])).max(axis=(1, 2, 3))
    assert np.all(change <= 8 / 255 + 1e-6) and np.all(change > 4 / 255)
    rows = sequential["points.csv"]
    assert len(rows) == 2 * POINTS and [*rows[0], "seconds"].sort() == [*rmc_files.POINTS].sort()
    assert [float(row["drift"]) for row in rows] == found["drift"].tolist()
    metrics = sequential["record"]["metrics"]
    assert metrics["stream"] == "both" and metrics["num_per_eps"] == POINTS
    assert metrics["eps"] == [8 / 255] and metrics["variant"] == "pgd"
    defense = metrics["defense"]
    assert (defense["name"], defense["state"], defense["k"], defense["epochs"]) == (
        "rmc", "sequential", 20, 2)
    assert defense["augmented_set"] == rmc_files.load(work / "rmc_digits").sha256
    for counts in metrics["afterwards"].values():
        assert counts["n"] == HELDOUT
        assert all(0 <= counts[name] <= HELDOUT for name in ("clean", "attacked", "attacked_anew"))
    assert set(metrics["afterwards"]) == {"clean", "adv"}


@pytest.mark.parametrize(("given", "name"), [
    ((), "sequential_nearest"), (("--rmc_state=reset", "--rmc_calibrate=clean"), "reset_nearest"),
    (("--rmc_neighbors=random", "--rmc_calibrate=none"), "sequential_random_calibrate_none"),
    (("--rmc_state=frozen", "--rmc_neighbors=random"), "frozen_random")])
def test_names_of_the_folders_of_results(given, name):
    script_runner.parse("rmc", *MLP, *given)
    assert defended_dir("fpa", "digits", "CE", rmc_options.defender_name()) == Path(
        f"rmc_fpa_digits/CE/{name}")


def test_each_stream_begins_with_the_network_as_it_was_trained(evaluate, sequential):
    both = sequential["points"]
    for name, rows in (("clean", slice(POINTS)), ("adv", slice(POINTS, None))):
        folder = evaluate(name, f"--rmc_stream={name}")
        found = rmc_files.load_points(folder)
        assert not same_rows(found, {key: array[rows] for key, array in both.items()})
        # Half a result is none of detect.py's.
        assert not (folder / "results.npz").exists()
        assert provenance.read(folder, "rmc")["metrics"]["stream"] == name


def test_fewer_points_are_the_first_ones(evaluate, sequential):
    found = rmc_files.load_points(evaluate("few", "--rmc_num_eval=2"))
    rows = [0, 1, POINTS, POINTS + 1]
    assert not same_rows(found, {name: array[rows] for name, array in sequential["points"].items()})


def test_a_frozen_defender_answers_as_the_network(evaluate):
    found = rmc_files.load_points(evaluate("frozen", "--rmc_state=frozen", "--rmc_num_eval=20"))
    np.testing.assert_array_equal(found["predicted"], found["static"])
    assert not found["drift"].any() and np.isnan(found["validation_last"]).all()


@pytest.mark.slow
def test_a_frozen_defender_is_as_accurate_as_test_nor_says(evaluate, work):
    result = succeeded("test_nor", *MLP, f"--log_root={work}/m", "--mode=eval", "--eval_once=True",
                       "--eval_batch_count=-1", cwd=work)
    precision = float(re.search(r"precision: ([\d.]+)", result.out)[1])
    found = rmc_files.load_points(evaluate("all", "--rmc_state=frozen", "--rmc_num_eval=360",
                                           "--rmc_stream=clean"))
    assert np.mean(found["predicted"] == found["label"]) == pytest.approx(precision, abs=1e-4)


def test_targets(evaluate, rmc, tmp_path):
    folder = tmp_path / "targets"
    result = succeeded("rmc", *rmc(*EVAL, "--save_pwd=targets", "--rmc_state=reset", "--target=random",
                                   "--eps=0.3"), cwd=tmp_path)
    found = rmc_files.load_points(folder)
    assert np.all((found["target"] >= 0) & (found["target"] != found["label"]))
    share = np.mean(found["predicted"][POINTS:] == found["target"][POINTS:])
    assert f"reached its target: {100 * share:.1f} %" in result.out


@pytest.mark.parametrize("kind", ["gmsa_avg", *(
    pytest.param(kind, marks=pytest.mark.slow) for kind in ("fpa", "gmsa_min"))])
def test_attacks_that_follow_the_defender(evaluate, sequential, kind):
    folder = evaluate(kind, f"--rmc_attack={kind}", "--rmc_rounds=2", "--eps=0.1")
    images, clean = (np.load(folder / f"{name}_img.npy") for name in ("adv", "nor"))
    assert np.abs(images - clean).max() <= 0.1 + 1e-6 and np.abs(images).max() <= 0.5
    assert np.all(np.abs(images - clean).max(axis=(1, 2, 3)) > 0.05)
    found = rmc_files.load_points(folder)
    # The clean stream knows nothing of it.
    clean_rows = {name: array[:POINTS] for name, array in sequential["points"].items()}
    assert not same_rows({name: array[:POINTS] for name, array in found.items()}, clean_rows)
    assert len(found["label"]) == 2 * POINTS and not (folder / "parts").exists()


def test_images_of_finished_results(evaluate, rmc, work, tmp_path):
    source = work / "fgsm_digits/CE"
    folder = tmp_path / "from"
    own = rmc("--mode=eval", *SMALL, f"--rmc_from={source}", "--save_pwd=from", "--rmc_state=reset")
    succeeded("rmc", *own, "--eps=0.2", cwd=tmp_path)
    found = rmc_files.load_points(folder)
    theirs = np.load(source / "results.npz")
    order = inputs.subset_indices(200, POINTS, 0)
    np.testing.assert_array_equal(np.load(folder / "adv_img.npy"),
                                  np.load(source / "adv_img.npy")[200 + order])
    np.testing.assert_array_equal(found["label"][:POINTS], theirs["label"][order])
    metrics = provenance.read(folder, "rmc")["metrics"]
    assert (metrics["variant"], metrics["eps"], metrics["norm"]) == ("fgsm", [0.2], "linf")
    for more, words in (((), ["eps must name one round of .*, of 0.1, 0.2", "Received: eps=None"]),
                        (("--eps=0.3",), ["eps must name one round", "Received: eps=0.3"]),
                        (("--eps=0.1", "--rmc_num_eval=201"),
                         ["rmc_num_eval must be at most the 200 images of", "rmc_num_eval=201"])):
        refused("rmc", *own, *more, "--save_pwd=none", cwd=tmp_path, also=[work], words=words)


# --- Killed and started again ---

class _Killed(BaseException):
    """What a test stops a run with."""


def die_at(patch, owner, name, count):
    """Stops a run at the `count`-th call of a function, which does nothing then."""
    function, left = getattr(owner, name), iter(range(count - 1))

    def counted(*given, **named):
        if next(left, None) is None:
            raise _Killed
        return function(*given, **named)

    patch.setattr(owner, name, counted)


# Of the two streams of three points: parts, and states after them.
KILLS = {"part": (attack_parts.Parts, "save", 3), "state": (attack_parts.Parts, "save_progress", 5),
         "results": (os, "replace", 16), "record": (provenance, "write", 1)}


@pytest.mark.parametrize("kill", KILLS)
def test_a_stopped_evaluation_goes_on_to_the_same_files(evaluate, sequential, monkeypatch, kill):
    with monkeypatch.context() as patch:
        die_at(patch, *KILLS[kill])
        with pytest.raises(_Killed):
            evaluate("killed")
    assert_same(evaluate("killed"), sequential)


@pytest.mark.parametrize(("name", "count"), [("discard", 1), ("unlink", 3)])
def test_stopped_after_its_record_it_goes_on(evaluate, sequential, monkeypatch, tmp_path, name, count):
    """The results are there, and parts as well."""
    with monkeypatch.context() as patch:
        record = provenance.write

        def write(*given, **named):
            # Parts are deleted from here on.
            die_at(patch, *{"discard": (attack_parts.Parts, "discard", 1),
                            "unlink": (attack_parts.Path, "unlink", count)}[name])
            return record(*given, **named)

        patch.setattr(provenance, "write", write)
        with pytest.raises(_Killed):
            evaluate("killed")
    assert (tmp_path / "killed/rmc_run.json").is_file() and (tmp_path / "killed/parts").is_dir()
    assert_same(evaluate("killed"), sequential)


def test_the_same_command_twice(evaluate, sequential):
    evaluate("twice")
    assert_same(evaluate("twice"), sequential)


def test_an_attack_that_is_stopped_goes_on(evaluate, monkeypatch):
    given = ("--rmc_attack=fpa", "--rmc_rounds=2", "--rmc_stream=adv", "--rmc_num_eval=2",
             "--rmc_num_heldout=0")
    expected = contents(evaluate("whole", *given))
    with monkeypatch.context() as patch:
        die_at(patch, attack_parts.Parts, "save_progress", 2)
        with pytest.raises(_Killed):
            evaluate("killed", *given)
    assert_same(evaluate("killed", *given), expected)


# Of six parts: before the first, in their midst, and where they are joined.
@pytest.mark.parametrize(("owner", "name", "counts"), [
    (attack_parts.Parts, "save", (1, 2, 3)), (rmc_files.atomic, "write_npy", (1,)),
    (provenance, "write", (1,)), (attack_parts.Parts, "discard", (1,))],
    ids=["parts", "labels", "record", "discard"])
def test_an_augmented_set_that_is_stopped_goes_on(work, rmc, tmp_path, monkeypatch, owner, name,
                                                  counts):
    monkeypatch.setattr(augmenting, "PART_SIZE", 10)
    own = rmc("--mode=augment", "--rmc_dir=set", *SET)
    for count in counts:
        with monkeypatch.context() as patch:
            die_at(patch, owner, name, count)
            with pytest.raises(_Killed):
                run("rmc", *own, cwd=tmp_path)
    succeeded("rmc", *own, cwd=tmp_path)
    expected = {path.name for path in (work / "rmc_digits").iterdir() if "features" not in path.name}
    assert set(os.listdir(tmp_path / "set")) == expected
    for file in ("images.npy", "labels.npy", "identity.json"):
        assert (tmp_path / "set" / file).read_bytes() == (work / "rmc_digits" / file).read_bytes()


def start(*command, cwd):
    """Runs Python in a process of its own to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=300)


def start_killed(point, count, *arguments, cwd):
    done = start("-m", "tests.helpers.killed_rmc", point, str(count), *arguments, cwd=cwd)
    assert done.returncode == -9, done.stderr


def start_whole(*arguments, cwd):
    done = start(str(ROOT / "rmc.py"), *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_set_whose_making_was_killed_ends_with_the_same_bytes(work, rmc, tmp_path):
    start_whole(*rmc("--mode=augment", "--rmc_dir=whole", *SET), cwd=tmp_path)
    own = rmc("--mode=augment", "--rmc_dir=killed", *SET)
    # Before and behind a part, and between the images and what says that they are whole.
    for point, count in (("part", 1), ("saved", 1), ("rename", 1), ("rename", 2)):
        start_killed(point, count, *own, cwd=tmp_path)
    start_whole(*own, cwd=tmp_path)
    found, expected = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert found == expected
    for name in ("images.npy", "labels.npy"):
        assert found[name] == (work / "rmc_digits" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("given", "kills"), [
    ((), (("part", 1), ("rename", 1), ("state", 2), ("saved", 1))),
    (("--rmc_state=reset",), (("saved", 2), ("rename", 2))),
    (("--rmc_attack=fpa", "--rmc_rounds=2", "--rmc_stream=adv"), (("state", 2), ("saved", 3)))],
    ids=["sequential", "reset", "fpa"])
def test_an_evaluation_that_was_killed_ends_with_the_same_bytes(rmc, tmp_path, given, kills):
    start_whole(*rmc(*EVAL, *given, "--save_pwd=whole"), cwd=tmp_path)
    own = rmc(*EVAL, *given, "--save_pwd=killed")
    for point, count in kills:
        start_killed(point, count, *own, cwd=tmp_path)
    assert list((tmp_path / "killed/parts").glob("*.npz"))
    start_whole(*own, cwd=tmp_path)
    assert_same(tmp_path / "killed", contents(tmp_path / "whole"))


# --- Shards of points ---

def test_shards_of_a_reset_stream_leave_the_files_of_one_run(evaluate, rmc, tmp_path):
    expected = contents(evaluate("whole", "--rmc_state=reset"))
    own = rmc(*EVAL, "--save_pwd=shards", "--rmc_state=reset", "--num_shards=2")
    result = succeeded("rmc", *own, "--shard_index=1", cwd=tmp_path)
    assert "Shard 1 of 2 has answered its points, in shards/parts" in result.out
    assert os.listdir(tmp_path / "shards") == ["parts"]
    succeeded("rmc", *own, "--shard_index=0", cwd=tmp_path)
    assert_same(tmp_path / "shards", expected)


# --- Another network ---

def test_a_resnet_of_rce_and_its_third_stage(tmp_path_factory, tmp_path):
    tiny = script_runner.tiny_run(tmp_path_factory)
    own = (*script_runner.NETWORK, f"--log_root={tiny}/models/tiny", "--rmc_feature_layer=stage3")
    succeeded("rmc", *own, "--mode=augment", "--rmc_num_train=10", "--rmc_augment=2:1.6", cwd=tmp_path)
    succeeded("rmc", *own, "--mode=features", cwd=tmp_path)
    features = np.load(tmp_path / "rmc_digits/features_stage3.npy")
    assert features.shape == (20, 32) and np.isfinite(features).all()
    result = succeeded(
        "rmc", *own, "--mode=eval", "--rmc_k=12", "--rmc_epochs=1", "--rmc_num_eval=2",
        "--rmc_num_heldout=4", "--rmc_stream=adv", "--attack_iterations=2", cwd=tmp_path)
    folder = tmp_path / "rmc_pgd_digits/RCE/sequential_nearest"
    assert "after it the network itself, 4 held-out images" in result.out
    found = rmc_files.load_points(folder)
    assert len(found["label"]) == 2 and np.all(found["drift"] > 0)
    assert provenance.read(folder, "rmc")["metrics"]["defense"]["feature_layer"] == "stage3"


# --- Bad input ---

SENTENCES = [
    ((*EVAL, "--rmc_k=73"), ["rmc_k must be at most the 72 rows of .*rmc_digits. Received: rmc_k=73"]),
    ((*EVAL, "--rmc_k=9"), ["rmc_k must be at least 10, so that a fifth of it can be split. Received: "
                            "rmc_k=9"]),
    ((*EVAL, "--rmc_dir=none"), ["expected an augmented set in none", "Received: none"]),
    ((*EVAL, "--rmc_feature_layer=stage3"), [
        'expected features_stage3.npy in .*rmc_digits, which "python rmc.py --mode=features '
        '--rmc_feature_layer=stage3" writes. Received: no such file']),
    (("--mode=features", "--rmc_feature_layer=stage3"), [
        "rmc_feature_layer=stage3 needs --model=resnet. Received: model='mlp'"]),
    ((*EVAL, "--log_root=a,b"), ["log_root must be one network for rmc.py. Received: log_root='a,b'"]),
    (("--mode=augment", "--rmc_dir=new", "--rmc_augment=10"), [
        "rmc_augment must be steps:travel pairs separated by commas, steps whole and positive, travel "
        r"in \(0, 10\]. Received: rmc_augment='10'"]),
    ((*EVAL, "--num_shards=4"), ["a sequential stream must be one run: --num_shards=1, or "
                                 "--rmc_state=reset. Received: num_shards=4"]),
    ((*EVAL, "--rmc_attack=gmsa_avg", "--rmc_from=pgd_mnist/CE"), [
        "rmc_attack=gmsa_avg crafts its own images and takes no --rmc_from. Received: "
        "rmc_from='pgd_mnist/CE'"]),
    ((*EVAL, "--rmc_num_eval=1000"), [
        "rmc_num_eval must be at most the 360 test images. Received: rmc_num_eval=1000"]),
    ((*EVAL, "--num_cpu_replicas=2"), ["eval must run on one device", "num_cpu_replicas=2"]),
    ((*EVAL, "--num_gpus=2"), ["eval must run on one device", "num_gpus=2"]),
    # What else contradicts itself.
    ((*EVAL, "--rmc_attack=fpa", "--rmc_stream=clean"), ["needs the attacked stream", "'clean'"]),
    ((*EVAL, "--rmc_attack=fpa", "--rmc_state=reset", "--num_shards=2"), [
        "rmc_attack=fpa must be one run", "Received: num_shards=2"]),
    ((*EVAL, "--rmc_attack=fpa", "--target=random"), ["takes no --target. Received: target=random"]),
    ((*EVAL, "--rmc_rounds=3"), ["rmc_attack=transfer takes no --rmc_rounds. Received: rmc_rounds=3"]),
    ((*EVAL, "--attack_method=fgsm"), ["rmc.py crafts pgd alone", "attack_method='fgsm'"]),
    ((*EVAL, "--rmc_from=none"), ["--rmc_from takes no --attack_iterations"]),
    (("--mode=eval", *SMALL, "--rmc_from=none"), ["rmc_from must be a folder of results", "'none'"]),
    ((*EVAL, "--rmc_state=reset", "--num_shards=2", "--shard_index=2"), [
        r"shard_index must lie in \[0, 2\). Received: shard_index=2"]),
    (("--mode=features", "--num_shards=2"), ["features must be one run. Received: num_shards=2"]),
    *(((*EVAL, f"--{name}={value}"), [f"{name} must be one of", f"Received: {name}='{value}'"])
      for name, value in (("rmc_state", "x"), ("rmc_neighbors", "far"), ("rmc_calibrate", "x"),
                          ("rmc_order", "x"), ("rmc_stream", "x"), ("rmc_attack", "gmsa"),
                          ("target", "3"), ("rmc_feature_layer", "x"))),
    *(((*EVAL, f"--{name}={value}"), [f"{name} must be at least", f"Received: {name}={value}"])
      for name, value in (("rmc_epochs", 0), ("rmc_patience", 0), ("rmc_batch_size", 0),
                          ("rmc_num_eval", 0), ("rmc_num_heldout", -1), ("attack_iterations", 0),
                          ("num_shards", 0))),
    *(((*EVAL, f"--{name}={value}"), [rf"{name} must lie in \(0, 1\]", f"Received: {name}={value}"])
      for name, value in (("eps", 0.0), ("eps", "nan"), ("eps", 1.5), ("attack_step_size", -0.1))),
    *(((*EVAL, f"--rmc_lr={value}"), ["rmc_lr must be above 0", f"Received: rmc_lr={value}"])
      for value in (0.0, -1.0, "nan", "inf")),
    *((("--mode=augment", "--rmc_dir=new", f"--{name}={value}"), [f"{name} must ", f"{name}={value}"])
      for name, value in (("rmc_num_train", 0), ("rmc_num_train", -2), ("rmc_augment_eps", 0.0),
                          ("rmc_augment_eps", "nan"), ("rmc_augment_eps", 2.0))),
]


@pytest.mark.parametrize(("arguments", "words"), SENTENCES, ids=[
    " ".join(arguments[-2:]) for arguments, _ in SENTENCES])
def test_refused_in_one_sentence(work, rmc, tmp_path, arguments, words):
    refused("rmc", *rmc(*arguments), cwd=tmp_path, also=[work], words=words)


@pytest.mark.parametrize("mode", [EVAL, ("--mode=features",)])
def test_the_set_of_another_network(work, rmc, tmp_path, mode):
    sentence = refused("rmc", *rmc(*mode, f"--log_root={work}/other"), cwd=tmp_path, also=[work],
                       words=["holds the augmented set of another network, weights_sha256="])
    found = re.findall(r"weights_sha256=(\w{12})…", sentence)
    assert len(set(found)) == 2 and rmc_files.load(work / "rmc_digits").identity[
        "weights_sha256"].startswith(found[0])


def test_a_damaged_set(work, rmc, tmp_path):
    shutil.copytree(work / "rmc_digits", tmp_path / "set")
    path = tmp_path / "set/images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    for mode in (EVAL, ("--mode=features",)):
        refused("rmc", *rmc(*mode, "--rmc_dir=set"), cwd=tmp_path, words=["images.npy"])


@pytest.mark.parametrize(("more", "words"), [
    (("--rmc_k=30",), "another defense, with k=20: .* Received: k=30"),
    (("--rmc_calibrate=clean",), "another defense, with calibrate=all: .* Received: calibrate=clean"),
    (("--rmc_lr=2e-3",), "another defense, with learning_rate=0.001: .* learning_rate=0.002"),
], ids=["k", "calibrate", "rate"])
def test_results_of_another_defender_are_kept(evaluate, rmc, work, tmp_path, more, words):
    few = ("--rmc_num_eval=1", "--rmc_num_heldout=0", "--rmc_stream=clean")
    evaluate("out", *few)
    refused("rmc", *rmc(*EVAL, "--save_pwd=out", *few, *more), cwd=tmp_path, also=[work],
            words=[f"out holds the results of {words}"])
    evaluate("out", *few, *more, "--overwrite=True")


def test_files_of_nobody_are_kept(rmc, work, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/points.npz").write_text("mine")
    refused("rmc", *rmc(*EVAL, "--save_pwd=out"), cwd=tmp_path, also=[work],
            words=["out holds files without rmc_run.json", "Received: points.npz"])


def test_unfinished_parts_of_other_flags_are_kept(evaluate, rmc, work, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, attack_parts.Parts, "save", 2)
        with pytest.raises(_Killed):
            evaluate("out", "--rmc_state=frozen")
    for more in ("--seed=1", "--rmc_k=30", "--eps=0.1", "--rmc_state=reset"):
        refused("rmc", *rmc(*EVAL, "--save_pwd=out", "--rmc_state=frozen", more), cwd=tmp_path,
                also=[work], words=["out/parts holds unfinished parts of another run",
                                    "--overwrite=True"])
    evaluate("out", "--rmc_state=frozen", "--seed=1", "--overwrite=True")


@pytest.mark.parametrize("more", [(), ("--overwrite=True",)])
def test_a_run_that_was_killed_before_its_first_part_is_in_nobodys_way(evaluate, monkeypatch, tmp_path,
                                                                       more):
    with monkeypatch.context() as patch:
        die_at(patch, attack_parts.np, "savez", 1)
        with pytest.raises(_Killed):
            evaluate("out", "--rmc_state=reset")
    assert os.listdir(tmp_path / "out/parts") == ["identity.json"]
    evaluate("out", "--rmc_state=frozen", *more)


def test_an_adaptation_that_diverges(rmc, tmp_path):
    result = run("rmc", *rmc(*EVAL, "--save_pwd=out", "--rmc_lr=1e30"), cwd=tmp_path)
    assert (result.code, result.err) == (
        1, "error: the adaptation of point 1 has diverged: its loss is nan; the stream is finished up "
           "to point 0.\n")
    assert not (tmp_path / "out").exists()


def test_flags_that_do_nothing_are_told(rmc, tmp_path):
    result = succeeded("rmc", *rmc(*EVAL, "--save_pwd=out", "--rmc_state=reset", "--rmc_num_eval=1",
                                   "--rmc_calibrate=clean", "--Optimizer=adam"), cwd=tmp_path)
    assert sorted(result.err.splitlines()) == [
        "warning: --Optimizer does nothing here: adaptations take Adam.",
        "warning: --rmc_calibrate does nothing with --rmc_state=reset, which throws its effect away."]


def test_numbers_of_steps_that_no_loop_counts(work, rmc, tmp_path):
    refused("rmc", *rmc("--mode=augment", "--rmc_dir=new", f"--rmc_augment={10**20}:1.6"), cwd=tmp_path,
            also=[work], words=["rmc_augment must "])


# --- The table ---

def test_the_table(evaluate, work, tmp_path):
    shutil.copytree(work / "rmc_digits", tmp_path / "set")
    table = ("--mode=table", "--dataset=digits", "--rmc_dir=set", "--save_pwd=out")
    refused("rmc", *table, cwd=tmp_path,
            words=["expected results of rmc.py --mode=eval", "none in out"])
    evaluate("out/a", "--rmc_state=reset", "--rmc_num_eval=2")
    result = succeeded("rmc", *table, cwd=tmp_path)
    assert result.out.startswith("Runtime masking and cleansing is broken by attacks that follow it")
    assert "| RMC | reset | nearest | pgd | 20 | 2 | 2 | " in result.out
    assert result.out.count("| not run | `python ") == 9
    assert (tmp_path / "set/table.md").read_text(encoding="utf-8") in result.out
    rows = list(csv.reader((tmp_path / "set/table.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 1 + 3 + 1 + 9

"""test_adv.py with the attacks that search: their words, files and targets; killed runs go on."""

import csv
import dataclasses
import itertools
import json
import os
import re
import shutil

import numpy as np
import pytest

import attacks
import test_adv as adv_script
from data import inputs
from errors import InputError
from evaluation import crafter, first_looks, restarts
from files import attack_parts, result_files
from files.features import save_kernels
from files.names import RESULT_TEXTS
from networks import restoring
from networks.spec import NetworkSpec
from options import attack as attack_options
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, run, succeeded

FEW = {
    "jsma": ("--attack_iterations=20", "--eps=0.3"),
    "smda": ("--attack_iterations=20", "--eps=0.3"),
    "carliniL2": ("--attack_iterations=40", "--attack_search_steps=2", "--attack_learning_rate=0.1"),
    "carliniL2_highcon": ("--attack_iterations=20", "--attack_search_steps=2",
                          "--attack_learning_rate=0.1", "--attack_confidence=0.1"),
    "carliniL2_highden": ("--attack_iterations=20,30", "--attack_search_steps=2",
                          "--attack_learning_rate=0.1"),
    "carliniL2_specific": ("--attack_iterations=10", "--attack_search_steps=2",
                           "--attack_learning_rate=0.1", "--attack_confidence=0",
                           "--attack_initial_const=1,1"),
}
# Images that --eval_batch_count below asks for.
COUNT = {"jsma": 12, "smda": 5, "carliniL2": 20, "carliniL2_highcon": 10, "carliniL2_highden": 12,
         "carliniL2_specific": 5}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of the tiny run; read only."""
    return script_runner.tiny_run(tmp_path_factory)


@pytest.fixture(scope="session")
def kernel_dir(tiny, tmp_path_factory):
    """Kernels and medians of the tiny run, made by the commands that users have for it."""
    folder = tmp_path_factory.mktemp("kernels")
    commands = [("others", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=kernel_para",
                 "--eval_batch_count=-1")]
    commands += [("detect", "--dataset=digits", *more) for more in (
        ("--mode=select_kernel", "--num_kernels=60"),
        ("--mode=select_kernel_for_attack", "--num_kernels=30"), ("--mode=median_for_attack",))]
    for command in commands:
        succeeded(*command, cwd=folder)
    return folder / "kernel_para_digits"


@pytest.fixture
def attack(tiny, kernel_dir):
    """Runs test_adv.py --mode=attack on the tiny run."""
    def run_attack(name, *more, cwd):
        spec = attacks.get(name)
        given = (f"--kernel_dir={kernel_dir}",) if "kernels" in spec.takes else ()
        return run("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=attack",
                   f"--attack_method={name}", *given, *more, cwd=cwd)

    return run_attack


def batches(name):
    return f"--eval_batch_count={COUNT[name] // attacks.get(name).count_batch}"


@pytest.mark.parametrize("name", FEW)
def test_a_search_prints_its_words_and_leaves_its_files(attack, tmp_path, name):
    result = attack(name, *FEW[name], batches(name), cwd=tmp_path)
    assert result.code == 0, result.err
    folder, count, spec = tmp_path / f"{name}_digits/RCE", COUNT[name], attacks.get(name)
    assert set(os.listdir(folder)) == {
        *RESULT_TEXTS, "nor_img.npy", "adv_img.npy", "images.png", "results.npz",
        "per_image.csv", "test_adv_run.json"}
    results = result_files.load_attack_results(folder, images=True)
    saved = np.load(folder / "results.npz")
    assert tuple(saved) == result_files.PER_IMAGE + spec.records
    assert {len(saved[key]) for key in saved} == {count}

    # The arrays belong together.
    reached = results["labels_adv"] == saved["target"]
    assert np.all(reached[saved["success"]])
    np.testing.assert_array_equal(
        saved["kept"], saved["success"] & (results["labels_nor"] == results["labels_true"]))
    assert saved["success"].any() or name == "carliniL2_specific"
    assert not np.any(saved["target"] == results["labels_true"]) or name in ("jsma", "smda")
    change = np.abs(results["adv_img"] - results["nor_img"]).reshape(count, -1)
    np.testing.assert_allclose(saved["l2"], np.sqrt(np.square(change).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(saved["rms"], saved["l2"] / 8, rtol=1e-6)
    np.testing.assert_allclose(results["L2_distance"], saved["rms"], rtol=1e-12)
    np.testing.assert_allclose(saved["linf"], change.max(1), rtol=1e-6)
    np.testing.assert_array_equal(saved["l0"], (change > 0.5 / 255).sum(1))
    np.testing.assert_allclose(saved["confidence_after"], results["confidence_adv"], rtol=1e-12)
    if name in ("jsma", "smda"):
        assert saved["l0"].max() <= saved["iterations"].max() <= 20
    else:
        assert np.all(change[~saved["success"]] == 0) or "kernels" in spec.takes

    # The table says the same.
    with open(folder / "per_image.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["success"] for row in table] == [str(bool(value)) for value in saved["success"]]
    assert [float(row["rms"]) for row in table] == saved["rms"].tolist()

    # The words of the original.
    lines = result.out.splitlines()
    num_batches = count // spec.count_batch
    at_eps = r", the eps = 0.300000 " if spec.uses_eps else ""
    for batch in range(num_batches):
        pattern = rf"The {batch} batch in total {num_batches}{at_eps}\(\d+\.\d{{6}} sec\)"
        assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1
    rms = saved["rms"] if spec.uses_eps else saved["rms"][saved["kept"]]
    average = f"{rms.mean():f}" if len(rms) else "nan"
    assert f"Average L2-distance between nor and adv imgs is {average}" in lines
    counts = {f"Num of attacking success is {saved['success'].sum()}",
              f"Total efficient num of attack 1 is {saved['kept'].sum()}"}
    assert counts <= set(lines) if not spec.uses_eps else not counts & set(lines)
    for stage in (1, 2):
        told = [re.fullmatch(rf"Finish attack {stage}\. The (\d+) batch in total {num_batches}"
                             r"\(\d+\.\d{6} sec\) (Success|Fail)", line) for line in lines]
        told = [match.groups() for match in told if match]
        success = saved["first_success" if stage == 1 else "success"] if spec.stages == 2 else []
        assert told == [(str(i), "Success" if s else "Fail") for i, s in enumerate(success)]
    words = ("in attacking function", "in saving results")
    assert [any(f"Log-density-ratio {word} of nor/adv is " in line for line in lines)
            for word in words] == ["kernels" in spec.takes] * 2


def test_the_numbers_of_the_flags_reach_the_attack(attack, tmp_path, monkeypatch):
    seen = {}

    def spy(self, network, strategy, spec, *, settings, **_):
        seen.update(settings)
        raise InputError("seen. Received: all.")

    monkeypatch.setattr(crafter.Crafter, "__init__", spy)
    attack("carliniL2", "--attack_confidence=1.5", "--attack_iterations=7", "--cw_abort=batch",
           "--attack_learning_rate=0.2", "--attack_search_steps=3", "--attack_initial_const=5",
           "--target=none", cwd=tmp_path)
    assert seen == {"kappa": 1.5, "num_steps": 7, "learning_rate": 0.2, "num_search_steps": 3,
                    "initial_tradeoff": 5.0, "abort_group": 10, "targeted": False}
    seen.clear()
    attack("carliniL2_specific", "--attack_confidence=0,2", "--attack_iterations=9",
           "--density_form=original", "--distance_from=clean", cwd=tmp_path)
    assert (seen["kappa"], seen["num_steps"]) == ((0.0, 2.0), (9, 9))
    assert (seen["density_form"], seen["distance_from_clean"]) == ("original", True)
    assert seen["kernels"].shape == (30, 64, 10) and seen["density_medians"].shape == (10,)
    for name, flag, expected in (("jsma", "--jsma_pair=True", {"pair": True}),
                                 ("pgd", "--num_restarts=3", {"num_restarts": 3}),
                                 ("bim", "--attack_iterations=4", {"num_steps": 4})):
        seen.clear()
        attack(name, flag, cwd=tmp_path)
        assert seen == expected


def test_untargeted_cw_leaves_the_true_class(attack, tmp_path):
    result = attack("carliniL2", *FEW["carliniL2"], "--eval_batch_count=1", "--target=none",
                    cwd=tmp_path)
    assert result.code == 0, result.err
    saved = np.load(tmp_path / "carliniL2_digits/RCE/results.npz")
    assert saved["success"].any()
    assert np.all((saved["predicted_after"] != saved["label"])[saved["success"]])
    np.testing.assert_array_equal(saved["target"], -1)


def test_a_class_as_target_leaves_its_own_images_out(attack, tmp_path):
    result = attack("jsma", *FEW["jsma"], "--eval_batch_count=30", "--target=3", cwd=tmp_path)
    assert result.code == 0, result.err
    saved = np.load(tmp_path / "jsma_digits/RCE/results.npz")
    assert len(saved["label"]) == 30
    assert np.all(saved["target"] == 3) and not np.any(saved["label"] == 3)


def test_tsne_of_a_search(attack, tiny, tmp_path, monkeypatch):
    for name, size in (("jsma", (7, 1)), ("carliniL2", (2, 10))):
        monkeypatch.setitem(attacks.ATTACKS, name, dataclasses.replace(
            attacks.get(name), tsne=(*size, False)))
    monkeypatch.setattr(adv_script.drawing, "tsne", lambda features, seed: features[:, :2])
    for name, count in (("jsma", 7), ("carliniL2", 20)):
        succeeded("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", "--mode=tSNE_logits",
                  f"--attack_method={name}", *FEW[name], cwd=tmp_path)
        is_adversarial = np.loadtxt(tmp_path / f"{name}_digits/tSNE/tSNEisadv_RCE")
        assert (len(is_adversarial), is_adversarial.sum()) == (2 * count, count)


# --- Killed runs ---


def _files(folder):
    """Name → bytes of all result files but the run record, which holds times."""
    return {path.name: path.read_bytes() for path in folder.iterdir()
            if path.is_file() and path.suffix not in (".json", ".png")}


class _Killed(BaseException):
    """What a kill looks like from within."""


@pytest.fixture
def killed(monkeypatch):
    """killed(n): the next run dies while it saves its part n + 1."""
    def arm(parts):
        counter = itertools.count()
        save = attack_parts.Parts.save

        def dying(self, name, arrays):
            if next(counter) == parts:
                raise _Killed
            save(self, name, arrays)

        monkeypatch.setattr(attack_parts.Parts, "save", dying)

    yield arm
    monkeypatch.undo()


SMALL_PARTS = {"bim": ("--eval_batch_count=1", "--attack_iterations=2"),
               "jsma": (*FEW["jsma"][:1], "--eval_batch_count=9"),
               "carliniL2_highden": (*FEW["carliniL2_highden"], "--eval_batch_count=9")}


@pytest.mark.parametrize("name", [
    "bim", "jsma", pytest.param("carliniL2_highden", marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(attack, tmp_path, monkeypatch, killed, name):
    spec = attacks.get(name)

    def small_parts():
        monkeypatch.setitem(attacks.ATTACKS, name, dataclasses.replace(
            spec, part_size=80 if name == "bim" else 4))
        monkeypatch.setattr(attack_options, "SWEEP_EPS", (0.1, 0.3))

    arguments = SMALL_PARTS[name]
    small_parts()
    (tmp_path / "whole").mkdir()
    assert attack(name, *arguments, cwd=tmp_path / "whole").code == 0
    work = tmp_path / "killed"
    work.mkdir()
    killed(2)
    with pytest.raises(_Killed):
        attack(name, *arguments, cwd=work)
    monkeypatch.undo()
    small_parts()
    folder = work / f"{name}_digits/RCE"
    assert sorted(os.listdir(folder)) == ["parts"]
    assert len(os.listdir(folder / "parts")) == 3  # two parts and the identity
    crafted = []
    call = crafter.Crafter.__call__
    monkeypatch.setattr(crafter.Crafter, "__call__", lambda self, x, *args, **more: (
        crafted.append(len(x)), call(self, x, *args, **more))[1])
    result = attack(name, *arguments, cwd=work)
    assert result.code == 0, result.err
    assert "Going on after 2 finished parts." in result.out
    images = 200 if name == "bim" else 9
    rounds = 1 if name == "carliniL2_highden" else 2
    assert sum(crafted) == images * rounds - (160 if name == "bim" else 8)
    assert _files(folder) == _files(tmp_path / "whole" / f"{name}_digits/RCE")
    assert not (folder / "parts").exists()


@pytest.mark.parametrize("drop", ["--drop_broken=False", "--drop_broken=True"])
def test_a_killed_run_of_restarts_goes_on_to_the_same_files(attack, tmp_path, monkeypatch, drop):
    arguments = ("--attack_iterations=2", "--num_restarts=5", "--eval_batch_count=1", "--eps=0.1", drop)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert attack("pgd", *arguments, cwd=tmp_path / "whole").code == 0
    monkeypatch.setattr(restarts, "SECONDS_PER_SAVING", -1.0)
    save, saved = attack_parts.Parts.save_progress, []

    def dying(self, *part):
        save(self, *part)
        saved.append(part)
        if len(saved) == 2:
            raise _Killed

    monkeypatch.setattr(attack_parts.Parts, "save_progress", dying)
    with pytest.raises(_Killed):
        attack("pgd", *arguments, cwd=tmp_path / "killed")
    folder = tmp_path / "killed/pgd_digits/RCE"
    assert sorted(os.listdir(folder / "parts")) == ["identity.json", "round00_image000000.progress"]
    other = attack("pgd", *arguments[:-1], "--seed=5", cwd=tmp_path / "killed")
    assert other.code == 1 and "unfinished parts of another run" in other.err
    result = attack("pgd", *arguments, cwd=tmp_path / "killed")
    assert result.code == 0, result.err
    assert _files(folder) == _files(tmp_path / "whole/pgd_digits/RCE")
    assert ("first_broken" in np.load(folder / "results.npz").files) == ("True" in drop)


def test_parts_of_another_run_are_refused_or_overwritten(attack, tmp_path, killed, monkeypatch):
    arguments = ("--attack_iterations=2", "--eval_batch_count=1", "--eps=0.1")
    assert attack("bim", *arguments, cwd=tmp_path).code == 0
    folder = tmp_path / "bim_digits/RCE"
    complete = _files(folder)
    monkeypatch.setattr(attack_options, "SWEEP_EPS", (0.1, 0.3))
    killed(1)
    with pytest.raises(_Killed):
        attack("bim", *arguments[:2], cwd=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(attack_options, "SWEEP_EPS", (0.1, 0.3))
    # The finished result of before stays until the new one is complete.
    assert _files(folder) == complete
    for flag, name in (("--seed=1", "seed=0"), ("--attack_iterations=3", "num_steps=2"),
                       ("--eps=0.1", r"eps=\[0.1, 0.3\]")):
        result = attack("bim", *arguments[:2], flag, cwd=tmp_path)
        assert result.code == 1
        assert re.fullmatch(rf"error: .*parts holds unfinished parts of another run, with {name}: .*"
                            r"--overwrite=True.*\. Received: .*", result.err.strip()), result.err
        assert _files(folder) == complete
    result = attack("bim", *arguments[:2], "--seed=1", "--overwrite=True", cwd=tmp_path)
    assert result.code == 0, result.err
    assert "Going on" not in result.out
    assert _files(folder) != complete


def test_the_weights_are_part_of_the_identity(attack, tmp_path, tiny, cpu, monkeypatch):
    def dying(*_):
        raise _Killed

    monkeypatch.setattr(result_files, "save_attack_results", dying)
    with pytest.raises(_Killed):
        attack("fgsm", "--eps=0.1", "--eval_batch_count=1", cwd=tmp_path)
    monkeypatch.undo()
    network = restoring.restore(cpu, f"{tiny}/models/tiny", NetworkSpec(
        "digits", (8, 8, 1), 10, 1, "rce"))
    path = tmp_path / "fgsm_digits/RCE/parts/identity.json"
    identity = json.loads(path.read_text())
    assert identity["weights_sha256"] == network.weights_sha256()
    moving_mean = network.model.non_trainable_variables[0]
    moving_mean.assign(moving_mean + 1.0)
    assert identity["weights_sha256"] != network.weights_sha256()
    path.write_text(json.dumps(identity | {"weights_sha256": network.weights_sha256()}))
    result = attack("fgsm", "--eps=0.1", "--eval_batch_count=1", cwd=tmp_path)
    assert result.code == 1 and "with weights_sha256=" in result.err


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_an_unreadable_identity_is_another_one(tmp_path, content):
    parts = attack_parts.Parts(tmp_path, {"a": 1})
    parts.save("round00_image000000", {"x": np.arange(3)})
    again = attack_parts.Parts(tmp_path, {"a": 1}).load("round00_image000000")
    np.testing.assert_array_equal(again["x"], [0, 1, 2])
    assert parts.load("round00_image001000") is None
    (tmp_path / "parts/identity.json").write_text(content)
    with pytest.raises(InputError, match="unfinished parts of another run"):
        attack_parts.Parts(tmp_path, {"a": 1})
    assert attack_parts.Parts(tmp_path, {"a": 1}, overwrite=True).names() == []


def test_a_damaged_part_is_made_anew(tmp_path):
    parts = attack_parts.Parts(tmp_path, {"a": 1})
    parts.save("round00_image000000", {"x": np.arange(3)})
    (tmp_path / "parts/round00_image000000.npz").write_bytes(b"")
    assert parts.load("round00_image000000") is None


def test_parts_with_a_name_more_or_less_are_of_another_run(tmp_path):
    attack_parts.Parts(tmp_path, {"a": None}).save("round00_image000000", {"x": np.arange(3)})
    with pytest.raises(InputError, match="with a=None"):
        attack_parts.Parts(tmp_path, {"b": 1})


def test_a_half_written_part_does_not_count(tmp_path):
    parts = attack_parts.Parts(tmp_path, {"a": 1})
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/.tmp-1-0a1b2c3d.npz").write_bytes(b"half")
    assert parts.names() == [] and parts.load("round00_image000000") is None
    # So nothing stands in the way of another run.
    attack_parts.Parts(tmp_path, {"a": 2})


def test_only_what_the_attack_wrote_is_deleted(tmp_path):
    parts, folder = attack_parts.Parts(tmp_path, {"a": 1}), tmp_path / "parts"
    parts.save("round00_image000000", {"x": np.arange(3)})
    parts.save_progress("round01_image000000", {"x": np.arange(3)})
    (folder / ".tmp-12-0a1b2c3d-round00_image001000.npz").write_bytes(b"of a killed run")
    theirs = {"notes.txt", "weights.npz", "round1.npz", ".tmp-mine", "round00_image000000.csv"}
    for name in theirs:
        (folder / name).write_text("the only copy")
    (folder / "kept").mkdir()
    assert attack_parts.Parts(tmp_path, {"a": 1}).names() == ["round00_image000000"]
    parts.discard()
    assert {path.name for path in folder.iterdir()} == theirs | {"kept"}


@pytest.mark.parametrize("content", ["mine", "[]", '{"name": "me"}'])
def test_a_file_of_another_program_is_not_taken_for_an_identity(tmp_path, content):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/identity.json").write_text(content)
    with pytest.raises(InputError, match="expected no file of another program at"):
        attack_parts.Parts(tmp_path, {"a": 1}, overwrite=True)
    assert (tmp_path / "parts/identity.json").read_text() == content


# --- Bad input ---


@pytest.mark.parametrize(("name", "arguments", "sentence"), [
    ("fgsm", ["--target=3"], "fgsm takes no --target"),
    ("tgsm", ["--target=random"], "tgsm takes no --target"),
    ("jsma", ["--target=none"], r"one of \[random, least_likely, all\] or a class"),
    ("carliniL2", ["--target=cat"], r"one of \[random, least_likely, all, none\] or a class"),
    ("carliniL2_specific", ["--target=none"], r"one of \[random, least_likely, all\]"),
    ("carliniL2", ["--target=10"], "class below 10"),
    ("fgsm", ["--attack_confidence=1"], "fgsm takes no --attack_confidence"),
    ("jsma", ["--attack_search_steps=2"], "jsma takes no --attack_search_steps"),
    ("carliniL2", ["--attack_confidence=-1"], "numbers of at least 0"),
    ("carliniL2", ["--attack_confidence=nan"], "numbers of at least 0"),
    ("carliniL2", ["--attack_iterations=0"], "whole numbers of at least 1"),
    ("carliniL2", ["--attack_iterations=ten"], "whole numbers of at least 1"),
    ("carliniL2", ["--attack_iterations=2.5"], "whole numbers of at least 1"),
    ("carliniL2", ["--attack_learning_rate=0"], "numbers above 0"),
    ("carliniL2", ["--attack_initial_const=0"], "numbers above 0"),
    ("carliniL2", ["--attack_iterations=5,6"], "at most 1 value"),
    ("carliniL2_specific", ["--attack_iterations=5,6,7"], "at most 2 values"),
    ("bim", ["--attack_cost=rce"], "bim takes no --attack_cost"),
    ("fgsm", ["--attack_cost=mse"], "attack_cost must be one of"),
    ("fgsm", ["--num_restarts=2"], "fgsm takes no --num_restarts"),
    ("pgd", ["--num_restarts=0"], "num_restarts must be at least 1"),
    ("smda", ["--jsma_pair=True"], "smda takes no --jsma_pair"),
    ("bim", ["--cw_abort=batch"], "bim takes no --cw_abort"),
    ("carliniL2", ["--cw_abort=both"], r"one of \[image, batch\]"),
    ("carliniL2", ["--density_form=log"], "carliniL2 takes no --density_form"),
    ("carliniL2_specific", ["--density_form=exp"], r"one of \[log, original\]"),
    ("carliniL2_specific", ["--distance_from=here"], r"one of \[attack1, clean\]"),
    ("carliniL2_specific", ["--kernel_dir=nowhere"],
     "--mode=select_kernel_for_attack --kernel_dir=nowhere` writes"),
    ("jsma", ["--kernel_dir=nowhere"], "jsma takes no --kernel_dir"),
    ("carliniL2_highden", ["--cw_abort=batch"], "carliniL2_highden takes no --cw_abort"),
    ("carliniL2", ["--attack_initial_const=inf"], "at most 1e"),
    ("jsma", ["--attack_iterations=3000000000"], "at most 1e"),
    ("jsma", ["--target=²"], "or a class below 10"),
    ("random", ["--seed=-1"], r"seed must lie in \[0, 2\*\*32\)"),
])
def test_bad_flags_get_one_sentence_and_leave_nothing(attack, tmp_path, name, arguments, sentence):
    result = attack(name, *arguments, cwd=tmp_path)
    assert result.code == 1
    assert re.fullmatch(rf"error: .*{sentence}.* Received: .+", result.err.strip()), result.err
    assert not list(tmp_path.iterdir())


def test_kernels_of_another_network_are_refused(attack, kernel_dir, tmp_path):
    shutil.copytree(kernel_dir, tmp_path / "k")
    save_kernels(tmp_path / "k", "rce", np.zeros((3, 32, 10)), "attack_kernels")
    result = attack("carliniL2_highden", f"--kernel_dir={tmp_path}/k", cwd=tmp_path)
    assert result.code == 1
    assert "64 features and 10 classes" in result.err and "(3, 32, 10)" in result.err
    (tmp_path / "k/kernel1000_median_for_attack_RCE.npz").unlink()
    save_kernels(tmp_path / "k", "rce", np.zeros((3, 64, 10)), "attack_kernels")
    result = attack("carliniL2_highden", f"--kernel_dir={tmp_path}/k", cwd=tmp_path)
    assert "--mode=median_for_attack" in result.err


def test_kernels_older_than_the_features_are_warned_of(attack, kernel_dir, tmp_path):
    shutil.copytree(kernel_dir, tmp_path / "k")
    os.utime(tmp_path / "k/training_logits_RCE", (2e9, 2e9))
    result = attack("carliniL2_highden", *FEW["carliniL2_highden"], "--eval_batch_count=1",
                    f"--kernel_dir={tmp_path}/k", cwd=tmp_path)
    assert result.code == 0
    assert result.err.count("is older than what it is made from") == 2


def test_eps_of_an_attack_without_eps_is_warned_of(attack, tmp_path):
    result = attack("carliniL2", "--attack_iterations=1", "--attack_search_steps=1", "--eps=0.1",
                    "--eval_batch_count=1", cwd=tmp_path)
    assert result.code == 0
    assert "--eps does nothing for carliniL2" in result.err


def test_gradients_that_vanish_are_told_or_refused(attack, tmp_path, monkeypatch):
    gradients = np.ones((3, 8, 8, 1))
    gradients[1] = 0
    monkeypatch.setattr(first_looks, "input_gradients", lambda *_, **__: gradients)
    result = attack("fgsm", "--eps=0.1", "--eval_batch_count=1", cwd=tmp_path)
    assert result.code == 0
    assert "exactly zero for 1 of the first 100 images" in result.err
    shutil.rmtree(tmp_path / "fgsm_digits")
    gradients[:] = 0
    result = attack("fgsm", "--eps=0.1", "--eval_batch_count=1", cwd=tmp_path)
    assert result.code == 1 and "must have input gradients" in result.err
    assert not list(tmp_path.iterdir())


def test_the_digits_are_there():
    """The counts of this file leave images over."""
    assert len(inputs.load("digits", "", "test").labels) == 360

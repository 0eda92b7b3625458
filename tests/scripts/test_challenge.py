"""test_adv.py --mode=challenge: what it runs, its verdict, going on after a kill, what is refused."""

import json
import shutil

import numpy as np
import pytest

from attacks import ATTACKS
from evaluation import budgets
from evaluation.budgets import BUDGETS, Budget, Task
from files.names import ALL_SCORES
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, refused, succeeded

FEW = ("--mode=challenge", "--eval_batch_count=2", "--against_rate=0.1", "--budget=standard")
TWO_EPS = "--eps_sweep=0.1,0.3"
FEW_STEPS = {"num_steps": 6}
TOY = Budget((Task("selective_pgd", ALL_SCORES, FEW_STEPS, looked_at_twice=True),
              Task("pgd", settings=FEW_STEPS), Task("square", ALL_SCORES, FEW_STEPS), Task("random")))
FOLDER = "challenge_standard_digits"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """--log_root of the tiny run, and the path of its detector."""
    log_root = f"{script_runner.tiny_run(tmp_path_factory)}/models/tiny"
    folder = tmp_path_factory.mktemp("detector")
    script_runner.fit_detector(log_root, folder)
    return f"--log_root={log_root}", f"--detector={folder}/kernel_para_digits/detector_RCE.npz"


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "standard", TOY)
        yield


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """What a challenge printed, and its folder."""
    cwd = tmp_path_factory.mktemp("challenge")
    return challenged(tiny, TWO_EPS, cwd=cwd).out, cwd / FOLDER


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of its folder, in the test's own."""
    return shutil.copytree(finished[1], tmp_path / FOLDER)


def challenged(tiny, *more, cwd):
    return succeeded("test_adv", *NETWORK, *tiny, *FEW, *more, cwd=cwd)


def evaluation(folder):
    return json.loads((folder / "evaluation_RCE.json").read_text())


def test_the_verdict_is_of_all_attacks_on_the_same_images(finished):
    out, root = finished
    found = evaluation(root)
    assert " ".join(found["verdict"].split()) in " ".join(out.split())
    assert found["verdict"].startswith("L-inf 0.3")
    last = [row for row in found["success"] if row["eps"] == 0.3 and row["attacker"] == "all"]
    assert {row["images"] for row in last} == {20}
    assert set(last[0]["attacks"]) == {"selective_pgd_all", "pgd", "square_all", "random"}
    record = json.loads((root / "selective_pgd_all_digits/RCE/test_adv_run.json").read_text())
    assert record["flags"]["attack_method"] == "selective_pgd"
    assert 0 <= record["metrics"]["whole_box_success"] <= 1
    assert -1 <= record["metrics"]["check_steps_gain"] <= 1
    assert not {"F8", "F14", "F17"} & set(found["not_checked"])


def test_what_is_finished_stays_and_the_rest_is_made(tiny, copied, tmp_path):
    before = {path: path.read_bytes() for path in copied.rglob("results.npz")}
    first = evaluation(copied)
    shutil.rmtree(copied / "pgd_digits")
    kept = copied / "square_all_digits/RCE/results.npz"
    written = kept.stat().st_mtime_ns
    told = challenged(tiny, TWO_EPS, cwd=tmp_path)
    assert kept.stat().st_mtime_ns == written and told.out.count("Its results are in") == 3
    assert {path: path.read_bytes() for path in copied.rglob("results.npz")} == before
    assert evaluation(copied)["success"] == first["success"]


def test_results_of_other_numbers_or_without_a_record_are_not_replaced(tiny, copied, tmp_path):
    common = ("test_adv", *NETWORK, *tiny, *FEW, TWO_EPS)
    refused(*common, "--seed=5", cwd=tmp_path,
            words=["other images, network, detector or numbers", "--overwrite=True"])
    (copied / "selective_pgd_all_digits/RCE/test_adv_run.json").unlink()
    refused(*common, cwd=tmp_path, words=["without test_adv_run.json", "--overwrite=True"])


def test_in_l2_attacks_of_another_norm_are_left_out_and_said_to_be(tiny, tmp_path):
    told = challenged(tiny, "--attack_norm=l2", "--eps=1", cwd=tmp_path)
    assert "square is not run: it measures in linf." in told.out
    found = evaluation(tmp_path / "challenge_standard_l2_digits")
    assert found["verdict"].startswith("L2 1") and "F8" in found["not_checked"]


@pytest.mark.parametrize("name", budgets.BUDGETS)
def test_every_attack_of_a_budget_takes_its_settings(name):
    for task in budgets.BUDGETS[name].tasks:
        row = ATTACKS[task.method]
        known = {setting.keyword for setting in row.settings} | {
            keyword for setting in row.settings for keywords in setting.choices.values()
            for keyword in keywords}
        assert set(task.settings) <= known, task
        assert bool(task.against) == bool({"scores", "scores_if_given"} & set(row.takes)), task


@pytest.mark.parametrize(("arguments", "words"), [
    (("--attack_method=pgd",), "challenge takes no --attack_method"),
    (("--num_restarts=3",), "challenge takes no --num_restarts"),
    (("--budget=huge",), "budget must be one of"), (("--attack_norm=l1",), "attack_norm must be"),
    (("--against_rate=0.2",), "against_rate must be one of"), (("--eps_sweep=2",), "eps_sweep must")])
def test_what_a_challenge_does_not_take_is_refused(tiny, tmp_path, arguments, words):
    refused("test_adv", *NETWORK, *tiny, "--mode=challenge", *arguments, cwd=tmp_path, words=[words])


@pytest.mark.parametrize(("arguments", "words"), [
    (("--mode=challenge",), "challenge needs the --detector"),
    (("--mode=attack", "--budget=full"), "--mode=attack takes no --budget"),
    (("--mode=attack", "--attack_method=jsma", "--check_steps=True"), "--check_steps needs an attack")])
def test_what_does_nothing_elsewhere_is_refused(tiny, tmp_path, arguments, words):
    refused("test_adv", *NETWORK, tiny[0], *arguments, cwd=tmp_path, words=[words])


def test_twice_the_steps_of_an_oblivious_attack(tiny, tmp_path):
    succeeded("test_adv", *NETWORK, tiny[0], "--mode=attack", "--attack_method=bim", "--eps=0.1",
              "--eval_batch_count=1", "--check_steps=True", cwd=tmp_path)
    record = json.loads((tmp_path / "bim_digits/RCE/test_adv_run.json").read_text())["metrics"]
    saved = np.load(tmp_path / "bim_digits/RCE/results.npz")
    before = np.mean(saved["predicted_after"] != saved["label"])
    assert -before <= record["check_steps_gain"] <= 1 - before

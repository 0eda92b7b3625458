"""detect.py with the results of a network that rmc.py defends: rows of their own, or refused."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from data.pixels import to_network_input
from defenses import PUBLISHED_SCORES
from defenses import detector as detectors
from errors import InputError
from evaluation import finding, sweep, tries
from files import attack_results, provenance
from files.attack_results import Attacked, Outputs
from files.features import save_training_features, save_training_scores
from files.names import kernel_dir
from tests.helpers.script_runner import refused, run, succeeded

N, CLASSES, WIDTH = 40, 4, 5
NETWORK = {"dataset": "digits", "image_shape": [4, 4, 1], "num_classes": CLASSES, "objective": "ce",
           "model": "resnet", "blocks_per_stage": 1, "weights_sha256": "b" * 64}
DEFENSE = {"name": "rmc", "state": "sequential", "neighbors": "nearest", "calibrate": "all", "k": 10,
           "epochs": 3, "patience": 5, "learning_rate": 1e-3, "batch_size": 32,
           "feature_layer": "final", "augmented_set": "c" * 64}
DEFENDED, TRAINED, LABEL = "rmc_pgd_digits/CE/sequential_nearest", "pgd_digits/CE", (
    "CE under rmc sequential nearest")


def _outputs(rng, predicted):
    return Outputs(rng.uniform(0.3, 1, N), rng.uniform(0.1, 1, N), rng.normal(size=(N, WIDTH)),
                   predicted)


def _save(folder, script, flags, metrics, seed):
    """Results as that script leaves them, of the same images."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % CLASSES
    levels = np.random.default_rng(0).integers(20, 200, (N, 4, 4, 1)).astype(np.uint8)
    x, x_adv = to_network_input(levels), to_network_input(levels + 10)
    # Half of them are won.
    clean, attacked = _outputs(rng, labels), _outputs(rng, (labels + np.arange(N) % 8 // 4) % CLASSES)
    subject = SimpleNamespace(x=x, labels=labels, image_index=np.arange(N))
    crafted = {"adversarial": x_adv, "iterations": np.zeros(N, int)}
    Attacked(labels, x, x_adv, clean, attacked,
             sweep.per_image(0.1, subject, clean, attacked, crafted)).save(folder)
    provenance.write(folder, script, flags={"RCE_train": False, "seed": 0, **flags},
                     metrics={"eps": [0.1], "num_per_eps": N, "network": NETWORK, **metrics})


def _save_defended(folder, defense=DEFENSE, seed=2, **changed):
    _save(folder, "rmc", {"attack_method": "pgd", "rmc_attack": "transfer"},
          {"variant": "pgd", "defense": defense, "stream": "both", "afterwards": {}, **changed}, seed)


@pytest.fixture
def work(tmp_path):
    """A network attacked as it was trained and under RMC, and its training features."""
    rng = np.random.default_rng(1)
    _save(tmp_path / TRAINED, "test_adv", {"attack_method": "pgd"}, {}, 3)
    _save_defended(tmp_path / DEFENDED)
    folder = tmp_path / kernel_dir("digits")
    save_training_features(folder, "CE", rng.normal(size=(80, WIDTH)), np.arange(80) % CLASSES)
    save_training_scores(folder, "CE", {"non_me": rng.uniform(0.1, 1, 80)})
    provenance.write(folder, "kernel_para_CE", flags={}, metrics={"network": NETWORK})
    return tmp_path


DIGITS = ("--dataset=digits", "--num_kernels=5")
FROM_RMC = (*DIGITS, f"--save_pwd={DEFENDED}")
FIT = ("--mode=fit", "--attack_method=pgd", "--false_refusal_rate=0.05")
OWN = ("--defended=True", "--detector=own.npz", "--output_dir=own")


def _fit_both(work):
    succeeded("detect", *DIGITS, *FIT, cwd=work)
    return succeeded("detect", *FROM_RMC, *FIT, *OWN[:2], cwd=work)


# --- auc ---

def test_aucs_of_a_defended_network_are_a_row_without_the_kernels_of_the_trained_one(work):
    shutil.rmtree(work / "kernel_para_digits")  # which it does not read
    result = succeeded("detect", *FROM_RMC, cwd=work)
    warning, = result.err.splitlines()
    assert warning == (
        "warning: K-density is left out: kernels of the network as it was trained do not belong to the "
        f"features of {LABEL}; --defended=True takes them all the same.")
    # Of the attack that rmc.py ran, whatever the usual one is.
    assert "normal against adversarial images: pgd on digits" in result.out
    lines = result.out.splitlines()[2:5]
    assert lines[0].strip() == f"| {LABEL}"
    assert lines[1].split() == ["eps", "|", "n", "confidence", "non-ME"]
    assert lines[2].split()[:3] == ["0.10", "|", "20"]
    written = json.loads((work / DEFENDED / "auc_pgd_digits.json").read_text())
    assert list(written["objectives"]) == [LABEL] and written["scores"] == ["confidence", "non_me"]
    assert (work / DEFENDED / "roc_pgd_digits.png").is_file()


def test_aucs_of_a_defended_network_that_are_asked_for_are_of_all_scores(work):
    result = succeeded("detect", *FROM_RMC, "--defended=True", cwd=work)
    assert result.err == "" and f"| {LABEL}" in result.out
    row, = json.loads((work / DEFENDED / "auc_pgd_digits.json").read_text())["objectives"][LABEL]
    assert list(row["auc"]) == list(PUBLISHED_SCORES)


def test_aucs_of_a_trained_network_stay_as_they_were(work):
    result = succeeded("detect", *DIGITS, "--attack_method=pgd", cwd=work)
    assert result.err == "" and "under" not in result.out
    written = json.loads((work / "pgd_digits/auc_pgd_digits.json").read_text())
    assert list(written["objectives"]) == ["CE"] and len(written["scores"]) == len(PUBLISHED_SCORES)
    refused("detect", *DIGITS, "--attack_method=pgd", "--defended=True", cwd=work, words=[
        "pgd_digits/CE holds the results of a network as it was trained.*Received: defended=True"])


def test_a_defended_network_does_not_stand_beside_a_trained_one(work):
    _save_defended(work / "pgd_digits/RCE", network=NETWORK | {"objective": "rce"})
    refused("detect", *DIGITS, "--attack_method=pgd", cwd=work, words=[
        "RCE under rmc sequential nearest in pgd_digits/RCE and CE in pgd_digits/CE.*Received: both"])
    refused("detect", *DIGITS, *FIT, cwd=work, words=["pgd_digits/RCE holds.*--defended=True"])


# --- fit, evaluate, figures ---

@pytest.mark.parametrize("mode", ["fit", "evaluate", "figures"])
def test_results_of_a_defended_network_are_refused_unless_asked_for(work, mode):
    """Though no detector is there: whose results these are comes first."""
    mode = f"--mode={mode}"
    refused("detect", *FROM_RMC, mode, cwd=work, words=[
        f"^error: {DEFENDED} holds the results of a network under rmc sequential nearest.*"
        "give --defended=True.*Received: defended=False"])
    refused("detect", *DIGITS, mode, f"--save_pwd={TRAINED}", "--defended=True", cwd=work, words=[
        f"{TRAINED} holds the results of a network as it was trained.*Received: defended=True"])


@pytest.mark.parametrize(("mode", "name"), [
    ("fit", "detector"), ("evaluate", "output_dir"), ("figures", "output_dir")])
def test_what_is_of_the_trained_network_is_not_replaced(work, mode, name):
    refused("detect", *FROM_RMC, f"--mode={mode}", "--defended=True", cwd=work, words=[
        f"{name} must be given with --defended=True.*Received: {name}=''"])


def test_a_detector_of_a_defended_network_is_fitted_and_judged_under_its_label(work):
    result = _fit_both(work)
    assert f"Fitted on 20 normal images of {DEFENDED}, {LABEL}: own.npz" in result.out
    assert detectors.load(work / "own.npz").network == NETWORK | {"defense": DEFENSE}
    assert "defense" not in detectors.load(work / "kernel_para_digits/detector_CE.npz").network
    result = succeeded("detect", *FROM_RMC, "--mode=evaluate", *OWN, cwd=work)
    assert result.out.count(f"\n{LABEL} on digits, ") == 2
    assert "an attacker who does not know the detector gets" in result.out
    found = json.loads((work / "own/evaluation_CE.json").read_text())
    assert found["defense"] == DEFENSE
    assert {row["attack"] for row in found["rows"]} == {"pgd", "worst_case"}
    record = provenance.read(work / "own", "evaluation_CE")
    assert record["metrics"] == {"defense": DEFENSE}
    assert not (work / "detection_digits").exists()


def test_figures_of_a_defended_network_bear_its_label(work, monkeypatch):
    from figures import drawing

    titles, panels = [], drawing.panels
    monkeypatch.setattr(drawing, "panels", lambda path, row, title: titles.append(
        (title, row[0].title)) or panels(path, row, title))
    _fit_both(work)
    succeeded("detect", *FROM_RMC, "--mode=figures", *OWN, cwd=work)
    assert titles and all("ResNet-8 under rmc sequential nearest" in title for title, _ in titles)
    assert any(panel.startswith(f"{LABEL}, ") for _, panel in titles)
    with open(work / "own/distortions.csv", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) > 1


def test_a_detector_judges_the_network_it_was_fitted_on_alone(work):
    _fit_both(work)
    usual = "kernel_para_digits/detector_CE.npz"
    refused("detect", *FROM_RMC, "--mode=evaluate", "--defended=True", "--output_dir=own", cwd=work,
            words=[f"results in {DEFENDED} of the network of the detector, as it was trained. "
                   r"Received: results of it under rmc sequential nearest\.$"])
    refused("detect", *DIGITS, "--mode=evaluate", "--attack_method=pgd", "--detector=own.npz",
            cwd=work, words=[f"results in {TRAINED} of the network of the detector, under rmc .* "
                             "Received: results of it as it was trained"])
    _save_defended(work / "other", DEFENSE | {"k": 20})
    refused("detect", *DIGITS, "--mode=evaluate", "--save_pwd=other", *OWN, cwd=work,
            words=["under rmc sequential nearest with k=10.*under rmc sequential nearest with k=20"])
    np.save(work / "x.npy", np.zeros((1, 4, 4, 1), np.uint8))
    refused("detect", *DIGITS, "--mode=apply", "--images=x.npy", "--detector=own.npz", cwd=work,
            words=["a network as it was trained at own.npz.*Received: one of a network under rmc"])
    # As test_adv.py --detector asks.
    with pytest.raises(InputError, match=r"a detector in d of the network of --log_root, as it was"):
        finding.check_same_network("a detector", "d", detectors.load(work / "own.npz").network,
                                   NETWORK, "--log_root")
    finding.check_trained(usual, detectors.load(work / usual))


# --- Damaged and half folders ---

@pytest.mark.parametrize("mode", ["auc", "fit", "evaluate", "figures"])
@pytest.mark.parametrize(("stream", "what"), [("clean", "clean"), ("adv", "attacked")])
def test_half_a_folder_is_refused_by_name(work, mode, stream, what):
    shutil.rmtree(work / DEFENDED)
    provenance.write(work / DEFENDED, "rmc", flags={"RCE_train": False}, metrics={
        "eps": [0.1], "num_per_eps": N, "network": NETWORK, "variant": "pgd", "defense": DEFENSE,
        "stream": stream})
    for defended in (True, False):
        sentence = refused("detect", *FROM_RMC, f"--mode={mode}", f"--defended={defended}", cwd=work,
                           words=[])
        assert sentence == (f"error: {DEFENDED} holds {what} images only (--rmc_stream={stream}): "
                            f"detect.py needs both. Received: rmc_stream='{stream}'.")


@pytest.mark.parametrize("mode", ["auc", "evaluate"])
def test_a_folder_of_two_is_refused(work, mode):
    shutil.copy(work / TRAINED / "test_adv_run.json", work / DEFENDED)
    refused("detect", *FROM_RMC, f"--mode={mode}", cwd=work, words=[
        f"^error: {DEFENDED} holds run records of two: move test_adv_run.json or rmc_run.json"])


def test_a_damaged_record_is_one_sentence(work):
    path = work / DEFENDED / "rmc_run.json"
    record = json.loads(path.read_text())
    for name, value in (("defense", None), ("defense", "rmc"), ("defense", {"name": "rmc"}),
                        ("variant", "../pgd"), ("stream", "none"), ("eps", []), ("network", None),
                        ("network", "resnet"), ("num_per_eps", 0)):
        path.write_text(json.dumps(record | {"metrics": record["metrics"] | {name: value}}))
        refused("detect", *FROM_RMC, cwd=work, words=[
            f"expected {name} of an attack in {DEFENDED}/rmc_run.json, as this version of rmc.py"])
    path.write_text("{")
    refused("detect", *FROM_RMC, cwd=work, words=["expected JSON in"])


# --- What the attacker knew ---

@pytest.mark.parametrize(("variant", "row", "knowledge", "norm"), [
    ("pgd", "pgd", "transfer", "linf"), ("carliniL2", "carliniL2", "transfer", "l2"),
    ("gmsa_avg", None, "oblivious", "linf"), ("selective_pgd_all", None, "transfer", "")])
def test_the_attack_of_a_defended_network_is_told_by_its_variant(work, variant, row, knowledge, norm):
    """Not by --attack_method, which is pgd of --rmc_from, too."""
    _save_defended(work / "other", variant=variant)
    results = attack_results.load("CE", work / "other")
    attack, told = tries.told_of(results)
    assert (attack and attack.file) == row and told["knowledge"] == knowledge
    assert told.get("norm", attack.norm if attack else "") == norm


def test_without_results_a_defended_folder_is_as_any_other(work):
    result = run("detect", *DIGITS, "--save_pwd=nowhere", "--defended=True", "--objective_tag=CE",
                 cwd=work)
    assert result.code == 1 and "entropy_nor in nowhere" in result.err

"""evaluation/finding.py: which results and detectors there are, and whose."""

import dataclasses

import numpy as np
import pytest

from defenses import SCORES
from defenses import detector as detectors
from defenses.kernels import Kernels
from defenses.scores import Reference
from errors import InputError
from evaluation import finding
from evaluation.finding import Wanted
from files import provenance
from files.names import results_dir
from tests.helpers.results import results_of

NETWORK = {"weights_sha256": "b" * 64, "dataset": "digits", "image_shape": [1], "num_classes": 3,
           "objective": "rce"}
DETECTOR = detectors.Detector(
    NETWORK, Reference(Kernels(np.ones((2, 3, 3)), 1.0), 0.1), tuple(SCORES), np.array([0.01]),
    np.zeros((len(SCORES), 1)), np.arange(3), np.arange(3))


def _record(folder, network=NETWORK):
    provenance.write(folder, "test_adv", flags={"RCE_train": network["objective"] == "rce"},
                     metrics={"network": network})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with FGSM on two plain networks and one of adversarial training."""
    monkeypatch.chdir(tmp_path)
    for tag in ("CE", "RCE", "RCE_at50"):
        results_dir("fgsm", "digits", tag).mkdir(parents=True)
    return tmp_path


def test_without_a_tag_the_plain_networks_are_found_and_with_one_its_own(here):
    found = finding.find("fgsm", "digits")
    assert {tag: str(folder) for tag, folder in found.items()} == {
        "CE": "fgsm_digits/CE", "RCE": "fgsm_digits/RCE"}
    assert list(finding.find("fgsm", "digits", "RCE_at50")) == ["RCE_at50"]
    with pytest.raises(InputError, match="result files in fgsm_digits/CE_at50, which"):
        finding.find("fgsm", "digits", "CE_at50")


def test_a_run_record_tells_the_tag_of_results_in_a_folder_of_their_own(tmp_path):
    with pytest.raises(InputError, match="objective_tag must be RCE or CE"):
        finding.find("fgsm", "mnist", save_pwd=tmp_path)
    assert finding.find("fgsm", "mnist", "RCE", tmp_path) == {"RCE": tmp_path}
    for changed, tag in (({"objective": "ce"}, "CE"), ({}, "RCE"),
                         ({"training_objective": "plain"}, "RCE"),
                         ({"training_objective": "at50"}, "RCE_at50")):
        _record(tmp_path, NETWORK | changed)
        assert finding.find("fgsm", "mnist", save_pwd=tmp_path) == {tag: tmp_path}


def test_unfinished_attacks_are_told_and_left_out(here):
    (results_dir("bim", "digits", "RCE") / "parts").mkdir(parents=True)
    told = []
    wanted = Wanted("digits", "fgsm", ("random", "fgsm", "bim"), warn=told.append)
    assert [attack for attack, _ in finding.finished(wanted, "RCE")] == ["fgsm"]
    assert len(told) == 1 and told[0].startswith("bim_digits/RCE is left out: its attack is unfinished")
    assert finding.finished(wanted, "RCE", here / "elsewhere") == []
    own = dataclasses.replace(wanted, tag="RCE", save_pwd="x")
    assert [(name, str(path)) for name, path in finding.finished(own, "RCE")] == [("fgsm", "x")]
    assert finding.finished(own, "CE") == []


def test_detectors_come_by_the_tag_of_their_network(tmp_path):
    trained = dataclasses.replace(DETECTOR, network=NETWORK | {"training_objective": "at50"})
    detectors.save(tmp_path / "detector_RCE_at50.npz", trained)
    with pytest.raises(InputError, match=r"expected detector_RCE\.npz or detector_CE\.npz"):
        finding.fitted_detectors("", tmp_path)
    detectors.save(tmp_path / "detector_RCE.npz", DETECTOR)
    assert list(finding.fitted_detectors("", tmp_path)) == ["RCE"]
    assert list(finding.fitted_detectors("RCE_at50", tmp_path)) == ["RCE_at50"]
    given = str(tmp_path / "detector_RCE_at50.npz")
    assert list(finding.fitted_detectors("", tmp_path, given)) == ["RCE_at50"]
    with pytest.raises(InputError, match="objective_tag must be that of the detector"):
        finding.fitted_detectors("RCE", tmp_path, given)


def test_results_of_another_network_are_refused_where_both_are_known(tmp_path):
    arrays = {name: np.zeros(2) for name in ("confidence_nor", "confidence_adv", "entropy_nor",
                                             "entropy_adv", "logits_nor", "logits_adv", "labels_nor",
                                             "labels_adv", "labels_true")}
    unknown = results_of(arrays, [None], 2)
    known = dataclasses.replace(unknown, network={"weights_sha256": "b" * 64})
    for results in (unknown, known):
        finding.check_network(results, {"weights_sha256": "b" * 64}, "X")
        finding.check_network(results, None, "X")
    finding.check_network(unknown, {"weights_sha256": "a" * 64}, "X")
    with pytest.raises(InputError, match=r"network of X.*results of bbbbbbbbbbbb…"):
        finding.check_network(known, {"weights_sha256": "a" * 64}, "X")
    with pytest.raises(InputError, match="expected a run record that names the network at here"):
        finding.require_network(None, "here")


# --- Defended networks ---

DEFENSE = {"name": "rmc", "state": "sequential", "neighbors": "nearest", "k": 10}


def test_a_record_of_rmc_tells_the_tag_too(tmp_path):
    provenance.write(tmp_path, "rmc", flags={"RCE_train": True}, metrics={
        "network": NETWORK, "variant": "pgd", "defense": DEFENSE, "stream": "both"})
    assert finding.find("fgsm", "mnist", save_pwd=tmp_path) == {"RCE": tmp_path}


@pytest.mark.parametrize("network", ["resnet", ["b"], None])
def test_a_damaged_network_is_left_to_the_reader_of_results(tmp_path, network):
    provenance.write(tmp_path, "test_adv", flags={"RCE_train": True}, metrics={"network": network})
    assert finding.find("fgsm", "mnist", save_pwd=tmp_path) == {"RCE": tmp_path}


def test_defended_networks_are_taken_where_they_are_asked_for():
    for defense, defended in ((None, False), (None, None), (DEFENSE, True), (DEFENSE, None)):
        finding.check_defended("x", defense, defended)
    with pytest.raises(InputError, match=r"^x holds .* give --defended=True .*defended=False\.$"):
        finding.check_defended("x", DEFENSE, False)
    with pytest.raises(InputError, match=r"^x holds .* as it was trained.*defended=True\.$"):
        finding.check_defended("x", None, True)


def test_a_defended_network_is_another_one():
    defended = NETWORK | {"defense": DEFENSE}
    finding.check_same_network("results", "x", defended, defended, "X")
    finding.check_same_network("results", "x", defended, None, "X")
    others = DEFENSE | {"k": 20}
    for found, wanted, words in (
            (NETWORK, defended, "under rmc .* Received: results of it as it was trained"),
            (defended, NETWORK, "of X, as it was trained. Received: results of it under rmc"),
            (NETWORK | {"defense": others}, defended, "with k=10. Received: .* with k=20")):
        with pytest.raises(InputError, match=words):
            finding.check_same_network("results", "x", found, wanted, "X")
    finding.check_trained("x", DETECTOR)
    with pytest.raises(InputError, match=r"at x.*Received: one of a network under rmc sequential"):
        finding.check_trained("x", dataclasses.replace(DETECTOR, network=defended))

"""What attackers get out of the shipped networks: the claim, its table, and where it is read from."""

import json

from files import provenance
from results import attackers, report


def row(value, *, attacker="adaptive", score="all", rate=0.05, eps=0.2, seed=0, dataset="mnist",
        attacks=("selective_pgd_all",)):
    return {"dataset": dataset, "objective": "rce", "seed": seed, "attacker": attacker, "norm": "linf",
            "eps": eps, "score": score, "rate": rate, "attacks": list(attacks), "value": value,
            "n": 100}


ROWS = [row(1.0), row(0.9, seed=1), row(0.1, attacker="oblivious"),
        row(0.3, attacker="oblivious", seed=1), row(0.8, rate=0.01), row(0.5, score="k_density"),
        row(1.0, dataset="cifar10", eps=8 / 255)]


def test_the_claim_has_its_numbers():
    assert attackers.sentence(ROWS).endswith(
        "knowing it: MNIST RCE at 0.2: 95 (90 to 100), without 20 (10 to 30); CIFAR-10 RCE at 8/255: "
        "100.")
    assert attackers.sentence([]) == "not run."
    part = report.readme_part({}, ROWS)
    assert part.startswith("**Do not rely on these detectors against an attacker who knows them.**")
    assert "95 (90 to" in part


def test_the_table_has_those_who_know_beside_those_who_do_not():
    head, *rows = attackers.table_rows(ROWS)
    cells = [dict(zip(head, line, strict=True)) for line in rows]
    shown = [(c["data"], c["knows the detector"], c["all"], c["seeds"]) for c in cells]
    assert shown == [
        ("MNIST", "no", "20 (10 to 30)", "2"), ("MNIST", "yes", "95 (90 to 100)", "2"),
        ("CIFAR-10 (through JPEG)", "no", "not run", "0"),
        ("CIFAR-10 (through JPEG)", "yes", "100", "1")]
    assert cells[1]["k_density"] == "50" and cells[1]["all, T of 1 %"] == "80"
    assert attackers.table_rows([]) == []


def test_seeds_with_fewer_attacks_are_a_line_of_their_own():
    rows = [row(0.6), row(0.8, seed=1, attacks=("selective_pgd_all", "apgd_detector_all"))]
    assert "MNIST RCE at 0.2: 80." in attackers.sentence(rows)
    assert attackers.means(rows) == {"MNIST RCE, L-inf eps 0.2": {"adaptive": 0.8}}
    head, *lines = attackers.table_rows(rows)
    cells = [dict(zip(head, line, strict=True)) for line in lines]
    assert [(c["knows the detector"], c["attacks"], c["all"], c["seeds"]) for c in cells] == [
        ("no", "0", "not run", "0"), ("yes", "2", "80", "1"), ("yes", "1", "60", "1")]


def test_it_is_read_from_what_a_challenge_has_left(tmp_path):
    folder = tmp_path / "mnist/seed3/challenge_standard_mnist"
    folder.mkdir(parents=True)
    success = [{"attacker": "adaptive", "norm": "linf", "eps": 0.1, "score": "all", "rate": 0.05,
                "attacks": ["a"], "success": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 8},
                "detected": {"value": 0.25, "low": 0.1, "high": 0.5, "n": 8},
                "parts": {"natural": 0.0, "evaded": 0.5, "answered_right": 0.5}}]
    (folder / "evaluation_RCE.json").write_text(
        json.dumps({"format": 2, "success": success, "rows": [], "warnings": [
            {"flag": "F12", "sentence": "8 are few.", "numbers": {}}], "not_checked": ["F15"]}))
    provenance.write(folder / "selective_pgd_all_mnist/RCE", "test_adv", flags={"seed": 3}, metrics={})
    kept = {"rows": [row(0.7, seed=3), row(0.4)], "runs": {
        "mnist_rce_pgd_seed3": {}, "mnist_rce_pgd_seed0": {}}, "warnings": []}
    joined = attackers.collect(tmp_path, kept)
    assert [(one["seed"], one["value"]) for one in joined["rows"]] == [(0, 0.4), (3, 0.5)]
    assert list(joined["runs"]) == ["mnist_rce_pgd_seed0", "mnist_rce_selective_pgd_all_seed3"]
    found = attackers.collect(tmp_path)
    assert found["rows"] == [{
        "dataset": "mnist", "objective": "rce", "seed": 3, "attacker": "adaptive", "norm": "linf",
        "eps": 0.1, "score": "all", "rate": 0.05, "attacks": ["a"], "value": 0.5, "low": 0.4,
        "high": 0.6, "n": 8, "detected": 0.25,
        "parts": {"natural": 0.0, "evaded": 0.5, "answered_right": 0.5}}]
    assert [one["flags"] for one in found["not_checked"]] == [["F15"]]
    assert found["runs"]["mnist_rce_selective_pgd_all_seed3"]["seed"] == 3
    assert found["warnings"] == [{"dataset": "mnist", "objective": "rce", "seed": 3, "flag": "F12",
                                  "sentence": "8 are few."}]

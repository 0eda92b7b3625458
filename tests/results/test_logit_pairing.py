"""The table of logit pairing: what is collected, what stands beside the published figures."""

import subprocess
import sys

import pytest

from errors import InputError
from files import provenance
from results import logit_pairing
from tests.helpers.script_runner import ROOT


def row(network, what, right, n=1000, **more):
    return {"network": network, "what": what, "num_right": right, "n": n, **more}


def test_rows_are_of_the_run_records(tmp_path):
    provenance.write(tmp_path / "networks/clp/train", "train", flags={"train_attack_iterations": None},
                     metrics={"step": 2344, "test_precision": 0.9845})
    provenance.write(tmp_path / "attacked/clp/mid", "test_adv", flags={}, metrics={
        "num_per_eps": 1000, "rounds": [{"precision_adv": 0.029}], "num_restarts": 1})
    found = logit_pairing.collect(tmp_path)
    assert found["rows"] == [row("clp", "mid", 29, num_restarts=1),
                             row("clp", "clean", 9845, 10_000, steps=2344, iterations=0)]
    assert set(found["runs"]) == {"train_clp", "mid_clp"}
    # Of a network that was trained anew nothing old stays.
    kept = {"rows": [row("lsq", "mid", 5), row("clp", "lite", 7)],
            "runs": {name: {} for name in ("mid_lsq", "train_lsq", "lite_clp")}}
    more = logit_pairing.collect(tmp_path, kept)
    assert more["rows"] == [*found["rows"], row("lsq", "mid", 5)]
    assert set(more["runs"]) == {"train_clp", "mid_clp", "train_lsq", "mid_lsq"}


def test_a_shipped_network_has_its_attacks_alone(tmp_path):
    provenance.write(tmp_path / "attacked/resnet32_rce/mid", "test_adv", flags={}, metrics={
        "num_per_eps": 1000, "rounds": [{"precision_adv": 0.029}], "num_restarts": 1})
    found = logit_pairing.collect(tmp_path)
    assert found["rows"] == [row("resnet32_rce", "mid", 29, num_restarts=1)]
    head, *rows = logit_pairing.other_rows(found)
    of = {cells[0]: dict(zip(head, cells, strict=True)) for cells in rows}
    cells = of["ResNet-32 of RCE as shipped, no pairing"]
    assert (cells["steps"], cells["clean"], cells["mid"]) == ("-", "not run", "2.9 [2.0, 4.1]")
    assert set(of) == set(logit_pairing.OTHERS.values())


def test_what_was_measured_on_the_way():
    rows = logit_pairing.rows_by_steps({"rows": [row("clp", "baseline_3000", 258)]})
    assert rows[0] == ["steps", "clp", "lsq"] and len(rows) == 7
    assert rows[3] == ["3,000", "25.8 [23.2, 28.6]", "not run"]


def test_ours_stand_beside_the_published():
    table = logit_pairing.table_rows({"rows": [
        row("lsq", "clean", 9900, 10_000, steps=10, iterations=0), row("lsq", "mid", 300),
        row("lsq", "lite", 1, 200)]})
    cells = dict(zip(table[0], table[3], strict=True))
    assert (cells["`--objective`"], cells["steps"]) == ("lsq", "10")
    assert cells["clean"] == "99.0 [98.8, 99.2] (98.8)" and cells["mid"].endswith("(39) ▼")
    assert cells["strongest"] == "not run (5)" and cells["50 restarts, 200 images"].startswith("0.5 [")
    assert len(table) == 1 + len(logit_pairing.PUBLISHED)


@pytest.mark.parametrize(("lite", "judged"), [(5, "true"), (100, "false")])
def test_statements_are_judged_by_the_rows(lite, judged):
    rows = [row(network, "baseline", 600) for network in ("clp", "lsq")]
    rows += [row(network, "strongest", lite) for network in ("clp", "lsq")]
    rows += [row("resnet32_rce", "baseline", 20), row("resnet32_rce", "strongest", lite)]
    found = dict(logit_pairing.findings({"rows": rows}))
    assert list(found.values()) == [judged, "not run", "not run", judged]


def attacked(folder, name, weights):
    provenance.write(folder / "attacked/clp" / name, "test_adv", flags={}, metrics={
        "num_per_eps": 1000, "rounds": [{"precision_adv": 0.029}], "num_restarts": 1,
        "network": {"weights_sha256": weights}})


@pytest.mark.parametrize("names", [("mid", "baseline"), ("baseline_1000", "baseline_2000")])
def test_attacks_of_a_mixture_of_networks_are_refused(tmp_path, names):
    with pytest.raises(InputError, match=r"expected networks of results/logit_pairing\.sh in"):
        logit_pairing.collect(tmp_path)
    provenance.write(tmp_path / "networks/clp/train", "train", flags={"train_attack_iterations": None},
                     metrics={"step": 2344, "test_precision": 0.9845})
    on_the_way = names[0].startswith("baseline_")
    for name, weights in zip(names, "ab", strict=True):
        attacked(tmp_path, name, weights)
    if on_the_way:
        assert len(logit_pairing.collect(tmp_path)["rows"]) == 3
        attacked(tmp_path, names[1], "a")
    with pytest.raises(InputError, match="Received: a mixture of clp"):
        logit_pairing.collect(tmp_path)
    attacked(tmp_path, names[1], "b" if on_the_way else "a")
    assert len(logit_pairing.collect(tmp_path)["rows"]) == 3


def test_a_folder_that_is_not_there_is_refused():
    done = subprocess.run([sys.executable, "-m", "results.logit_pairing", "nowhere"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Received: ['nowhere']" in done.stderr


def test_strongest_says_how_many_restarts_ours_had():
    found = {"rows": [row("clp", "strongest", 90, num_restarts=30),
                      row("lsq", "strongest", 50, num_restarts=10_000)]}
    head, *rows = logit_pairing.table_rows(found)
    of = {cells[0]: cells[head.index("strongest")] for cells in rows}
    assert of["clp"] == "9.0 [7.4, 10.9] (4.1), 30 restarts"
    assert of["lsq"] == "5.0 [3.8, 6.5] (5)"
    assert of["plain"] == "not run (0)"

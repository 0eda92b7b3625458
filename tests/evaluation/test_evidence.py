"""What speaks against the results of attacks; what their records do not tell is not checked."""

import dataclasses

import numpy as np
import pytest

import attacks
from data.pixels import to_network_input
from defenses import SCORES
from defenses import detector as detectors
from defenses.kernels import Kernels
from defenses.scores import Reference
from evaluation import evidence, tries
from evaluation.evidence import Run
from evaluation.rounds import rounds_of
from evaluation.success import Tried
from files import provenance
from files.attack_results import AttackResults, Outputs, digests_of

RNG = np.random.default_rng(0)
N, RATE = 200, 0.05
FEATURES = RNG.normal(size=(N, 4))
IMAGE = np.arange(N, dtype=np.uint64)


def detector(images=(), num_kernels=3):
    return detectors.Detector(
        {"objective": "rce"}, Reference(Kernels(RNG.normal(size=(2, num_kernels, 3)), 1.0), 0.1),
        tuple(SCORES), np.array([RATE]), np.zeros((len(SCORES), 1)), np.arange(300),
        np.asarray(images, np.uint64))


def run(method, knowledge, shares, *, accepted=True, record=(), columns=()):
    """A run at eps 0.1, 0.2, ...: wrong on these shares of the images, all accepted or none."""
    answers = {name: {RATE: np.full(N, accepted)} for name in (*SCORES, "all")}
    before = {name: {RATE: np.ones(N, bool)} for name in (*SCORES, "all")}
    tried = [Tried(method, knowledge, "linf", number / 10, IMAGE, np.arange(N) < share * N, answers,
                   np.zeros(N, bool), before) for number, share in enumerate(shares, 1)]
    wrong = np.concatenate([each.wrong for each in tried])
    return Run(method, attacks.get(method), dict(record), tried,
               {name: make(wrong) for name, make in dict(columns).items()}, FEATURES)


TOLD = {"num_steps": 100, "num_restarts": 5, "path_length": 8.0, "flat_loss_share": 0.01,
        "whole_box_success": 1.0,
        "against": list(SCORES), "against_rate": RATE}
COLUMNS = {"zero_gradient_steps": lambda wrong: np.zeros(len(wrong), int),
           "best_step": lambda wrong: np.full(len(wrong), 50), "evaded": lambda wrong: wrong,
           "first_broken": lambda wrong: np.where(wrong, 0, -1)}
NOISE, BIM = run("random", "oblivious", (0.0, 0.0)), run("bim", "oblivious", (0.3, 0.5))


def knowing(record=(), **columns):
    """The sound run of who knows the detector, with these keys of its record and these columns."""
    return run("selective_pgd", "adaptive", (0.6, 0.9), record=TOLD | dict(record),
               columns=COLUMNS | columns)


def asked(*shares):
    # No row takes scores without gradients yet; its name does not matter.
    return dataclasses.replace(run("random", "scores", shares), name="asked", attack=None, record=TOLD,
                               columns={name: make(np.concatenate([np.arange(N) < share * N
                                                                   for share in shares]))
                                        for name, make in COLUMNS.items()})


def flags(*runs):
    return {caveat.flag for caveat in evidence.look(runs, detector())[0]}


def test_a_sound_evaluation_raises_nothing_and_leaves_but_one_reading_unchecked():
    caveats, unchecked = evidence.look([NOISE, BIM, knowing(), asked(0.2, 0.3)], detector())
    assert caveats == [] and unchecked == {"F15"}


@pytest.mark.parametrize(("flag", "runs"), [
    ("F1", [NOISE, BIM, dataclasses.replace(knowing(), features=FEATURES + RNG.normal(size=(N, 4)))]),
    ("F1", [NOISE, BIM, knowing({"forward_spread": 0.01})]),
    ("F3", [NOISE, BIM, knowing(zero_gradient_steps=lambda wrong: np.full(len(wrong), 30))]),
    ("F4", [NOISE, BIM, knowing({"flat_loss_share": 0.9})]),
    ("F5", [NOISE, BIM, knowing(), asked(0.9, 0.95)]),
    ("F6", [NOISE, BIM, knowing(first_broken=lambda wrong: np.where(wrong, 4, -1))]),
    ("F7", [NOISE, BIM, knowing(best_step=lambda wrong: np.full(len(wrong), 100))]),
    ("F8", [NOISE, BIM, knowing({"whole_box_success": 0.9})]),
    ("F9", [NOISE, BIM, run("fgsm", "oblivious", (0.8, 0.5)), dataclasses.replace(
        knowing(), tried=run("selective_pgd", "adaptive", (0.6, 0.9)).tried)]),
    ("F13", [NOISE, BIM, knowing({"path_length": 0.3})]),
    ("F14", [run("random", "oblivious", (0.0, 0.0), accepted=False), BIM, knowing()]),
    ("F16", [NOISE, BIM, knowing(evaded=lambda wrong: np.ones(len(wrong), bool))])])
def test_a_run_broken_on_purpose_raises_its_flag_alone(flag, runs):
    assert flags(*runs) == {flag}


def test_a_claim_beyond_any_classifier_that_is_known():
    of_cifar = dataclasses.replace(detector(), network={"objective": "rce", "dataset": "cifar10"})
    weak = run("selective_pgd", "adaptive", (0.1, 0.2), record=TOLD, columns=COLUMNS)
    caveats, unchecked = evidence.look([NOISE, BIM, weak], of_cifar)
    found = [caveat for caveat in caveats if caveat.flag == "F15"]
    # At eps / 2 = 0.05 the best is that at 8 / 255; oblivious BIM has won half at eps 0.2.
    assert [caveat.numbers["eps"] for caveat in found] == [] and "F15" not in unchecked
    caveats, _ = evidence.look([NOISE, weak], of_cifar)
    assert [caveat.numbers["eps"] for caveat in caveats if caveat.flag == "F15"] == [0.1, 0.2]


def test_showing_another_image_wins_more():
    assert flags(NOISE, BIM, knowing({"trivial_success": [0.1, 0.95]})) == {"F8"}
    assert flags(NOISE, BIM, knowing({"trivial_success": [0.1, 0.85]})) == set()
    # Of those that one score accepts nothing follows for all.
    assert flags(NOISE, BIM, knowing({"trivial_success": [0.1, 0.95], "against": ["confidence"]})
                 ) == set()


def test_more_room_that_wins_less_is_named():
    falling = run("selective_pgd", "adaptive", (0.9, 0.6))
    assert flags(NOISE, falling) == {"F9"}


def test_a_run_is_judged_by_what_it_aimed_at():
    of_one = knowing({"against": ["confidence"]})
    # Past all scores it falls from 60 % to none, past its own it does not.
    none = {name: {RATE: np.full(N, name == "confidence")} for name in (*SCORES, "all")}
    tried = [of_one.tried[0], dataclasses.replace(of_one.tried[1], accepted=none)]
    of_one = dataclasses.replace(of_one, tried=tried, columns={
        **of_one.columns, "evaded": np.concatenate([each.wrong for each in tried])})
    assert flags(NOISE, of_one) == set()
    # Queries that beat it there are compared with none that went for all scores.
    assert flags(NOISE, of_one, asked(0.9, 0.95)) == set()


def test_with_the_whole_box_the_best_attack_counts():
    def whole(share):
        one = run("selective_pgd", "adaptive", (share,), record=TOLD, columns=COLUMNS)
        return dataclasses.replace(one, tried=[dataclasses.replace(one.tried[0], eps=1.0)])

    assert flags(whole(1.0), whole(0.5)) == set()
    assert flags(whole(0.9), whole(0.5)) == {"F8"}


def test_what_no_record_tells_is_not_checked():
    bare = run("selective_pgd", "adaptive", (0.6,))
    caveats, unchecked = evidence.look([bare], detector())
    assert caveats == []
    assert unchecked == {"F1", "F3", "F4", "F5", "F6", "F7", "F8", "F13", "F14", "F15",
                         "F16"}


@pytest.mark.parametrize(("zero_steps", "checked"), [(0, True), (3, False)])
def test_no_step_without_a_gradient_is_none_of_however_many(zero_steps, checked):
    run_of_an_earlier_version = run("selective_pgd", "adaptive", (0.6,), columns={
        "zero_gradient_steps": lambda wrong: np.full(len(wrong), zero_steps)})
    caveats, unchecked = evidence.look([run_of_an_earlier_version], detector())
    assert caveats == [] and ("F3" not in unchecked) == checked


def test_columns_are_those_of_the_images_that_are_judged(tmp_path):
    images = to_network_input(RNG.integers(0, 256, (6, 2, 2, 1)).astype(np.uint8))
    of = detector(digests_of(images)[[1, 4]])
    outputs = Outputs(np.full(12, 0.9), np.ones(12), np.tile(RNG.normal(size=(6, 3)), (2, 1)),
                      np.zeros(12, int))
    results = AttackResults("RCE", tmp_path, outputs, outputs, np.zeros(12, int), [0.1, 0.2], 6, {})
    vars(results).update(per_image={"best_step": np.arange(12), "linf": np.ones(12)},
                         image_digests=np.tile(digests_of(images), 2))
    provenance.write(tmp_path, "test_adv", flags={"attack_method": "selective_pgd"},
                     metrics={"knowledge": "adaptive", "norm": "linf", "num_steps": 40})
    rounds = rounds_of("selective_pgd_all", results, of.score_names, of.reference,
                       image=results.image_digests)
    kept = [r.where(~np.isin(r.image, of.fitted_images)) for r in rounds]
    found = evidence.run_of(results, tries.of_results(results, kept, of), of)
    assert found.columns["best_step"].tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert found.name == "selective_pgd_all" and found.attack.file == "selective_pgd"
    assert found.knows and len(found.features) == 4 and found.record["num_steps"] == 40


def test_an_attack_by_queries_is_not_asked_for_gradients():
    by_queries = dataclasses.replace(run("square", "scores", (0.6, 0.9)), columns={})
    unchecked = evidence.look([NOISE, BIM, knowing(), by_queries], detector())[1]
    assert not {"F3", "F4", "F7", "F13"} & unchecked

"""What an attacker gets: per image first, worst over attacks, parts that sum to one; the caveats."""

import dataclasses

import numpy as np
import pytest

from defenses import detector as detectors
from defenses.kernels import Kernels
from defenses.scores import Reference
from evaluation import attackers, soundness, success, verdicts
from evaluation.evidence import Run
from evaluation.rounds import Round
from evaluation.success import PARTS, Tried, worst_case

RATE, N = 0.05, 6
SCORES = ("confidence", "non_me")


def detector(thresholds=((0.5, 0.5), (0.5, 0.5)), fitted=300):
    """Accepts from a score of 0.5 on, of three classes."""
    return detectors.Detector(
        {}, Reference(Kernels(np.ones((2, 1, 3)), 1.0)), SCORES, np.array([0.01, RATE]),
        np.array(thresholds), np.arange(fitted), np.arange(fitted, dtype=np.uint64))


def attacked(wrong, confidence, non_me=None, *, wrong_before=None, before=1.0, eps=0.1, image=None,
             knowledge="adaptive", variant="a", norm="linf", distance=None, of=None):
    """One attack on images whose scores are given; normal images score `before`."""
    n = len(wrong)
    scores = {"confidence": np.array(confidence, float),
              "non_me": np.ones(n) if non_me is None else np.array(non_me, float)}
    normal = {name: np.broadcast_to(np.array(before, float), n).copy() for name in SCORES}
    right = np.ones(n, bool) if wrong_before is None else ~np.array(wrong_before, bool)
    image = np.arange(n, dtype=np.uint64) if image is None else np.array(image, np.uint64)
    scored = Round(variant, eps, image, normal, scores, right, ~np.array(wrong, bool))
    return success.tried(scored, of or detector(), knowledge=knowledge, norm=norm,
                         distance=None if distance is None else np.array(distance, float))


def worst(rounds, score="confidence", eps=0.1, **of):
    return worst_case(rounds, score, RATE, norm=of.pop("norm", "linf"), eps=eps, **of)


def test_the_five_parts():
    before = np.array([1, 1, 0, 0, 1, 1.0])
    case = worst([attacked([1, 1, 1, 1, 0, 1], [1, 1, 1, 0, 1, 0], wrong_before=[1, 0, 0, 0, 0, 0],
                           before=before)])
    assert [PARTS[k] for k in case.part] == [
        "natural", "evaded", "evaded_though_refused", "refused", "answered_right", "answered_right"]
    assert sum(case.shares().values()) == pytest.approx(1)
    assert case.success[:1] == (3 / 6,) and case.success.n == 6
    # Right and answered when normal: three, one of which is evaded.
    assert case.of_answered.value == pytest.approx(1 / 3) and case.of_answered.n == 3
    # Of the five that are wrong one is so by nature; two of the other four are refused.
    assert case.detected.value == 2 / 4


def test_images_stand_in_order_of_their_digests_also_those_of_one_attack():
    case = worst([attacked([1, 0, 0, 0], [1, 1, 1, 1], image=[7, 3, 5, 3])])
    assert case.image.tolist() == [3, 5, 7]
    assert [PARTS[k] for k in case.part] == ["answered_right", "answered_right", "evaded"]


def test_of_two_attacks_each_image_counts_once():
    halves = [attacked([1, 1, 0, 0], [1, 1, 1, 1]), attacked([0, 1, 1, 0], [1, 1, 1, 1], variant="b")]
    assert worst(halves).success.value == 3 / 4
    assert worst(halves[:1]).success.value == 1 / 2
    assert worst(halves).attacks == ("a", "b")


def test_all_scores_at_once_is_harder_than_each():
    one = attacked([1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0])
    values = [worst([one], score).success.value for score in ("confidence", "non_me", "all")]
    assert values == [1 / 2, 1 / 2, 1 / 4]


@pytest.mark.parametrize(("attacker", "value"), [
    ("oblivious", 1 / 4), ("adaptive", 2 / 4), ("all", 3 / 4)])
def test_who_knows_what(attacker, value):
    rounds = [attacked([1, 0, 0, 0], [1] * 4, knowledge="transfer"),
              attacked([0, 1, 0, 0], [1] * 4, knowledge="scores"),
              attacked([0, 0, 1, 0], [1] * 4, knowledge="answers")]
    assert worst(rounds, attacker=attacker).success.value == value
    assert worst(rounds[:1], attacker="adaptive") is None


def test_what_was_made_to_pass_another_detector_is_nobodys():
    stale = attacked([1, 1, 0, 0], [1] * 4, knowledge=success.STALE, variant="old")
    rounds = [stale, attacked([0, 0, 1, 0], [1] * 4)]
    assert worst(rounds, attacker="adaptive").success.value == 1 / 4
    assert worst(rounds, attacker="oblivious") is None
    assert worst(rounds, attacker="all").success.value == 3 / 4
    of = detector()
    words, told = verdicts.told(runs(rounds), of)
    assert "Made to pass another detector, and in neither line above: old." in words
    assert told["stale"] == ["old"]


def test_each_attack_has_figures_of_its_own():
    pair = [attacked([1, 1, 0, 0], [1] * 4), attacked([0, 0, 1, 0], [0] * 4, variant="b")]
    found = {(row["attack"], row["score"]): row for row in attackers.by_attack(pair, detector())}
    assert found["a", "all"]["success"]["value"] == 1 / 2
    assert found["b", "all"]["success"]["value"] == 0 and found["b", "all"]["detected"]["value"] == 1
    told = verdicts.told(runs(pair), detector())[1]
    assert told["images"] == 4 and {row["refused"]["n"] for row in told["false_refusals"]} == {4}


def test_a_search_is_told_by_its_distances():
    search = attacked([1, 1, 1, 0], [1, 1, 0, 1], eps=None, norm="l2", distance=[1.0, 3.0, 0.1, 0.2],
                      variant="c")
    words, told = verdicts.told(runs([search]), detector())
    assert "c, every score: 50.0 % of 4 images answered wrongly at any distance, half of them" in words
    row, = (row for row in told["searches"] if (row["score"], row["rate"]) == ("all", RATE))
    assert (row["won"], row["median_distance"]) == (0.5, 2.0)


def test_a_threshold_that_refused_nobody_is_told():
    seen = attacked(np.ones(200, bool), np.ones(200), np.ones(200))
    raised = [c for c in soundness.caveats([seen], detector()) if c.flag == "F10"]
    assert raised and "none of 200 images is refused" in raised[0].sentence
    few = attacked(np.ones(20, bool), np.ones(20), np.ones(20))
    assert "F10" not in flags([few], detector())


def test_budgets_and_norms():
    small = attacked([1, 0, 0, 0], [1] * 4, eps=0.1)
    large = attacked([0, 1, 0, 0], [1] * 4, eps=0.2)
    search = attacked([1, 1, 1, 0], [1] * 4, eps=None, norm="l2", distance=[0.5, 1.0, 2.0, 0.1],
                      variant="c")
    ball = attacked([0, 0, 0, 0], [1] * 4, eps=1.0, norm="l2")
    rounds = [small, large, search, ball]
    assert success.budgets(rounds) == [("linf", 0.1), ("linf", 0.2), ("l2", 1.0)]
    assert worst(rounds).success.value == 1 / 4
    assert worst(rounds, eps=0.2).success.value == 2 / 4  # larger budgets hold smaller ones
    assert worst(rounds, eps=1.0, norm="l2").success.value == 2 / 4
    assert worst(rounds, eps=0.05) is None


def test_only_images_that_all_attacks_have():
    rounds = [attacked([1, 1, 1, 0], [1] * 4, image=[7, 5, 3, 1]),
              attacked([0, 0, 1], [1] * 3, image=[5, 3, 9], variant="b")]
    case = worst(rounds)
    assert set(case.image.tolist()) == {3, 5} and case.success.value == 1
    assert case.shrinking == ("a", "b")


def test_success_never_falls_with_eps_attacks_or_laxer_thresholds():
    draw = np.random.default_rng(0)
    lax = detector(((0.7, 0.3), (0.6, 0.2)))
    rounds = [attacked(draw.random(50) < 0.7, draw.random(50), draw.random(50), eps=eps, of=lax,
                       variant=f"v{k}") for k, eps in enumerate((0.1, 0.2, 0.2, 0.3))]
    for score in (*SCORES, "all"):
        values = [worst(rounds, score, eps).success.value for eps in (0.1, 0.2, 0.3)]
        assert values == sorted(values)
        assert worst(rounds[:3], score, 0.3).success.value <= values[-1]
        strict = worst_case(rounds, score, 0.01, norm="linf", eps=0.3).success.value
        assert strict <= values[-1]
        assert sum(worst(rounds, score, 0.2).shares().values()) == pytest.approx(1)


def test_shares_have_wilsons_interval():
    found = success.share(np.array([True] * 10))
    assert (found.value, found.high, found.n) == (1.0, 1.0, 10)
    assert found.low == pytest.approx(10 / (10 + 1.959964**2), rel=1e-5)  # its closed form at 100 %
    assert np.isnan(success.share(np.zeros(0, bool)).value)


# --- Reasons for doubt ---

def sound(n=120, **changed):
    """Attacks and a detector that nothing speaks against: 5 % of the normal images are refused."""
    before = np.where(np.arange(n) < 0.05 * n, 0.4, 1.0)
    of = detector(((0.35, 0.5), (0.1, 0.5)))
    wrong = np.ones(n, bool)
    adaptive = attacked(wrong, np.ones(n), before=before, of=of, **changed)
    oblivious = attacked(wrong, np.zeros(n), before=before, of=of, knowledge="oblivious", variant="b")
    return [adaptive, oblivious], of


def flags(rounds, of):
    return {caveat.flag for caveat in soundness.caveats(rounds, of)}


def runs(rounds):
    """Each as a run of its own, of which no record tells."""
    return [Run(r.variant, None, {}, [r], {}, np.zeros((len(r.image), 2))) for r in rounds]


def test_nothing_is_raised_by_what_is_sound():
    rounds, of = sound()
    # At 1 % none is refused, of 120, which the interval allows.
    assert flags(rounds, of) == set()


def test_each_fault_raises_its_flag():
    rounds, of = sound()
    assert flags(rounds[1:], of) == {"F17"}
    worse = dataclasses.replace(rounds[0], wrong=np.zeros(120, bool))
    better = attacked(np.ones(120, bool), np.ones(120), before=1.0, knowledge="oblivious", variant="b")
    assert "F9" in flags([worse, better], of)
    assert "F12" in flags(*sound(60))
    few = detector(((0.35, 0.5), (0.1, 0.5)), fitted=100)
    assert [c.numbers["fitted_on"] for c in soundness.caveats(rounds, few) if c.flag == "F12"] == [100]
    refusing = dataclasses.replace(rounds[0], accepted_before={
        name: {rate: np.zeros(120, bool) for rate in (0.01, RATE)} for name in (*SCORES, "all")})
    assert "F11" in flags([refusing, rounds[1]], of)
    nothing = detector(((1 / 3, 0.5), (0.1, 0.5)))
    raised, = [c for c in soundness.caveats(rounds, nothing) if c.flag == "F10"]
    assert raised.numbers == {"score": "confidence", "rate": 0.01, "threshold": pytest.approx(1 / 3)}
    assert raised.sentence.endswith("this detector refuses nothing.")


def test_the_verdict_says_who_gets_what():
    rounds, of = sound()
    words, told = verdicts.told(runs(rounds), of)
    assert told["verdict"] == (
        "L-inf 0.1, thresholds of 5 %: an attacker who knows the detector gets 120 of 120 images "
        "answered wrongly although every score has to accept; one who does not gets 0 of 120 images "
        "answered wrongly although every score has to accept.")
    assert words.replace("\n", " ").startswith(told["verdict"]) and "Not checked: " in words
    assert max(map(len, words.splitlines())) <= 120
    row, = [row for row in told["success"] if (row["attacker"], row["score"], row["rate"])
            == ("adaptive", "all", RATE)]
    assert row["success"]["value"] == 1 and row["success"]["n"] == row["images"] == 120
    words, told = verdicts.told(runs(rounds[1:]), of)
    assert "of one who does nothing is known" in told["verdict"]
    assert "not run" in words and "F17" in words
    assert "nothing is known" in verdicts.told([], of)[0]


def test_what_knowing_the_detector_wins_is_paired():
    """By hand: who knows it wins the first 90 of 120, who does not the first 30, of the same images."""
    first = np.arange(120)
    (adaptive, oblivious), of = sound()
    pair = [dataclasses.replace(one, wrong=first < count, accepted=adaptive.accepted)
            for one, count in ((adaptive, 90), (oblivious, 30))]
    words, told = verdicts.told(runs(pair), of)
    row, = [row for row in told["gains"] if (row["score"], row["rate"]) == ("all", RATE)]
    assert row["images"] == 120 and row["gain"]["value"] == 0.5
    # Of 0s and 1s drawn 120 at a time: 1.96 standard errors either way, ± 9 points.
    assert 0.38 < row["gain"]["low"] < 0.45 and 0.55 < row["gain"]["high"] < 0.62
    assert "wins 50.0 points more [" in words
    assert verdicts.told(runs(pair[:1]), of)[1]["gains"] == []
    # The same images won by both are no difference, and have no interval.
    same = dataclasses.replace(pair[1], wrong=pair[0].wrong)
    rows = verdicts.told(runs([pair[0], same]), of)[1]["gains"]
    assert all(set(row["gain"].values()) == {0.0} for row in rows)


def test_beyond_what_was_tried_nothing_is_known():
    """Who knows the detector was tried at 0.1 alone: what that won is no figure of 0.2."""
    (adaptive, oblivious), of = sound()
    far = dataclasses.replace(oblivious, eps=0.2, accepted=oblivious.accepted_before)
    told = verdicts.told(runs([adaptive, oblivious, far]), of)[1]
    assert told["verdict"].startswith("L-inf 0.1,")
    assert {row["eps"] for row in told["success"] if row["attacker"] == "adaptive"} == {0.1}
    incomplete, = [each for each in told["warnings"] if each["flag"] == "F17"]
    assert incomplete["numbers"] == {"norm": "linf", "eps": [0.2]}
    # Nor is it out of order that more room wins more.
    assert "F9" not in {each["flag"] for each in told["warnings"]}


def test_the_order_is_judged_on_the_images_both_were_given():
    wrong = np.arange(100) < 50
    adaptive = attacked(wrong[:60], np.ones(60), image=np.arange(60))
    alike = attacked(np.ones(100, bool), wrong, wrong, knowledge="oblivious", variant="b",
                     image=np.arange(100))
    assert "F9" not in flags([adaptive, alike], detector())
    first = np.arange(100) < 60
    more = attacked(np.ones(100, bool), first, first, knowledge="oblivious", variant="b",
                    image=np.arange(100))
    raised, = [c for c in soundness.caveats([adaptive, more], detector()) if c.flag == "F9"]
    assert raised.numbers["share"] == pytest.approx(10 / 60) and raised.numbers["images"] == 60


def test_a_search_without_distances_has_no_budget():
    search = attacked([1, 1], [1, 1], eps=None, norm="l0")
    assert isinstance(search, Tried) and success.budgets([search]) == []
    assert worst([search], norm="l0", eps=5) is None

"""What attackers get out of a detector, in figures: JSON values that `evaluation.verdicts` words."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from defenses.detector import Detector
from evaluation import metrics
from evaluation.success import ATTACKERS, Tried, budgets, reached, worst_case
from files.names import ALL_SCORES


def rows(rounds: Sequence[Tried], detector: Detector) -> list[dict[str, Any]]:
    """Every figure of every attacker, budget, score and rate, as JSON values.

    Returns:
      "attacker", "norm", "eps", "score", "rate", "attacks", "images", and under "success",
      "success_of_answered" and "detected" value, low, high and n; "parts": name → share.
    """
    found = []
    for norm, eps in budgets(rounds):
        for attacker in ATTACKERS:
            for score in (*detector.score_names, ALL_SCORES):
                for rate in detector.false_refusal_rates.tolist():
                    case = worst_case(rounds, score, rate, norm=norm, eps=eps, attacker=attacker)
                    # Of a budget beyond those tried nothing is known: what a smaller one won is less.
                    if case and eps <= reached(rounds, norm, attacker):
                        found.append({
                            "attacker": attacker, "norm": norm, "eps": eps, "score": score,
                            "rate": rate, "attacks": list(case.attacks), **_shares(case),
                            "parts": case.shares()})
    return found


def _shares(case):
    return {"images": len(case.image), "success": case.success._asdict(),
            "success_of_answered": case.of_answered._asdict(), "detected": case.detected._asdict()}


def by_attack(rounds: Sequence[Tried], detector: Detector) -> list[dict[str, Any]]:
    """What each attack reaches alone, as JSON values; of a search at every budget of its norm.

    Returns:
      "attack", "knowledge", "norm", "eps", "score", "rate", "images", and under "success",
      "success_of_answered" and "detected" value, low, high and n.
    """
    found = []
    for (norm, eps), one in itertools.product(budgets(rounds), rounds):
        if one.norm != norm or one.eps not in (None, eps):
            continue
        for score, rate in itertools.product((*detector.score_names, ALL_SCORES),
                                             detector.false_refusal_rates.tolist()):
            case = worst_case([one], score, rate, norm=norm, eps=eps)
            if case:
                found.append({
                    "attack": one.variant, "knowledge": one.knowledge, "norm": norm, "eps": eps,
                    "score": score, "rate": rate, **_shares(case)})
    return found


def searches(rounds: Sequence[Tried], detector: Detector) -> list[dict[str, Any]]:
    """What attacks for the smallest change reach, which have no budget, as JSON values.

    Returns:
      "attack", "knowledge", "norm", "score", "rate", "images"; "won", the share that is wrong and
      accepted, and "median_distance" of these, None where there are none.
    """
    found = []
    for one in (one for one in rounds if one.eps is None and one.distance is not None):
        for score, rate in itertools.product((*detector.score_names, ALL_SCORES),
                                             detector.false_refusal_rates.tolist()):
            won = one.wrong & one.accepted[score][rate]
            found.append({
                "attack": one.variant, "knowledge": one.knowledge, "norm": one.norm, "score": score,
                "rate": rate, "images": len(won), "won": float(np.mean(won)),
                "median_distance": float(np.median(one.distance[won])) if won.any() else None})
    return found


def gains(rounds: Sequence[Tried], detector: Detector) -> list[dict[str, Any]]:
    """By how much who knows the detector wins more than who does not, of the same images.

    Returns:
      "norm", "eps", "score", "rate", "images", and under "gain" value, low and high: the difference of
      shares, by the paired bootstrap of `evaluation.metrics.mean`; of budgets both were tried at.
    """
    pair, found = ("adaptive", "oblivious"), []
    for norm, eps in budgets(rounds):
        if any(eps > reached(rounds, norm, attacker) for attacker in pair):
            continue
        for score, rate in itertools.product((*detector.score_names, ALL_SCORES),
                                             detector.false_refusal_rates.tolist()):
            # Both of the images that all attacks have, in one order.
            cases = [worst_case(rounds, score, rate, norm=norm, eps=eps, attacker=attacker)
                     for attacker in pair]
            if all(cases) and len(cases[0].image):
                knows, not_ = (case.won.astype(float) for case in cases)
                found.append({"norm": norm, "eps": eps, "score": score, "rate": rate,
                              "images": len(knows), "gain": metrics.mean(knows - not_)._asdict()})
    return found

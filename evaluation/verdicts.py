"""What a detector is worth, in words: the worst that each attacker reaches, and why to doubt it."""

import dataclasses
import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from defenses import SCORES
from defenses.detector import Detector
from evaluation import evidence, metrics, soundness
from evaluation.evidence import Run
from evaluation.markdown import NOT_RUN
from evaluation.success import ATTACKERS, Tried, budgets, reached, worst_case
from files.names import ALL_SCORES

# Difference of shares from which on it is said what 8 bits do.
_ROUNDING_MATTERS = 0.01
# Of a screen.
_COLUMNS = 118
_NORMS = {"linf": "L-inf", "l2": "L2"}


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
                            "rate": rate, "attacks": list(case.attacks), "images": len(case.image),
                            "success": case.success._asdict(),
                            "success_of_answered": case.of_answered._asdict(),
                            "detected": case.detected._asdict(), "parts": case.shares()})
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


def verdict(found: Sequence[dict[str, Any]]) -> str:
    """One sentence: the largest budget, all scores at once, who knows the detector beside who does
    not."""
    every = [row for row in found if row["score"] == ALL_SCORES]
    if not every:
        return "No attack within a budget was run: nothing is known of what the detector is worth."
    # The largest at which somebody who knows the detector was tried, where anybody was.
    last = max(every, key=lambda row: (row["attacker"] == "adaptive", row["norm"] == every[0]["norm"],
                                       row["eps"], row["rate"]))
    at = f"{_NORMS[last['norm']]} {last['eps']:g}, thresholds of {100 * last['rate']:g} %"
    told = {row["attacker"]: row for row in every
            if (row["norm"], row["eps"], row["rate"]) == (last["norm"], last["eps"], last["rate"])}
    parts = [f"{words} gets {round(row['success']['value'] * row['images'])} of {row['images']} images "
             "answered wrongly although every score has to accept"
             for words, row in _attackers(told)]
    if "adaptive" not in told:
        parts.append("of one who does nothing is known")
    return f"{at}: {'; '.join(parts)}."


def _attackers(told):
    """Who is told of, in words, and its row; who comes second is "one"."""
    if "adaptive" in told:
        yield "an attacker who knows the detector", told["adaptive"]
    if "oblivious" in told:
        first = "adaptive" not in told
        yield f"{'an attacker' if first else 'one'} who does not{' know the detector' * first}", told[
            "oblivious"]


def table(found: Sequence[dict[str, Any]], rate: float) -> str:
    """Per budget the success (%), by score, of the best attacks that do not know the detector, and of
    the best that do."""
    names = list(dict.fromkeys(row["score"] for row in found))
    titles = "".join(f"{SCORES[name].short if name in SCORES else name:>9}" for name in names)
    lines = [f"{'norm':<6}{'eps':>7}{'n':>6}  {'the attacker':<22}|{titles}"]
    for norm, eps in dict.fromkeys((row["norm"], row["eps"]) for row in found):
        of = {(row["attacker"], row["score"]): row for row in found
              if (row["norm"], row["eps"], row["rate"]) == (norm, eps, rate)}
        for attacker, words in (("oblivious", "knows no detector"), ("adaptive", "knows the detector")):
            images = of[attacker, names[0]]["images"] if (attacker, names[0]) in of else "-"
            cells = "".join(f"{_percent(of.get((attacker, name))):>9}" for name in names)
            lines.append(f"{_NORMS[norm]:<6}{eps:>7.4g}{images:>6}  {words:<22}|{cells}")
    return "\n".join(lines)


def _percent(row):
    return NOT_RUN if row is None else f"{100 * row['success']['value']:.1f}"


def _wrapped(sentence):
    return textwrap.fill(sentence, _COLUMNS, break_on_hyphens=False, break_long_words=False)


def _rounded(runs):
    """Of each attack that knows the detector, at each eps, what it wins of what it aimed at: of its
    images as they are, and as 8-bit files hold them."""
    found = []
    for run in runs:
        won = evidence.aimed(run)
        if won is None or "evades_rounded" not in run.columns:
            continue
        # The rounds lie one after the other.
        start = 0
        for tried in run.tried:
            rows = slice(start, start := start + len(tried.image))
            found.append({"attack": run.name, "norm": tried.norm, "eps": tried.eps,
                          "won": float(np.mean(won[rows])),
                          "won_rounded": float(np.mean(run.columns["evades_rounded"][rows] > 0))})
    return found


def _in_8_bits(row):
    at = "" if row["eps"] is None else f" {row['eps']:g}"
    return (f"{row['attack']}, {_NORMS[row['norm']]}{at}: wins {100 * row['won']:.1f} % as floats, "
            f"{100 * row['won_rounded']:.1f} % once its images are stored in 8 bits.")


def _gained(row):
    value, low, high = (100 * number for number in row["gain"].values())
    return (f"{_NORMS[row['norm']]} {row['eps']:.4g}, every score: who knows the detector wins "
            f"{value:.1f} points more [{low:.1f}, {high:.1f}], image by image.")


def told(runs: Sequence[Run], detector: Detector) -> tuple[str, dict[str, Any]]:
    """What is said on screen of a detector under attack, and the same as JSON values: "success",
    "gains", "warnings", "rounded", "not_checked", "verdict"."""
    rounds = [tried for run in runs for tried in run.tried]
    found, more = rows(rounds, detector), gains(rounds, detector)
    flaws, unchecked = evidence.look(runs, detector)
    raised = [*soundness.caveats(rounds, detector), *flaws]
    # One rate fits the screen, the laxest for the attacker; the files hold all.
    said = verdict(found)
    lines = [_wrapped(said), ""]
    if found:
        rate = max(detector.false_refusal_rates.tolist())
        lines += [f"Images answered wrongly, of all that were not fitted on, T of {100 * rate:g} %:",
                  table(found, rate), ""]
        lines += [_wrapped(_gained(row)) for row in more if (row["score"], row["rate"]) == (
            ALL_SCORES, rate)]
    levels = _rounded(runs)
    lines += [_wrapped(_in_8_bits(row)) for row in levels
              if abs(row["won"] - row["won_rounded"]) > _ROUNDING_MATTERS]
    lines += [_wrapped(f"{caveat.flag}: {caveat.sentence}") for caveat in raised]
    lines.append(_wrapped(soundness.not_checked(unchecked)))
    return "\n".join(lines), {
        "verdict": said, "success": found, "gains": more,
        "warnings": [dataclasses.asdict(caveat) for caveat in raised],
        "rounded": levels,
        "not_checked": sorted(unchecked, key=lambda flag: int(flag[1:]))}

"""What a detector is worth, in words: the worst that each attacker reaches, and why to doubt it."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from defenses import SCORES
from defenses.detector import Detector
from evaluation import attackers, evidence, soundness
from evaluation.evidence import Run
from evaluation.markdown import NOT_RUN
from evaluation.success import STALE, num_images
from files.names import ALL_SCORES

# Difference of shares from which on it is said what 8 bits do.
_ROUNDING_MATTERS = 0.01
# Of a screen.
_COLUMNS = 118
_NORMS = {"linf": "L-inf", "l2": "L2"}


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


def _searched(row):
    far = "" if row["median_distance"] is None else (
        f", half of them within {_NORMS[row['norm']]} {row['median_distance']:.3g}")
    return (f"{row['attack']}, every score: {100 * row['won']:.1f} % of {row['images']} images "
            f"answered wrongly at any distance{far}.")


def _gained(row):
    value, low, high = (100 * number for number in row["gain"].values())
    return (f"{_NORMS[row['norm']]} {row['eps']:.4g}, every score: who knows the detector wins "
            f"{value:.1f} points more [{low:.1f}, {high:.1f}], image by image.")


def told(runs: Sequence[Run], detector: Detector) -> tuple[str, dict[str, Any]]:
    """What is said on screen of a detector under attack, and the same as JSON values.

    Returns:
      The text; and "success", "by_attack", "searches" and "gains" of evaluation/attackers.py,
      "false_refusals", "images" (how many different ones), "stale" (attacks made to pass another
      detector), "warnings", "rounded", "not_checked", "verdict".
    """
    rounds = [tried for run in runs for tried in run.tried]
    found, more = attackers.rows(rounds, detector), attackers.gains(rounds, detector)
    flaws, unchecked = evidence.look(runs, detector)
    raised = [*soundness.caveats(rounds, detector), *flaws]
    stale = sorted({tried.variant for tried in rounds if tried.knowledge == STALE})
    # One rate fits the screen, the laxest for the attacker; the files hold all.
    said = verdict(found)
    lines = [_wrapped(said), ""]
    if found:
        rate = max(detector.false_refusal_rates.tolist())
        lines += [f"Images answered wrongly, of all that were not fitted on, T of {100 * rate:g} %:",
                  table(found, rate), ""]
        lines += [_wrapped(_gained(row)) for row in more if (row["score"], row["rate"]) == (
            ALL_SCORES, rate)]
    sought = attackers.searches(rounds, detector)
    lines += [_wrapped(_searched(row)) for row in sought if (row["score"], row["rate"]) == (
        ALL_SCORES, max(detector.false_refusal_rates.tolist()))]
    levels = _rounded(runs)
    lines += [_wrapped(_in_8_bits(row)) for row in levels
              if abs(row["won"] - row["won_rounded"]) > _ROUNDING_MATTERS]
    if stale:
        lines.append(_wrapped("Made to pass another detector, and in neither line above: "
                              f"{', '.join(stale)}."))
    lines += [_wrapped(f"{caveat.flag}: {caveat.sentence}") for caveat in raised]
    lines.append(_wrapped(soundness.not_checked(unchecked)))
    return "\n".join(lines), {
        "verdict": said, "success": found, "by_attack": attackers.by_attack(rounds, detector),
        "searches": sought, "gains": more,
        "false_refusals": [{"score": score, "rate": rate, "refused": refused._asdict()}
                           for score, rate, refused in soundness.false_refusals(rounds, detector)],
        "stale": stale,
        "images": num_images(rounds),
        "warnings": [dataclasses.asdict(caveat) for caveat in raised],
        "rounded": levels,
        "not_checked": sorted(unchecked, key=lambda flag: int(flag[1:]))}

"""Reasons not to believe a figure of `evaluation.success`, each with its sentence and its numbers.

An evaluation raises them itself (shared/specs/ADAPTIVE.md, section 5, whose numbers they bear). What is
not looked at is said, too: a flag that is missing is no clean bill.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from defenses.detector import Detector
from evaluation.success import (
    ATTACKERS,
    NORMS,
    PARTS,
    Share,
    Tried,
    budgets,
    num_images,
    reached,
    share,
    worst_case,
)
from files.names import ALL_SCORES

# What can be looked at only where results tell enough.
NOT_CHECKED = {
    "F1": "whether two passes give the same outputs", "F3": "gradients that vanish on the way",
    "F4": "a loss that is flat at the start", "F5": "attacks by queries against those with gradients",
    "F6": "what one restart more would add", "F7": "twice the steps, or when the last success came",
    "F8": "whether the attack wins every image where it may show any",
    "F13": "whether the steps can cross the ball", "F14": "whether noise of the same eps is refused",
    "F15": "what eps/2 would imply (no figure to compare with)",
    "F16": "whether the attack counts as the judge does"}
# Fewer images tell little, fewer fitting images than 3 below T nothing of a rate.
_FEW_IMAGES, _FEW_BELOW = 100, 3
# Share of images that oblivious attacks may win alone.
_ALONE = 0.01


@dataclasses.dataclass(frozen=True)
class Caveat:
    """One reason.

    Attributes:
      flag: F1 to F17.
      sentence: what a reader should know.
      numbers: that raised it, JSON values.
    """

    flag: str
    sentence: str
    numbers: Mapping[str, Any]


def caveats(rounds: Sequence[Tried], detector: Detector) -> list[Caveat]:
    """All that is raised by attacks on the network of a detector."""
    return [*_incomplete(rounds), *_order(rounds, detector), *_thresholds(rounds, detector),
            *_false_refusals(rounds, detector), *_few(rounds, detector)]


def not_checked(flags: Collection[str]) -> str:
    """One line: what nobody has looked at, of NOT_CHECKED."""
    return "Not checked: " + "; ".join(
        f"{what} ({flag})" for flag, what in NOT_CHECKED.items() if flag in flags) + "."


def _incomplete(rounds) -> Iterator[Caveat]:
    """F17: no adaptive attack at a norm and eps; one caveat a norm."""
    for norm in dict.fromkeys(norm for norm, _ in budgets(rounds)):
        most = reached(rounds, norm, "adaptive")
        missing = [eps for of, eps in budgets(rounds) if of == norm and (eps > most or not any(
            r.norm == norm and r.within(eps).any() and r.knowledge in ATTACKERS["adaptive"]
            for r in rounds))]
        if missing:
            yield Caveat("F17", f"{norm} {', '.join(f'{eps:g}' for eps in missing)}: oblivious only; "
                         "says nothing of an attacker who knows the detector.",
                         {"norm": norm, "eps": missing})


def _order(rounds, detector) -> Iterator[Caveat]:
    """F9: an attacker who knows less wins images that one who knows more does not, so that the adaptive
    attack is not finished: per norm the score, rate and eps where it is most."""
    for norm in NORMS:
        most = max(_alone(rounds, detector, norm), key=lambda row: row["share"], default=None)
        if most and most["share"] > _ALONE:
            yield Caveat("F9", f"{norm} {most['eps']:g}, {most['score']} at {100 * most['rate']:g} %: "
                         f"attacks that do not know the detector win {100 * most['share']:.1f} % of "
                         "the images that none that knows it does: the adaptive attack is not "
                         "finished.",
                         most)


def _alone(rounds, detector, norm) -> Iterator[dict[str, Any]]:
    """Per budget of adaptive attacks, score and rate the share of images that oblivious ones win
    alone."""
    rounds = [r for r in rounds if r.norm == norm]
    tried = {r.eps for r in rounds if r.knowledge in ATTACKERS["adaptive"]} - {None}
    for eps, rate, score in itertools.product(sorted(tried), detector.false_refusal_rates.tolist(),
                                              (*detector.score_names, ALL_SCORES)):
        cases = [worst_case(rounds, score, rate, norm=norm, eps=eps, attacker=attacker)
                 for attacker in ("oblivious", "adaptive")]
        if None in cases:
            continue
        # Attacks may have been given other images: the same ones are compared.
        both = np.intersect1d(cases[0].image, cases[1].image)
        won = [case.part[np.searchsorted(case.image, both)] < PARTS.index("refused") for case in cases]
        if len(both):
            yield {"norm": norm, "eps": eps, "score": score, "rate": rate, "images": len(both),
                   "share": float(np.mean(won[0] & ~won[1]))}


def _thresholds(rounds, detector) -> Iterator[Caveat]:
    """F10: a threshold that refuses nothing, by what the score can be or by all that was seen."""
    number = num_images(rounds)
    for score in detector.score_names:
        for rate in detector.false_refusal_rates.tolist():
            threshold = detector.threshold(score, rate)
            told = {"score": score, "rate": rate, "threshold": threshold}
            if detector.accepts_everything(score, rate):
                yield Caveat("F10", f"{score} at {100 * rate:g} %: T is {threshold:g}, which accepts "
                             "every image: this detector refuses nothing.", told)
            # Of fewer images none need be refused.
            elif rate * number >= _FEW_BELOW and all(
                    answers[score][rate].all() for r in rounds
                    for answers in (r.accepted, r.accepted_before)):
                yield Caveat("F10", f"{score} at {100 * rate:g} %: T is {threshold:g}, and none of "
                             f"{number} images is refused, normal or attacked: this detector "
                             "refuses nothing.", told | {"images": number})


def false_refusals(rounds: Sequence[Tried], detector: Detector
                   ) -> Iterator[tuple[str, float, Share]]:
    """Score, rate and the share of normal images that are refused, of the attack with most images."""
    if not rounds:
        return
    largest = max(rounds, key=lambda r: len(np.unique(r.image)))
    first = np.unique(largest.image, return_index=True)[1]
    for score, rate in itertools.product(detector.score_names, detector.false_refusal_rates.tolist()):
        yield score, rate, share(~largest.accepted_before[score][rate][first])


def _false_refusals(rounds, detector) -> Iterator[Caveat]:
    """F11: more or fewer normal images are refused than T was fitted for."""
    for score, rate, found in false_refusals(rounds, detector):
        if not found.low <= rate <= found.high:
            yield Caveat(
                "F11", f"{score} at {100 * rate:g} %: {100 * found.value:.1f} % of {found.n} "
                f"normal images are refused (95 % interval {100 * found.low:.1f} to "
                f"{100 * found.high:.1f}).",
                {"score": score, "rate": rate, "refused": found.value, "n": found.n})


def _few(rounds, detector) -> Iterator[Caveat]:
    """F12: too few images, of the attacks or of the fit."""
    said = set()
    for norm, eps in budgets(rounds):
        found = worst_case(rounds, ALL_SCORES, detector.false_refusal_rates.tolist()[0], norm=norm,
                           eps=eps)
        # Once for as many images by the same attacks, whatever the eps.
        why = norm, len(found.image), found.shrinking
        if len(found.image) < _FEW_IMAGES and why not in said:
            said.add(why)
            yield Caveat("F12", f"{norm} {eps:g}: {len(found.image)} images are few" + (
                f", those that {', '.join(found.shrinking)} have" if found.shrinking else "") + ".",
                {"norm": norm, "eps": eps, "images": len(found.image)})
    for rate in detector.false_refusal_rates.tolist():
        below = round(rate * len(detector.fitted_on), 6)
        if 0 < below < _FEW_BELOW:
            yield Caveat("F12", f"T at {100 * rate:g} % was fitted on {len(detector.fitted_on)} "
                         f"images, of which {below:g} lie below it.",
                         {"rate": rate, "fitted_on": len(detector.fitted_on)})

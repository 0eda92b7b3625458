"""Which flaws of `evaluation/flaws.py` the results of attacks show, and which nobody could look for.

Keys of a run record (metrics of test_adv_run.json; rmc_run.json has none of them) that are read. All
may be absent: what they tell is then not checked, and said to be so.

  against, against_rate, detector_sha256   what was aimed at
  num_steps          gradients per image and start
  num_restarts       starts per image
  path_length        sum of all step lengths of a start, in units of eps
  trivial_success    per eps the share won by showing the nearest normal image of another class
  zero_gradients_at_start   images whose gradient is exactly zero at a start
  flat_loss_share    share of images whose loss at the start lies within 1 % of the same number
  check_steps_gain   by how much twice the steps raise the success rate, a share
  whole_box_success  success rate, a share, where an image may become any other (eps 1)
  forward_spread     largest difference of repeated forward passes, outputs scaled to norm 1

and of results.npz: first_broken, best_step, evaded, zero_gradient_steps.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import attacks
from defenses.detector import Detector
from evaluation import flaws, known_robustness, tries
from evaluation.soundness import Caveat
from evaluation.success import ATTACKERS, Tried, budgets, worst_case
from files.attack_results import AttackResults
from files.names import ALL_SCORES

_OF_GRADIENTS = {"F3", "F4", "F7", "F13"}


@dataclasses.dataclass(frozen=True)
class Run:
    """An attack's results, without the images that the detector was fitted on.

    Attributes:
      name: of the attack, with what it was told to do.
      attack: its row; None where no record tells.
      record: metrics of its run record.
      tried: one per eps.
      columns: arrays of results.npz, the rows of all `tried` one after the other; {} without.
      features: of the normal images of the first eps, float [n, d].
    """

    name: str
    attack: attacks.Attack | None
    record: Mapping[str, Any]
    tried: Sequence[Tried]
    columns: Mapping[str, np.ndarray]
    features: np.ndarray

    @property
    def knows(self) -> bool:
        """Whether its attacker knows, or asks, the detector that judges."""
        return self.tried[0].knowledge in ATTACKERS["adaptive"]

    @property
    def wrong(self) -> np.ndarray:
        """Of all `tried` together, bool [rows]."""
        return np.concatenate([tried.wrong for tried in self.tried])


def run_of(results: AttackResults, tried: Sequence[Tried], detector: Detector) -> Run:
    """The run that an attack's results are of.

    Args:
      results: all of them.
      tried: of the same those images that are judged, as `evaluation.tries.of_results`.
      detector: that judges.
    """
    attack, metrics = tries.told_of(results)
    kept = ~np.isin(results.image_digests, detector.fitted_images)
    columns = {name: array[kept] for name, array in (results.per_image or {}).items()}
    first = np.flatnonzero(kept[:results.num_per_eps])
    return Run(tried[0].variant, attack, metrics, tried, columns, results.normal.rows(first).features)


def look(runs: Sequence[Run], detector: Detector) -> tuple[list[Caveat], set[str]]:
    """Every flaw there is to be seen, in order, and the flags that could not be looked for."""
    rate = float(detector.false_refusal_rates.max())
    found = [*_repeated(runs), *_noise(runs, rate), *_queries(runs, rate), *_whole_box(runs),
             *_large_budgets(runs, rate), *_less_wins(runs), *_half_eps(runs, detector, rate)]
    for run in runs:
        found += _of_run(run, rate)
    unchecked = {flag for flag in found if isinstance(flag, str)}
    caveats = [flag for flag in found if isinstance(flag, Caveat)]
    return sorted(caveats, key=lambda caveat: int(caveat.flag[1:])), unchecked


def _repeated(runs):
    """F1: every run is a forward pass of its normal images."""
    spreads = [run.record["forward_spread"] for run in runs if "forward_spread" in run.record]
    images = [np.unique(run.tried[0].image, return_index=True) for run in runs]
    common = functools.reduce(np.intersect1d, [own for own, _ in images]) if runs else ()
    if spreads:
        yield flaws.spread_of(max(spreads))
    elif len(runs) < 2 or not len(common):
        yield "F1"
    else:
        yield flaws.randomised([run.features[first[np.searchsorted(own, common)]]
                                for run, (own, first) in zip(runs, images, strict=True)])


def _noise(runs, rate):
    """F14: random noise is what takes nothing of the network."""
    noise = [tried for run in runs if run.attack and set(run.attack.takes) == {"seed"}
             for tried in run.tried if tried.eps is not None]
    if not noise:
        yield "F14"
    for tried, score in itertools.product(noise, noise[0].accepted if noise else ()):
        refused = [~answers[score][rate] for answers in (tried.accepted, tried.accepted_before)]
        yield flaws.refuses_noise(score, rate, *refused, tried.eps)


def _queries(runs, rate):
    """F5: attacks that see scores alone, at each eps against the best of those that follow gradients to
    the same goal."""
    asked = [(run, tried) for run in runs for tried in run.tried if tried.knowledge == "scores"]
    followed = [(run, tried) for run in runs for tried in run.tried if tried.knowledge == "adaptive"]
    compared = False
    for run, one in asked:
        others = [tried for other, tried in followed if (tried.norm, tried.eps) == (one.norm, one.eps)
                  and set(other.record.get("against", ())) == set(run.record.get("against", ()))]
        images = functools.reduce(np.intersect1d, [tried.image for tried in others], one.image)
        if others and len(images):
            compared = True
            goal = _goal(run, rate)
            won = [_won(tried, *goal, images) for tried in (one, *others)]
            yield flaws.queries_beat_gradients(images, won[0], max(won[1:], key=np.mean))
    if not compared:
        yield "F5"


def _whole_box(runs):
    """F8: of the attacks that know the detector the best with the whole box to move in."""
    told = [run.record["whole_box_success"] for run in runs
            if run.knows and "whole_box_success" in run.record]
    if told:
        yield flaws.large_budget(1.0, max(told))
    elif not any(run.knows and tried.norm == "linf" and tried.eps == 1 for run in runs
                 for tried in run.tried):
        yield "F8"


def _large_budgets(runs, rate):
    """F8 within eps: the best of the attacks that know the detector against showing another image."""
    rounds = [tried for run in runs for tried in run.tried]
    for norm, eps in budgets(rounds):
        case = worst_case(rounds, ALL_SCORES, rate, norm=norm, eps=eps, attacker="adaptive")
        if norm == "linf" and case and len(case.image):
            shown = max((share for run in runs for tried, share in _trivial(run)
                         if (tried.norm, tried.eps) == (norm, eps)), default=0.0)
            yield flaws.large_budget(eps, case.success.value, shown)


def _trivial(run):
    """Of each eps the share of images that showing another one wins; nothing where it is not told."""
    # Of images that only some of the scores accept nothing follows for all.
    at_all = set(run.record.get("against", ())) == set(run.tried[0].accepted) - {ALL_SCORES}
    told = run.record.get("trivial_success") if run.knows and at_all else None
    return zip(run.tried, told, strict=True) if told else ()


def _half_eps(runs, detector, rate):
    """F15: what is left right and answered, against the best classifier that is known at eps / 2."""
    rounds = [tried for run in runs for tried in run.tried]
    compared = False
    for norm, eps in budgets(rounds):
        known = known_robustness.best(detector.network.get("dataset", ""), norm, eps / 2)
        case = worst_case(rounds, ALL_SCORES, rate, norm=norm, eps=eps)
        if known and case:
            compared = True
            yield flaws.beyond_what_is_known(norm, eps, case.shares()["answered_right"], known)
    if not compared:
        yield "F15"


def _own_goal(run):
    """The scores that a run aimed at, and the rate of their thresholds; None where it tells none that
    the detector has."""
    accepted = run.tried[0].accepted
    against, rate = run.record.get("against"), run.record.get("against_rate")
    if not against or any(name not in accepted or rate not in accepted[name] for name in against):
        return None
    return tuple(against), rate


def _goal(run, rate):
    """The same; all scores, and `rate`, where there is none."""
    return _own_goal(run) or ((ALL_SCORES,), rate)


def _passed(tried, names, rate):
    """bool [n]: wrong, and accepted by each of the scores."""
    return tried.wrong & np.all([tried.accepted[name][rate] for name in names], axis=0)


def _won(tried, names, rate, images):
    """bool [n]: which of the images, those of `images`, are wrong and accepted."""
    rows = tried.order[np.searchsorted(tried.image, images, sorter=tried.order)]
    return _passed(tried, names, rate)[rows]


def _less_wins(runs):
    """F9: one step misclassifies what many do not; another network's images what this one's do not."""
    own = [run for run in runs if run.attack and run.attack.uses_eps and run.attack.climbs]
    many = [tried for run in own for tried in run.tried if tried.knowledge != "transfer" and any(
        setting.keyword == "num_steps" for setting in run.attack.settings)]
    for name, tried in ((run.name, tried) for run in own for tried in run.tried):
        others = [other for other in many if (other.norm, other.eps) == (tried.norm, tried.eps)]
        images = functools.reduce(np.intersect1d, [other.image for other in others], tried.image)
        if any(tried is one for one in many) or not others or not len(images):
            continue
        wrong = [each.wrong[each.order[np.searchsorted(each.image, images, sorter=each.order)]]
                 for each in (tried, *others)]
        yield flaws.weaker_wins(f"{name} (eps {tried.eps:g}, misclassified)", wrong[0],
                                "any attack of many steps on this network", np.any(wrong[1:], axis=0),
                                least=0.02)


def _of_run(run, rate):
    """F3, F4, F6, F7, F9, F13 and F16; the flag alone where an attack that knows the detector does not
    tell what it takes."""
    for flag, check in _checks(run, rate).items():
        if check is not None:
            yield check()
        # Of an attack without a gradient these have nothing to say.
        elif run.knows and (run.attack is None or run.attack.climbs or flag not in _OF_GRADIENTS):
            yield flag
    for tried in run.tried:
        if tried.eps is not None:
            yield flaws.small_budget(run.name, tried.norm, tried.eps)


def _checks(run, rate):
    """Flag → what looks for it; None where the run does not tell what that takes."""
    record, columns, name = run.record, run.columns, run.name
    steps, restarts = record.get("num_steps"), record.get("num_restarts", 1)
    zero, at_start = columns.get("zero_gradient_steps"), record.get("zero_gradients_at_start")
    # No step without a gradient is none of however many.
    counted = zero is not None and (steps or not np.any(zero))
    gain, by_judge = record.get("check_steps_gain"), aimed(run)
    late = steps and {"best_step", "evaded"} <= set(columns)
    goal = _goal(run, rate)
    by_eps = {tried.eps: _passed(tried, *goal) for tried in run.tried}
    same = all(np.array_equal(tried.image, run.tried[0].image) for tried in run.tried)
    return {
        "F3": None if at_start is None and not counted else lambda: (
            flaws.zero_gradient(name, zero if counted else None, steps or 1, at_start or 0)),
        "F4": None if "flat_loss_share" not in record else lambda: (
            flaws.flat_loss(name, record["flat_loss_share"])),
        "F6": None if restarts < 2 or "first_broken" not in columns else lambda: (
            flaws.last_restart(name, columns["first_broken"], restarts)),
        "F7": None if gain is None and not late else lambda: (
            flaws.not_converged(name, columns.get("best_step", np.zeros(0)),
                                columns.get("evaded", np.zeros(0)) > 0, steps or 1, gain)),
        # One eps alone cannot be in the wrong order.
        "F9": lambda: flaws.falls_with_eps(name, by_eps) if run.knows and same and len(
            by_eps) > 1 and None not in by_eps else None,
        "F13": None if "path_length" not in record else lambda: (
            flaws.short_path(name, record["path_length"])),
        "F16": None if by_judge is None or "evaded" not in columns else lambda: (
            flaws.judge_disagrees(name, columns["evaded"] > 0, by_judge))}


def aimed(run: Run) -> np.ndarray | None:
    """bool [rows]: wrong and past all that was aimed at; None where nothing was, or of another
    detector."""
    goal = _own_goal(run)
    if not run.knows or goal is None:
        return None
    return np.concatenate([_passed(tried, *goal) for tried in run.tried])

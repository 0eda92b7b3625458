"""What an attacker gets out of a detector: the share of images that some attack gets answered wrongly.

Per image first, over the attacks next, the mean last: one attack that gets through is enough. Nothing
here knows how an attack works, only what it knew, how far it went, and what the detector said of its
images by its float64 scores. (Definitions: shared/specs/ADAPTIVE.md, section 2.)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from defenses.detector import Detector
from evaluation.rounds import Round
from files.names import ALL_SCORES

# Of results that were made to pass another detector: who knows this one might do better, and who knows
# none would not have made them.
STALE = "stale"
# Who is asked about: what an attacker knew → the knowledge of its attacks.
ATTACKERS = {"oblivious": ("oblivious", "transfer"), "adaptive": ("adaptive", "scores", "answers"),
             "all": ("oblivious", "transfer", "adaptive", "scores", "answers", STALE)}
# Of budgets; attacks that measure otherwise have none.
NORMS = ("linf", "l2")
# The parts of all images, disjoint; the first three are successes.
PARTS = ("natural", "evaded", "evaded_though_refused", "refused", "answered_right")
# Distances are measured in float32 pixels: a step of the ball's very radius may round beyond it.
_RADIUS_SLACK = 1 + 1e-4


class Share(NamedTuple):
    """A share of n images with Wilson's 95 % interval; all NaN where n is 0."""

    value: float
    low: float
    high: float
    n: int


def shown(counted: Share) -> str:
    """A share in per cent with its 95 % interval."""
    return (f"{100 * counted.value:.1f} % [{100 * counted.low:.1f}, {100 * counted.high:.1f}]")


@dataclasses.dataclass(frozen=True)
class Tried:
    """An attack at one eps, as the detector answers its images.

    Attributes:
      variant: the attack with what it was told to do, as `files.names.variant_of` names it.
      knowledge: of `attacks.KNOWLEDGE`, or STALE.
      norm: in which it measures; "" where nobody told.
      eps: largest change; None of a search, whose distances tell.
      image: which picture each row is, [n].
      wrong: bool [n], whether the answer would be wrong.
      accepted: score → rate → bool [n], whether it would be given; ALL_SCORES: by every score.
      wrong_before: as `wrong`, of the normal image.
      accepted_before: as `accepted`, of the normal image.
      distance: float [n] in `norm`; None where not told.
    """

    variant: str
    knowledge: str
    norm: str
    eps: float | None
    image: np.ndarray
    wrong: np.ndarray
    accepted: Mapping[str, Mapping[float, np.ndarray]]
    wrong_before: np.ndarray
    accepted_before: Mapping[str, Mapping[float, np.ndarray]]
    distance: np.ndarray | None = None

    @functools.cached_property
    def order(self) -> np.ndarray:
        """The rows in order of `image`, int [n]."""
        return np.argsort(self.image, kind="stable")

    def within(self, eps: float) -> np.ndarray:
        """bool [n]: rows whose change is no larger than eps; of a round with an eps all or none."""
        if self.eps is not None:
            return np.full(len(self.image), self.eps <= eps)
        if self.distance is None:
            return np.zeros(len(self.image), bool)
        return self.distance <= eps * _RADIUS_SLACK


def tried(scored: Round, detector: Detector, *, knowledge: str, norm: str,
          distance: np.ndarray | None = None) -> Tried:
    """A round as a detector answers it; arguments as the attributes of `Tried`."""
    accepted, before = (
        {name: {rate: detector.accepts(scores, name, rate)
                for rate in detector.false_refusal_rates.tolist()} for name in detector.score_names}
        for scores in (scored.adversarial, scored.normal))
    for answers in (accepted, before):
        answers[ALL_SCORES] = {rate: np.all([answers[name][rate] for name in detector.score_names],
                                            axis=0) for rate in detector.false_refusal_rates.tolist()}
    return Tried(scored.attack, knowledge, norm, scored.eps, scored.image, ~scored.right_adversarial,
                 accepted, ~scored.right_normal, before, distance)


@dataclasses.dataclass(frozen=True)
class WorstCase:
    """The worst over some attacks, of the images that all attacks within the budget have.

    Attributes:
      image: which pictures, [n].
      part: of each, which of PARTS, int [n].
      detected: share of the images that some attack makes wrong whose every wrong example is refused.
      attacks: variants that count.
      shrinking: of those of every attacker, which lack images that others have.
    """

    image: np.ndarray
    part: np.ndarray
    detected: Share
    attacks: tuple[str, ...]
    shrinking: tuple[str, ...]

    @property
    def won(self) -> np.ndarray:
        """Whether each image is answered wrongly, bool [n]."""
        return self.part < PARTS.index("refused")

    @property
    def success(self) -> Share:
        """The share of images that are answered wrongly."""
        return share(self.won)

    @property
    def of_answered(self) -> Share:
        """The same of those that are right and answered when normal."""
        evaded, right = PARTS.index("evaded"), PARTS.index("answered_right")
        counted = self.part[np.isin(self.part, (evaded, right))]
        return share(counted == evaded)

    def shares(self) -> dict[str, float]:
        """Name of each of PARTS → its share; they sum to 1."""
        return {name: float(np.mean(self.part == number)) if len(self.part) else float("nan")
                for number, name in enumerate(PARTS)}


def worst_case(rounds: Sequence[Tried], score: str, rate: float, *, norm: str, eps: float,
               attacker: str = "all") -> WorstCase | None:
    """The worst that an attacker can do within a budget; the normal image is one of the candidates.

    Args:
      rounds: of all attacks on one network.
      score: by which the detector decides, or ALL_SCORES: it answers where every score accepts.
      rate: of its false refusals.
      norm: of the budget.
      eps: largest change.
      attacker: of ATTACKERS.

    Returns:
      None where no such attack was run.
    """
    tried_within = [r for r in rounds if r.norm == norm and r.within(eps).any()]
    chosen = [r for r in tried_within if r.knowledge in ATTACKERS[attacker]]
    if not chosen:
        return None
    # Of all attackers, so that one is compared with the other on the same images.
    image, shrinking = _common(tried_within)
    evaded, wrong, answered = (np.zeros(len(image), bool) for _ in range(3))
    for r in chosen:
        rows = _rows(r, image)
        hit = r.wrong[rows] & r.within(eps)[rows]
        wrong |= hit
        answered |= hit & r.accepted[score][rate][rows]
        evaded |= answered
    first = chosen[0]
    rows = _rows(first, image)
    natural = first.wrong_before[rows] & first.accepted_before[score][rate][rows]
    refused_before = ~first.accepted_before[score][rate][rows]
    part = np.select([natural, evaded & ~refused_before, evaded, refused_before],
                     range(len(PARTS) - 1), len(PARTS) - 1)
    # Wrong and answered before any attack is no image that an attack had to be detected on.
    attacked = wrong & ~natural
    return WorstCase(image, part, share(~answered[attacked]),
                     tuple(dict.fromkeys(r.variant for r in chosen)), shrinking)


def reached(rounds: Sequence[Tried], norm: str, attacker: str) -> float:
    """The largest budget of a norm that an attacker of ATTACKERS has been tried at; 0 for none, inf of
    a search, which has no bound. Above it more might be won than its worst case has."""
    return max((float("inf") if r.eps is None else r.eps for r in rounds
                if r.norm == norm and r.knowledge in ATTACKERS[attacker]), default=0.0)


def _common(rounds):
    """The images that all have, in order of their digests; and who lacks some."""
    # Of one round, too: intersect1d sorts, and counts equal pictures once.
    common = functools.reduce(np.intersect1d, [r.image for r in rounds], rounds[0].image)
    every = np.unique(np.concatenate([r.image for r in rounds]))
    lacking = (r.variant for r in rounds if len(np.unique(r.image)) < len(every))
    return common, tuple(dict.fromkeys(lacking))


def _rows(r, image):
    """Where the images lie in a round."""
    return r.order[np.searchsorted(r.image, image, sorter=r.order)]


def share(values: np.ndarray) -> Share:
    """The share of True in bool [n]."""
    n = len(values)
    if not n:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    # Here, since detect.py starts with NumPy alone.
    from scipy.stats import binomtest

    count = int(np.count_nonzero(values))
    # The normal approximation leaves [0, 1], where these shares lie.
    interval = binomtest(count, n).proportion_ci(method="wilson")
    return Share(count / n, float(interval.low), float(interval.high), n)


def num_images(rounds: Sequence[Tried]) -> int:
    """How many different images some attacks have."""
    return len(functools.reduce(np.union1d, [r.image for r in rounds], np.zeros(0)))


def budgets(rounds: Sequence[Tried]) -> list[tuple[str, float]]:
    """(norm, eps) of every budget that an attack was run at, in order."""
    return sorted({(r.norm, r.eps) for r in rounds if r.eps is not None and r.norm in NORMS},
                  key=lambda budget: (NORMS.index(budget[0]), budget[1]))

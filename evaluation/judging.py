"""A fitted detector judged on attacked images: per attack, eps and score, and in the worst case.

The tables that detect.py prints are here, too.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from defenses import PUBLISHED_SCORES, SCORES, thresholds
from defenses import detector as detectors
from evaluation import metrics
from evaluation.rounds import SUBSETS, Round


def evaluate(rounds: Sequence[Round], detector: detectors.Detector,
             **sampling) -> list[dict[str, Any]]:
    """Every figure of every round, and of the worst case over all of them.

    Args:
      rounds: of all attacks.
      detector: gives the thresholds.
      **sampling: keywords of `metrics.separation`.

    Returns:
      One row per attack, eps, subset and score: "attack", "eps", "subset", "score", "n", and under
      "figures" name → `metrics.Estimate`: those of `metrics.SEPARATION`; per rate r in percent
      "accepted_at_r", the share of adversarial images that the detector answers, and
      "good_at_r", the share of all images, normal and adversarial, that are answered right or are
      adversarial and refused. No figures where n is 0. The attack "worst_case" takes of each image
      the successful example with the highest score.
    """
    rows = []
    for r, subset, score in itertools.product(rounds, SUBSETS, SCORES):
        rows.append(_row(r, subset, score, detector, **sampling))
    for score in SCORES:
        worst = _worst_case(rounds, score)
        if worst is not None:
            rows.append(_row(worst, "successful", score, detector, **sampling))
    return rows


def _row(r, subset, score, detector, *, matlab_ties=False, **sampling):
    chosen = r.subset(subset)
    row = {"attack": r.attack, "eps": r.eps, "subset": subset, "score": score, "n": int(chosen.sum()),
           "figures": {}}
    if row["n"]:
        normal, adversarial = r.normal[score][chosen], r.adversarial[score][chosen]
        row["figures"] = metrics.separation(
            normal, adversarial, matlab_ties=matlab_ties, **sampling)
        for rate, accepts_normal, accepts_adversarial in _answers(normal, adversarial, score, detector):
            good = (accepts_normal & r.right_normal[chosen]) * 0.5 + (
                ~accepts_adversarial | r.right_adversarial[chosen]) * 0.5
            for name, values in (("accepted", accepts_adversarial), ("good", good)):
                row["figures"][f"{name}_at_{100 * rate:g}"] = metrics.mean(values, **sampling)
    return row


def _answers(normal, adversarial, score, detector) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Per false refusal rate: which normal and which adversarial images are answered."""
    for rate in detector.false_refusal_rates.tolist():
        threshold = detector.threshold(score, rate)
        yield rate, *(thresholds.accepts(values, threshold) for values in (normal, adversarial))


def _worst_case(rounds, score):
    """Of each image the successful example with the highest score; None without any success."""
    best = {}
    for r in rounds:
        for i in np.flatnonzero(r.subset("successful")):
            image, value = r.image[i], r.adversarial[score][i]
            if image not in best or value > best[image][1]:
                best[image] = (r.normal[score][i], value)
    if not best:
        return None
    normal, adversarial = np.array(list(best.values())).T
    return Round("worst_case", None, np.array(list(best)), {score: normal}, {score: adversarial},
                 np.ones(len(best), bool), np.zeros(len(best), bool))


def format_rows(rows: Sequence[Mapping[str, Any]], rate: float, subset: str = "successful") -> str:
    """A table within 120 columns: per attack and eps AUROC and share accepted (%) by each score.

    Args:
      rows: of `evaluate`.
      rate: false refusal rate of the shares.
      subset: of SUBSETS.
    """
    accepted = f"accepted_at_{100 * rate:g}"
    width = 9 * len(SCORES)
    titles = "".join(f"{SCORES[name].short:>9}" for name in SCORES)
    lines = [f"{'':25} |{' AUROC (%)':<{width}} | {f'accepted at T of {100 * rate:g} % (%)':<{width}}",
             f"{'attack':<13}{'eps':>6}{'n':>6} |{titles} |{titles}"]
    chosen = [row for row in rows if row["subset"] == subset]
    for (attack, eps), group in itertools.groupby(chosen, lambda row: (row["attack"], row["eps"])):
        group = {row["score"]: row for row in group}
        cells = ["".join(f"{_percent(group[name]['figures'].get(figure)):>9}"
                         for name in SCORES) for figure in ("auroc", accepted)]
        lines.append(f"{_SHORT.get(attack, attack):<13}{eps_text(eps):>6}"
                     f"{group['confidence']['n']:>6} |{cells[0]} |{cells[1]}")
    return "\n".join(lines)


def format_aucs(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The AUCs (%) of one or two objectives side by side, one line per eps, within 100 columns.

    Args:
      tables: RCE or CE → what `evaluate_rounds` returned.

    Returns:
      Lines of text; "n/a" where no image counts, "-" where an objective lacks the eps.
    """
    head = _columns("n", [SCORES[name].title for name in PUBLISHED_SCORES])
    lines = [" " * 6 + "".join(f" | {tag:<{len(head)}}" for tag in tables).rstrip(),
             f"{'eps':>6}" + f" | {head}" * len(tables)]
    for eps in dict.fromkeys(row["eps"] for table in tables.values() for row in table):
        line = f"{eps_text(eps):>6}"
        for table in tables.values():
            row = next((row for row in table if row["eps"] == eps), None)
            line += " | " + _format_row(row)
        lines.append(line)
    return "\n".join(lines)


def _format_row(row):
    if row is None:
        return _columns("-", ["-"] * len(PUBLISHED_SCORES))
    return _columns(row["n"], ["n/a" if math.isnan(row["auc"][name]) else
                               f"{100 * row['auc'][name]:.2f}" for name in PUBLISHED_SCORES])


def _columns(first, others):
    return "  ".join([f"{first:>5}", *(f"{other:>10}" for other in others)])


def eps_text(eps: float | None) -> str:
    """eps as tables and titles show it, two decimals where they suffice; "-" for none."""
    if eps is None:
        return "-"
    return f"{eps:.2f}" if round(eps, 2) == eps else f"{eps:.4g}"


_SHORT = {"carliniL2_highcon": "C&W L2 hc", "carliniL2": "C&W L2",
          "carliniL2_highden": "white-box", "carliniL2_specific": "white-box hc",
          "worst_case": "worst case"}


def _percent(estimate):
    return "n/a" if estimate is None or math.isnan(estimate.value) else f"{100 * estimate.value:.1f}"

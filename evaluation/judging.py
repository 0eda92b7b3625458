"""A fitted detector judged on attacked images: per attack, eps and score, and in the worst case.

The tables that detect.py prints are here, too.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from defenses import SCORES, thresholds
from defenses import detector as detectors
from evaluation import metrics
from evaluation.rounds import SUBSETS, Round


def evaluate(rounds: Sequence[Round], detector: detectors.Detector,
             **sampling) -> list[dict[str, Any]]:
    """Every figure of every round, and of the worst case over all of them.

    Args:
      rounds: of all attacks.
      detector: gives the thresholds; of its scores.
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
    for r, subset, score in itertools.product(rounds, SUBSETS, detector.score_names):
        rows.append(_row(r, subset, score, detector, **sampling))
    for score in detector.score_names:
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
            # The image's digest: rounds of several attacks may hold other images, or in another order.
            image, value = r.image[i], r.adversarial[score][i]
            if image not in best or value > best[image][1]:
                best[image] = (r.normal[score][i], value)
    if not best:
        return None
    # With its normal score beside it, as intervals draw an image with both.
    normal, adversarial = np.array(list(best.values())).T
    return Round("worst_case", None, np.array(list(best)), {score: normal}, {score: adversarial},
                 np.ones(len(best), bool), np.zeros(len(best), bool))


def auc_table(rounds: Sequence[Round], eps_round: int = 0, *,
              matlab_ties: bool = False) -> list[dict[str, Any]]:
    """AUC of each score in each round of an eps sweep, over the images that count.

    Args:
      rounds: of an attack.
      eps_round: the only round to look at, from 1; 0: all.
      matlab_ties: as in `metrics.auc`.

    Returns:
      Per round: {"round": from 1, "eps", "n": images that count, "auc": {score: float}}, the AUCs
      NaN where n is 0.
    """
    table = []
    for number, r in enumerate(rounds, 1):
        # Numbered from 1, as the original's eps_round (eps = 0.02 · it): 0 is free for all of them.
        if eps_round in (0, number):
            counted = r.where(r.subset("successful"))
            table.append({"round": number, "eps": r.eps, "n": len(counted.image), "auc": {
                name: metrics.auc(counted.normal[name], counted.adversarial[name],
                                  matlab_ties=matlab_ties) for name in r.normal}})
    return table


def format_rows(rows: Sequence[Mapping[str, Any]], rate: float, subset: str = "successful") -> str:
    """A table: per attack and eps AUROC and share accepted (%) by each score; 120 columns for five.

    Args:
      rows: of `evaluate`.
      rate: false refusal rate of the shares.
      subset: of SUBSETS.
    """
    accepted = f"accepted_at_{100 * rate:g}"
    names = list(dict.fromkeys(row["score"] for row in rows))
    width = 9 * len(names)
    titles = "".join(f"{SCORES[name].short:>9}" for name in names)
    lines = [f"{'':25} |{' AUROC (%)':<{width}} | {f'accepted at T of {100 * rate:g} % (%)':<{width}}",
             f"{'attack':<13}{'eps':>6}{'n':>6} |{titles} |{titles}"]
    chosen = [row for row in rows if row["subset"] == subset]
    # groupby joins neighbours only: rows come attack by attack, eps by eps, as `evaluate` makes them.
    for (attack, eps), group in itertools.groupby(chosen, lambda row: (row["attack"], row["eps"])):
        group = {row["score"]: row for row in group}
        cells = ["".join(f"{_percent(group[name]['figures'].get(figure)):>9}"
                         for name in names) for figure in ("auroc", accepted)]
        lines.append(f"{_SHORT.get(attack, attack):<13}{eps_text(eps):>6}"
                     f"{group[names[0]]['n']:>6} |{cells[0]} |{cells[1]}")
    return "\n".join(lines)


def format_thresholds(detector: detectors.Detector) -> str:
    """A line per score: its name, and its T at each false refusal rate."""
    rates = detector.false_refusal_rates.tolist()
    return "\n".join(
        f"  {score:<14}" + "".join(f"  T({100 * rate:g} %) = {value:.6g}"
                                   for rate, value in zip(rates, values, strict=True))
        for score, values in zip(detector.score_names, detector.thresholds, strict=True))


def format_answers(names: Sequence[str], answer: Any) -> str:
    """A line per image: its name, its class or NOT SURE, and its scores.

    Args:
      names: of the images.
      answer: of these images, a `defenses.deployed.Answer`.
    """
    width = max(len("image"), *map(len, names))
    lines = [f"{'image':<{width}}  {'answer':>8}" + "".join(f"  {name:>13}" for name in answer.scores)]
    for row, (name, word) in enumerate(zip(names, answer.words(), strict=True)):
        lines.append(f"{name:<{width}}  {word:>8}" + "".join(
            f"  {values[row]:>13.6g}" for values in answer.scores.values()))
    return "\n".join(lines)


def format_aucs(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The AUCs (%) of one or two networks side by side, one line per eps, within 100 columns.

    Args:
      tables: what the network is called → rows of `auc_table`, all of the same scores.

    Returns:
      Lines of text; "n/a" where no image counts, "-" where a network lacks the eps.
    """
    rows = [row for table in tables.values() for row in table]
    names = list(rows[0]["auc"])
    head = _columns("n", [SCORES[name].title for name in names])
    # What a defended network is called may be longer than its columns.
    width = max(len(head), *map(len, tables))
    lines = [" " * 6 + "".join(f" | {title:<{width}}" for title in tables).rstrip(),
             (f"{'eps':>6}" + f" | {head:<{width}}" * len(tables)).rstrip()]
    for eps in dict.fromkeys(row["eps"] for row in rows):
        line = f"{eps_text(eps):>6}"
        for table in tables.values():
            row = next((row for row in table if row["eps"] == eps), None)
            line += f" | {_format_row(row, names):<{width}}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _format_row(row, names):
    if row is None:
        return _columns("-", ["-"] * len(names))
    return _columns(row["n"], ["n/a" if math.isnan(row["auc"][name]) else
                               f"{100 * row['auc'][name]:.2f}" for name in names])


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

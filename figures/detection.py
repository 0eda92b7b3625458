"""The figures of the first paper version (arXiv 1706.00633v1) and of the last, from attacked images.

Each function turns the rounds of an evaluation into panels, bars or clouds of drawing.py; `drawings`
says which of them belong to the attacks there are.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from defenses import SCORES
from defenses.detector import Detector
from defenses.scores import j_score, kernel_non_me
from evaluation import judging, metrics
from evaluation.rounds import Round
from figures import drawing
from files import attack_results

# Against eps. Kernel non-ME orders images as non-ME does, but for those whose value underflows to 0:
# one line stands for both.
DRAWN_SCORES = ("confidence", "non_me", "j_score", "k_density")
# η → colour and marker of its J-score; that of η = 1 has the ones of the score.
ETA_STYLE = {0.1: drawing.LINE_STYLE[2], 1.0: drawing.SCORE_STYLE["j_score"][1:],
             10.0: drawing.LINE_STYLE[3], 100.0: drawing.LINE_STYLE[6]}
NUM_THRESHOLDS = 101
# Images of a t-SNE panel, each as a normal and as an adversarial point.
TSNE_IMAGES = 350

_EPS = "eps (largest change of a pixel, range 1)"
# What shows one round of a sweep shows the one closest to this eps.
_SHOWN_EPS = 0.1
# A ROC curve keeps one point per this rise of the sum of both rates.
_ROC_STEP = 1 / 200
# Kernel non-ME lies on non-ME, which shows between its dots.
_ROC_LINE = {"kernel_non_me": ":"}
_PIXEL_RANGE = 255
# Lines of networks of --beside.
_OTHER_LINES = (":", "-.")


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What is drawn of one attack on one network.

    Attributes:
      rounds: in order of eps.
      distortions: of `minimal_distortions`.
      features: per round what `tsne_features` takes; empty where no t-SNE is wanted.
      cost: --attack_cost, "ce" or "rce".
    """

    rounds: Sequence[Round]
    distortions: np.ndarray
    features: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    cost: str = attack_results.USUAL_COST


def drawings(attacked: Mapping[str, Mapping[str, Attacked]], detectors: Mapping[str, Detector],
             networks: str, seed: int = 0,
             beside: Mapping[str, Mapping[str, Sequence[Round]]] | None = None
             ) -> dict[str, Callable[[Any], None]]:
    """Every figure that the results allow: its name → what draws it to a path.

    Args:
      attacked: attack → objective → what is drawn of it.
      detectors: objective → its detector.
      networks: what stands in the titles for data set and network.
      seed: of the bootstrap and the t-SNE.
      beside: name of another network → attack → its rounds in order of eps, for the thresholds.

    Curves over eps need several eps of each objective, those of a round images that count.
    """
    drawn = {}
    rounds = {attack: {objective: a.rounds for objective, a in by_objective.items()}
              for attack, by_objective in attacked.items()}
    swept = {attack: by_objective for attack, by_objective in rounds.items()
             if all(len(sweep) > 1 for sweep in by_objective.values())}
    if swept:
        drawn["robustness"] = partial(drawing.panels, row=robustness(swept),
                                      title=f"accuracy under attack, {networks}")
    bars = distortions(attacked, seed)
    if any(bar.n for bar in bars):
        drawn["distortions"] = partial(
            drawing.bars, row=bars, ylabel="mean RMS of minimal distortions (pixels of 0 to 255)",
            title=f"minimal distortions, {networks}")
    for attack, by_objective in attacked.items():
        shown_as = _with_cost(attack, by_objective.values())
        panels = {}
        if attack in swept:
            others = {name: sweeps[attack] for name, sweeps in (beside or {}).items()
                      if attack in sweeps}
            panels = _over_eps(shown_as, swept[attack], detectors, networks, others)
        panels |= _at_one_eps(shown_as, by_objective, networks, seed)
        drawn |= {f"{name}_{attack}": draw for name, draw in panels.items()}
    return drawn


def _with_cost(attack, attacked):
    """The name of an attack in titles, with what it raises where that is not the usual cost."""
    costs = sorted({a.cost for a in attacked})
    if costs == [attack_results.USUAL_COST]:
        return attack
    return f"{attack} ({' and '.join(costs).upper()} cost)"


def _over_eps(attack, rounds, detectors, networks, beside):
    rows = {"auroc": (auroc_against_eps(rounds), f"normal against {attack}"),
            "top_half": (top_half(rounds), f"normal and {attack} images mixed")}
    sweeps = {**rounds, **beside}
    largest = max(len(r.image) for sweep in sweeps.values() for r in sweep)
    common = set.intersection(*({r.eps for r in sweep} for sweep in sweeps.values()))
    if common:
        eps = max(common)
        at_eps = {name: next(r for r in sweep if r.eps == eps) for name, sweep in sweeps.items()}
        rows["thresholds"] = against_threshold(at_eps), f"{attack}, eps {judging.eps_text(eps)}"
    rows["scores"] = scores_against_eps(rounds, detectors), f"{attack} images"
    below = f"{networks}, {largest} images an eps"
    return {name: partial(drawing.panels, row=row, title=f"{title}\n{below}")
            for name, (row, title) in rows.items()}


def _at_one_eps(attack, attacked, networks, seed):
    """ROC curves and, where features are there, t-SNE of the round of `shown_eps`."""
    counted = {objective: [r.eps for r in a.rounds if r.subset("successful").any()]
               for objective, a in attacked.items()}
    eps = shown_eps(counted.values())
    shown = {objective: next(k for k, r in enumerate(attacked[objective].rounds) if r.eps == eps)
             for objective, values in counted.items() if eps in values}
    if not shown:
        return {}
    title = f"{attack if eps is None else f'{attack}, eps {judging.eps_text(eps)}'}\n{networks}"
    drawn = {"roc": partial(
        drawing.panels, title=f"normal against {title}",
        row=roc({objective: attacked[objective].rounds[k] for objective, k in shown.items()}))}
    features = {objective: attacked[objective].features[k] for objective, k in shown.items()
                if attacked[objective].features}
    if features:
        drawn["tsne"] = partial(_draw_tsne, features=features, seed=seed,
                                title=f"t-SNE of features, normal and {title}")
    return drawn


def shown_eps(counted: Iterable[Iterable[float | None]]) -> float | None:
    """Which round of a sweep a figure of one round shows.

    Args:
      counted: of each objective, the eps at which images count.

    Returns:
      The eps closest to 0.1 at which images of every objective count, or else of one; None where an
      attack has no eps, or no image counts.
    """
    counted = [set(values) for values in counted]
    candidates = set.intersection(*counted) or set.union(*counted)
    return min(candidates, key=lambda eps: abs((eps or 0) - _SHOWN_EPS), default=None)


def roc(rounds: Mapping[str, Round]) -> list[drawing.Panel]:
    """ROC curves of each score, a panel per objective, of images right when normal and wrong after.

    Args:
      rounds: objective → one round, of which images count.
    """
    row = []
    for objective, r in rounds.items():
        chosen = r.subset("successful")
        row.append(roc_panel(f"{objective.upper()}, {chosen.sum()} images", [
            roc_curve(drawing.SCORE_STYLE[score][0], score, r.normal[score][chosen],
                      r.adversarial[score][chosen], line=_ROC_LINE.get(score, "-"))
            for score in SCORES]))
    return row


def roc_panel(title: str, curves: Sequence[drawing.Curve]) -> drawing.Panel:
    """The axes of ROC curves."""
    return drawing.Panel(title, "false positive rate (adversarial images accepted)",
                       "true positive rate (normal images accepted)", curves, (-0.02, 1.02), True)


def roc_curve(name: str, score: str, normal: np.ndarray, adversarial: np.ndarray,
              auroc: float | None = None, line: str = "-") -> drawing.Curve:
    """A ROC curve with its area in the label.

    Args:
      name: in front of the area.
      score: of `drawing.SCORE_STYLE`, for the colour.
      normal: scores float [n], n ≥ 1.
      adversarial: float [m], m ≥ 1.
      auroc: the area, where it is known already.
      line: style of the line.

    Returns:
      The curve of `metrics.roc`, of more than 200 images thinned: no point left out lies 0.01 or more
      from the line in either rate.
    """
    fpr, tpr = metrics.roc(normal, adversarial)
    auroc = metrics.auc(normal, adversarial) if auroc is None else auroc
    # Neither rate ever falls: the first point of each step, and the end.
    kept = np.unique(np.rint((fpr + tpr) / _ROC_STEP), return_index=True)[1]
    kept = np.union1d(kept, len(fpr) - 1)
    _, colour, marker = drawing.SCORE_STYLE[score]
    return drawing.Curve(
        f"{name}, AUROC {100 * auroc:.2f} %", fpr[kept], tpr[kept], colour, marker, line)


def minimal_distortions(per_image: Mapping[str, np.ndarray]) -> np.ndarray:
    """RMS of the smallest perturbation that succeeds, for pixels of 0 to 255.

    Args:
      per_image: of `files.attack_results.load_per_image`.

    Returns:
      float [m], of each image that is kept at any eps the RMS at the smallest such eps. As nothing is
      fitted, every image counts.
    """
    rows = np.flatnonzero(per_image["kept"])
    rows = rows[np.argsort(per_image["eps"][rows], kind="stable")]
    first = np.unique(per_image["image_index"][rows], return_index=True)[1]
    return _PIXEL_RANGE * per_image["rms"][rows[first]]


def distortions(attacked: Mapping[str, Mapping[str, Attacked]], seed: int = 0) -> list[drawing.Bar]:
    """v4's minimal distortions: mean and 95 % bootstrap interval per attack and objective.

    Args:
      attacked: attack → objective → what is drawn of it.
      seed: of the bootstrap.
    """
    return [drawing.Bar(attack, objective, len(a.distortions), *(
        metrics.mean(a.distortions, seed=seed) if len(a.distortions) else [np.nan] * 3))
            for attack, by_objective in attacked.items()
            for objective, a in by_objective.items()]


def tsne_features(results: Mapping[str, np.ndarray], num_per_eps: int,
                  seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each round the features float [2k, d] and true classes int [2k] of k ≤ TSNE_IMAGES images,
    drawn by `seed`, the same in each round: the normal ones, then in the same order the adversarial."""
    drawn = np.sort(np.random.default_rng(seed).permutation(num_per_eps)[:TSNE_IMAGES])
    rounds = []
    for start in range(0, len(results["labels_true"]), num_per_eps):
        rows = start + drawn
        rounds.append((np.concatenate([results["logits_nor"][rows], results["logits_adv"][rows]]),
                       np.tile(results["labels_true"][rows], 2)))
    return rounds


def _draw_tsne(path, features, seed, title):
    """Figures 2 and 9 of v1. Here, not in `drawings`, t-SNE is computed: it takes seconds."""
    drawing.scatter(path, [
        drawing.Cloud(objective.upper(), drawing.tsne(values, seed), classes,
                    np.arange(len(classes)) >= len(classes) // 2)
        for objective, (values, classes) in features.items()], title, numbers=True)


def auroc_against_eps(rounds: Mapping[str, Sequence[Round]]) -> list[drawing.Panel]:
    """AUROC of each score against eps, over images right when normal and wrong when adversarial.

    Args:
      rounds: objective → the rounds of one attack, in order of eps.
    """
    def auroc(r, score):
        chosen = r.subset("successful")
        return 100 * metrics.auc(r.normal[score][chosen], r.adversarial[score][chosen])

    return [drawing.Panel("AUROC", _EPS, "AUROC (%)", _against_eps(rounds, auroc))]


def top_half(rounds: Mapping[str, Sequence[Round]]) -> list[drawing.Panel]:
    """Figures 3 and 4 of v1: the half of all images, normal and adversarial, that scores highest.

    Args:
      rounds: as in `auroc_against_eps`.

    Returns:
      Against eps the share of normal images in that half, and the accuracy in it.
    """
    def chosen(r, score):
        values = np.concatenate([r.normal[score], r.adversarial[score]])
        # Of equal scores the adversarial image comes first: no score gains by ties.
        order = np.lexsort((np.arange(len(values)) < len(r.image), -values))
        return order[:len(r.image)]

    def share(r, score):
        return 100 * np.mean(chosen(r, score) < len(r.image))

    def accuracy(r, score):
        return 100 * np.mean(np.concatenate([r.right_normal, r.right_adversarial])[chosen(r, score)])

    return [drawing.Panel("normal images in the top half", _EPS, "normal images (%)",
                        _against_eps(rounds, share)),
            drawing.Panel("accuracy in the top half", _EPS, "accuracy (%)",
                        _against_eps(rounds, accuracy))]


def _against_eps(rounds, figure: Callable[[Round, str], float]):
    curves = []
    for objective, sweep in rounds.items():
        for score in DRAWN_SCORES:
            name, colour, marker = drawing.SCORE_STYLE[score]
            curves.append(drawing.Curve(
                f"{objective.upper()} {name}", np.array([r.eps for r in sweep]),
                np.array([figure(r, score) for r in sweep]), colour, marker,
                drawing.OBJECTIVE_LINE[objective]))
    return curves


def against_threshold(rounds: Mapping[str, Round], score: str = "j_score") -> list[drawing.Panel]:
    """Figures 5 and 7 of v1: what a threshold T on a score in [0, 1] does at one eps.

    Args:
      rounds: objective, or the name of another network, → one round.
      score: of `defenses.SCORES`, in [0, 1].

    Returns:
      Against T the accuracy of the answers (where there are any), over normal and adversarial images
      together, and the shares of both that are refused.
    """
    thresholds = np.linspace(0, 1, NUM_THRESHOLDS)
    others = [name for name in rounds if name not in drawing.OBJECTIVE_LINE]
    line_of = drawing.OBJECTIVE_LINE | dict(zip(others, itertools.cycle(_OTHER_LINES)))
    accuracies, refusals = [], []
    for objective, r in rounds.items():
        values = np.concatenate([r.normal[score], r.adversarial[score]])
        right = np.concatenate([r.right_normal, r.right_adversarial])
        answered = values >= thresholds[:, None]
        number = answered.sum(axis=1)
        line = line_of[objective]
        name = objective.upper() if objective in drawing.OBJECTIVE_LINE else objective
        some = number > 0
        accuracies.append(drawing.Curve(name, thresholds[some],
                                      100 * (answered & right).sum(axis=1)[some] / number[some],
                                      *drawing.LINE_STYLE[0], line))
        for k, (side, scores) in enumerate((("normal", r.normal), ("adversarial", r.adversarial))):
            refusals.append(drawing.Curve(
                f"{name} {side}", thresholds, 100 * (scores[score] < thresholds[:, None]).mean(axis=1),
                *drawing.LINE_STYLE[1 + k], line))
    label = f"threshold T on the {drawing.SCORE_STYLE[score][0]}"
    return [drawing.Panel("accuracy of the answers", label, "accuracy (%)", accuracies),
            drawing.Panel("refused", label, "images refused (%)", refusals)]


def scores_against_eps(rounds: Mapping[str, Sequence[Round]],
                       detectors: Mapping[str, Detector]) -> list[drawing.Panel]:
    """Figure 6 of v1: mean confidence and J-score of the adversarial images, for several η.

    Args:
      rounds: as in `auroc_against_eps`.
      detectors: objective → its detector, for σ² of the kernel non-ME.
    """
    row = []
    for objective, sweep in rounds.items():
        detector, eps = detectors[objective], np.array([r.eps for r in sweep])
        _, colour, marker = drawing.SCORE_STYLE["confidence"]
        curves = [drawing.Curve("confidence", eps, np.array(
            [r.adversarial["confidence"].mean() for r in sweep]), colour, marker)]
        for eta, (colour, marker) in ETA_STYLE.items():
            means = [j_score(r.adversarial["confidence"], kernel_non_me(
                r.adversarial["non_me"], detector.kernels.shape[2], detector.non_me_variance,
                eta)).mean() for r in sweep]
            curves.append(drawing.Curve(f"J-score, η = {eta:g}", eps, np.array(means), colour, marker))
        row.append(drawing.Panel(objective.upper(), _EPS, "mean over adversarial images", curves,
                               (-0.03, 1.03)))
    return row


def robustness(rounds: Mapping[str, Mapping[str, Sequence[Round]]]) -> list[drawing.Panel]:
    """Accuracy on adversarial images against eps, a line per attack (v4's robustness curves).

    Args:
      rounds: attack → objective → its rounds in order of eps.
    """
    curves = []
    for (attack, by_objective), style in zip(rounds.items(), drawing.LINE_STYLE, strict=False):
        for objective, sweep in by_objective.items():
            curves.append(drawing.Curve(
                f"{objective.upper()} {attack}", np.array([r.eps for r in sweep]),
                np.array([100 * r.right_adversarial.mean() for r in sweep]), *style,
                drawing.OBJECTIVE_LINE[objective]))
    return [drawing.Panel("accuracy", _EPS, "accuracy on adversarial images (%)", curves)]

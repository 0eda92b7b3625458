"""The curves of the first paper version (arXiv 1706.00633v1) and of the last, from attacked images.

Each function turns the rounds of an evaluation into panels of plots.py.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

import plots
import scoring
from defenses.detector import Detector
from evaluation import Round

# Kernel non-ME orders images as non-ME does: one line stands for both.
DRAWN_SCORES = ("confidence", "non_me", "j_score", "k_density")
ETAS = (0.1, 1.0, 10.0, 100.0)
NUM_THRESHOLDS = 101

_EPS = "eps (largest change of a pixel, range 1)"


def auroc_against_eps(rounds: Mapping[str, Sequence[Round]]) -> list[plots.Panel]:
    """AUROC of each score against eps, over images right when normal and wrong when adversarial.

    Args:
      rounds: objective → the rounds of one attack, in order of eps.
    """
    def auroc(r, score):
        chosen = r.subset("successful")
        return 100 * scoring.auc(r.normal[score][chosen], r.adversarial[score][chosen])

    return [plots.Panel("AUROC", _EPS, "AUROC (%)", _against_eps(rounds, auroc))]


def top_half(rounds: Mapping[str, Sequence[Round]]) -> list[plots.Panel]:
    """Figures 3 and 4 of v1: the half of all images, normal and adversarial, that scores highest.

    Args:
      rounds: as in `auroc_against_eps`.

    Returns:
      Against eps the share of normal images in that half, and the accuracy in it.
    """
    def chosen(r, score):
        values = np.concatenate([r.normal[score], r.adversarial[score]])
        # Of equal scores the adversarial image comes first: no score gains by ties.
        order = np.lexsort((np.arange(len(values)) < len(r.image_index), -values))
        return order[:len(r.image_index)]

    def share(r, score):
        return 100 * np.mean(chosen(r, score) < len(r.image_index))

    def accuracy(r, score):
        return 100 * np.mean(np.concatenate([r.right_normal, r.right_adversarial])[chosen(r, score)])

    return [plots.Panel("normal images in the top half", _EPS, "normal images (%)",
                        _against_eps(rounds, share)),
            plots.Panel("accuracy in the top half", _EPS, "accuracy (%)",
                        _against_eps(rounds, accuracy))]


def _against_eps(rounds, figure: Callable[[Round, str], float]):
    curves = []
    for objective, sweep in rounds.items():
        for score in DRAWN_SCORES:
            name, colour, marker = plots.SCORE_STYLE[score]
            curves.append(plots.Curve(
                f"{objective.upper()} {name}", np.array([r.eps for r in sweep]),
                np.array([figure(r, score) for r in sweep]), colour, marker,
                plots.OBJECTIVE_LINE[objective]))
    return curves


def against_threshold(rounds: Mapping[str, Round], score: str = "j_score") -> list[plots.Panel]:
    """Figure 5 of v1: what a threshold T on a score in [0, 1] does at one eps.

    Args:
      rounds: objective → one round.
      score: of `defenses.detector.SCORES`, in [0, 1].

    Returns:
      Against T the accuracy of the answers (where there are any), over normal and adversarial images
      together, and the shares of both that are refused.
    """
    thresholds = np.linspace(0, 1, NUM_THRESHOLDS)
    accuracies, refusals = [], []
    for objective, r in rounds.items():
        values = np.concatenate([r.normal[score], r.adversarial[score]])
        right = np.concatenate([r.right_normal, r.right_adversarial])
        answered = values >= thresholds[:, None]
        number = answered.sum(axis=1)
        line, name = plots.OBJECTIVE_LINE[objective], objective.upper()
        some = number > 0
        accuracies.append(plots.Curve(name, thresholds[some],
                                      100 * (answered & right).sum(axis=1)[some] / number[some],
                                      *plots.LINE_STYLE[0], line))
        for k, (side, scores) in enumerate((("normal", r.normal), ("adversarial", r.adversarial))):
            refusals.append(plots.Curve(
                f"{name} {side}", thresholds, 100 * (scores[score] < thresholds[:, None]).mean(axis=1),
                *plots.LINE_STYLE[1 + k], line))
    label = f"threshold T on the {plots.SCORE_STYLE[score][0]}"
    return [plots.Panel("accuracy of the answers", label, "accuracy (%)", accuracies),
            plots.Panel("refused", label, "images refused (%)", refusals)]


def scores_against_eps(rounds: Mapping[str, Sequence[Round]],
                       detectors: Mapping[str, Detector]) -> list[plots.Panel]:
    """Figure 6 of v1: mean confidence and J-score of the adversarial images, for several η.

    Args:
      rounds: as in `auroc_against_eps`.
      detectors: objective → its detector, for σ² of the kernel non-ME.
    """
    row = []
    for objective, sweep in rounds.items():
        detector, eps = detectors[objective], np.array([r.eps for r in sweep])
        _, colour, marker = plots.SCORE_STYLE["confidence"]
        curves = [plots.Curve("confidence", eps, np.array(
            [r.adversarial["confidence"].mean() for r in sweep]), colour, marker)]
        for eta, (colour, marker) in zip(ETAS, plots.LINE_STYLE[2:], strict=False):
            means = [scoring.j_score(r.adversarial["confidence"], scoring.kernel_non_me(
                r.adversarial["non_me"], detector.kernels.shape[2], detector.non_me_variance,
                eta)).mean() for r in sweep]
            curves.append(plots.Curve(f"J-score, η = {eta:g}", eps, np.array(means), colour, marker))
        row.append(plots.Panel(objective.upper(), _EPS, "mean over adversarial images", curves,
                               (-0.03, 1.03)))
    return row


def robustness(rounds: Mapping[str, Mapping[str, Sequence[Round]]]) -> list[plots.Panel]:
    """Accuracy on adversarial images against eps, a line per attack (v4's robustness curves).

    Args:
      rounds: attack → objective → its rounds in order of eps.
    """
    curves = []
    for (attack, by_objective), style in zip(rounds.items(), plots.LINE_STYLE, strict=False):
        for objective, sweep in by_objective.items():
            curves.append(plots.Curve(
                f"{objective.upper()} {attack}", np.array([r.eps for r in sweep]),
                np.array([100 * r.right_adversarial.mean() for r in sweep]), *style,
                plots.OBJECTIVE_LINE[objective]))
    return [plots.Panel("accuracy", _EPS, "accuracy on adversarial images (%)", curves)]

"""The curves of the first paper version (arXiv 1706.00633v1) and of the last, from scored rounds.

Each function turns the rounds of an evaluation into panels of drawing.py. Rounds come by the tag of
their network, as `files.names.tag_of` makes it, whose head gives the style of its lines.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from defenses import SCORES
from defenses.detector import Detector
from defenses.scores import j_score, kernel_non_me
from evaluation import metrics
from evaluation.rounds import Round
from figures import drawing
from files.names import head_of_tag, is_tag

# Against eps.
# Scores of one order have one AUROC: a second line would hide the first.
DRAWN_SCORES = tuple(name for name, score in SCORES.items() if not score.same_order_as)
# η → colour and marker of its J-score; that of η = 1 has the ones of the score.
ETA_STYLE = {0.1: drawing.LINE_STYLE[2], 1.0: drawing.SCORE_STYLE["j_score"][1:],
             10.0: drawing.LINE_STYLE[3], 100.0: drawing.LINE_STYLE[6]}
NUM_THRESHOLDS = 101

_EPS = "eps (largest change of a pixel, range 1)"
# A ROC curve keeps one point per this rise of the sum of both rates.
_ROC_STEP = 1 / 200
# Lines of networks of --beside.
_OTHER_LINES = (":", "-.")


def _line(tag):
    return drawing.OBJECTIVE_LINE[head_of_tag(tag)]


def roc(rounds: Mapping[str, Round]) -> list[drawing.Panel]:
    """ROC curves of each score, a panel per network, of images right when normal and wrong after.

    Args:
      rounds: tag → one round, of which images count.
    """
    row = []
    for tag, r in rounds.items():
        chosen = r.subset("successful")
        row.append(roc_panel(f"{tag}, {chosen.sum()} images", [
            roc_curve(drawing.SCORE_STYLE[score][0], score, r.normal[score][chosen],
                      r.adversarial[score][chosen], line=":" if SCORES[score].same_order_as else "-")
            for score in r.normal]))
    return row


def roc_together(title: str, rounds: Mapping[str, Round],
                 aurocs: Mapping[str, Mapping[str, float]]) -> drawing.Panel:
    """ROC curves of each score of several networks in one panel.

    Args:
      title: above the panel.
      rounds: tag → one round, of whose images all count.
      aurocs: tag → score → area under its curve.
    """
    return roc_panel(title, [
        roc_curve(f"{tag} {drawing.SCORE_STYLE[name][0]}", name, r.normal[name], r.adversarial[name],
                  aurocs[tag][name], _line(tag)) for tag, r in rounds.items() for name in r.normal])


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


def auroc_against_eps(rounds: Mapping[str, Sequence[Round]]) -> list[drawing.Panel]:
    """AUROC of each score against eps, over images right when normal and wrong when adversarial.

    Args:
      rounds: tag → the rounds of one attack, in order of eps.
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
        # lexsort sorts by its LAST key first.
        order = np.lexsort((np.arange(len(values)) < len(r.image), -values))
        return order[:len(r.image)]

    def share(r, score):
        # The normal images stand first among the values.
        return 100 * np.mean(chosen(r, score) < len(r.image))

    def accuracy(r, score):
        return 100 * np.mean(np.concatenate([r.right_normal, r.right_adversarial])[chosen(r, score)])

    return [drawing.Panel("normal images in the top half", _EPS, "normal images (%)",
                        _against_eps(rounds, share)),
            drawing.Panel("accuracy in the top half", _EPS, "accuracy (%)",
                        _against_eps(rounds, accuracy))]


def _against_eps(rounds, figure: Callable[[Round, str], float]):
    curves = []
    for tag, sweep in rounds.items():
        for score in (name for name in sweep[0].normal if name in DRAWN_SCORES):
            name, colour, marker = drawing.SCORE_STYLE[score]
            curves.append(drawing.Curve(
                f"{tag} {name}", np.array([r.eps for r in sweep]),
                np.array([figure(r, score) for r in sweep]), colour, marker,
                _line(tag)))
    return curves


def against_threshold(rounds: Mapping[str, Round], score: str = "j_score") -> list[drawing.Panel]:
    """Figures 5 and 7 of v1: what a threshold T on a score in [0, 1] does at one eps.

    Args:
      rounds: tag, or another name of another network, → one round.
      score: of `defenses.SCORES`, in [0, 1].

    Returns:
      Against T the accuracy of the answers (where there are any), over normal and adversarial images
      together, and the shares of both that are refused.
    """
    thresholds = np.linspace(0, 1, NUM_THRESHOLDS)
    others = itertools.cycle(_OTHER_LINES)
    accuracies, refusals = [], []
    for name, r in rounds.items():
        values = np.concatenate([r.normal[score], r.adversarial[score]])
        right = np.concatenate([r.right_normal, r.right_adversarial])
        answered = values >= thresholds[:, None]
        number = answered.sum(axis=1)
        line = _line(name) if is_tag(name) else next(others)
        # Where nothing is answered there is no accuracy, 0/0.
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
      detectors: tag → its detector, for σ² of the kernel non-ME.
    """
    row = []
    for tag, sweep in rounds.items():
        reference, eps = detectors[tag].reference, np.array([r.eps for r in sweep])
        _, colour, marker = drawing.SCORE_STYLE["confidence"]
        curves = [drawing.Curve("confidence", eps, np.array(
            [r.adversarial["confidence"].mean() for r in sweep]), colour, marker)]
        for eta, (colour, marker) in ETA_STYLE.items():
            means = [j_score(r.adversarial["confidence"], kernel_non_me(
                r.adversarial["non_me"], reference.kernels.num_classes,
                reference.non_me_variance, eta)).mean() for r in sweep]
            curves.append(drawing.Curve(f"J-score, η = {eta:g}", eps, np.array(means), colour, marker))
        row.append(drawing.Panel(tag, _EPS, "mean over adversarial images", curves,
                               (-0.03, 1.03)))
    return row


def robustness(rounds: Mapping[str, Mapping[str, Sequence[Round]]]) -> list[drawing.Panel]:
    """Accuracy on adversarial images against eps, a line per attack (v4's robustness curves).

    Args:
      rounds: attack → tag → its rounds in order of eps.
    """
    curves = []
    for (attack, by_objective), style in zip(rounds.items(), drawing.LINE_STYLE, strict=False):
        for tag, sweep in by_objective.items():
            curves.append(drawing.Curve(
                f"{tag} {attack}", np.array([r.eps for r in sweep]),
                np.array([100 * r.right_adversarial.mean() for r in sweep]), *style,
                _line(tag)))
    return [drawing.Panel("accuracy", _EPS, "accuracy on adversarial images (%)", curves)]

"""Whether a run was strong enough: the same attack with more steps, and with the whole box to move in.

A success rate below 100 % is a figure of the detector or of an attack that gave up early; these two
tell which (F7 and F8 of shared/specs/ADAPTIVE.md, section 5).
"""

import numpy as np

from defenses.scores import score
from evaluation.crafter import Clean, Crafter
from evaluation.sweep import Subject, outputs_of
from files.attack_results import Attacked

# More would cost as much as the run itself.
MOST_IMAGES = 100
# Lets an image of the box become any other.
WHOLE_BOX = 1.0


def steps_gain(subject: Subject, attacked: Attacked, longer: Crafter) -> float:
    """By how much an attack of twice the steps raises the share of images won at the last eps.

    Args:
      subject: what was attacked.
      attacked: what came of it.
      longer: the same attack of twice the steps.

    Returns:
      A difference of shares, of the first MOST_IMAGES images.
    """
    num_images = len(subject.labels)
    first = slice(min(num_images, MOST_IMAGES))
    last = slice((len(subject.eps_values) - 1) * num_images, None)
    before = _won(subject, *(outputs.rows(last).rows(first)
                             for outputs in (attacked.normal, attacked.adversarial)))
    return float(np.mean(_won_anew(subject, longer, subject.eps_values[-1])) - np.mean(before))


def whole_box_success(subject: Subject, crafter: Crafter) -> float:
    """The share of the first MOST_IMAGES images that the attack wins at WHOLE_BOX."""
    return float(np.mean(_won_anew(subject, crafter, WHOLE_BOX)))


def _won_anew(subject, crafter, eps):
    chosen = slice(MOST_IMAGES)
    x, labels = subject.x[chosen], subject.labels[chosen]
    forward = subject.network.forward(subject.strategy)
    normal = outputs_of(*forward(x))
    made = crafter(x, subject.image_index[chosen], eps=eps,
                   clean=Clean(labels, normal.predicted != labels))
    return _won(subject, normal, outputs_of(*forward(made["adversarial"])))


def _won(subject, normal, adversarial):
    """bool [n]: images answered wrongly, as they are or attacked, by the float64 judge; without a
    detector, those that are wrong when attacked."""
    labels = subject.labels[:len(normal.predicted)]
    if subject.aim is None:
        return adversarial.predicted != labels
    reference = subject.aim.detector.reference
    normal, adversarial = (subject.aim.evades(
        score(subject.aim.against, outputs, reference), outputs.predicted != labels)
        for outputs in (normal, adversarial))
    return normal | adversarial

"""Whether a run was strong enough: the same attack with more steps, and with the whole box to move in.

A success rate below 100 % is a figure of the detector or of an attack that gave up early; these two
tell which (F7 and F8 of shared/specs/ADAPTIVE.md, section 5).
"""

import numpy as np

from evaluation.aims import broken
from evaluation.crafter import Crafter
from evaluation.sweep import Sweep, clean_of, outputs_of
from files.attack_results import Attacked

# More would cost as much as the run itself.
MOST_IMAGES = 100
# Lets an image of the box become any other.
WHOLE_BOX = 1.0


def steps_gain(subject: Sweep, attacked: Attacked, longer: Crafter) -> float:
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


def whole_box_success(subject: Sweep, crafter: Crafter) -> float:
    """The share of the first MOST_IMAGES images that the attack wins at WHOLE_BOX."""
    return float(np.mean(_won_anew(subject, crafter, WHOLE_BOX)))


def _won_anew(subject, crafter, eps):
    first = slice(MOST_IMAGES)
    forward = subject.network.forward(subject.strategy)
    # Of all images, as in the run: what an attack may imitate does not depend on how many are tried.
    logits, features = forward(subject.x)
    made = crafter(subject.x[first], subject.image_index[first], eps=eps,
                   targets=[targets[first] for targets in subject.choose_targets(logits)],
                   clean=clean_of(subject, crafter, logits, features).rows(first))
    return _won(subject, outputs_of(logits, features).rows(first),
                outputs_of(*forward(made["adversarial"])))


def _won(subject, normal, adversarial):
    """bool [n]: images answered wrongly, as they are or attacked, by the float64 judge; without a
    detector, those that are wrong when attacked."""
    labels = subject.labels[:len(normal.predicted)]
    won = broken(subject.aim, adversarial, labels)
    return won if subject.aim is None else won | broken(subject.aim, normal, labels)

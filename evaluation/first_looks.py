"""What the clean images tell of a network and an attack before it starts: F1, F3 and F4 of
shared/specs/ADAPTIVE.md, section 5, as numbers of the run record (evaluation/evidence.py)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import logsumexp

import attacks
from evaluation import checks, flaws
from evaluation.accepted import accepted_of, nearest_of_another_class
from evaluation.crafter import input_gradients
from evaluation.sweep import Subject, outputs_of

# More tell no more.
MOST_IMAGES = 100
# Forward passes that are compared.
PASSES = 5
# Of the usual loss, within which an image's counts as the same.
_SAME = 0.01


def look(subject: Subject, attack: attacks.Attack, warn: Callable[[str], None]) -> dict[str, Any]:
    """What the first MOST_IMAGES clean images tell.

    Args:
      subject: what is to be attacked.
      attack: by which.
      warn: told of images without a gradient.

    Returns:
      "forward_spread"; of an attack with gradients also "zero_gradients_at_start" and
      "flat_loss_share"; where a detector is aimed at "trivial_success"; as JSON values.

    Raises:
      InputError: an attack with gradients, and there is none at any image.
    """
    x, labels = subject.x[:MOST_IMAGES], subject.labels[:MOST_IMAGES]
    forward = subject.network.forward(subject.strategy)
    passes = [forward(x) for _ in range(PASSES)]
    told = {"forward_spread": max(flaws.spread_of_passes(outputs)
                                  for outputs in zip(*passes, strict=True))}
    if subject.aim and attack.uses_eps:
        told["trivial_success"] = trivial_success(subject, *forward(subject.x))
    if not attack.climbs:
        return told
    gradients = input_gradients(subject.network, x, cross_entropy=attack.climbs == "cross_entropy")
    num_zero = checks.check_gradients(gradients)
    if num_zero:
        warn(f"the input gradient is exactly zero for {num_zero} of the first {len(x)} images: "
             "the attack cannot move those.")
    return told | {"zero_gradients_at_start": num_zero,
                   "flat_loss_share": flat_share(loss(attack.climbs, passes[0][0], labels))}


def trivial_success(subject: Subject, logits: np.ndarray, features: np.ndarray) -> list[float]:
    """The share of images that each eps wins without an attack: by showing the nearest normal image of
    another class that the detector answers rightly.

    Args:
      subject: what is attacked, and aimed at.
      logits: of its clean images, sign-adjusted [n, L].
      features: of the same [n, d].
    """
    accepted = accepted_of(subject.aim, subject.x, subject.labels, logits, outputs_of(logits, features))
    far = nearest_of_another_class(subject.x, subject.labels, accepted, subject.norm)
    return [float(np.mean(far <= eps)) for eps in subject.eps_values]


def loss(name: str, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What an attack climbs, float64 [n].

    Args:
      name: "cross_entropy", "margin", or "dlr", the margin over the distance from the largest to the
        third logit (Croce and Hein 2020, arXiv 2003.01690, equation 6).
      logits: sign-adjusted [n, L].
      labels: true classes int [n].
    """
    logits = np.asarray(logits, np.float64)
    own = logits[np.arange(len(labels)), labels]
    if name == "cross_entropy":
        return logsumexp(logits, axis=1) - own
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    margin = others.max(axis=1) - own
    if name == "margin":
        return margin
    ordered = np.sort(logits, axis=1)
    return margin / (ordered[:, -1] - ordered[:, -3] + 1e-12)


def flat_share(losses: np.ndarray) -> float:
    """The share of the losses [n] that lie within 1 % of the usual one; 0 of one, which is its own."""
    if len(losses) < 2:
        return 0.0
    usual = np.median(losses)
    return float(np.mean(np.abs(losses - usual) <= _SAME * np.abs(usual)))

"""Normal images that a detector answers rightly: what an attack may show in place of another.

Whoever may change an image into any of them wins it without an attack, so that the nearest one of
another class bounds the eps that must suffice (F8 of shared/specs/ADAPTIVE.md, section 5).
"""

import numpy as np

from attacks.loops.matching import Accepted
from errors import InputError
from evaluation.aims import Aim
from files.attack_results import Outputs


def accepted_of(aim: Aim, x: np.ndarray, labels: np.ndarray, logits: np.ndarray, outputs: Outputs
                ) -> Accepted:
    """Those of some images that are right and pass what is aimed at.

    Args:
      aim: at a detector's scores.
      x: float32 [n, h, w, c].
      labels: true classes int [n].
      logits: sign-adjusted [n, L].
      outputs: of the same.
    """
    kept = aim.passes(outputs) & (outputs.predicted == labels)
    return Accepted(x[kept], logits[kept], labels[kept].astype(np.int32))


def check_two_classes(accepted: Accepted, name: str) -> None:
    """Raises an InputError unless every image has an accepted one of another class."""
    classes = classes_of(accepted)
    if len(classes) < 2:
        raise InputError(
            f"{name} imitates normal images of other classes that the detector answers rightly: among "
            f"the images of the run there must be some of two classes. Received: "
            f"{len(accepted.classes)} of classes {classes}.")


def classes_of(accepted: Accepted) -> list[int]:
    """Each class of which there are some, in order."""
    return sorted(set(accepted.classes.tolist()))


def nearest_of_another_class(x: np.ndarray, labels: np.ndarray, accepted: Accepted, norm: str
                             ) -> np.ndarray:
    """How far each image is from the nearest accepted one of another class.

    Args:
      x: float32 [n, h, w, c].
      labels: true classes int [n].
      accepted: of the same network and detector.
      norm: "linf" or "l2".

    Returns:
      float [n]; inf where there is none.
    """
    order = {"linf": np.inf, "l2": 2}[norm]
    bank = accepted.images.reshape(len(accepted.images), x[0].size)
    found = np.full(len(x), np.inf)
    # An image at a time: all differences at once would be n · m images.
    for row, (image, label) in enumerate(zip(x.reshape(len(x), -1), labels, strict=True)):
        others = bank[accepted.classes != label]
        if len(others):
            found[row] = np.linalg.norm(others - image, order, axis=1).min()
    return found

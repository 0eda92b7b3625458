"""Which classes a targeted attack is to reach."""

import numpy as np

from errors import InputError


def choose_targets(kind: str, labels: np.ndarray, logits: np.ndarray, image_index: np.ndarray,
                   seed: int) -> list[np.ndarray]:
    """The target classes of --target.

    Args:
      kind: "random": uniform over the wrong classes, by seed and image. "least_likely": the class
        of the smallest logit. "all": every wrong class. "none": the true class, for an attack that
        leaves it. A number: that class.
      labels: true classes int [n].
      logits: of the clean images, sign-adjusted, [n, L].
      image_index: which image of the data set each row is, int [n].
      seed: of the random classes.

    Returns:
      Arrays int [n]: L − 1 of them for "all", else one.

    Raises:
      InputError: `kind` is none of these.
    """
    num_classes = logits.shape[1]
    if kind == "none":
        return [labels]
    if kind == "least_likely":
        return [np.argmin(logits, axis=1)]
    if kind == "random":
        # A generator per image: no batch or shard changes its target. From 1: never the true class.
        steps = np.array([np.random.default_rng((seed, i)).integers(1, num_classes)
                          for i in image_index])
        return [(labels + steps) % num_classes]
    if kind == "all":
        return [(labels + step) % num_classes for step in range(1, num_classes)]
    if kind.isdecimal() and int(kind) < num_classes:
        return [np.full_like(labels, int(kind))]
    raise InputError(f"target must be random, least_likely, all, none or a class below {num_classes}. "
                     f"Received: target={kind!r}.")

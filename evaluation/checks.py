"""What an attack is given is looked at once, before it costs time."""

import numpy as np

from errors import InputError


def check_images(images: np.ndarray, clip_min: float, clip_max: float) -> None:
    """Refuses images with NaN or outside the box [clip_min, clip_max]."""
    # First: NaN is in no order, so that the range below would let it pass.
    if np.isnan(images).any():
        raise InputError(f"images must be finite. Received: NaN in {np.isnan(images).sum()} pixels.")
    low, high = images.min(), images.max()
    if low < clip_min or high > clip_max:
        raise InputError(f"images must lie in [{clip_min}, {clip_max}]. "
                         f"Received: values from {low} to {high}.")


def check_logits(logits: np.ndarray) -> None:
    """Refuses logits [n, L] with NaN, and probabilities where logits are expected."""
    if not np.isfinite(logits).all():
        raise InputError("logits must be finite. "
                         f"Received: {(~np.isfinite(logits)).sum()} values that are not.")
    # Sign-adjusted, the probabilities of an RCE network arrive as −p.
    for p in (logits, -logits):
        # Every row at once: one alone may lie in [0, 1] and sum to 1 by chance.
        if p.min() >= 0.0 and p.max() <= 1.0 and np.allclose(p.sum(axis=-1), 1.0, atol=1e-4):
            raise InputError("the model function must return logits, not probabilities. "
                             "Received: rows in [0, 1] that sum to 1.")


def check_gradients(gradients: np.ndarray) -> int:
    """How many of a first batch's input gradients [n, h, w, c] are zero everywhere.

    Raises:
      InputError: all of them, or one is not finite: the attack could not move.
    """
    if not np.isfinite(gradients).all():
        raise InputError("input gradients must be finite. Received: "
                         f"{(~np.isfinite(gradients)).sum()} values that are not.")
    # Some are no error: the others can be attacked, and test_adv.py says how many cannot.
    num_zero = int(np.count_nonzero(~gradients.any(axis=(1, 2, 3))))
    if num_zero == len(gradients):
        raise InputError("the network must have input gradients for this attack to climb. Received: "
                         f"exactly zero for all {num_zero} images of the first batch (saturated "
                         "probabilities, or a model function that is not differentiable).")
    return num_zero

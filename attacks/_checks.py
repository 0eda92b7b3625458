"""What an attack is given is looked at once, before it costs time."""

import numpy as np

from errors import InputError


def check_images(images: np.ndarray, clip_min: float, clip_max: float) -> None:
    """Refuses images with NaN or outside the box [clip_min, clip_max]."""
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
    sums_to_one = np.allclose(logits.sum(axis=-1), 1.0, atol=1e-4)
    if sums_to_one and logits.min() >= 0.0 and logits.max() <= 1.0:
        raise InputError("the model function must return logits, not probabilities. "
                         "Received: rows in [0, 1] that sum to 1.")

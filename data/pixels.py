"""The stored form of pixels (uint8, or float in [0, 1]) and the network's (float in [-0.5, 0.5])."""

import numpy as np


def from_network_input(images: np.ndarray) -> np.ndarray:
    """Network inputs in [-0.5, 0.5] as uint8 of the same shape, rounded to the nearest grey level."""
    # Clipped after rounding, since uint8 wraps around: an attack's last bit may lie outside the
    # box.
    return np.clip(np.rint((images + 0.5) * 255), 0, 255).astype(np.uint8)


def to_network_input(images: np.ndarray) -> np.ndarray:
    """Scales stored images to the network's input.

    Args:
        images: any shape; uint8 in [0, 255] or float in [0, 1].

    Returns:
        float32 of the same shape in [-0.5, 0.5].
    """
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    # As the original's code, not as the published paper, which standardises each image: the code has
    # that line commented out, and its attacks clip to the box that this makes.
    return images.astype(np.float32, copy=False) - np.float32(0.5)

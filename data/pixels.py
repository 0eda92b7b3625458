"""The stored form of pixels (uint8, or float in [0, 1]) and the network's (float in [-0.5, 0.5])."""

import numpy as np

# Of network inputs: a smaller change is gone once the image is stored in 8 bits.
HALF_GREY_LEVEL = 0.5 / 255
# Distances are measured in float32 pixels: a change of the very radius may round beyond it.
_RADIUS_SLACK = 1e-6


def rounded_inside(images: np.ndarray, clean: np.ndarray, norm: str, eps: float | None) -> np.ndarray:
    """Changed images as an 8-bit file holds them, in the ball that they were changed in.

    Args:
      images: float32 [n, h, w, c] in [-0.5, 0.5], within eps of the clean ones.
      clean: like them.
      norm: "linf" or "l2".
      eps: radius of the ball; None: there is none.

    Returns:
      float32 like images: of each pixel the nearer grey level; in L-inf the other one where that lies
      outside the ball, in L2 for a whole image outside it the one towards the clean pixel. Where no
      grey level lies within eps the clean image has none itself.
    """
    levels = (images.astype(np.float64) + 0.5) * 255
    nearer, origin = np.rint(levels), (clean.astype(np.float64) + 0.5) * 255
    if eps is not None:
        # The neighbour on the other side of the pixel.
        other = np.where(nearer > levels, np.floor(levels), np.ceil(levels))
        if norm == "linf":
            outside = np.abs(nearer - origin) > 255 * (eps + _RADIUS_SLACK)
        else:
            far = np.square(nearer - origin).sum(axis=(1, 2, 3), keepdims=True)
            outside = (far > np.square(255 * (eps + _RADIUS_SLACK))) & (
                np.abs(nearer - origin) > np.abs(other - origin))
        nearer = np.where(outside, other, nearer)
    return to_network_input(np.clip(nearer, 0, 255).astype(np.uint8))


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

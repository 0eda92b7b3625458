"""Images out: the original's .bin records, and PNG files."""


import numpy as np

from data import formats, inputs
from data.pixels import from_network_input
from errors import InputError
from files import atomic


def save_pngs(folder: str, images: np.ndarray) -> None:
    """Writes network inputs [n, h, w, 1 or 3] as 0.png, 1.png, ..., all or none.

    Raises:
        InputError: other shapes, or pixels that no network input has.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise InputError("expected at least one image of 1 or 3 channels. "
                         f"Received: shape={images.shape}.")
    if not np.abs(images).max() <= 0.5 + 1e-6:  # false of NaN, too
        raise InputError("expected network inputs in [-0.5, 0.5]. "
                         f"Received: pixels in [{images.min():g}, {images.max():g}].")
    write_pngs(folder, from_network_input(images))


def save_bin(path: str, image_set: inputs.ImageSet, dataset: str = "") -> None:
    """Writes images as the original's .bin records, whole or not at all.

    One channel: float32 label and pixels in [0, 1]. Three channels: label byte and the R, G, B
    planes; `load` gives back the same network input.

    Args:
        path: file to write or replace.
        image_set: images [n, h, w, 1 or 3].
        dataset: "cifar100" adds its coarse label in front, as 0 because it is not known here.

    Raises:
        InputError: other channel counts, labels that fit no byte, or float colours that are no
            multiple of 1/255.
    """
    images, labels = image_set.images, image_set.labels
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise InputError(f"a .bin file takes 1 or 3 channels. Received: {channels=}")
    dtype, num_labels = formats.record_layout(dataset, channels)
    if channels == 3:
        images = _as_bytes(images)
        if labels.max() > 255:
            raise InputError(f"a label must fit one byte. Received: label={labels.max()}")
    elif images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    records = np.zeros((len(images), num_labels + images[0].size), dtype)
    records[:, num_labels - 1] = labels
    records[:, num_labels:] = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    try:
        with atomic.atomic_path(path) as temporary:
            records.tofile(temporary)
    except OSError as error:
        raise InputError(f"expected a writable path ({error}). Received: {path=}") from error


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images; InputError where that would change a float pixel."""
    if images.dtype == np.uint8:
        return images
    rounded = np.rint(images * np.float32(255)).astype(np.uint8)
    # Rounded, the file would hold other images than the network saw, without a word.
    exact = rounded.astype(np.float32) / np.float32(255) == images
    if not exact.all():
        raise InputError(
            "float colours must be multiples of 1/255 to be stored as bytes. "
            f"Received: pixel={images.flat[np.argmin(exact)]}"
        )
    return rounded


def write_pngs(folder: str, images: np.ndarray) -> None:
    """Writes images uint8 [n, h, w, 1 or 3] as <row>.png, all or none."""
    from PIL import Image

    # Padded with zeros: whoever reads the folder by name gets the rows in order.
    width = len(str(len(images) - 1))
    with atomic.atomic_folder(folder) as temporary:
        for row, image in enumerate(images):
            # Pillow knows grey without an axis of channels only.
            grey = image[..., 0] if image.shape[-1] == 1 else image
            Image.fromarray(grey).save(temporary / f"{row:0{width}}.png")

"""A fitted detector on disk, `detector.npz`: arrays and what they belong to, in one file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from errors import InputError
from files import atomic, pretrained
from files.arrays import read_arrays
from files.names import tag_of_network

FILE_NAME = "detector.npz"
_ARRAYS = {"kernels": 3, "thresholds": 2, "false_refusal_rates": 1, "fitted_on": 1,
           "fitted_images": 1}
_NUMBERS = ("bandwidth", "non_me_variance", "eta")
# Whose thresholds a file of version 0.1 holds, which does not name them.
_FIRST_SCORES = ("confidence", "non_me", "kernel_non_me", "j_score", "k_density")
_NETWORK_KEYS = {"dataset", "image_shape", "num_classes", "objective", "weights_sha256"}


def default_path(kernel_folder: str | os.PathLike, network: str) -> Path:
    """Where `detect.py --mode=fit` leaves the detector of a network, told by its tag or head."""
    return Path(kernel_folder) / f"detector_{tag_of_network(network)}.npz"


def save(path: str | os.PathLike, detector: Mapping[str, Any]) -> None:
    """Writes a detector, whole or not at all.

    Args:
      path: file to write.
      detector: "kernels" [num_kernels, d, num_classes] (stored as float32), "thresholds" float
        [scores, rates], "false_refusal_rates" float [rates], "fitted_on" int [n] and "fitted_images"
        uint64 [n], the images the thresholds were fitted on, by number and by digest; the numbers
        "bandwidth", "non_me_variance" and "eta"; "network", JSON values that say which network it
        belongs to; "scores", the names of those of the thresholds, without which a file has those of
        version 0.1.

    Raises:
      InputError: the folder is one of pretrained/.
    """
    path = Path(path)
    # Thresholds fitted anew would no longer be those of SHA256SUMS, and the folder would be refused.
    if pretrained.is_pretrained(path.parent):
        raise InputError("detector must be a file of your own: what is pretrained stays as it is. "
                         f"Received: detector={str(path)!r}.")
    arrays = {name: np.asarray(detector[name]) for name in (*_ARRAYS, *_NUMBERS)}
    # Nothing is lost: features were float32 before they were written as text.
    arrays["kernels"] = arrays["kernels"].astype(np.float32)
    if "scores" in detector:
        arrays["scores"] = np.array(detector["scores"])
    with atomic.atomic_path(path) as temporary:
        # As text: an array of Python objects could be read with pickle alone.
        np.savez_compressed(temporary, **arrays, network=np.array(json.dumps(detector["network"])))


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what `save` wrote; "scores" is there in any case, a tuple of names.

    Raises:
      InputError: no such file, not a detector, or a pretrained one that is not as it was shipped.
    """
    path = Path(path)
    pretrained.check(path)
    if not path.is_file():
        raise InputError(f"expected a {FILE_NAME}, which `python detect.py --mode=fit` writes, at "
                         f"{path}. Received: no such file.")
    arrays = read_arrays(path) if path.suffix == ".npz" else {}
    missing = [name for name in (*_ARRAYS, *_NUMBERS, "network") if name not in arrays]
    if missing:
        raise InputError(f"expected a {FILE_NAME} at {path}, with the arrays {', '.join(_ARRAYS)} and "
                         f"their numbers. Received: a file without {', '.join(missing)}.")
    for name, ndim in {**_ARRAYS, **dict.fromkeys(_NUMBERS, 0)}.items():
        _check_array(name, arrays[name], ndim, path)
    _check_ranges(arrays, path)
    found = ({name: arrays[name] for name in _ARRAYS}
             | {name: float(arrays[name]) for name in _NUMBERS}
             | {"network": _network(arrays["network"], path),
                "scores": _score_names(arrays.get("scores"), path)})
    _check_agreement(found, path)
    return found


def _check_array(name, array, ndim, path):
    if array.ndim != ndim or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"expected {name} to be finite numbers of {ndim} dimensions in {path}. "
                         f"Received: shape={array.shape}, dtype={array.dtype}.")


def _check_ranges(arrays, path):
    """Numbers may be finite and mean nothing."""
    rates = arrays["false_refusal_rates"]
    different = len(set(rates)) == len(rates)
    for name, good, wanted in (
            ("bandwidth", arrays["bandwidth"] > 0, "above 0"), ("eta", arrays["eta"] > 0, "above 0"),
            ("non_me_variance", arrays["non_me_variance"] >= 0, "at least 0"),
            ("false_refusal_rates", different and np.all((rates >= 0) & (rates < 1)),
             "different numbers in [0, 1)"),
            ("fitted_on", np.all(arrays["fitted_on"] >= 0), "row numbers"),
            ("kernels", arrays["kernels"].size, "at least one")):
        if not good:
            shown = np.array2string(arrays[name], threshold=5).removesuffix(".")  # of 0.0 it is "0."
            raise InputError(f"expected {name} to be {wanted} in {path}. Received: {name}={shown}.")


def _check_agreement(found, path):
    """Parts of one detector agree with each other."""
    classes, rates = found["network"]["num_classes"], len(found["false_refusal_rates"])
    wanted = (len(found["scores"]), rates)
    if found["kernels"].shape[2] != classes:
        raise InputError(f"expected kernels of the {classes} classes of the network in {path}. "
                         f"Received: shape={found['kernels'].shape}.")
    if found["thresholds"].shape != wanted or not all(wanted):
        raise InputError(f"expected thresholds of {wanted[0]} scores at {rates} rates in {path}. "
                         f"Received: shape={found['thresholds'].shape}.")
    if len(found["fitted_on"]) != len(found["fitted_images"]):
        raise InputError(f"expected fitted_on and fitted_images to be equally many in {path}. "
                         f"Received: {len(found['fitted_on'])} and {len(found['fitted_images'])}.")


def _score_names(array, path):
    if array is None:
        return _FIRST_SCORES
    if array.ndim != 1 or array.dtype.kind != "U":
        raise InputError(f"expected scores to be the names of scores in {path}. "
                         f"Received: shape={array.shape}, dtype={array.dtype}.")
    return tuple(array.tolist())


def _network(text, path):
    try:
        network = json.loads(str(text))
    except ValueError:
        network = None
    # At least these: a later version may tell more.
    if not isinstance(network, dict) or not network.keys() >= _NETWORK_KEYS:
        raise InputError(f"expected the network in {path} to be a JSON object with "
                         f"{', '.join(sorted(_NETWORK_KEYS))}. Received: {str(text)[:60]!r}.")
    shape = network["image_shape"]
    texts = ("dataset", "objective", "weights_sha256")
    good = (_is_whole(network["num_classes"], 2) and isinstance(shape, list) and shape
            and all(_is_whole(size, 1) for size in shape)
            and all(isinstance(network[key], str) for key in texts))
    if not good:
        raise InputError(f"expected the network in {path} to have num_classes of at least 2, an "
                         f"image_shape of sizes, and names. Received: {str(text)[:200]}.")
    return network


def _is_whole(value, smallest):
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest

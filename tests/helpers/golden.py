"""The golden numbers of tests/golden, under the names of our variables."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"


def tf1_name(name: str) -> str:
    """The TF1 name of one of our variables."""
    return name.replace("kernel", "DW").replace("logit/bias", "logit/biases")


def golden(name: str):
    """The arrays of tests/golden/<name>.npz."""
    return np.load(GOLDEN / f"{name}.npz")


def load_golden_weights(variables, arrays, prefix=""):
    """Assigns golden arrays, under their TF1 names, to named variables."""
    for name, variable in variables.items():
        variable.assign(arrays[prefix + tf1_name(name)])

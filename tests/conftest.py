"""What several test files use: golden numbers, toy networks, logical CPU devices."""

from pathlib import Path

import flags  # noqa: F401 sets TensorFlow's environment, so before everything else

import numpy as np
import pytest
import tensorflow as tf

GOLDEN = Path(__file__).parent / "golden"

# Four logical CPUs in every test process: strategies of two and four replicas without a GPU.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4)


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


@pytest.fixture(scope="session")
def cpu():
    """The strategy of --num_gpus=0."""
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.fixture(scope="session")
def two_cpus():
    """MirroredStrategy over two logical CPUs."""
    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])

"""What all tests run on: logical CPU devices."""

import flags  # noqa: F401 sets TensorFlow's environment, so before everything else

import pytest
import tensorflow as tf

# Four logical CPUs in every test process: strategies of two and four replicas without a GPU.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.fixture(scope="session")
def cpu():
    """The strategy of --num_gpus=0."""
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.fixture(scope="session")
def two_cpus():
    """MirroredStrategy over two logical CPUs."""
    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])

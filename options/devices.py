"""The devices to run on."""

import flags

from errors import InputError


def make_strategy(num_gpus: int, num_cpu_replicas: int = 1):
    """The tf.distribute strategy on the devices of this host.

    Args:
      num_gpus: 0 is the CPU; 1 the GPU, or with a warning the CPU where there is none (the original
        places softly); N ≥ 2 is MirroredStrategy on the first N GPUs.
      num_cpu_replicas: with num_gpus = 0, N ≥ 2 is MirroredStrategy on N logical CPUs: what N GPUs
        compute, on a machine without any.

    Returns:
      A tf.distribute.Strategy.

    Raises:
      InputError: num_gpus is negative, or at least 2 and larger than the number of GPUs found;
        num_cpu_replicas is below 1, or above 1 beside GPUs.
    """
    if num_gpus < 0:
        raise InputError(
            f"num_gpus must be 0 (CPU) or the number of GPUs. Received: num_gpus={num_gpus}.")
    if num_cpu_replicas < 1 or (num_gpus and num_cpu_replicas > 1):
        raise InputError("num_cpu_replicas must be at least 1, and 1 unless --num_gpus=0. "
                         f"Received: num_cpu_replicas={num_cpu_replicas}, num_gpus={num_gpus}.")
    if num_gpus == 0:
        return _cpu_strategy(num_cpu_replicas)
    return _gpu_strategy(num_gpus)


def _cpu_strategy(num_replicas):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")  # or TensorFlow takes their memory unused
    if num_replicas == 1:
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    cpu = tf.config.list_physical_devices("CPU")[0]
    # Once a process, before anything is computed; a later call makes do with those there are.
    if len(tf.config.get_logical_device_configuration(cpu) or [cpu]) < num_replicas:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * num_replicas)
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(num_replicas)])


def _gpu_strategy(num_gpus):
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    # Or TensorFlow takes all memory of a GPU at once. On every GPU, as it must not differ between
    # them.
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if num_gpus == 1 and not gpus:
        # As the original, which places softly: --num_gpus=1 stands in every command of its README.
        flags.warn("--num_gpus=1 but no GPU was found: running on the CPU.")
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if num_gpus > len(gpus):
        raise InputError(f"num_gpus must be at most the number of GPUs found here, {len(gpus)}. "
                         f"Received: num_gpus={num_gpus}.")
    if num_gpus == 1:
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    return tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(num_gpus)])

"""Training on several hosts: what TF_CONFIG says, and what the workers have to agree on.

Every worker runs train.py with the same flags and a TF_CONFIG of its own. Worker 0 is the chief: it
alone writes. https://www.tensorflow.org/guide/distributed_training describes TF_CONFIG.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator

import tensorflow as tf

from errors import InputError, RunError
from files import checkpoints

# What a collective operation raises when another worker is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
         tf.errors.DeadlineExceededError, tf.errors.InternalError, tf.errors.FailedPreconditionError)


# host:port, the host a name, IPv4, or IPv6 in brackets.
_ADDRESS = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(?:[1-9]\d{0,4})", re.ASCII)


def is_configured() -> bool:
    """Whether TF_CONFIG names a cluster of more than one worker.

    Raises:
      InputError: TF_CONFIG is not what a worker needs.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return False
    try:
        config = json.loads(text)
        hosts, task = config["cluster"], config["task"]
        workers = [*hosts.get("chief", []), *hosts.get("worker", [])]
        # No parameter servers and no evaluator: nothing here would play their part.
        is_good = (set(hosts) <= {"chief", "worker"} and len(set(workers)) == len(workers)
                   and all(_ADDRESS.fullmatch(worker) for worker in workers)
                   and 0 <= int(task["index"]) < len(hosts[task["type"]]))
    except (ValueError, KeyError, TypeError, AttributeError):
        is_good = False
    if not is_good:
        raise InputError(
            'TF_CONFIG must be JSON like {"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
            '"task": {"type": "worker", "index": 0}} with this host\'s own index and no host twice. '
            f"Received: TF_CONFIG={text!r}.")
    return len(workers) > 1


def make_strategy(num_gpus: int) -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy on the cluster of TF_CONFIG; returns when all workers are there.

    Args:
      num_gpus: 0: each worker computes on its CPU; N: on its first N GPUs.

    Raises:
      InputError: a worker has fewer GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not 0 <= num_gpus <= len(gpus):
        raise InputError("num_gpus must lie between 0 and the number of GPUs of every host of "
                         f"TF_CONFIG, here {len(gpus)}. Received: num_gpus={num_gpus}.")
    # Before the strategy is made: it starts the devices, which cannot be changed after.
    tf.config.set_visible_devices(gpus[:num_gpus], "GPU")
    for gpu in gpus[:num_gpus]:
        tf.config.experimental.set_memory_growth(gpu, True)
    return tf.distribute.MultiWorkerMirroredStrategy()


class Workers:
    """The workers of a training run, of which most often there is one.

    Args:
      strategy: from `make_strategy`, or any other, for one worker.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._add = tf.function(self._sum_over_replicas)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes: always but on the workers 1, 2, ... of a cluster."""
        if not self._several:
            return True
        resolver = self._strategy.cluster_resolver
        # As TensorFlow itself decides.
        if "chief" in resolver.cluster_spec().as_dict():
            return resolver.task_type == "chief"
        return resolver.task_id == 0

    def any(self, number: int) -> bool:
        """Whether any worker passes another number than 0; every worker has to call it."""
        # One that stopped alone would leave the others waiting in the next step's collective
        # operation.
        return bool(self._add(tf.constant(number))) if self._several else bool(number)

    def check_same(self, number: int, what: str) -> None:
        """Raises an InputError on a worker that sees another number than the rest sees.

        Args:
          number: non-negative, as this worker sees it.
          what: words for it.
        """
        if not self._several:
            return
        # One sum is enough: where they differ, some worker is off the mean, and its end ends the
        # rest.
        mean = int(self._add(tf.constant(number))) / self._strategy.num_replicas_in_sync
        if mean != number:
            raise InputError(f"expected that every host sees {what}: log_root must lie on a file "
                             f"system that all hosts share. Received: {number} on this host.")

    @contextlib.contextmanager
    def loss_reported(self, log_root: str) -> Iterator[None]:
        """Turns what TensorFlow raises in the block when another worker is lost into a RunError."""
        try:
            yield
        except _LOST as error:
            if not self._several:
                raise
            # Read anew, not from this worker's memory: the chief alone knows what it has saved.
            newest, _ = checkpoints.newest_whole(log_root)
            raise RunError(
                f"{self._lost_worker(str(error))} was lost. The same command on every host goes on "
                f"from {newest or 'the start'}.") from error

    def _lost_worker(self, message):
        """Who the message of a collective operation complains of."""
        peer = re.search(r"remote target /job:(\w+)/replica:0/task:(\d+)", message)
        if not peer:
            return "Another host of TF_CONFIG"
        job, index = peer[1], int(peer[2])
        address = self._strategy.cluster_resolver.cluster_spec().task_address(job, index)
        return f"{job} {index} of TF_CONFIG, {address},"

    def _sum_over_replicas(self, number):
        per_replica = self._strategy.run(lambda: number)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

"""What test_adv.py attacks, and by what, as its flags say."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flags

import numpy as np

import attacks
from data import inputs
from data.pixels import to_network_input
from files.arrays import sha256
from files.names import kernel_dir, results_dir
from options import attack as attack_options
from options import dgn as dgn_options
from options import network as network_options

if TYPE_CHECKING:
    import tensorflow as tf

    from defenses.detector import Detector
    from evaluation.crafter import Crafter
    from evaluation.jobs import Job
    from networks.network import Network


@dataclasses.dataclass(frozen=True)
class Victim:
    """What is attacked.

    Attributes:
      network: the network.
      strategy: whose replicas share the images.
      image_set: the images there are.
      detector: by which the images are to be judged; None where none is given.
      each: the networks of every --log_root, in a mode that draws each.
    """

    network: "Network"
    strategy: "tf.distribute.Strategy"
    image_set: inputs.ImageSet
    detector: "Detector | None"
    each: "dict[str, Network]" = dataclasses.field(default_factory=dict)

    def images(self, target: str, num_batches: int, batch: int) -> np.ndarray:
        """Indices of the images of so many batches, int [n], for a kind of target."""
        from evaluation import sweep  # TensorFlow

        if flags.FLAGS.published_subset:
            return sweep.published_subset(self.image_set)
        order = sweep.choose_images(self.image_set, flags.FLAGS.seed, target,
                                    self.detector and self.detector.fitted_images)
        return order[:flags.num_images(num_batches, batch, len(order), "all of them are attacked once")]

    def chosen(self, job: "Job", batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a job attacks: indices int [n], network inputs float32 [n, h, w, c], labels int [n]; an
        --eval_batch_count is `batch` images."""
        indices = self.images(job.target, flags.FLAGS.eval_batch_count, batch)
        indices = indices[:attack_options.num_images(job.attack) or None]
        return (indices, to_network_input(self.image_set.images[indices]),
                self.image_set.labels[indices])

    def targets(self, target: str, indices: np.ndarray, logits: np.ndarray) -> Sequence[np.ndarray]:
        """Target classes of a kind for the images int [n], whose clean logits [n, L] are given."""
        from evaluation.targets import choose_targets  # TensorFlow

        labels = self.image_set.labels[indices]
        return choose_targets(target, labels, logits, indices, flags.FLAGS.seed) if target else []

    def folder(self, variant: str) -> Path:
        """Where results of this network go."""
        return results_dir(variant, flags.FLAGS.dataset, self.network.tag, flags.FLAGS.save_pwd)


def open_victim(*, each: bool) -> Victim:
    """What the flags name.

    Args:
      each: whether every folder of --log_root is a network of its own.

    Raises:
      InputError: no such network, images or detector, or one that does not fit another.
    """
    networks, opened = network_options.open_each() if each else ({}, network_options.open_network())
    return Victim(*opened, _detector(opened.network), networks)


def _detector(network):
    """The detector of --detector, of this network."""
    from defenses import detector as detectors  # TensorFlow
    from evaluation import aims

    path = flags.FLAGS.detector
    if not path:
        return None
    detector = detectors.load(path)
    aims.check_fits(detector, network, path)
    return detector


def job_of(victim: Victim) -> "Job":
    """The attack that the flags ask for."""
    from evaluation.jobs import Job  # TensorFlow

    row = attacks.get(flags.FLAGS.attack_method)
    return Job(flags.FLAGS.attack_method, attack_options.settings(row), attack_options.eps_values(row),
               attack_options.target(row, victim.image_set.num_classes), _known(row, victim))


def _known(attack_row, victim):
    from evaluation import aims, generated, white_box  # TensorFlow

    F = flags.FLAGS
    if "kernels" in attack_row.takes:
        return white_box.known_of(
            victim.network, F.kernel_dir or kernel_dir(F.dataset), flags.warn, victim.detector,
            *attack_options.density())
    if attack_row.generators:
        opened = network_options.Opened(victim.network, victim.strategy, victim.image_set)
        return generated.Known(dgn_options.generators(opened, attack_row.generators))
    asked = "scores_if_given" in attack_row.takes and F["against"].present
    if "scores" in attack_row.takes or asked:
        return aims.aim(victim.detector, attack_options.against(), F.against_rate, F.detector)
    return None


def crafter_of(victim: Victim, job: "Job", num_images: int) -> "tuple[Crafter, dict[str, Any]]":
    """The attack with the numbers of a job, and what else decides its last bits, as JSON values."""
    from evaluation.crafter import Crafter  # TensorFlow

    F = flags.FLAGS
    crafter = Crafter(victim.network, victim.strategy, job.attack, seed=F.seed, settings=job.keywords(),
                      batch_size=F.attack_batch_size, most_rows=num_images, chunk=F.attack_chunk,
                      jit_compile=F.jit_compile)
    # They change last bits: parts are of another run.
    changed = {"attack_chunk": F.attack_chunk, "jit_compile": F.jit_compile}
    return crafter, {name: value for name, value in changed.items() if value}


def identity(victim: Victim, job: "Job", x: np.ndarray, labels: np.ndarray, indices: np.ndarray
             ) -> dict[str, Any]:
    """Whatever decides the results, as JSON values: parts of another identity are refused.

    Args:
      victim: what is attacked.
      job: by what.
      x: network inputs float32 [n, h, w, c].
      labels: their classes int [n].
      indices: which image of the data set each is, int [n].
    """
    import tensorflow as tf

    F, network = flags.FLAGS, victim.network
    gpus = tf.config.list_logical_devices("GPU") and F.num_gpus
    return {"device": "GPU" if gpus else "CPU", "tensorflow": tf.__version__,
            "attack_method": job.method, "dataset": F.dataset, "eps": job.eps_values,
            "objective": network.head.name, "seed": F.seed, "target": job.target,
            "num_images": len(indices), **job.identity(), **network.digests(),
            "data_sha256": sha256(x, labels, indices),
            # Only where it is not the first.
            **({"version": job.attack.version} if job.attack.version else {})}

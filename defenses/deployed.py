"""A trained network with its fitted detector: answers for new images, or NOT SURE.

    from detector import load_detector
    detector = load_detector("pretrained/mnist_resnet32_rce/detector.npz")
    answer = detector(images)   # uint8 [n, h, w, c], or float in [0, 1]
    print(answer.labels, answer.accepted)
"""

import dataclasses
import os

import environment  # noqa: F401 before TensorFlow

import numpy as np
import tensorflow as tf

from data import inputs
from defenses import detector as detectors
from defenses.detector import Detector
from errors import InputError
from networks import restoring
from networks.network import Network
from networks.spec import NetworkSpec

NOT_SURE = "NOT SURE"
DEFAULT_SCORE = "k_density"
DEFAULT_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a detector says of n images.

    Attributes:
      labels: predicted classes int [n], of the refused images too.
      accepted: bool [n], whether the detector answers.
      scores: float64 [n] by name of the detector's scores.
      threshold: T of the score that decided.
    """

    labels: np.ndarray
    accepted: np.ndarray
    scores: dict[str, np.ndarray]
    threshold: float

    def words(self) -> list[str]:
        """The class of each image, or NOT SURE."""
        return [str(label) if accepted else NOT_SURE
                for label, accepted in zip(self.labels.tolist(), self.accepted, strict=True)]


class LoadedDetector:
    """A network with its detector: call it with images.

    Args:
      network: restored.
      detector: fitted on this network.
      strategy: whose replicas share the images.
      score: of the detector's, which decides.
      false_refusal_rate: one of the rates the detector was fitted at.

    Raises:
      InputError: the detector belongs to another network, or was not fitted at this rate.
    """

    def __init__(self, network: Network, detector: Detector,
                 strategy: tf.distribute.Strategy, *, score: str = DEFAULT_SCORE,
                 false_refusal_rate: float = DEFAULT_RATE):
        found, wanted = network.weights_sha256(), detector.network["weights_sha256"]
        if found != wanted:
            raise InputError("expected the network that the detector was fitted on, with weights of "
                             f"SHA-256 {wanted[:12]}…. Received: a network with {found[:12]}….")
        self.detector = detector
        self._score, self._rate = score, false_refusal_rate
        self._threshold = detector.threshold(score, false_refusal_rate)
        self._image_shape = tuple(detector.network["image_shape"])
        self._forward = network.forward_stored(strategy)

    def __call__(self, images: np.ndarray) -> Answer:
        """Answers for images as they are stored.

        Args:
          images: uint8 in [0, 255] or float in [0, 1], [n, h, w, c], or [n, h, w] of one channel.

        Raises:
          InputError: another shape, type or range, or no image; logits that are not finite.
        """
        images = inputs.checked_images(images, self._image_shape)
        logits, features = self._forward(images)
        scores = self.detector.scores(logits, features)
        accepted = self.detector.accepts(scores, self._score, self._rate)
        return Answer(logits.argmax(axis=1), accepted, scores, self._threshold)


def load_detector(path: str | os.PathLike, *, log_root: str | os.PathLike = "",
                  score: str = DEFAULT_SCORE, false_refusal_rate: float = DEFAULT_RATE,
                  strategy: tf.distribute.Strategy | None = None) -> LoadedDetector:
    """A detector with its network, ready for images.

    Args:
      path: of detector.npz.
      log_root: folder of the network's checkpoint; "": where detector.npz lies.
      score: of the detector's, which decides.
      false_refusal_rate: one of the rates the detector was fitted at.
      strategy: None is the CPU.

    Raises:
      InputError: no detector or network there, or of another network.
    """
    detector = detectors.load(path)
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    # One of an older version names no model.
    fields = {field.name: detector.network[field.name]
              for field in dataclasses.fields(NetworkSpec) if field.name in detector.network}
    expected = NetworkSpec(**fields | {"image_shape": tuple(fields["image_shape"])})
    network = restoring.restore(strategy, str(log_root) or os.path.dirname(path) or ".", expected)
    return LoadedDetector(network, detector, strategy, score=score,
                          false_refusal_rate=false_refusal_rate)

"""A trained network with its fitted detector: answers for new images, or NOT SURE.

    from detector import load_detector
    detector = load_detector("pretrained/mnist_resnet32_rce/detector.npz")
    answer = detector(images)   # uint8 [n, h, w, c], or float in [0, 1]
    print(answer.labels, answer.accepted)
"""

import dataclasses
import os

import environment  # noqa: F401 before TensorFlow

import keras
import numpy as np
import tensorflow as tf

from data import inputs
from defenses import detector as detectors
from defenses.detector import Detector
from errors import InputError
from files import provenance
from networks import foreign, portable, restoring
from networks.network import Network
from networks.spec import NetworkSpec, Opening

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
        found, wanted = network.digests(), detector.network
        digest = provenance.digest_that_differs(found, wanted)
        if digest:
            shown, of = (f"{of.get(digest, 'none')[:12]}…" for of in (wanted, found))
            raise InputError(
                "expected the network that the detector was fitted on, with "
                f"{provenance.DIGESTS[digest]} of SHA-256 {shown}. Received: a network with {of}.")
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
                  model: str | os.PathLike | keras.Model = "", trust_model: bool = False,
                  score: str = DEFAULT_SCORE, false_refusal_rate: float = DEFAULT_RATE,
                  strategy: tf.distribute.Strategy | None = None) -> LoadedDetector:
    """A detector with its network, ready for images.

    Args:
      path: of detector.npz.
      log_root: folder of the network's checkpoint; "": where detector.npz lies.
      model: of a network of another hand its file or itself; "": `<name>.keras` where detector.npz
        lies.
      trust_model: as of `networks.portable.load_model`.
      score: of the detector's, which decides.
      false_refusal_rate: one of the rates the detector was fitted at.
      strategy: None is the CPU.

    Raises:
      InputError: no detector or network there, or of another network.
    """
    detector = detectors.load(path)
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    network = _network_of(detector, os.path.dirname(path) or ".", str(log_root), model, trust_model,
                          strategy)
    return LoadedDetector(network, detector, strategy, score=score,
                          false_refusal_rate=false_refusal_rate)


def _network_of(detector, folder, log_root, model, trust_model, strategy):
    """The network of a detector in `folder`, a model of another hand or one of a checkpoint."""
    is_foreign = "architecture_sha256" in detector.network
    if (is_foreign and log_root) or (model and not is_foreign):
        wanted, given = ("model", f"{log_root=}") if is_foreign else ("log_root", f"{model=}")
        raise InputError(f"expected {wanted} of the network that the detector was fitted on. "
                         f"Received: {given}.")
    # One of an older version names no model.
    fields = _fields(NetworkSpec, detector.network)
    fields["image_shape"] = tuple(fields["image_shape"])
    if not is_foreign:
        return restoring.restore(strategy, log_root or folder, NetworkSpec(**fields))
    opening = Opening(**_fields(Opening, detector.network))
    options = {"head": fields["objective"], "dataset": fields["dataset"],
               "image_shape": fields["image_shape"]}
    if isinstance(model, keras.Model):
        return foreign.from_keras(model, **dataclasses.asdict(opening), **options)
    path = model or os.path.join(folder, f"{fields['model']}.keras")
    return portable.open_model(strategy, path, opening, trust_model=trust_model, **options)


def _fields(kind, network):
    return {field.name: network[field.name] for field in dataclasses.fields(kind)
            if field.name in network}

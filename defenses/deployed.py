"""A trained network with its fitted detector: answers for new images, or NOT SURE.

    from defenses.deployed import load_detector
    detector = load_detector("pretrained/mnist_resnet32_rce/detector.npz")
    answer = detector(images)   # uint8 [n, h, w, c], or float in [0, 1]
    print(answer.labels, answer.accepted)

`fit_detector` makes one of arrays, without the scripts and their files.
"""

import dataclasses
import os

import environment  # noqa: F401 before TensorFlow

import keras
import numpy as np
import tensorflow as tf

from data import inputs
from data.pixels import to_network_input
from defenses import SCORES, scores
from defenses import detector as detectors
from defenses.detector import Detector
from defenses.kernels import KERNEL_BANDWIDTH, Kernels, select_kernels
from errors import InputError
from files import provenance
from files.attack_results import Outputs, digests_of
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
        # Thresholds of another network would answer without complaint, and wrongly.
        found, wanted = network.digests(), detector.network
        digest = provenance.digest_that_differs(found, wanted)
        if digest:
            shown, of = (f"{of.get(digest, 'none')[:12]}…" for of in (wanted, found))
            raise InputError(
                "expected the network that the detector was fitted on, with "
                f"{provenance.DIGESTS[digest]} of SHA-256 {shown}. Received: a network with {of}.")
        if detector.network.get("defense"):
            # Its features and scores are those of weights that have adapted, and no file holds them.
            raise InputError("expected a detector of a network as it was trained. Received: one of a "
                             "network that adapts to each image (rmc.py).")
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


@dataclasses.dataclass(frozen=True)
class Fit:
    """Numbers of `fit_detector`.

    Attributes:
      num_kernels: training features a class that stand for it.
      false_refusal_rates: shares of normal images that it may refuse, each in [0, 1).
      eta: η > 0 of the kernel non-ME.
      seed: of the draw of kernels.
    """

    num_kernels: int = 1000
    false_refusal_rates: tuple[float, ...] = (0.01, 0.05)
    eta: float = 1.0
    seed: int = 0


def fit_detector(network: Network, train_images: np.ndarray, train_labels: np.ndarray,
                 normal_images: np.ndarray, *, fit: Fit = Fit(), score: str = DEFAULT_SCORE,
                 strategy: tf.distribute.Strategy | None = None) -> LoadedDetector:
    """A detector fitted on arrays; `defenses.detector.save(path, it.detector)` keeps it.

    Args:
      network: restored, or of `networks.from_keras`.
      train_images: as they are stored, uint8 [n, h, w, c] or float in [0, 1], that it was trained on.
      train_labels: their classes int [n].
      normal_images: others, on which thresholds are fitted, and which no judgement may use again.
      fit: the numbers.
      score: of `defenses.SCORES`, which decides at the first rate.
      strategy: None is the CPU.

    Raises:
      InputError: images that the network does not take, or a class with too few of them.
    """
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    shape, num_classes = network.expected.image_shape, network.expected.num_classes
    forward = network.forward_stored(strategy)
    trained, normal = (_outputs(*forward(inputs.checked_images(images, shape)))
                       for images in (train_images, normal_images))
    kernels = select_kernels(trained.features, np.asarray(train_labels), fit.num_kernels, num_classes,
                             fit.seed)
    # As the file holds them.
    kernels = Kernels(kernels.astype(np.float32), KERNEL_BANDWIDTH[network.head.name])
    reference = scores.Reference(
        kernels, scores.non_me_variance(trained.non_me, num_classes), fit.eta)
    detector = detectors.fit(
        scores.score(SCORES, normal, reference), fit.false_refusal_rates, network=network.identity(),
        reference=reference, fitted_on=np.arange(len(normal_images)),
        fitted_images=np.sort(digests_of(to_network_input(
            inputs.checked_images(normal_images, shape)))))
    return LoadedDetector(network, detector, strategy, score=score,
                          false_refusal_rate=fit.false_refusal_rates[0])


def _outputs(logits, features):
    return Outputs(scores.confidence(logits), scores.non_me(logits), features, logits.argmax(axis=1))


def _network_of(detector, folder, log_root, model, trust_model, strategy):
    """The network of a detector in `folder`, a model of another hand or one of a checkpoint."""
    is_foreign = "architecture_sha256" in detector.network
    if (is_foreign and log_root) or (model and not is_foreign):
        wanted, given = ("model", f"{log_root=}") if is_foreign else ("log_root", f"{model=}")
        raise InputError(f"expected {wanted} of the network that the detector was fitted on. "
                         f"Received: {given}.")
    # One of an older version names no model.
    fields = _fields(NetworkSpec, detector.network)
    # JSON made a list of it; specs are compared with tuples.
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
    # Only what is known here: a detector of another version may name more, or less.
    return {field.name: network[field.name] for field in dataclasses.fields(kind)
            if field.name in network}

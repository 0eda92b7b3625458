"""A network as it is used after training."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

import resnet_model
from data import inputs
from data.pixels import to_network_input
from errors import InputError
from files import names
from files.arrays import sha256
from networks import FEATURE_LAYERS, heads
from networks.running import ChunkedFunction
from networks.spec import NetworkSpec, Opening

# The batch norm that opens the last stage of a ResNet, before its ReLU.
_STAGE3 = "unit_3_0.residual_only_activation.init_bn"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with its head.

    Attributes:
      model: from images [n, h, w, c] to raw logits [n, L] and features [n, d].
      head: gives the sign of the logits.
      expected: what it was built for; None of a network that was built otherwise.
      training_objective: what was minimised with its head, as in `training.OBJECTIVES`.
      members: of an ensemble, the networks it consists of.
      opening: of a network of another hand, how it was opened.
      architecture_sha256: of a network of another hand, which its layers are.
      source: checkpoint or file that it comes from, for messages.
    """

    model: keras.Model
    head: heads.Head
    expected: "NetworkSpec | None" = None
    members: tuple["Network", ...] = ()
    training_objective: str = names.PLAIN
    opening: Opening | None = None
    architecture_sha256: str = ""
    source: str = "this network"

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Sign-adjusted logits float32 [n, L]: their softmax are the class probabilities."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Sign-adjusted logits float32 [n, L] and features float32 [n, d] of network inputs."""
        # Inference mode also in attacks: on batch statistics an image's result would depend on others.
        raw_logits, features = self.model(images, training=False)
        return self.head.attack_logits(raw_logits), features

    def features_of(self, layer: str) -> Callable[[tf.Tensor], tf.Tensor]:
        """From network inputs [n, h, w, c] to features float32 [n, d] of one of
        `networks.FEATURE_LAYERS`; an InputError where the network lacks it."""
        if layer == FEATURE_LAYERS[0]:
            return lambda images: self.model(images, training=False)[1]
        if _STAGE3 not in {one.name for one in self.model.layers}:
            raise InputError(f"rmc_feature_layer={layer} needs --model=resnet. "
                             f"Received: model={self.expected.model!r}.")
        inner = keras.Model(self.model.inputs, self.model.get_layer(_STAGE3).output)
        return lambda images: tf.reduce_mean(
            tf.cast(inner(images, training=False), tf.float32), axis=[1, 2])

    def variables(self) -> dict[str, tf.Variable]:
        """Weights and moving averages by name, as checkpoints call them."""
        return resnet_model.named_variables(self.model)

    def weights_sha256(self) -> str:
        """SHA-256 of all weights and moving averages (of an ensemble, of the members'): which network
        this is."""
        if self.members:
            digests = [bytes.fromhex(member.weights_sha256()) for member in self.members]
            return hashlib.sha256(b"".join(digests)).hexdigest()
        if self.opening:
            # Their names are Keras's numbers: the order of the layers is what stays.
            return sha256(*(_bytes(weight) for weight in self.model.weights))
        variables = self.variables()
        # By name: the order in which a version of Keras lists variables must not matter.
        return sha256(*(variables[name].numpy() for name in sorted(variables)))

    def digests(self) -> dict[str, str]:
        """What no other network has: "weights_sha256", of another hand "architecture_sha256" too."""
        architecture = {"architecture_sha256": self.architecture_sha256} if self.opening else {}
        return {"weights_sha256": self.weights_sha256(), **architecture}

    def identity(self) -> dict[str, object]:
        """Which network this is, as JSON values: the fields of `expected` and of `opening`, what was
        minimised if not plain, and `digests`."""
        fields = [dataclasses.asdict(value) for value in (self.expected, self.opening) if value]
        minimised = ({} if self.training_objective == names.PLAIN
                     else {"training_objective": self.training_objective})
        return {key: value for part in (*fields, minimised, self.digests())
                for key, value in part.items()}

    @property
    def tag(self) -> str:
        """What its files and folders are called: RCE, CE, or, not of plain training, RCE_at50."""
        return names.tag_of(self.head.name, self.training_objective)

    def forward(self, strategy: tf.distribute.Strategy) -> ChunkedFunction:
        """`logits_and_features` over network inputs float32 in [-0.5, 0.5], any number of them."""
        return _Forward(self.source, strategy, self.logits_and_features)

    def forward_stored(self, strategy: tf.distribute.Strategy) -> ChunkedFunction:
        """As `forward`, over images as they are stored: uint8, or float in [0, 1]."""
        return _Forward(self.source, strategy, self.logits_and_features, prepare=to_network_input)


class _Forward(ChunkedFunction):
    """The outputs of a network, which are looked at before anything is made of them."""

    def __init__(self, source: str, *args, **keywords):
        super().__init__(*args, **keywords)
        self._source = source

    def __call__(self, *arrays, **keywords) -> tuple[np.ndarray, ...]:
        """As `ChunkedFunction`; an InputError when logits or features are not finite."""
        outputs = super().__call__(*arrays, **keywords)
        for name, values in zip(("logits", "features"), outputs, strict=True):
            bad = np.count_nonzero(~np.isfinite(values).all(axis=1))
            if bad:
                raise InputError(f"expected finite logits and features of {self._source}. "
                                 f"Received: NaN or infinity in the {name} of {bad} of {len(values)} "
                                 "images.")
        return outputs


def _bytes(variable):
    # bfloat16 is no type that hashlib knows.
    return np.frombuffer(keras.ops.convert_to_numpy(variable).tobytes(), np.uint8)


def ensemble(strategy: tf.distribute.Strategy, members: Sequence[Network]) -> Network:
    """A deep ensemble (Lakshminarayanan et al., arXiv 1612.01474) of networks for the same images.

    Its probabilities are the mean of the members', its features theirs side by side.
    """
    head, expected = members[0].head, members[0].expected
    minimised = {member.training_objective for member in members}
    if len(minimised) > 1:
        raise InputError("expected networks of one training objective, which names their results. "
                         f"Received: {sorted(minimised)}.")
    with strategy.scope():
        images = keras.Input(expected.image_shape, name="images")
        # Under names of their own, which Keras asks for.
        parts = [keras.Model(member.model.inputs, member.model.outputs, name=f"member_{k}")(images)
                 for k, member in enumerate(members)]
        raw_logits, features = zip(*parts, strict=True)
        sign = head.sign  # its own inverse
        # The mean of the PROBABILITIES, in the log domain: a mean of softmax outputs could underflow to
        # 0, whose logarithm no attack can climb.
        mean = keras.ops.logsumexp(keras.ops.log_softmax(
            sign * keras.ops.stack(raw_logits), axis=-1), axis=0) - math.log(len(members))
        outputs = sign * mean, keras.ops.concatenate(features, axis=-1)
        model = keras.Model(images, outputs, name="ensemble")
    return Network(model, head, expected, tuple(members),
                   training_objective=members[0].training_objective,
                   source=f"the ensemble of {', '.join(member.source for member in members)}")


def count_correct(forward: ChunkedFunction, image_set: inputs.ImageSet, num_images: int) -> int:
    """How many of the first `num_images` images a `forward_stored` classifies correctly."""
    logits, _ = forward(image_set.images[:num_images])
    return int(np.sum(np.argmax(logits, axis=-1) == image_set.labels[:num_images]))

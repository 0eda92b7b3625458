"""What a network is: the networks, a row each; heads, restoring, running over arrays of any length.

This file holds the rows and starts without TensorFlow.
"""

import dataclasses
import pkgutil
from collections.abc import Callable, Mapping

from errors import InputError
from networks.recipes import Recipe

# What `network.Network.features_of` knows: the features themselves, or the pooled batch norm that opens
# the last stage of a ResNet.
FEATURE_LAYERS = ("final", "stage3")
BATCH_NORM, DROPOUT, CONVOLUTIONS = "batch norm", "dropout", "convolutions"
# Layers → the keyword of a builder that makes them otherwise.
_KEYWORDS = {BATCH_NORM: "batch_norm", DROPOUT: "dropout", CONVOLUTIONS: "mixed_precision"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network for images of so many channels.

    Attributes:
      layers: which of BATCH_NORM, DROPOUT and CONVOLUTIONS it has.
      recipe: how it is trained where the flags do not say; None: as the flags' defaults say.
    """

    layers: tuple[str, ...]
    recipe: Recipe | None = None


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What is fixed by the name of a network.

    Attributes:
      name: key in `NETWORKS`, as in --model.
      builder: "module:function", called as function(image_shape, num_classes, *, seed, and, where it
        has them, blocks_per_stage, batch_norm, dropout, mixed_precision); it returns a Keras model
        from images float32 [n, *image_shape] in [-0.5, 0.5] to raw logits [n, num_classes] and
        features [n, d].
      variants: by number of channels; None stands for all others, which are else refused.
      title: what figures call it; {depth} is that of so many residual units. Empty: the name.
      has_residual_units: whether --num_residual_units says how deep it is.
      is_original: whether it is the network of the original's TensorFlow 1 checkpoints.
      num_suspicious: units that Suspiciousness takes (attacks/dgn/), of all layers or, with
        convolutions, of each; 0: of a network that the DGN code does not know.
    """

    name: str
    builder: str
    variants: Mapping[int | None, Variant]
    title: str = ""
    has_residual_units: bool = False
    is_original: bool = False
    num_suspicious: int = 0

    def variant(self, channels: int) -> Variant:
        """The variant for images of so many channels; InputError where there is none."""
        found = self.variants.get(channels) or self.variants.get(None)
        if found is None:
            named = {1: "one", 3: "three"}
            raise InputError(f"{self.name} expected images of "
                             f"{' or '.join(named[number] for number in self.variants)} "
                             f"channel{'s' * (len(self.variants) > 1)}. Received: channels={channels}.")
        return found

    def keywords(self, channels: int) -> tuple[str, ...]:
        """Which of batch_norm, dropout and mixed_precision its builder takes."""
        return tuple(_KEYWORDS[layer] for layer in self.variant(channels).layers)

    def load_builder(self) -> Callable:
        """The builder; TensorFlow is imported with it."""
        # By name, or the rows would import every network, and TensorFlow with it.
        return pkgutil.resolve_name(self.builder)


# Table 3 of arXiv 1706.00633v1. Stated: Adam 0.001, 5 epochs, batch 100. Chosen: Adam's epsilon as it
# was by default in TensorFlow and Keras then, no fall of the rate, no weight decay.
_MNIST = Recipe("adam", 0.001, 1e-8, weight_decay=0.0, batch_size=100, epochs=5, falls=())
# Stated: momentum 0.9 at rate 0.1, 60 epochs, batch 100, weight decay 0.001. Chosen: the falls.
_CIFAR = Recipe("mom", 0.1, 1.0, weight_decay=0.001, batch_size=100, epochs=60, falls=(0.5, 0.75))
# Of the logit pairing code: Adam 0.001 with epsilon 1e-6, 10 epochs of batches of 256, a constant rate.
_PAIRING = Recipe("adam", 0.001, 1e-6, weight_decay=0.0, batch_size=256, epochs=10, falls=(),
                  augment=False)
# Of the targets of the data-generation networks: Adam 0.001 with Keras's epsilon, a constant rate, no
# crops.
_TARGET = Recipe("adam", 0.001, 1e-7, weight_decay=0.0, batch_size=128, epochs=20, falls=(),
                 augment=False)

NETWORKS: dict[str, Architecture] = {
    row.name: row
    for row in (
        Architecture("resnet", "networks.resnet:build_resnet",
                     {None: Variant((BATCH_NORM, CONVOLUTIONS))}, title="ResNet-{depth}",
                     has_residual_units=True, is_original=True),
        Architecture("simple_cnn", "networks.v1:build_simple_cnn",
                     {1: Variant((DROPOUT, CONVOLUTIONS), _MNIST),
                      None: Variant((BATCH_NORM, DROPOUT, CONVOLUTIONS), _CIFAR)}),
        # Of the dense net nothing is stated: trained as the simple CNN on MNIST.
        Architecture("mlp", "networks.v1:build_mlp", {None: Variant((), _MNIST)}),
        Architecture("lenet", "networks.lenet:build_lenet", {1: Variant((CONVOLUTIONS,), _PAIRING)}),
        Architecture("resnet20_wide", "networks.resnet20_wide:build_resnet20_wide",
                     {3: Variant((BATCH_NORM, CONVOLUTIONS), _PAIRING)}),
        Architecture("mnist_5x30", "networks.mnist_5x30:build_mnist_5x30", {1: Variant((), _TARGET)},
                     num_suspicious=20),
        Architecture("cifar_cnn", "networks.cifar_cnn:build_cifar_cnn", {3: Variant(
            (CONVOLUTIONS,), dataclasses.replace(_TARGET, batch_size=32, epochs=10))},
            num_suspicious=20),
    )
}


def get_network(name: str) -> Architecture:
    """The row of a network; InputError if the name is not in `NETWORKS`."""
    if name not in NETWORKS:
        raise InputError(f"model must be one of [{', '.join(NETWORKS)}]. Received: model={name!r}.")
    return NETWORKS[name]


def title_of(model: str, blocks_per_stage: int) -> str:
    """What figures call a network: ResNet-32 of 5 blocks; one that has no row, by its name."""
    title = NETWORKS[model].title if model in NETWORKS else ""
    return title.format(depth=6 * blocks_per_stage + 2) or model


def from_keras(model, **options):
    """A Keras classifier of another hand as a `Network`; arguments of `networks.foreign.from_keras`."""
    from networks import foreign  # TensorFlow, which the rows of this room do not need

    return foreign.from_keras(model, **options)

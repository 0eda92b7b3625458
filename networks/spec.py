"""Which network: what flags, checkpoints, detectors and records say of it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What a script's flags and data say about the network; fields as in `TrainingRun`."""

    dataset: str
    image_shape: tuple[int, int, int]
    num_classes: int
    blocks_per_stage: int
    objective: str
    model: str = "resnet"


@dataclasses.dataclass(frozen=True)
class Opening:
    """How a Keras network of another hand is opened; arguments of `networks.foreign.from_keras`."""

    model_input: str = ""
    logits_layer: str = ""
    features_layer: str = ""


def spec_of(run) -> NetworkSpec:
    """What a `files.checkpoints.TrainingRun` says of its network."""
    return NetworkSpec(*(getattr(run, field.name) for field in dataclasses.fields(NetworkSpec)))

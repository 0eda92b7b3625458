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


def spec_of(run) -> NetworkSpec:
    """What a `files.checkpoints.TrainingRun` says of its network."""
    return NetworkSpec(*(getattr(run, field.name) for field in dataclasses.fields(NetworkSpec)))

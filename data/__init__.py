"""Images in: the data sets, a row each."""

import dataclasses

from errors import InputError


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What is fixed by the name of a data set.

    Attributes:
        name: key in `DATASETS`.
        image_shape: (height, width, channels), or None where the file decides.
        num_classes: number of classes, or None where the file decides.
        augment: whether training crops and flips at random.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    num_classes: int | None
    augment: bool


DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec("mnist", (28, 28, 1), 10, augment=False),
        DatasetSpec("cifar10", (32, 32, 3), 10, augment=True),
        DatasetSpec("cifar100", (32, 32, 3), 100, augment=True),
        DatasetSpec("digits", (8, 8, 1), 10, augment=False),
        DatasetSpec("npz", None, None, augment=False),
    )
}


def get_spec(name: str) -> DatasetSpec:
    """Returns the spec of a data set; InputError if the name is not in `DATASETS`."""
    if name not in DATASETS:
        raise InputError(f"dataset must be one of {list(DATASETS)}. Received: dataset={name!r}")
    return DATASETS[name]

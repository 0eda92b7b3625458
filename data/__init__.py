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
        has_mirror_classes: whether an image that is flipped may be of another class, or of none.
        loader: "module:function" from a split, "train" or "test", to images [n, h, w, c] in stored
            form and labels int [n], without any path; "" of a data set without one.
        download_host: URL that has to answer before tensorflow-datasets, which knows the data set
            under the same name, downloads it; "" of a data set that it lacks.
        labels_per_record: label bytes in front of a colour image in a .bin file; the last counts.
        is_archive: whether the files are .npz; else .bin or IDX.
        lr_boundaries: steps at which the learning rate of the ResNet falls tenfold; empty: 1/2, 3/4
            and all of a training.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    num_classes: int | None
    augment: bool
    has_mirror_classes: bool = False
    loader: str = ""
    download_host: str = ""
    labels_per_record: int = 1
    is_archive: bool = False
    lr_boundaries: tuple[int, ...] = ()

    @property
    def needs_path(self) -> bool:
        """Whether its images come from files alone."""
        return not (self.loader or self.download_host)


_TORONTO = "https://www.cs.toronto.edu"

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        # Boundaries are the steps of the original's train.py, by data set alone: of the 20,000
        # steps that its README asks for on MNIST none reaches the last.
        DatasetSpec("mnist", (28, 28, 1), 10, augment=False, has_mirror_classes=True,
                    download_host="https://storage.googleapis.com",
                    lr_boundaries=(10000, 15000, 20000)),
        DatasetSpec("cifar10", (32, 32, 3), 10, augment=True, download_host=_TORONTO,
                    lr_boundaries=(40000, 60000, 80000)),
        # Its records hold the coarse label and then the fine one.
        # The original has no CIFAR-100: the steps are those of CIFAR-10.
        DatasetSpec("cifar100", (32, 32, 3), 100, augment=True, download_host=_TORONTO,
                    labels_per_record=2, lr_boundaries=(40000, 60000, 80000)),
        # Its loader is named, not imported: rows are read by --help, which must not wait for
        # scikit-learn.
        DatasetSpec("digits", (8, 8, 1), 10, augment=False, has_mirror_classes=True,
                    loader="data.formats:bundled_digits"),
        DatasetSpec("npz", None, None, augment=False, is_archive=True),
    )
}


def get_spec(name: str) -> DatasetSpec:
    """Returns the spec of a data set; InputError if the name is not in `DATASETS`."""
    if name not in DATASETS:
        raise InputError(f"dataset must be one of {list(DATASETS)}. Received: dataset={name!r}")
    return DATASETS[name]

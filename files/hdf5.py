"""Datasets of HDF5 files, opened with suspicion."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py


def own_dataset(group: "h5py.Group", path: str) -> "h5py.Dataset | None":
    """The dataset at a path below a group whose numbers lie in this very file; None where there is
    none."""
    import h5py

    for part in path.split("/"):
        # Never followed: links, virtual and external data may lead into any other file of the machine.
        if not isinstance(group, h5py.Group) or not isinstance(
                group.get(part, getlink=True), h5py.HardLink):
            return None
        group = group[part]
    is_own = isinstance(group, h5py.Dataset) and not group.is_virtual and not group.external
    return group if is_own else None

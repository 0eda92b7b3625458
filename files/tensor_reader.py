"""Checkpoints read by TensorFlow, whatever characters their folder has."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import tensorflow as tf

# What TensorFlow reads as a pattern in the prefix of a checkpoint; escaped, it finds nothing there.
_PATTERN = frozenset("*?[]\\")


@contextlib.contextmanager
def literal(path: str) -> Iterator[str]:
    """Another name of the checkpoint at `path`, which TensorFlow takes as it is; valid in the block."""
    if not _PATTERN & set(path):
        yield path
        return
    folder, name = os.path.split(os.path.abspath(path))
    with tempfile.TemporaryDirectory() as elsewhere:
        link = os.path.join(elsewhere, "folder")
        os.symlink(folder, link)
        yield os.path.join(link, name)


@contextlib.contextmanager
def reading(path: str) -> Iterator:
    """A reader of the checkpoint at `path`, as of tf.train.load_checkpoint; it reads in the block."""
    with literal(path) as found:
        yield tf.train.load_checkpoint(found)

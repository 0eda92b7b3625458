"""Small defenders on the network of the RMC goldens, and what follows them."""

import functools

import numpy as np

from data.pixels import to_network_input
from defenses.rmc.defender import Defender, Settings
from files.rmc import AugmentedSet
from networks import heads
from networks.network import Network
from tests.defenses.test_rmc_adapter import GOLDEN, make_adapter
from tests.helpers.rmc import digits_network

# Blocks of the goldens' set, the clean one last.
NUM_BLOCKS = 4
# Neighbours, where nothing else is asked for: enough for two epochs to move the weights.
K = 30


def augmented() -> AugmentedSet:
    """The augmented set of the goldens, with features."""
    labels = GOLDEN["labels"].astype(np.int32)
    return AugmentedSet(GOLDEN["images_uint8"], labels, len(labels) // NUM_BLOCKS,
                        {"weights_sha256": "golden"}, GOLDEN["features"])


def adapter(head="ce", *, augment=False):
    """An adapter of short fits, traced once a process: whoever asks leaves other weights in it."""
    return _adapter(head, augment)


@functools.cache
def _adapter(head, augment):
    return make_adapter(head, rate=3e-3, batch=16, epochs=2, patience=2, augment=augment)


def defender(head="ce", *, augment=False, rows=None, **settings) -> Defender:
    """A defender of `adapter`, as the network was trained; `rows`: an augmented set of its own."""
    made = Defender(adapter(head, augment=augment), rows or augmented(),
                    Settings(**{"k": K, **settings}))
    made.start()
    return made


def network() -> Network:
    """The network as it was trained, whose weights nobody moves."""
    return Network(digits_network(GOLDEN), heads.get("ce"))


def points(number=5):
    """Network inputs, their features as they were trained, and labels: the goldens' points, which are
    answered wrongly then, and clean rows of the set, which are not."""
    rows = len(GOLDEN["labels"]) * (NUM_BLOCKS - 1) // NUM_BLOCKS + 97 * np.arange(
        number - len(GOLDEN["point_labels"]))
    images, queries, labels = (np.concatenate([GOLDEN[f"point_{name}"], GOLDEN[name][rows]])
                               for name in ("images_uint8", "features", "labels"))
    return to_network_input(images), queries, labels


def same_state(one, other) -> bool:
    """Whether two states of an adapter are the same bit for bit."""
    return all(np.array_equal(a, b) for found, expected in zip(one, other, strict=True)
               for a, b in zip(found, expected, strict=True))

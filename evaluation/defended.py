"""Test images, clean and attacked, through a defender; and what its network has become afterwards."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import attacks
from data.inputs import ImageSet, subset_indices
from data.pixels import to_network_input
from defenses.rmc.defender import Defender
from errors import InputError
from evaluation import streams, transfer
from evaluation.crafter import Crafter
from evaluation.greedy import GreedyAttack
from evaluation.model_space import Numbers
from evaluation.progress import StreamProgress
from evaluation.targets import choose_targets
from files import attack_parts
from networks.network import Network
from networks.running import ChunkedFunction


class Images(NamedTuple):
    """Images, what they are, and what an attack on the network as it was trained makes of them.

    Attributes:
      x: network inputs float32 [n, h, w, c].
      labels: true classes int [n].
      image_index: which image of the data set each is, int [n].
      x_adv: like x; None where nobody has attacked them yet.
      target: class int [n] that the attack aimed at, −1 for none.
    """

    x: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    x_adv: np.ndarray | None = None
    target: np.ndarray | None = None


class Chosen(NamedTuple):
    """Images of a stream, and the further ones that the network is looked at afterwards with.

    Attributes:
      stream: in the order in which they come.
      heldout: none of them is in the stream.
      variant: what the attack is called.
      eps: largest change; None of an attack without.
      norm: in which eps bounds the change; "" where nothing tells.
    """

    stream: Images
    heldout: Images
    variant: str
    eps: float | None
    norm: str = "linf"


class Order(NamedTuple):
    """Which images, and in which order: "shuffled", "file" or "by_class"."""

    kind: str
    number: int
    num_heldout: int
    seed: int

    def rows(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the stream and of the held-out images, int [n] and [m]."""
        drawn = (np.arange(len(labels)) if self.kind == "file"
                 else subset_indices(len(labels), -1, self.seed))
        stream, heldout = drawn[:self.number], drawn[self.number:self.number + self.num_heldout]
        if self.kind == "by_class":
            stream = stream[np.argsort(labels[stream], kind="stable")]
        return stream, heldout


def choose(image_set: ImageSet, order: Order) -> tuple[Images, Images]:
    """Images of a stream and held-out ones, not attacked yet."""
    return tuple(Images(to_network_input(image_set.images[rows]), image_set.labels[rows], rows)
                 for rows in order.rows(image_set.labels))


def chosen_from(folder: str, image_set: ImageSet, order: Order, eps: float | None) -> Chosen:
    """As `choose`, of finished results of test_adv.py, whose images are the attack.

    Args:
      folder: of the results.
      image_set: the images of this run.
      order: of the results' images.
      eps: which round; None where there is one.

    Raises:
      InputError: no such results or round, or too few images.
    """
    source = transfer.read(folder, image_set, "rmc_from")
    rounds = [number for number, value in enumerate(source.eps_values) if eps is None or value == eps]
    if len(rounds) != 1:
        told = ", ".join(f"{value:g}" for value in source.eps_values if value is not None)
        raise InputError(f"eps must name one round of {folder}, of {told or 'none'}. "
                         f"Received: eps={eps}.")
    # A picture that came twice would have been adapted to.
    _, first = np.unique(source.image_index, return_index=True)
    first.sort()
    if order.number > len(first):
        raise InputError(f"rmc_num_eval must be at most the {len(first)} images of {folder}. "
                         f"Received: rmc_num_eval={order.number}.")
    crafted = source.rounds[rounds[0]]
    return Chosen(*(Images(source.x[rows], source.labels[rows], source.image_index[rows],
                           crafted["adversarial"][rows], crafted["target"][rows])
                    for rows in (first[part] for part in order.rows(source.labels[first]))),
                  source.variant, source.eps_values[rounds[0]], source.norm)


class Transfer:
    """PGD on the network as it is when it is called.

    Args:
      network: the network.
      strategy: of the network.
      numbers: how hard it tries.
      target: "none" or "random".
      seed: of random starts and targets.
    """

    def __init__(self, network: Network, strategy: tf.distribute.Strategy, numbers: Numbers,
                 target: str, seed: int):
        self._eps, self._target, self._seed = numbers.eps, target, seed
        self._num_classes = network.model.outputs[0].shape[-1]
        self._crafter = Crafter(network, strategy, attacks.get("pgd"), seed=seed, settings={
            "num_steps": numbers.num_steps, "step_size": numbers.step_size, "num_restarts": 1,
            "drop_broken": False, "targeted": target != "none"})

    def __call__(self, images: Images) -> Images:
        """The images with what it makes of them."""
        if not len(images.labels):
            return images._replace(x_adv=images.x, target=images.labels)
        target, targets = np.full(len(images.labels), -1), []
        if self._target != "none":
            target, = targets = choose_targets(
                self._target, images.labels, np.zeros((len(images.labels), self._num_classes)),
                images.image_index, self._seed)
        crafted = self._crafter(images.x, images.image_index, eps=self._eps, targets=targets)
        return images._replace(x_adv=crafted["adversarial"], target=target)


class Afterwards(NamedTuple):
    """What the network of a defender makes of held-out images after its last point, bool [m] each.

    Attributes:
      clean: right on the images.
      attacked: right on what was made of them on the network as it was trained.
      attacked_anew: right on what PGD makes of them on the network as it has become.
    """

    clean: np.ndarray
    attacked: np.ndarray
    attacked_anew: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A defender and the images that it is to answer.

    Attributes:
      defender: its network is as it was trained when no stream is running.
      strategy: of the network.
      layer: of the features that neighbours are near in.
      chosen: the images.
      craft: PGD, for the network as it has become.
      attacker: who knows the defender; None: the images are attacked already.
      seed: of all that is drawn.
      parts: where finished points are.
      shard: as of `streams.Stream`.
      note: told the lines of progress.
    """

    defender: Defender
    strategy: tf.distribute.Strategy
    layer: str
    chosen: Chosen
    craft: Transfer
    attacker: GreedyAttack | None
    seed: int
    parts: attack_parts.Parts
    shard: tuple[int, int]
    note: Callable[[str], None]


class Answered(NamedTuple):
    """A finished stream.

    Attributes:
      images: as they were answered.
      arrays: of each point, as `streams.answer` keeps it, [n, ...] by name.
      static: class int [n] by the network as it was trained.
      afterwards: of a defender that carries over; else None.
    """

    images: np.ndarray
    arrays: Mapping[str, np.ndarray]
    static: np.ndarray
    afterwards: Afterwards | None


def run(work: Evaluation, *, clean: bool, attacked: bool) -> dict[int, Answered] | None:
    """Answers the streams that are asked for, by number; None where other shards have points to do."""
    found, images = {}, work.chosen.stream
    network = work.defender.adapter.network
    work.defender.start()
    forward = network.forward(work.strategy)
    features = network.features_of(work.layer)
    pooled = ChunkedFunction(work.strategy, lambda x: (features(x),))
    tools = _Tools(lambda x: pooled(x)[0], lambda x: forward(x)[0].argmax(axis=-1))
    if clean:
        found[streams.CLEAN] = _answered(work, tools, streams.CLEAN, images.x)
    if attacked:
        x_adv = images.x_adv if work.attacker is None else _crafted(work, tools)
        found[streams.ATTACKED] = _answered(work, tools, streams.ATTACKED, x_adv)
    work.defender.start()
    return None if any(one is None for one in found.values()) else found


class _Tools(NamedTuple):
    """From network inputs to features, and to classes, by the network as it is then."""

    features: Callable[[np.ndarray], np.ndarray]
    classes: Callable[[np.ndarray], np.ndarray]


def _stream(work, tools, number, x):
    work.defender.start()  # the queries are features of the network as it was trained
    images = work.chosen.stream
    return streams.Stream(number=number, x=x, queries=tools.features(x), labels=images.labels,
                          image_index=images.image_index, seed=work.seed, parts=work.parts,
                          shard=work.shard)


def _crafted(work, tools):
    """The images that an attacker who knows the defender makes, float32 [n, h, w, c]."""
    images = work.chosen.stream
    stream = _stream(work, tools, streams.ATTACKER, images.x)
    one = tf.function(work.defender.adapter.network.features_of(work.layer))
    with StreamProgress(work.chosen.variant, len(images.labels), work.note) as progress:
        streams.attack(stream, work.defender, work.attacker, lambda x: one(tf.constant(x)).numpy(),
                       progress.point_done)
    return stream.arrays()["adversarial"]


def _answered(work, tools, number, x):
    stream = _stream(work, tools, number, x)
    static = tools.classes(x)
    title = "clean" if number == streams.CLEAN else "attacked"
    with StreamProgress(title, len(x), work.note) as progress:
        streams.answer(stream, work.defender, progress.point_done)
    if not stream.is_finished:
        return None
    afterwards = None
    if work.defender.settings.carries_over and len(work.chosen.heldout.labels):
        streams.final_state(stream, work.defender)
        afterwards = _afterwards(work, tools)
    return Answered(x, stream.arrays(), static, afterwards)


def _afterwards(work, tools):
    heldout = work.chosen.heldout
    return Afterwards(*(tools.classes(x) == heldout.labels for x in (
        heldout.x, heldout.x_adv, work.craft(heldout).x_adv)))

"""Attacks on a network over arrays of any length: on every replica, traced once, with progress."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import attacks
from attacks.loops.matching import Accepted
from errors import InputError
from evaluation.listener import NOBODY, Listener
from evaluation.restarts import MANY_RESTARTS, NOWHERE, Restarts, Saver, worst_of_restarts
from evaluation.searches import Searches
from networks.network import Network
from networks.running import ROWS_PER_GRADIENT, ChunkedFunction, device_kind

CLIP_MIN, CLIP_MAX = -0.5, 0.5
# What an attack takes of each row → its keyword.
_ROW_KEYWORDS = {"seed": "image_index", "labels": "labels", "restarts": "restart",
                 "targets_if_given": "target", "generators": "generated"}
# What an attack takes first → the method of `Network` that it is.
_NETWORK_FUNCTIONS = {"logits": "logits", "features": "logits_and_features"}


class Clean(NamedTuple):
    """What is known of images before an attack.

    Attributes:
      labels: their classes int [n].
      settled: which are broken before any attack, bool [n]: wrong and, where a detector is aimed at,
        past it.
      accepted: of all images of the run those that the detector in question answers rightly; None where
        nothing asks for them.
    """

    labels: np.ndarray
    settled: np.ndarray
    accepted: Accepted | None = None

    def rows(self, chosen: slice) -> "Clean":
        """The same of some of the images."""
        return Clean(self.labels[chosen], self.settled[chosen], self.accepted)


class Crafter:
    """One attack on one network, traced once.

    Args:
      network: the network under attack.
      strategy: whose replicas share the images.
      attack: from `attacks.get`.
      seed: of whatever the attack draws.
      settings: keywords of the attack, and of one with restarts "num_restarts", "drop_broken" and
        "keep_losses", of `Restarts`; None of the second: from MANY_RESTARTS on. Of one with generators
        "generators", as of `evaluation.generated.Generators`.
      batch_size: images per call; 0 is the attack's own. No influence on results.
      most_rows: images there are, which no call exceeds; 0: not known.
      chunk: images that share a gradient; 0 is what suits the device. Another one changes last bits.
      jit_compile: whether XLA compiles the network and its gradients.

    Attributes:
      name: of the attack's function.
      chunk: images that share a gradient, or a forward pass; 0 of an attack without.
      part_size: images that are saved together.
      records: names of what results tell of each image, besides what they tell of every attack.
      restarts: how often each image is started from, of all its target classes; None of a search.
    """

    restarts: Restarts | None = None

    def __init__(self, network: Network, strategy: tf.distribute.Strategy,
                 attack: attacks.Attack, *, seed: int, settings: Mapping[str, Any] | None = None,
                 batch_size: int = 0, most_rows: int = 0, chunk: int = 0,
                 jit_compile: bool = False):
        _check_classes(attack, network)
        self._attack, self.name = attack, attack.file
        self.records = attack.records
        self._iterations = _gradients_per_image(attack, settings or {})
        settings = {"clip_min": CLIP_MIN, "clip_max": CLIP_MAX, **(settings or {})}
        self._generators = settings.pop("generators", None)
        self.chunk = chunk or default_chunk(attack, strategy) if attack.runs_network else 0
        if attack.runs_network:
            settings["chunk"] = self.chunk
        # On a GPU a chunk can be larger than what the row saves together.
        # A GPU's gradient may share more images than a part or a call of the CPU's has.
        least = self.chunk if device_kind(strategy) == "GPU" else 1
        self.part_size = max(attack.part_size, least)
        # More rows than a part has would be padding, but where restarts of one image fill them.
        least = max(least, self.chunk) if "restarts" in attack.takes else least
        # Further starts of an image that leaves within the call are in vain: one chunk has the fewest.
        number, drop = _restarts(settings, network)
        usual = least if drop else attack.batch_size
        most = min(most_rows or self.part_size, self.part_size)
        batch_size = max(min(batch_size or usual, most), min(least, self.part_size))
        self._unit = self.chunk or default_chunk(attack, strategy)
        first = [getattr(network, _NETWORK_FUNCTIONS[name]) for name in attack.takes
                 if name in _NETWORK_FUNCTIONS]
        if jit_compile:
            # Not the attack around it: how many rows a search works on is known only while it runs.
            first = [tf.function(function, jit_compile=True) for function in first]
        if "head_sign" in attack.takes:
            settings["head_sign"] = network.head.sign
        if attack.stages:
            sweep = settings.pop("kappa_sweep", ())
            make = partial(attack.function, *first, **settings)
            self._searches = Searches(strategy, make, batch_size, sweep)
            self.records += ("kappa",) * bool(sweep)
            # Parts and shards are cut in multiples of it, or chunks would be filled up at every cut.
            self._unit = self._searches.unit
            return
        self.restarts = Restarts(number, drop, batch_size * len(strategy.extended.worker_devices),
                                 settings.pop("keep_losses", False))
        # PGD keeps the columns that it always had.
        if "restarts" in attack.takes and (self.restarts.drop or (
                number > 1 and "evaded" in attack.returns)):
            told = ("cross_entropy",) * ("cross_entropy" in attack.returns)
            self.records = tuple(dict.fromkeys((*self.records, "restart", "first_broken", *told)))
        # What it is given of each row, besides the image.
        taken = set(attack.takes)
        if not settings.pop("targeted", False):
            taken.discard("targets_if_given")
        self._row_names = [name for name in _ROW_KEYWORDS if name in taken]
        # What every row is given alike.
        self._constant_names = ["eps"] * attack.uses_eps + ["accepted"] * self.takes_accepted
        drawn = {"seed": seed} if "seed" in attack.takes else {}

        def craft(x, *values):
            names = [*(_ROW_KEYWORDS[name] for name in self._row_names), *self._constant_names]
            result = attack.function(*first, x, **dict(zip(names, values, strict=True)), **drawn,
                                     **settings)
            return tuple(result[name] for name in attack.returns) if isinstance(result, dict) else (
                result,)

        self._run = ChunkedFunction(strategy, craft, chunk_size=batch_size)

    @property
    def takes_accepted(self) -> bool:
        """Whether `Clean.accepted` is asked for."""
        return "accepted" in self._attack.takes

    @property
    def unit(self) -> int:
        """Images that share a gradient: attacked in multiples of it, all get the same results."""
        return self._unit

    def __call__(self, x: np.ndarray, image_index: np.ndarray, *, eps: float | None = None,
                 targets: Sequence[np.ndarray] = (), clean: Clean | None = None,
                 saver: Saver = NOWHERE, listener: Listener = NOBODY) -> dict[str, np.ndarray]:
        """Attacks images.

        Args:
          x: float32 [n, h, w, c] in [-0.5, 0.5].
          image_index: which image of the data set each row is, int [n]; seeds what is drawn.
          eps: of attacks that take one.
          targets: classes int [n], of attacks that take one; of several, each image keeps the
            successful result of the smallest L2 distance.
          clean: what is known of the images, of attacks that take labels, generators or accepted
            images, or whose restarts end.
          saver: of what an attack with restarts has come to.
          listener: told of progress.

        Returns:
          "adversarial" like x; "iterations" int32 [n], the steps of all stages and targets; what else
          the attack returns, as its row says; of one with restarts also "restart" and "first_broken",
          as of `worst_of_restarts`; of searches also "success" bool [n], "target" int32 [n] (−1:
          untargeted) and what else they return; of two stages "first_success" bool [n], of the first.
          Where none of several targets succeeds, the first one's result.
        """
        # A tensor: one trace for all eps of a sweep; float64, as attacks divide it before they round.
        constants = {} if eps is None else {"eps": tf.constant(eps, tf.float64)}
        if not self._attack.stages:
            targets = [target.astype(np.int32) for target in targets]
            if self.takes_accepted:
                constants["accepted"] = Accepted(*map(tf.constant, clean.accepted))
            return self._call(x, image_index, constants, targets, clean, saver, listener)
        return self._searches(x, targets, constants, listener)

    def _call(self, x, image_index, constants, targets, clean, saver, listener):
        """The results of an attack that crafts its images at once."""
        of_rows = {"seed": image_index.astype(np.int32)}
        if targets:
            of_rows["targets_if_given"], = targets
        if clean:
            of_rows["labels"] = clean.labels.astype(np.int32)
        if self._generators:
            # Their pixels are in [0, 1].
            low = np.float32(CLIP_MIN)
            of_rows["generators"] = self._generators(x - low, clean.labels) + low

        def attack_rows(images, restarts, on_rows_done=None):
            rows = {name: array[images] for name, array in of_rows.items()}
            rows["restarts"] = restarts.astype(np.int32)
            outputs = self._run(x[images], *(rows[name] for name in self._row_names),
                                constants=tuple(constants.values()), on_rows_done=on_rows_done)
            return dict(zip(self._attack.returns, outputs, strict=True))

        if "restarts" not in self._attack.takes:
            every = np.arange(len(x))
            return attack_rows(every, np.zeros_like(every), lambda rows: listener.rows_done(rows, None)
                               ) | {"iterations": np.full(len(x), self._iterations, np.int32)}
        result = worst_of_restarts(
            attack_rows, x, self.restarts, settled=clean and clean.settled, saver=saver,
            images_done=lambda images: listener.rows_done(images, None),
            restarts_done=lambda number, left: listener.restarts_done(number, left, len(x)))
        told = {"target": targets[0]} if targets else {}
        return result | told | {"iterations": self._iterations * result.pop("num_restarts")}


def _check_classes(attack, network):
    classes = network.model.outputs[0].shape[-1]
    if classes < attack.fewest_classes:
        raise InputError(f"{attack.file} needs a network of at least {attack.fewest_classes} classes. "
                         f"Received: {classes} classes.")


def default_chunk(attack: attacks.Attack, strategy: tf.distribute.Strategy) -> int:
    """Images that share a gradient of an attack on the devices of a strategy."""
    rows = ROWS_PER_GRADIENT[device_kind(strategy)]
    return rows.search if attack.stages else rows.call


def _gradients_per_image(attack, settings):
    """Gradients, or queries, that an attack without stages takes for each image and restart."""
    if attack.stages or not attack.runs_network:
        return 0
    return attack.num_steps(settings) or 1


def _restarts(settings, network):
    """Starts of an image, and whether it leaves once one has broken it: takes what is the runner's, not
    the attack's, out of the settings, and leaves there as many targets as there are."""
    if "num_targets" in settings:
        wrong_classes = network.model.outputs[0].shape[-1] - 1
        settings["num_targets"] = min(settings["num_targets"] or wrong_classes, wrong_classes)
    # Each class that an image is to reach has starts of its own.
    number = settings.pop("num_restarts", 1) * settings.get("num_targets", 1)
    drop = settings.pop("drop_broken", None)
    return number, number > MANY_RESTARTS if drop is None else drop


def input_gradients(network: Network, x: np.ndarray, *, cross_entropy: bool,
                    labels: np.ndarray | None = None) -> np.ndarray:
    """What the gradient attacks climb, at the clean images.

    Args:
      network: the network under attack.
      x: float32 [n, h, w, c].
      cross_entropy: of a class; False: the predicted one's logit minus the next one's.
      labels: the classes int [n] of the cross entropy; None: the predicted ones.

    Returns:
      float32 like x.
    """
    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = network.logits(images)
            if cross_entropy:
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    tf.argmax(logits, -1) if labels is None else labels, logits)
            else:
                # Unlike the cross entropy it does not saturate.
                loss = tf.reduce_sum(tf.math.top_k(logits, 2).values * [1.0, -1.0], axis=-1)
        # Zero, not None, where nothing hangs on the images: `check_gradients` has the sentence.
        return tape.gradient(loss, images, unconnected_gradients="zero")

    return gradients(x).numpy()

"""Images one after the other through a defender that changes, with the attacks that follow it.

A stream is a list of points, and a point is one part on disk: its answer, saved when the state after it
is. What a defender knows after point t depends on what it knew before, on the seed and on the point,
so that a stream that was killed goes on to the same bytes.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

from defenses.rmc.adapter import History, state_of
from defenses.rmc.defender import Answer, Defender, Point
from errors import RunError
from evaluation.greedy import GreedyAttack
from files import attack_parts
from files import rmc as rmc_files

# Numbers of the streams: rounds of the parts, and part of what is drawn. An attacker's copy of the
# defender draws otherwise than the defender that answers.
CLEAN, ATTACKED, ATTACKER = rmc_files.CLEAN, rmc_files.ATTACKED, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """Points for a defender.

    Attributes:
      number: CLEAN, ATTACKED or ATTACKER.
      x: network inputs float32 [n, h, w, c].
      queries: their features float32 [n, d] by the network as it was trained.
      labels: true classes int [n].
      image_index: which image of the data set each is, int [n], all different.
      seed: of all that is drawn.
      parts: where finished points are.
      shard: which of how many machines answers the points in turn; of a defender that carries nothing
        over.
    """

    number: int
    x: np.ndarray
    queries: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    seed: int
    parts: attack_parts.Parts
    shard: tuple[int, int] = (0, 1)

    def name(self, position: int) -> str:
        """Name of the part of a point."""
        return attack_parts.Piece(self.number, slice(position, position + 1), 0).name

    @property
    def finished(self) -> list[int]:
        """Positions of the points that are there."""
        names = set(self.parts.names())
        return [position for position in range(len(self.labels)) if self.name(position) in names
                and self.parts.load(self.name(position)) is not None]

    @property
    def is_finished(self) -> bool:
        """Whether all points are there."""
        return len(self.finished) == len(self.labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """What was saved of all points, arrays [n, ...] by name."""
        parts = [self.parts.load(self.name(position)) for position in range(len(self.labels))]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def answer(stream: Stream, defender: Defender,
           point_done: Callable[[Mapping[str, np.ndarray]], None] = lambda arrays: None) -> None:
    """Answers the points of a stream that are not there yet.

    Args:
      stream: the points.
      defender: of which the state after the last point is left to the caller where it carries over.
      point_done: told of each point, of those that were there too.

    Raises:
      RunError: an adaptation that diverged.
    """
    def play(position):
        point = Point(stream.x[position], stream.queries[position],
                      (stream.seed, stream.number, int(stream.image_index[position])))
        found = defender.answer(point)
        return _told(defender, found, defender.finish(point), int(stream.labels[position]))

    _play(stream, defender, play, point_done)


def attack(stream: Stream, defender: Defender, attacker: GreedyAttack, features: Callable,
           point_done: Callable[[Mapping[str, np.ndarray]], None] = lambda arrays: None) -> None:
    """Crafts images against a copy of a defender that adapts to each of them.

    Before a point the attacker has the defender's weights and optimizer. A round crafts an image
    against the weights found so far, lets the copy adapt to it, and adds the adapted weights; it ends
    where the answer is wrong. The copy goes on from the last image, as the defender will.

    Differs from the attackers' code: there the copy's optimizer forgets its slots at each return.

    Args:
      stream: clean points, of number ATTACKER.
      defender: the copy.
      attacker: crafts a round.
      features: from network inputs [1, h, w, c] to features [1, d] of the network as it was trained,
        whose weights are in place when it is called.
      point_done: as of `answer`.
    """
    def play(position):
        before, label = defender.adapter.snapshot(), int(stream.labels[position])
        index, weights = int(stream.image_index[position]), [before.weights]
        for number in range(attacker.numbers.rounds):
            image = attacker(weights, stream.x[position], label, index, number)
            defender.start()
            query = features(image[None])[0]
            defender.start(before)
            point = Point(image, query, (stream.seed, stream.number, index, number))
            found = defender.answer(point)
            if found.logits.argmax() != label:
                break
            weights.append(defender.adapter.snapshot().weights)
        told = _told(defender, found, defender.finish(point), label)
        return told | {"adversarial": image[None], "rounds": np.array([number + 1], np.int32)}

    _play(stream, defender, play, point_done)


def final_state(stream: Stream, defender: Defender) -> None:
    """Takes a defender that carries over to its state after the last point of a finished stream."""
    defender.start(state_of(stream.parts.load_progress(stream.name(len(stream.labels)))))


def _play(stream, defender, play, point_done):
    carries_over = defender.settings.carries_over
    finished = set(stream.finished)
    first = _first_to_play(stream, defender, finished) if carries_over else 0
    for position in range(len(stream.labels)):
        if position in finished and (position < first or not carries_over):
            point_done(stream.parts.load(stream.name(position)))
            continue
        if position % stream.shard[1] != stream.shard[0]:
            continue
        started = time.perf_counter()
        if not carries_over:
            defender.start()
        try:
            arrays = play(position)
        except RunError as error:
            raise RunError(f"the adaptation of point {position + 1} {error}; the stream is finished up "
                           f"to point {position}.") from None
        arrays["seconds"] = np.array([time.perf_counter() - started])
        if carries_over:
            # Before the part: it goes with the state before it, so that a kill in between plays the
            # point again.
            stream.parts.save_progress(stream.name(position + 1), defender.adapter.snapshot().arrays())
        stream.parts.save(stream.name(position), arrays)
        point_done(arrays)


def _first_to_play(stream, defender, finished):
    """The first point whose state before is known of those that must be played; the defender goes
    there."""
    total = len(stream.labels)
    position = next((p for p in range(total) if p not in finished), total)
    while position:
        saved = stream.parts.load_progress(stream.name(position))
        if saved is not None:
            defender.start(state_of(saved))
            return position
        # Its state was damaged or removed.
        position -= 1
    defender.start()
    return 0


def _told(defender: Defender, found: Answer, calibrated: History | None, label: int
          ) -> dict[str, np.ndarray]:
    """What is kept of a point, arrays [1, ...]."""
    augmented, nearest = defender.augmented, found.nearest
    losses = found.adapted.validation_losses if found.adapted else np.full(1, np.nan, np.float32)
    first_clean = len(augmented.labels) - augmented.num_clean
    values = {
        "logits": found.logits, "features": found.features, "nearest": nearest[:rmc_files.NUM_TOLD],
        "label": np.int64(label), "predicted": found.logits.argmax(), "webnn": np.int64(found.webnn),
        "deepnn": np.int64(found.deepnn),
        "epochs_adapt": np.int64(found.adapted.epochs if found.adapted else 0),
        "epochs_calibrate": np.int64(calibrated.epochs if calibrated else 0),
        "validation_first": losses[0], "validation_best": losses.min(), "validation_last": losses[-1],
        "share_true_label": np.mean(augmented.labels[nearest] == label),
        "share_adversarial": np.mean(nearest < first_clean),
        # Of what the next point finds.
        "drift": np.float64(defender.adapter.drift())}
    return {name: np.asarray(value)[None] for name, value in values.items()}

"""The same images attacked at each eps: crafted in parts that survive a kill, scored, averaged."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from data.inputs import ImageSet, subset_indices
from data.pixels import HALF_GREY_LEVEL, rounded_inside, to_network_input
from defenses.scores import confidence, non_me
from errors import InputError
from evaluation import checks
from evaluation.accepted import accepted_of, check_two_classes
from evaluation.aims import Aim, broken
from evaluation.crafter import CLIP_MAX, CLIP_MIN, Clean, Crafter
from evaluation.listener import Listener
from evaluation.progress import NOBODY
from evaluation.restarts import Saver
from files import attack_parts, attack_results
from files.attack_results import Attacked, Outputs, digests_of
from networks.network import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """The same images under attack at each eps.

    Attributes:
      network: the network under attack.
      strategy: whose replicas share the images.
      x: clean network inputs float32 [n, h, w, c] in [-0.5, 0.5].
      labels: true classes int [n].
      image_index: which image of the data set each row is, int [n].
      eps_values: one round each; (None,) for an attack without eps.
      aim: what an attack that knows a detector aims at; None of the others.
      norm: in which eps bounds the change; "" of no eps.
    """

    network: Network
    strategy: tf.distribute.Strategy
    x: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    eps_values: Sequence[float | None]
    aim: Aim | None = None
    norm: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Subject):
    """One attack on them.

    Attributes:
      crafter: the attack.
      pieces: all that is crafted, over all rounds and shards, as `attack_parts.cut` gives them.
      parts: where finished parts are saved and found.
      choose_targets: clean logits [n, L] to arrays of target classes int [n]; none for an attack that
        has no choice.
    """

    crafter: Crafter
    pieces: Sequence[attack_parts.Piece]
    parts: attack_parts.Parts
    choose_targets: Callable = lambda logits: ()


def choose_images(image_set: ImageSet, seed: int, target: str = "",
                  fitted: np.ndarray | None = None) -> np.ndarray:
    """The images of a data set in an order that depends on the seed alone: the same for every attack.

    Args:
      image_set: with labels.
      seed: of the order.
      target: a class number leaves out the images of that class, which are there already.
      fitted: digests of images to leave out, `attack_results.digests_of`, those that a detector was
        fitted on; None: none.

    Raises:
      InputError: all images are of the target's class, or were fitted on.
    """
    order = subset_indices(len(image_set.labels), -1, seed)
    if fitted is not None:
        digests = digests_of(to_network_input(image_set.images))
        order = order[~np.isin(digests[order], fitted)]
        if not len(order):
            raise InputError("expected images that the detector was not fitted on. "
                             f"Received: {len(digests)} images, all fitted on.")
    if not target.isdecimal():
        return order
    # Before images are counted off, so that there are as many as were asked for.
    order = order[image_set.labels[order] != int(target)]
    if not len(order):
        raise InputError(f"expected images of other classes than the target. "
                         f"Received: {len(image_set.labels)} images, all of class {target}.")
    return order


def published_subset(image_set: ImageSet) -> np.ndarray:
    """The 1000 test images of Mosbach et al. 2018, int [1000]: drawn with replacement, 954 of them
    different; an image that was drawn twice counts twice.

    Raises:
      InputError: there are not 10,000 images.
    """
    if len(image_set.labels) != 10_000:
        raise InputError("published_subset is of the 10,000 test images of a data set. Received: "
                         f"{len(image_set.labels)} images.")
    # The authors' draw: NumPy's legacy generator, whose numbers stay the same for ever.
    return np.random.RandomState(123).randint(0, 10_000, 1000)


def run_sweep(work: Sweep, progress=NOBODY) -> tuple[Attacked, list[dict]]:
    """Attacks the same images at each eps and scores them; what is finished is read.

    Args:
      work: what to attack.
      progress: told of it, as `evaluation.progress.Progress`.

    Returns:
      What came of it, the rounds one after the other; and per round its averages, by the keys of
      `attack_results.AVERAGES` and "seconds".

    Raises:
      InputError: images outside the box, NaN, or a network that returns probabilities.
    """
    def craft(number, logits, features, listener):
        clean, targets = clean_of(work, work.crafter, logits, features), work.choose_targets(logits)
        return _joined([_craft_part(work, clean, targets, piece, listener)
                        for piece in work.pieces if piece.round_number == number])

    return score_rounds(work, craft, work.crafter.records, progress)


def score_rounds(subject: Subject, craft: Callable, records: Sequence[str] = (), progress=NOBODY
                 ) -> tuple[Attacked, list[dict]]:
    """Scores what an attack makes of the images at each eps.

    Args:
      subject: what is attacked.
      craft: from the number of a round, the clean logits [n, L] and features [n, d] and a `Listener`
        to arrays of n rows:
        "adversarial", "iterations", "seconds" (of any length), `records`, and of searches "success" and
        "target".
      records: names of what results.npz tells besides what it tells of every attack.
      progress: as of `run_sweep`.

    Returns:
      As `run_sweep`.

    Raises:
      InputError: as `run_sweep`.
    """
    forward = subject.network.forward(subject.strategy)
    logits, features = _checked_outputs(forward, subject.x)
    clean = outputs_of(logits, features)
    x_adv, outputs, image_rows, averages = [], [], [], []
    for number, eps in enumerate(subject.eps_values):
        # By the clean images: every eps aims at the same classes.
        crafted = craft(number, logits, features, _listener(progress, eps))
        x_adv.append(crafted["adversarial"])
        outputs.append(outputs_of(*forward(crafted["adversarial"])))
        image_rows.append(per_image(eps, subject, clean, outputs[-1], crafted)
                         | {name: crafted[name] for name in records}
                         | _evades_rounded(subject, forward, crafted["adversarial"], eps))
        averages.append(_averages(eps, subject.labels, clean, outputs[-1], image_rows[-1])
                        | _evaded(subject, clean, outputs[-1])
                        | {"seconds": float(crafted["seconds"].sum())})
        progress.round_done(averages[-1])
    # The clean images are scored once; the files repeat them for each round, as the original's do.
    num_rounds = len(x_adv)
    return Attacked(
        np.concatenate([subject.labels] * num_rounds), np.concatenate([subject.x] * num_rounds),
        np.concatenate(x_adv), attack_results.joined([clean] * num_rounds),
        attack_results.joined(outputs), _joined(image_rows)), averages


def craft_pieces(work: Sweep, pieces: Sequence[attack_parts.Piece], progress=NOBODY) -> None:
    """Crafts and saves some pieces of a sweep, those of a shard, and scores nothing.

    Args:
      work: the whole sweep.
      pieces: those to craft; of one that is finished the listener is told only.
      progress: as of `run_sweep`.

    Raises:
      InputError: as `run_sweep`.
    """
    logits, features = _checked_outputs(work.network.forward(work.strategy), work.x)
    clean, targets = clean_of(work, work.crafter, logits, features), work.choose_targets(logits)
    for piece in pieces:
        eps = work.eps_values[piece.round_number]
        _craft_part(work, clean, targets, piece, _listener(progress, eps))


def _listener(progress, eps):
    return Listener(partial(progress.rows_done, eps), progress.stage_done, progress.restarts_done)


def of_restarts(work: Sweep, number: int) -> dict[str, np.ndarray]:
    """What the finished parts of a round tell of restarts: "first_broken", "num_broken", "seconds" and,
    where they are kept, "losses", as of `restarts.worst_of_restarts`."""
    parts = [work.parts.load(piece.name) for piece in work.pieces if piece.round_number == number]
    names = ("first_broken", "num_broken", "seconds", "losses")
    return _joined([{name: part[name] for name in names if name in part} for part in parts])


def missing_pieces(work: Sweep) -> list[attack_parts.Piece]:
    """The pieces that are not finished yet."""
    return [piece for piece in work.pieces if work.parts.load(piece.name) is None]


def _checked_outputs(forward, x):
    """Logits and features of the clean images; an InputError when these or those are unfit."""
    checks.check_images(x, CLIP_MIN, CLIP_MAX)
    logits, features = forward(x)
    checks.check_logits(logits)
    return logits, features


def clean_of(subject: Subject, crafter: Crafter, logits: np.ndarray, features: np.ndarray) -> Clean:
    """What an attack is told of the clean images, whose logits [n, L] and features [n, d] are given.

    Raises:
      InputError: it imitates accepted images, and there are none of two classes.
    """
    accepted, outputs = None, outputs_of(logits, features)
    if crafter.takes_accepted:
        accepted = accepted_of(subject.aim, subject.x, subject.labels, logits, outputs)
        check_two_classes(accepted, crafter.name)
    return Clean(subject.labels, broken(subject.aim, outputs, subject.labels), accepted)


def _craft_part(work, clean, targets, piece, listener):
    """The arrays of one piece, "seconds" among them; if it was saved before, it is read instead."""
    part = work.parts.load(piece.name)
    if part is not None:
        listener.tell_of(part)
        return part
    rows = piece.rows
    started = time.perf_counter()
    part = work.crafter(
        work.x[rows], work.image_index[rows], eps=work.eps_values[piece.round_number],
        targets=[t[rows] for t in targets], clean=clean.rows(rows),
        saver=Saver(partial(work.parts.load_progress, piece.name),
                    partial(work.parts.save_progress, piece.name)), listener=listener)
    # Saved with the part, so that a run that was killed tells the time of all its parts.
    part["seconds"] = np.array([time.perf_counter() - started])
    work.parts.save(piece.name, part)
    return part


def _joined(arrays):
    """Dicts of the same names as one, rows one after the other."""
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}


def outputs_of(logits: np.ndarray, features: np.ndarray) -> Outputs:
    """What files and scores keep of sign-adjusted logits [n, L] and features [n, d]."""
    return Outputs(confidence(logits), non_me(logits), features, np.argmax(logits, axis=-1))


def per_image(eps: float | None, subject: Subject, clean: Outputs, attacked: Outputs,
              crafted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of `result_files.PER_IMAGE` of one round, of what `craft` of `score_rounds` gives."""
    x, labels = subject.x, subject.labels
    change = (crafted["adversarial"] - x).reshape(len(x), -1)
    # An attack that does not judge its own success has it where the class is wrong.
    success = crafted.get("success", attacked.predicted != labels)
    # In float64: over thousands of pixels float32 would add rounding to the distance.
    squares = np.square(change).sum(axis=1, dtype=np.float64)
    return {
        # NaN for none: the column is one of numbers.
        "eps": np.full(len(x), np.nan if eps is None else eps), "image_index": subject.image_index,
        "label": labels, "target": crafted.get("target", np.full(len(x), -1)),
        "predicted_before": clean.predicted, "predicted_after": attacked.predicted,
        "success": success, "kept": success & (clean.predicted == labels),
        "iterations": crafted["iterations"], "rms": np.sqrt(squares / change.shape[1]),
        "l2": np.sqrt(squares), "linf": np.abs(change).max(axis=1),
        # Less is gone once the image is stored in 8 bits.
        "l0": np.count_nonzero(np.abs(change) > HALF_GREY_LEVEL, axis=1),
        "confidence_before": clean.confidence, "confidence_after": attacked.confidence,
        "non_me_before": clean.non_me, "non_me_after": attacked.non_me,
    }


def _evades_rounded(subject, forward, x_adv, eps):
    """Which images the detector answers wrongly as it would read them from 8-bit files; {} where none
    is known."""
    if subject.aim is None:
        return {}
    outputs = outputs_of(*forward(rounded_inside(x_adv, subject.x, subject.norm, eps)))
    return {"evades_rounded": subject.aim.passes(outputs) & (outputs.predicted != subject.labels)}


def _evaded(subject, clean, attacked):
    """How many images the detector answers wrongly, by its float64 scores: {} where none is known."""
    if subject.aim is None:
        return {}
    evaded = [subject.aim.passes(outputs) & (outputs.predicted != subject.labels)
              for outputs in (clean, attacked)]
    return {"num_natural": int(evaded[0].sum()), "num_evaded": int((evaded[0] | evaded[1]).sum())}


def _averages(eps, labels, clean, attacked, image_rows):
    kept = image_rows["kept"]
    # Differs from the original: of this eps, not of all rounds so far. As there, without eps of
    # the images that count.
    rms = image_rows["rms"][kept] if eps is None else image_rows["rms"]
    return {
        "eps": eps,
        "accuracy_before": float(np.mean(clean.predicted == labels)),
        "accuracy_after": float(np.mean(attacked.predicted == labels)),
        "confidence_before": float(clean.confidence.mean()),
        "confidence_after": float(attacked.confidence.mean()),
        "non_me_before": float(clean.non_me.mean()),
        "non_me_after": float(attacked.non_me.mean()),
        "rms_perturbation": float(rms.mean()) if rms.size else math.nan,
        "num_success": int(image_rows["success"].sum()), "num_kept": int(kept.sum()),
        **({"num_first_success": int(image_rows["first_success"].sum()),
            "log_density_ratio": mean_of(image_rows["log_ratio"], image_rows["success"])}
           if "log_ratio" in image_rows else {}),
    }


def mean_of(values: np.ndarray, chosen: np.ndarray) -> float:
    """Mean of the values [n] where `chosen` bool [n] holds; NaN where it never does."""
    return float(values[chosen].mean()) if chosen.any() else math.nan

"""HopSkipJump: walks along the boundary of what is answered wrongly, by answers alone.

Source: Chen, Jordan and Wainwright 2020, arXiv 1904.02144, algorithm 2 and the authors' hsja.py.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from attacks.loops import decisions, knowing
from attacks.loops.ascent import GRADIENT_CHUNK, in_chunks
from attacks.loops.matching import Accepted, others_first
from attacks.loops.search import keep_rows

# Queries for the first direction; for the t-th √t as many.
FIRST_QUERIES = 100
# How often a step is halved until its end is answered wrongly.
MOST_HALVINGS = 10
# Slack from which on an image counts as answered: it ends so near to a threshold that the rounding of
# another batch would decide.
# Differs from the original: a classifier has no such edge but its own.
_SURE = 1e-3
# Of the box, how far the first queries lie from the boundary.
_FIRST_RADIUS = 0.1


def hopskipjump(logits_and_features_fn: Callable, x: tf.Tensor, *, labels: tf.Tensor,
                slack_fn: Callable, accepted: Accepted, seed: int, image_index: tf.Tensor,
                norm: str = "l2", num_steps: int = 2000, clip_min: float = -0.5,
                clip_max: float = 0.5, chunk: int = GRADIENT_CHUNK) -> dict[str, tf.Tensor]:
    """Starts at the nearest normal image of another class that is answered, and comes nearer.

    As many parameters as the attack has numbers: each is a keyword, which a flag sets. Of the network
    and the detector it sees one thing of an image: whether it is answered wrongly.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static. The attack computes in its type.
      labels: true classes int32 [n].
      slack_fn: of the detector, see `loops/knowing.py`.
      accepted: normal images that the detector answers, of at least two classes.
      seed: of the queries.
      image_index: int32 [n], which image of the data set each row is.
      norm: "linf" or "l2", in which it comes nearer.
      num_steps: queries per image, never more.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a forward pass, see `loops/ascent.py`.

    Returns:
      Of each row "adversarial", the nearest image that was answered wrongly, the clean one where there
      was none; "evaded" bool [n], whether there was one; "queries" int32 [n].
    """
    size = x.shape[1:].num_elements()
    # Differs from the original in L-inf: its first interval is the same, its number of halvings grows
    # with the distance, by less than one.
    halvings = math.ceil(math.log2(size * (math.sqrt(size) if norm == "l2" else size)))

    def attack_chunk(clean, labels, image_index):
        def answered_wrongly(images):
            judged = knowing.Judged(logits_and_features_fn, slack_fn, images, labels)
            return judged.wrong & (judged.merit >= _SURE)

        def to_boundary(images):
            return decisions.bisect(answered_wrongly, norm, clean, images, halvings)

        def num_queries_of(number):
            return tf.cast(FIRST_QUERIES * tf.sqrt(tf.cast(number, x.dtype)), tf.int32)

        def affordable(number, queries):
            return queries + num_queries_of(number) + MOST_HALVINGS + halvings <= num_steps

        def walk(number, state):
            root, num_queries = tf.sqrt(tf.cast(number, x.dtype)), num_queries_of(number)
            image, distance = state["image"], decisions.size_of(norm, state["image"] - clean)
            radius = tf.where(number == 1, tf.cast(_FIRST_RADIUS * (clip_max - clip_min), x.dtype),
                              state["reached"] / size)
            direction = decisions.direction(
                answered_wrongly, norm, image, radius, num_queries, clip_min=clip_min,
                clip_max=clip_max, seed=seed, image_index=image_index, number=number)
            leapt, tries = decisions.leap(answered_wrongly, image, direction, distance / root,
                                          MOST_HALVINGS, clip_min, clip_max)
            new = {"image": to_boundary(leapt), "reached": decisions.size_of(norm, leapt - clean),
                   "queries": state["queries"] + num_queries + tries + halvings}
            nearer = decisions.size_of(norm, new["image"] - clean) < decisions.size_of(
                norm, state["nearest"] - clean)
            new["nearest"] = tf.where(nearer, new["image"], state["nearest"])
            going_on = state["going_on"]
            state = {name: keep_rows(going_on, value, state[name]) for name, value in new.items()}
            return number + 1, state | {"going_on": going_on & affordable(number + 1, state["queries"])}

        natural = answered_wrongly(clean)
        start = _nearest_accepted(norm, clean, labels, accepted)
        # Where it is of no other class, or the forms of the scores differ from the scores.
        found = answered_wrongly(start) & ~natural
        image = keep_rows(found, to_boundary(start), clean)
        queries = 1 + tf.where(found, 1 + halvings, 0)
        # Asked before a step, not after: one that cannot be paid for is not computed.
        state = {"image": image, "nearest": image, "queries": queries,
                 "reached": decisions.size_of(norm, start - clean),
                 "going_on": found & affordable(1, queries)}
        _, state = tf.while_loop(lambda number, state: tf.reduce_any(state["going_on"]), walk,
                                 (1, state), parallel_iterations=1)
        return {"adversarial": state["nearest"], "evaded": found | natural,
                "queries": state["queries"]}

    return in_chunks(attack_chunk, x, labels, image_index, chunk=chunk, outputs={
        "adversarial": x.dtype, "evaded": tf.bool, "queries": tf.int32})


def _nearest_accepted(norm, clean, labels, accepted):
    """Of each image the nearest accepted one of another class."""
    bank = tf.cast(accepted.images, clean.dtype)
    # An image at a time: all differences at once would be n · m images.
    distance = tf.map_fn(lambda image: decisions.size_of(norm, bank - image)[:, 0, 0, 0], clean,
                         parallel_iterations=1)
    order, _ = others_first(distance, accepted.classes, labels)
    return tf.gather(bank, order[:, 0])

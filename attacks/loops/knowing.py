"""What attacks that know a detector share: whether an image is across, what is climbed, the best so
far.

An attack sees the detector as one callable, `slack_fn(logits, features, classes)`: by how much each
score that is aimed at passes its threshold, [n, scores], ≥ 0 where the image is accepted, in units in
which the scores weigh alike (`defenses.differentiable.aim`).
"""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.search import keep_rows

# What an attack that keeps the best of its steps returns of each image, see `Best`.
RETURNS = ("adversarial", "wrong", "merit", "evaded", "best_step", "zero_gradient_steps")
# Slack from which on a score no longer pulls, and the share of its pull that stays.
ENOUGH_SLACK, LASTING_PULL = 0.2, 0.01
# Of the spread of an image's logits: from this margin on it counts as across the boundary.
ACROSS = 0.02

State = dict[str, tf.Tensor]


def largest_other(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The largest wrong class int32 [n], the first of equal ones, and its margin over the label [n].

    The class is what a detector scores once the image is wrong; before, it is where the way across
    leads.

    Args:
      logits: sign-adjusted [n, L].
      labels: true classes int32 [n].
    """
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    others = tf.where(is_label, tf.constant(float("-inf"), logits.dtype), logits)
    other = tf.argmax(others, axis=-1, output_type=tf.int32)
    own = tf.reduce_sum(tf.where(is_label, logits, tf.zeros([], logits.dtype)), axis=1)
    return other, tf.reduce_max(others, axis=1) - own


def is_across(margin: tf.Tensor, logits: tf.Tensor, across: float = ACROSS) -> tf.Tensor:
    """bool [n]: whether the margin [n] of a wrong class exceeds `across` times the logits' spread."""
    return margin > across * tf.math.reduce_std(logits, axis=1)


def hinge(slacks: tf.Tensor) -> tf.Tensor:
    """What is climbed [n], of slacks [n, scores]: a score that has passed with a margin hardly
    pulls."""
    # The small linear term keeps the image moving once all have passed.
    return tf.reduce_sum(tf.minimum(slacks, ENOUGH_SLACK) + LASTING_PULL * slacks, axis=1)


class Judged:
    """Images seen as the detector sees them.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      slack_fn: see above; with no score at all it returns [n, 0], and every wrong image evades.
      images: float [n, h, w, c].
      labels: true classes int32 [n].

    Attributes:
      logits: [n, L].
      features: [n, d].
      margin: of the largest wrong class over the label [n].
      slacks: [n, scores] for that class.
      wrong: bool [n].
      merit: the smallest slack of wrong images, of others the margin [n].
      evaded: whether an image is wrong and accepted by each score, bool [n].
    """

    def __init__(self, logits_and_features_fn: Callable, slack_fn: Callable, images: tf.Tensor,
                 labels: tf.Tensor):
        self.logits, self.features = logits_and_features_fn(images)
        # Which class carries no gradient.
        other, self.margin = largest_other(self.logits, labels)
        self.slacks = slack_fn(self.logits, self.features, other)
        # Of a tie the judge may predict the label.
        self.wrong = self.margin > 0
        # Of no score the smallest slack is infinite.
        smallest = tf.reduce_min(self.slacks, axis=1)
        self.merit = tf.where(self.wrong, smallest, self.margin)
        self.evaded = tf.logical_and(self.wrong, smallest >= 0)


def output_types(dtype: tf.DType) -> dict[str, tf.DType]:
    """The types of RETURNS, for images of a type."""
    return {"adversarial": dtype, "wrong": tf.bool, "merit": dtype, "evaded": tf.bool,
            "best_step": tf.int32, "zero_gradient_steps": tf.int32}


def none_yet(x: tf.Tensor) -> State:
    """The best of each image before any was judged: what every image is better than."""
    num = x.shape[0]
    return {"adversarial": x, "wrong": tf.zeros(num, bool),
            "merit": tf.fill([num], tf.constant(float("-inf"), x.dtype)),
            "evaded": tf.zeros(num, bool), "best_step": tf.zeros(num, tf.int32),
            "zero_gradient_steps": tf.zeros(num, tf.int32)}


def stands_still(gradient: tf.Tensor, evaded: tf.Tensor) -> tf.Tensor:
    """1 for each image [n] whose gradient [n, h, w, c] is exactly zero, though it has not got past the
    detector yet: from there on nothing need pull."""
    return tf.cast(tf.reduce_all(gradient == 0, axis=[1, 2, 3]) & ~evaded, tf.int32)


def keep_best(best: State, images: tf.Tensor, judged: Judged, step: tf.Tensor | int) -> State:
    """The better of what was best and the images of a step: a wrong one beats a right one, of two alike
    the larger merit counts, of equal ones the earlier."""
    better = tf.logical_or(
        tf.logical_and(judged.wrong, ~best["wrong"]),
        tf.logical_and(judged.wrong == best["wrong"], judged.merit > best["merit"]))
    new = {"adversarial": images, "wrong": judged.wrong, "merit": judged.merit,
           "evaded": judged.evaded, "best_step": tf.fill(tf.shape(better), step)}
    return best | {name: keep_rows(better, value, best[name]) for name, value in new.items()}

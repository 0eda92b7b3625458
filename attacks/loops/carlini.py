"""The search of all C&W attacks: Adam in tanh space, binary search over the tradeoff per image."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from attacks.loops.ascent import own_and_other
from attacks.loops.search import SEARCH_CHUNK, Search, keep_rows

# Adam of TensorFlow 1, its defaults.
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8
# Keeps arctanh finite at the edges of the box.
SHRINK = 0.999999
# Of a continued search: where it begins. At the edges of the box, where most of MNIST lies, tanh is so
# flat (slope 2e-6 at SHRINK) that 50 steps of Adam at 0.1 pass before a pixel moves. Farther in, few or
# short steps would not lead back to the image. Mean L2 of 100 images, 5 × 40 steps at 0.1, shipped
# ResNet-32, CE and RCE: from 0.9 1.16 and 1.74, 0.95 1.17 and 1.80, 0.98 1.18 and 1.87.
START_SHRINK = 0.95
# "No upper bound yet" of the binary search, and what counts as one.
NO_UPPER_BOUND, LARGEST_UPPER_BOUND = 1e10, 1e9
# A search step is aborted unless the loss falls below this share of its earlier value.
ABORT_SHARE = 0.9999
# From this many search steps on, the last one uses the upper bound.
REPEAT_FROM = 10
# Entries of the state that a step changes.
CHANGES = ("best_image", "best_l2", "best_log_ratio", "success", "step_success", "iterations",
           "checked_loss", "step", "delta", "first_moment", "second_moment", "active", "tradeoff",
           "lower", "upper", "search_step")


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers of one C&W search.

    Attributes:
      kappa: confidence, by which the target's logit must exceed all others, ≥ 0.
      num_steps: most Adam steps per search step.
      learning_rate: of Adam, which starts anew at every search step, unless `continued`.
      num_search_steps: values of c per image; with 10 or more the last is the upper bound.
      initial_tradeoff: first c.
      abort_group: a search step ends when the summed loss of this many neighbours in the batch has
        not fallen to 0.9999 of its value num_steps // 10 steps before. 1: each image for itself.
      targeted: False leaves the class given as target instead of reaching it.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      continued: a search step goes on with the δ and the moments of the one before and is never
        aborted; c follows the success of every step, and the first begins at START_SHRINK.
    """

    kappa: float
    num_steps: int
    learning_rate: float
    num_search_steps: int
    initial_tradeoff: float
    abort_group: int = 1
    targeted: bool = True
    clip_min: float = -0.5
    clip_max: float = 0.5
    continued: bool = False


def carlini_search(logits_and_features_fn: Callable, numbers: Numbers, *,
                   log_ratio_fn: Callable | None = None, distance_from_clean: bool = False,
                   first: Search | None = None, compact: bool = True,
                   chunk: int = SEARCH_CHUNK) -> Search:
    """Smallest L2 perturbation that reaches a class: min ‖x̂ − x‖² + c·max(0, margin + kappa).

    x̂ = tanh(arctanh(x) + δ) keeps to the box, margin = max_{i≠t} Z_i − Z_t. Per image, c is found by
    binary search: tenfold until a first success, then bisection.

    Args:
      logits_and_features_fn: from images to sign-adjusted logits [n, L] and features [n, d].
      numbers: of the search.
      log_ratio_fn: features [n, d] and target [n] to r [n]: c·max(0, r) joins the loss, and success
        needs r ≤ 0 too.
      distance_from_clean: of an attack with `first`: distance from x, not from the image it begins
        with.
      first: the search whose result this one begins with.
      compact: see `Search`.
      chunk: rows per gradient, made a multiple of abort_group.

    Returns:
      A search that takes x and target int32 [n]. Its results also hold "tradeoff", c [n] after the
      last search step and, with log_ratio_fn, "log_ratio", r [n] of the adversarial image. Without
      success the adversarial image is x; with log_ratio_fn, the image of the smallest r among those
      that reached the target, if any did.

    Source: Carlini and Wagner 2017, arXiv 1608.04644, section VI; the original's attacks/carliniL2.py
    and attacks/carliniL2_specific.py.
    """
    functions = _Functions(logits_and_features_fn, numbers, log_ratio_fn, distance_from_clean)
    # Whole groups in every chunk: neighbours end their search steps, and leave, together.
    return Search(functions.start, functions.step, CHANGES, functions.finish, first=first,
                  compact=compact, chunk=math.lcm(chunk, numbers.abort_group))


class _Functions:
    """The three functions of a search: where it starts, one step, and what it ends with."""

    def __init__(self, logits_and_features_fn, numbers, log_ratio_fn, distance_from_clean):
        self._network, self._numbers = logits_and_features_fn, numbers
        self._log_ratio_fn, self._from_clean = log_ratio_fn, distance_from_clean
        self._middle = (numbers.clip_max + numbers.clip_min) / 2
        self._half = (numbers.clip_max - numbers.clip_min) / 2
        # Of less than ten steps each is checked: a remainder by 0 is an error.
        self._check_every = max(1, numbers.num_steps // 10)
        self._rates = _adam_rates(numbers)
        # The original's second attack leaves step 0 out of the abort test.
        self._first_check = 2 if log_ratio_fn else 0

    def start(self, x, target, valid, begin=None):
        rows = x.shape[0]
        from_image = x if begin is None else begin
        w = self._to_tanh_space(from_image)
        zeros, zero = tf.zeros_like(x), tf.zeros([rows], x.dtype)
        infinite = tf.fill([rows], tf.constant(float("inf")))
        return {
            "target": target, "active": valid,
            "start_w": self._to_tanh_space(from_image, START_SHRINK) if self._numbers.continued else w,
            # Distance is from tanh(arctanh(x)), not from x.
            "anchor": self._to_image(self._to_tanh_space(x) if self._from_clean else w),
            # Differs from the original: without success the clean image stays also in the second
            # attack, whose images are zeros there.
            "best_image": x, "best_l2": infinite, "best_log_ratio": infinite,
            "success": tf.zeros([rows], bool), "iterations": tf.zeros([rows], tf.int32),
            "tradeoff": tf.fill([rows], tf.cast(self._numbers.initial_tradeoff, x.dtype)),
            "lower": zero, "upper": tf.fill([rows], tf.constant(NO_UPPER_BOUND)),
            "search_step": tf.zeros([rows], tf.int32),
            # Of this search step:
            "step": tf.zeros([rows], tf.int32), "step_success": tf.zeros([rows], bool),
            "checked_loss": infinite, "delta": zeros, "first_moment": zeros, "second_moment": zeros,
        }

    def step(self, state):
        image, gradient, loss, l2, reached, log_ratio = self._evaluate(state)
        due = (state["step"] % self._check_every == 0) & (state["step"] >= self._first_check)
        # Rows that have ended, or fill up a chunk, must not weigh in their neighbours' sum.
        group_loss = _group_sum(tf.where(state["active"], loss, 0.0), self._numbers.abort_group)
        # The first test of a search step compares with infinity and never aborts.
        aborted = due & (group_loss > ABORT_SHARE * state["checked_loss"])
        if self._numbers.continued:
            # c changes all the time, and the loss with it.
            aborted = tf.zeros_like(aborted)
        # The abort test comes before the iteration is recorded, as in the original.
        success = reached & (log_ratio <= 0.0) & ~aborted
        better = success & (l2 < state["best_l2"])
        # Without a success yet, the closest to one is kept.
        closer = reached & ~aborted & ~state["success"] & (log_ratio < state["best_log_ratio"])
        kept = better | closer
        changed = {
            "best_image": keep_rows(kept, image, state["best_image"]),
            "best_l2": tf.where(better, l2, state["best_l2"]),
            "best_log_ratio": tf.where(kept, log_ratio, state["best_log_ratio"]),
            "success": state["success"] | success,
            "step_success": state["step_success"] | success,
            "iterations": state["iterations"] + tf.cast(~aborted, tf.int32),
            "checked_loss": tf.where(due, group_loss, state["checked_loss"]),
            "step": state["step"] + 1,
            **_adam(state, gradient, self._rates, self._numbers),
        }
        # Each row ends its search step by itself: there is no common step to wait for.
        ended = aborted | tf.equal(changed["step"], self._numbers.num_steps)
        changed["search_step"] = state["search_step"] + tf.cast(ended, tf.int32)
        changed["active"] = changed["search_step"] < self._numbers.num_search_steps
        following = _following_step if self._numbers.continued else _next_search_step
        return changed | following(state | changed, success, ended, self._numbers)

    def finish(self, state):
        result = {"adversarial": state["best_image"], "success": state["success"],
                  "iterations": state["iterations"], "tradeoff": state["tradeoff"]}
        return result | ({"log_ratio": state["best_log_ratio"]} if self._log_ratio_fn else {})

    def _evaluate(self, state):
        """Image, gradient by δ, loss, L2², whether the target is reached, r; all at δ."""
        w = state["start_w"] + state["delta"]
        with tf.GradientTape() as tape:
            tape.watch(w)
            image = self._to_image(w)
            logits, features = self._network(image)
            l2 = tf.reduce_sum(tf.square(image - state["anchor"]), axis=[1, 2, 3])
            own, other = own_and_other(logits, state["target"])
            lacking = (other - own if self._numbers.targeted else own - other) + self._numbers.kappa
            excess = tf.maximum(0.0, lacking)
            # Plain C&W has r = −1 throughout: the density never stands in the way of success.
            log_ratio = (self._log_ratio_fn(features, state["target"]) if self._log_ratio_fn
                         else -tf.ones_like(l2))
            if self._log_ratio_fn:
                # One c for both terms, as in the original: one search balances distance and both.
                excess += tf.maximum(0.0, log_ratio)
            loss = l2 + state["tradeoff"] * excess
        # Differs from the original: logits, where its second attack tests softmax outputs minus
        # kappa, which cannot hold for kappa ≥ 1.
        return image, tape.gradient(loss, w), loss, l2, lacking < 0.0, log_ratio

    def _to_tanh_space(self, image, shrink=SHRINK):
        # SHRINK moves the image towards the middle, by up to half a millionth of the box.
        return tf.atanh((image - self._middle) / self._half * shrink)

    def _to_image(self, w):
        return tf.tanh(w) * self._half + self._middle


def _group_sum(loss, group):
    """For each row the sum of `loss` over its group of neighbours."""
    if group == 1:
        return loss
    group_of_row = tf.range(loss.shape[0]) // group
    return tf.gather(tf.math.segment_sum(loss, group_of_row), group_of_row)


def _adam_rates(numbers):
    """Adam's bias-corrected rate at each step: a table, cheaper than two powers per row and step."""
    # In float64: 1 − 0.999^t loses three of float32's seven digits at t = 1.
    count = np.arange(1, numbers.num_steps * (
        numbers.num_search_steps if numbers.continued else 1) + 1)
    rates = numbers.learning_rate * np.sqrt(1 - BETA2 ** count) / (1 - BETA1 ** count)
    return rates.astype(np.float32)


def _adam(state, gradient, rates, numbers):
    """δ and Adam's moments after one step, of which each row has its own count."""
    # By hand, because an optimizer of Keras has one step count and every row here has its own.
    before = state["search_step"] * numbers.num_steps if numbers.continued else 0
    rate = tf.gather(tf.constant(rates), before + state["step"])
    # m + (g − m)(1 − β), the form of TensorFlow's kernel: it rounds as the original's Adam does.
    first = state["first_moment"] + (gradient - state["first_moment"]) * (1.0 - BETA1)
    second = state["second_moment"] + (tf.square(gradient) - state["second_moment"]) * (1.0 - BETA2)
    # Epsilon joins the root of the uncorrected moment, as in TensorFlow 1.
    moved = rate[:, None, None, None] * first / (tf.sqrt(second) + ADAM_EPSILON)
    return {"delta": state["delta"] - moved, "first_moment": first, "second_moment": second}


def _next_search_step(state, _, ended, numbers):
    """Where a search step has ended: the next c; everything else from the beginning, or as it is."""
    success, c = state["step_success"], state["tradeoff"]
    upper = tf.where(ended & success, tf.minimum(state["upper"], c), state["upper"])
    lower = tf.where(ended & ~success, tf.maximum(state["lower"], c), state["lower"])
    # Which c makes the margin count as much as the distance is unknown by orders of magnitude: tenfold
    # steps find the order, bisection the rest.
    unbounded = tf.where(success, c, 10.0 * c)
    following = tf.where(upper < LARGEST_UPPER_BOUND, (lower + upper) / 2.0, unbounded)
    if numbers.num_search_steps >= REPEAT_FROM:
        is_last = tf.equal(state["search_step"], numbers.num_search_steps - 1)
        following = tf.where(is_last, upper, following)
    # Adam forgets too, as in the original: moments gathered under one c would carry into the next.
    restarted = {name: keep_rows(ended, tf.zeros_like(state[name]), state[name])
                 for name in ("delta", "first_moment", "second_moment", "step", "step_success")}
    return restarted | {
        "tradeoff": tf.where(ended, following, c), "upper": upper, "lower": lower,
        "checked_loss": tf.where(ended, float("inf"), state["checked_loss"])}


def _following_step(state, success, ended, numbers):
    """Of a continued search after each step: c follows its success; everything else goes on.

    A step that succeeded lowers c, one that did not raises it: the image stays at the edge of success,
    as in DDN (Rony et al. 2019, arXiv 1811.09600), where it is the norm that moves.
    """
    # As fast as the image moves, or c would swing. To the first success at least tenfold in a search
    # step, as where it starts anew.
    factor = math.exp(numbers.learning_rate / 2)
    first = max(factor**2, 10.0 ** (1 / numbers.num_steps))
    raised = tf.where(state["success"], factor, first)
    c = state["tradeoff"] * tf.where(success, 1.0 / factor, raised)
    return {
        # What never succeeds would end in infinity.
        "tradeoff": tf.minimum(c, LARGEST_UPPER_BOUND), "step": tf.where(ended, 0, state["step"]),
        "upper": state["upper"], "lower": state["lower"]}

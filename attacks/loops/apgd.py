"""What the APGD attacks share: steps with momentum whose length halves by a rule of the losses alone.

Source: Croce and Hein 2020, arXiv 2003.01690, section 3; AutoAttack's autopgd_base.py.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from attacks.loops import knowing
from attacks.loops.ascent import GRADIENT_CHUNK, in_chunks
from attacks.loops.balls import Ball, norm_of
from attacks.loops.search import keep_rows

# Of a step, against that of the step before.
MOMENTUM = 0.75
# A window in which at most this share of the steps raised the loss halves the length of a step.
ENOUGH_RISES = 0.75
# Of all steps: the first window, by how much each is shorter than the one before, the shortest.
FIRST_WINDOW, WINDOW_DECREASE, LAST_WINDOW = 0.22, 0.03, 0.06

State = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an attack sees of images, arrays [n].

    Attributes:
      climbed: what a step climbs.
      loss: what the rule of the step lengths, and the best point, go by.
      wrong: whether an image is misclassified.
      merit: of wrong images, and of right ones, see `knowing.keep_best`.
      evaded: whether an image is a success.
    """

    climbed: tf.Tensor
    loss: tf.Tensor
    wrong: tf.Tensor
    merit: tf.Tensor
    evaded: tf.Tensor


def path_length(num_steps: int, eps: float) -> float:
    """Length in units of eps of the steps up to the first that may be shorter."""
    del eps
    return 2.0 * (checkpoints(num_steps)[0][0] + 1)


def of_classifier(loss: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor) -> Seen:
    """What an attack sees that knows the network alone: every wrong image is a success, the larger its
    margin the better.

    Args:
      loss: climbed [n].
      logits: [n, L].
      labels: true classes int32 [n].
    """
    _, margin = knowing.largest_other(logits, labels)
    wrong = margin > 0
    return Seen(loss, loss, wrong, margin, wrong)


def checkpoints(num_steps: int) -> list[tuple[int, int]]:
    """After which steps, from 0, the rule is applied, and over how many it looks back."""
    window, decrease, shortest = (max(int(share * num_steps), 1) for share in (
        FIRST_WINDOW, WINDOW_DECREASE, LAST_WINDOW))
    found, last = [], window - 1
    while last < num_steps:
        found.append((last, window))
        window = max(window - decrease, shortest)
        last += window
    return found


def first_rule(loss: tf.Tensor, eps: tf.Tensor, loss_before: tf.Tensor) -> State:
    """The state of the rule at the start.

    Args:
      loss: of the start [n].
      eps: radius of the ball, scalar.
      loss_before: that of the first step is compared with [n]: the reference takes 0.
    """
    return {"step_size": tf.fill(tf.shape(loss), 2 * eps), "best_loss": loss, "last_loss": loss_before,
            "rises": tf.zeros_like(loss, tf.int32), "checked_best": loss,
            # As if it had been: the first window alone never counts as one without progress.
            "halved": tf.ones_like(loss, tf.bool)}


def after_step(rule: State, loss: tf.Tensor, window: tf.Tensor) -> State:
    """The state of the rule after a step; "halved_now" bool [n] tells which images halve their step.

    Args:
      rule: the state before.
      loss: of the new point [n].
      window: steps that the rule looks back over, int32 scalar; 0 where it is not applied.
    """
    rises = rule["rises"] + tf.cast(loss > rule["last_loss"], tf.int32)
    best = tf.maximum(rule["best_loss"], loss)
    oscillates = tf.cast(rises, tf.float64) <= ENOUGH_RISES * tf.cast(window, tf.float64)
    # Nothing better since the last checkpoint, though the step was not halved there.
    stuck = ~rule["halved"] & (rule["checked_best"] >= best)
    due = window > 0
    halved = due & (oscillates | stuck)
    return {"step_size": tf.where(halved, rule["step_size"] / 2, rule["step_size"]),
            "best_loss": best, "last_loss": loss, "rises": tf.where(due, tf.zeros_like(rises), rises),
            "checked_best": tf.where(due, best, rule["checked_best"]),
            "halved": tf.where(due, halved, rule["halved"]), "halved_now": halved}


def apgd_from(start: tf.Tensor, seen_at: Callable, ball: Ball, *, num_steps: int,
              loss_before: float | None = 0.0) -> State:
    """Climbs from a start, every image with a step length of its own.

    Args:
      start: images float [n, h, w, c] of the ball.
      seen_at: from images to what the attack sees of them, a `Seen`.
      ball: where they may go.
      num_steps: steps; the start costs one gradient more.
      loss_before: see `first_rule`; None: the start's.

    Returns:
      `knowing.RETURNS` of each image: of all points the best by `knowing.keep_best`.
    """
    windows = [0] * num_steps
    for after, window in checkpoints(num_steps):
        windows[after] = window

    def look(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            seen = seen_at(image)
        gradient = tape.gradient(seen.climbed, image)
        return seen, gradient, knowing.stands_still(gradient, seen.evaded)

    seen, gradient, still = look(start)
    best = knowing.keep_best(knowing.none_yet(start), start, seen, 0)
    best["zero_gradient_steps"] += still
    before = seen.loss if loss_before is None else tf.fill(
        tf.shape(seen.loss), tf.cast(loss_before, seen.loss.dtype))
    rule = first_rule(seen.loss, tf.cast(ball.eps, seen.loss.dtype), before)
    place = {"image": start, "previous": start, "gradient": gradient, "top": start,
             "top_gradient": gradient}

    def step(number, place, rule, best):
        image = place["image"]
        size = tf.cast(rule["step_size"], image.dtype)[:, None, None, None]
        # The first step has nothing to go on with.
        share = tf.where(number > 0, tf.constant(MOMENTUM, image.dtype), tf.ones([], image.dtype))
        moved = _project(ball, image + size * ball.direction(place["gradient"]))
        point = _project(ball, image + (moved - image) * share
                         + (image - place["previous"]) * (1 - share))
        seen, gradient, still = look(point)
        best = knowing.keep_best(best, point, seen, number + 1)
        best["zero_gradient_steps"] += still
        higher = seen.loss > rule["best_loss"]
        top = keep_rows(higher, point, place["top"])
        top_gradient = keep_rows(higher, gradient, place["top_gradient"])
        rule = after_step(rule, seen.loss, tf.gather(tf.constant(windows), number))
        # Smaller steps are taken from where the loss was largest.
        back = rule.pop("halved_now")
        return number + 1, {
            "image": keep_rows(back, top, point), "previous": image, "top": top,
            "gradient": keep_rows(back, top_gradient, gradient), "top_gradient": top_gradient,
        }, rule, best

    return tf.while_loop(lambda number, *_: number < num_steps, step, (0, place, rule, best),
                         parallel_iterations=1)[-1]


def apgd(seen_at: Callable, x: tf.Tensor, *, labels: tf.Tensor, eps: float | tf.Tensor, seed: int,
         image_index: tf.Tensor, restart: tf.Tensor, num_steps: int, norm: str = "linf",
         loss_before: float | None = 0.0, clip_min: float = -0.5, clip_max: float = 0.5,
         chunk: int = GRADIENT_CHUNK) -> dict[str, tf.Tensor]:
    """An APGD attack from a random start of each row.

    As many parameters as the attacks have numbers.

    Args:
      seen_at: from images and labels to what the attack sees of them, a `Seen`.
      x: images float [n, h, w, c] in [clip_min, clip_max]; n static. The attack computes in its type.
      labels: true classes int32 [n].
      eps: radius of the ball, scalar.
      seed: of the random starts.
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts.
      num_steps: steps per image and restart.
      norm: "linf" or "l2".
      loss_before: see `first_rule`; None: the start's.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: rows that share a gradient, see `loops/ascent.py`.

    Returns:
      `knowing.RETURNS` of each row.
    """
    def attack_chunk(clean, labels, image_index, restart):
        ball = Ball(norm, clean, tf.cast(eps, clean.dtype), clip_min, clip_max)
        return apgd_from(ball.start(seed, image_index, restart), lambda image: seen_at(image, labels),
                         ball, num_steps=num_steps, loss_before=loss_before)

    return in_chunks(attack_chunk, x, labels, image_index, restart, chunk=chunk,
                     outputs=knowing.output_types(x.dtype))


def _project(ball, image):
    """As the reference does: in L2 to the ball, then to the box, which keeps the ball."""
    if ball.norm == "linf":
        return ball.project(image)
    change = image - ball.clean
    length = norm_of(change)
    inside = ball.clean + ball.direction(change) * tf.minimum(ball.eps, length)
    return tf.clip_by_value(inside, ball.clip_min, ball.clip_max)

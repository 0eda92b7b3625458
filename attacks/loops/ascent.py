"""What the attacks share: fixed chunks, and the iteration of the sign attacks."""

from collections.abc import Callable

import tensorflow as tf

from attacks.loops.balls import Ball

# Images per gradient on a CPU. Fixed, so that an image's result depends neither on the batch it came
# in nor on its place there; the last chunk is zero-padded. The fastest of 25 ... 400 measured.
GRADIENT_CHUNK = 100
# Length of all steps of PGD together in multiples of eps, where they have no other: a step is
# 2.5·eps / num_steps, as in Madry et al. 2018.
TRAVEL = 2.5


def path_length(num_steps: int, eps: float, step_size: float | None = None) -> float:
    """Length of all steps of PGD from a start, in units of eps."""
    return TRAVEL if step_size is None else num_steps * step_size / eps


def in_chunks(fn: Callable, *tensors: tf.Tensor, chunk: int = GRADIENT_CHUNK, outputs=None):
    """fn over the rows of `tensors`, always on exactly `chunk` of them.

    Args:
      fn: from tensors of `chunk` rows to one or several tensors of so many.
      *tensors: with the same, static number of rows n ≥ 1.
      chunk: rows per call.
      outputs: type of what fn returns, or a tuple of several; None: that of the first tensor.

    Returns:
      What fn returns, of n rows.
    """
    # Static, so that the number of chunks, and with it every shape below, is known while tracing.
    rows = tensors[0].shape[0]
    num_chunks = -(-rows // chunk)
    padding = num_chunks * chunk - rows

    def split(tensor):
        padded = tf.pad(tensor, [[0, padding]] + [[0, 0]] * (tensor.shape.rank - 1))
        return tf.reshape(padded, [num_chunks, chunk, *tensor.shape[1:]])

    # A loop even over one chunk: the same graph, and so the same rounding, for every n. Two chunks at
    # a time fill the cores where one op cannot: FGSM gains a tenth on two, BIM nothing.
    # map_fn takes the outputs to be like the inputs unless it is told their types.
    chunks = tf.map_fn(lambda parts: fn(*parts), tuple(split(t) for t in tensors),
                       fn_output_signature=outputs or tensors[0].dtype, parallel_iterations=2)
    return tf.nest.map_structure(
        lambda part: tf.reshape(part, [num_chunks * chunk, *part.shape[2:]])[:rows], chunks)


def sign_step(loss_fn: Callable, x: tf.Tensor, *, step_size: tf.Tensor, low: tf.Tensor | float,
              high: tf.Tensor | float) -> tf.Tensor:
    """One step along the sign of the input gradient of a loss, clipped to a box.

    Args:
      loss_fn: from images to a loss per image [n].
      x: images float32 [n, h, w, c].
      step_size: change of a pixel, scalar; negative descends.
      low: lower edge of the box: scalar, or like x.
      high: upper edge of the box, as `low`.

    Returns:
      Images like x.
    """
    with tf.GradientTape() as tape:
        # The tape follows variables by itself, tensors only when told.
        tape.watch(x)
        loss = loss_fn(x)
    return tf.clip_by_value(x + step_size * tf.sign(tape.gradient(loss, x)), low, high)


def sign_ascent(loss_fn: Callable, x: tf.Tensor, *, num_steps: int, **step) -> tf.Tensor:
    """`num_steps` of `sign_step`, whose other arguments `step` holds: the loop of every sign attack."""
    # A Python loop would be unrolled: the network and its gradient once more in the graph per step.
    return tf.while_loop(
        lambda i, _: i < num_steps,
        lambda i, image: (i + 1, sign_step(loss_fn, image, **step)), (0, x), parallel_iterations=1)[1]


def ascend_from(logits_fn: Callable, start: tf.Tensor, label: tf.Tensor, ball: Ball, *,
                num_steps: int, step_size: tf.Tensor) -> tf.Tensor:
    """Sign steps in a ball, up the cross entropy against a label; the last point is kept.

    Args:
      logits_fn: from images to logits [n, L] whose softmax are the class probabilities.
      start: images float [n, h, w, c].
      label: one-hot [n, L].
      ball: where they may go, of L-inf.
      num_steps: gradients per image.
      step_size: change of a pixel, scalar; negative descends.

    Returns:
      Images like start.
    """
    return sign_ascent(
        lambda images: tf.nn.softmax_cross_entropy_with_logits(label, logits_fn(images)),
        ball.project(start), num_steps=num_steps, step_size=step_size, low=ball.low, high=ball.high)


def ascend_from_clean(logits_fn: Callable, x: tf.Tensor, *, target_from: Callable, total: tf.Tensor,
                      num_steps: int, clip_min: float, clip_max: float,
                      chunk: int = GRADIENT_CHUNK) -> tf.Tensor:
    """Steps of one size from the clean image, up the cross entropy against what is predicted there.

    Args:
      logits_fn: from images to logits whose softmax are the class probabilities.
      x: images float32 [n, h, w, c].
      target_from: logits [n, L] of the clean image to the label distribution [n, L] of the cross
        entropy that is ascended; it stays fixed over the steps.
      total: length of all steps together, scalar; negative descends.
      num_steps: number of steps.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
      chunk: of `in_chunks`.

    Returns:
      Images like x. They stay within |total| of x, so no projection is needed.
    """
    # In float64 first, as the original's Python does: 0.1 / 10 and not float32(0.1) / 10.
    step_size = tf.cast(tf.cast(total, tf.float64) / num_steps, x.dtype)
    step = {"step_size": step_size, "low": clip_min, "high": clip_max}

    def attack_chunk(clean):
        # Filled while the first step is traced; the later steps see the same symbolic tensor.
        targets = []

        def first_loss(images):
            # The first step's forward pass is the clean image's: none is spent on the target alone.
            logits = logits_fn(images)
            targets.append(tf.stop_gradient(target_from(logits)))
            return tf.nn.softmax_cross_entropy_with_logits(targets[0], logits)

        x_adv = sign_step(first_loss, clean, **step)
        # Known while tracing: FGSM gets no loop of zero steps.
        if num_steps == 1:
            return x_adv
        return sign_ascent(
            lambda images: tf.nn.softmax_cross_entropy_with_logits(targets[0], logits_fn(images)),
            x_adv, num_steps=num_steps - 1, **step)

    return in_chunks(attack_chunk, x, chunk=chunk)


def own_and_other(logits: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of logits [n, L] the logit of each row's class [n], and the largest other one [n]."""
    is_own = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.reduce_sum(tf.where(is_own, logits, 0.0), axis=1)
    # −inf, not a large number, which large logits could exceed.
    return own, tf.reduce_max(tf.where(is_own, -float("inf"), logits), axis=1)


def predicted_one_hot(logits: tf.Tensor) -> tf.Tensor:
    """One-hot of the predicted class, float32 [n, L], of logits [n, L]."""
    return tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1], dtype=logits.dtype)

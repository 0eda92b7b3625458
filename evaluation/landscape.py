"""What surrounds images: accuracy over step sizes and steps of PGD, loss over a square of changes.

Source: figures 1 and 2 of Mosbach et al. 2018 (arXiv 1810.12042).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp
from tqdm import tqdm

from attacks.loops.ascent import ascend_from, in_chunks, own_and_other, predicted_one_hot
from attacks.loops.balls import Ball
from attacks.random_noise import random_noise
from evaluation import checks
from evaluation.crafter import CLIP_MAX, CLIP_MIN, input_gradients
from evaluation.sweep import Subject
from files.attack_parts import Parts, cut
from networks.network import Network
from networks.running import ROWS_PER_GRADIENT, ChunkedFunction, device_kind

# Pixels of a surface's images in memory at once: 2,000 images of MNIST, 6 MB.
_PIXELS_AT_ONCE = 2000 * 28 * 28


def heatmap(subject: Subject, step_sizes: Sequence[float], iterations: Sequence[int], seed: int,
            parts: Parts, *, chunk: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy under PGD of one start, over step sizes and numbers of steps.

    Args:
      subject: what is attacked, at one eps.
      step_sizes: changes of a pixel per step.
      iterations: increasing numbers of steps.
      seed: of the random starts.
      parts: keeps what is finished of each step size.
      chunk: as of `along_pgd`.

    Returns:
      bool [n]: images that are predicted rightly before; bool [step sizes, n, iterations]: and after.
    """
    wrong_after = along_pgd(subject.network, subject.strategy, eps=subject.eps_values[0],
                            iterations=iterations, seed=seed, chunk=chunk)
    logits, _ = subject.network.forward(subject.strategy)(subject.x)
    # Wrong before counts as broken, whatever an attack on its prediction makes of it.
    before = logits.argmax(axis=1) == subject.labels
    right = []
    for step_size, piece in zip(tqdm(step_sizes, unit="step size", disable=None), cut(
            len(step_sizes), len(subject.x), len(subject.x)), strict=True):
        part = parts.load(piece.name)
        if part is None:
            part = {"wrong": wrong_after(subject.x, subject.image_index, step_size)}
            parts.save(piece.name, part)
        right.append(before[:, None] & ~part["wrong"])
    return before, np.stack(right)


def along_pgd(network: Network, strategy: tf.distribute.Strategy, *, eps: float,
              iterations: Sequence[int], seed: int, chunk: int = 0) -> Callable:
    """PGD that is looked at on its way: one run of the most steps stands for all shorter ones.

    Args:
      network: the network under attack.
      strategy: whose replicas share the images.
      eps: largest change of a pixel.
      iterations: increasing numbers of steps after which it is looked at.
      seed: of the random starts, the first of `pgd`.
      chunk: images that share a gradient; 0 is what suits the device.

    Returns:
      From images float32 [n, h, w, c], image_index int [n] and a step size to bool
      [n, len(iterations)]: whether another class than on the clean image is predicted after so many
      steps. Each is what `pgd` of so many steps returns as "wrong". Traced once.
    """
    chunk = chunk or ROWS_PER_GRADIENT[device_kind(strategy)].call
    gaps = np.diff([0, *iterations]).astype(np.int32)
    walk = ChunkedFunction(strategy, partial(_walk, network.logits, eps=eps, gaps=gaps, seed=seed,
                                             chunk=chunk), chunk_size=chunk)

    def wrong_after(x, image_index, step_size):
        return walk(x, image_index.astype(np.int32), constants=(tf.constant(step_size, tf.float32),))[0]

    return wrong_after


def _walk(logits_fn, x, image_index, step_size, *, eps, gaps, seed, chunk):
    def walk_chunk(clean, index):
        label = tf.stop_gradient(predicted_one_hot(logits_fn(clean)))
        ball = Ball("linf", clean, tf.cast(eps, clean.dtype), CLIP_MIN, CLIP_MAX)
        start = random_noise(clean, eps=eps, seed=seed, image_index=index, clip_min=CLIP_MIN,
                             clip_max=CLIP_MAX)

        def look(stop, image, wrong):
            image = ascend_from(logits_fn, image, label, ball, num_steps=tf.constant(gaps)[stop],
                                step_size=step_size)
            own, other = own_and_other(logits_fn(image), tf.argmax(label, axis=-1))
            # Written so that NaN is no robustness.
            return stop + 1, image, wrong.write(stop, ~(own >= other))

        wrong = tf.while_loop(
            lambda stop, *_: stop < len(gaps), look,
            (0, start, tf.TensorArray(tf.bool, len(gaps), element_shape=[chunk])),
            parallel_iterations=1)[2]
        return tf.transpose(wrong.stack())

    return (in_chunks(walk_chunk, x, image_index, chunk=chunk, outputs=tf.bool),)


def square_around(network: Network, image: np.ndarray, label: int, seed: int, *,
                  by_gradient: bool) -> tuple[np.ndarray, np.ndarray]:
    """The two directions of a loss surface, changes of ±1 (or 0) per pixel.

    Args:
      network: whose gradient counts.
      image: float32 [h, w, c].
      label: its class.
      seed: of what is drawn.
      by_gradient: whether the first is the sign of the gradient of the label's cross entropy, or drawn
        as the second is.

    Returns:
      Two arrays float32 like image.

    Raises:
      InputError: there is no gradient, and it is asked for.
    """
    drawn = np.random.default_rng(seed).choice(np.float32([-1, 1]), (2, *image.shape))
    if not by_gradient:
        return drawn[0], drawn[1]
    gradients = input_gradients(network, image[None], cross_entropy=True, labels=np.array([label]))
    checks.check_gradients(gradients)
    return np.sign(gradients[0]), drawn[1]


def loss_surface(forward: Callable, image: np.ndarray, label: int,
                 square: tuple[np.ndarray, np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """The label's cross entropy at image + a·first + b·second; nothing is clipped to the box.

    Args:
      forward: from images to (logits, features), of `Network.forward`.
      image: float32 [h, w, c].
      label: its class.
      square: first and second direction, like image.
      offsets: the values of a and of b, float [g].

    Returns:
      float64 [g, g], rows of one a.
    """
    first, second = np.meshgrid(offsets, offsets, indexing="ij")
    pairs = np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)
    found = []
    rows = max(1, _PIXELS_AT_ONCE // image.size)
    for start in range(0, len(pairs), rows):
        images = image + np.tensordot(pairs[start:start + rows], np.stack(square), axes=1)
        logits = forward(images)[0].astype(np.float64)
        found.append(logsumexp(logits, axis=1) - logits[:, label])
    return np.concatenate(found).reshape(len(offsets), len(offsets))

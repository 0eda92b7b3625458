"""Training batches: shuffled, augmented and split among replicas as a function of seed and step.

TensorFlow is imported where it is used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data import inputs
from errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf


CROP_PADDING = 2  # zero pixels on each side before the random crop: 32x32 is cropped from 36x36
NUM_CROPS = 2 * (2 * CROP_PADDING + 1) ** 2  # rows × columns × flips
NO_CROP = 2 * (CROP_PADDING * (2 * CROP_PADDING + 1) + CROP_PADDING)  # that of the image itself
_SHUFFLE_KEY = 498247692  # any number with mixed bits
# Draws of one step that are to have nothing in common: no step comes near these.
_KEY_STRIDES = {"normal": 2**40, "uniform": 2**41}


def train_dataset(
    image_set: inputs.ImageSet,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    augment: bool,
    num_replicas: int = 1,
    replica_ids: Sequence[int] | None = None,
    noise_std: float = 0.0,
    start_eps: float = 0.0,
) -> "tf.data.Dataset":
    """Builds the training batches, a pure function of (seed, step).

    Each epoch is a fresh permutation of the images, and a batch may span epochs. Starting at step
    k gives what an uninterrupted run gives at step k, and the replicas' batches joined in order are
    the batch of a run with one replica.

    Args:
        image_set: images [n, h, w, c] and labels [n].
        batch_size: global batch size, a multiple of `num_replicas`.
        seed: integer in [0, 2**32) that fixes order and augmentation.
        start_step: first step, 0-based.
        num_steps: the step to stop before.
        augment: zero-pad by 2 pixels, crop back and flip at random.
        num_replicas: number of parts of the global batch.
        replica_ids: the parts to yield at each step, in order; None is all.
        noise_std: of Gaussian noise on each pixel, in units of the box; then clipped to it.
        start_eps: where an attack is to start, how far from the images at most; 0: there is none.

    Returns:
        Dataset of (images float32 [b, h, w, c] in [-0.5, 0.5], labels int32 [b]), with `start_eps` also
        starts like the images, uniform within it and in the box; b = batch_size // num_replicas: one
        element per step and replica.

    Raises:
        InputError: batch size not a positive multiple of the number of replicas.
    """
    import tensorflow as tf

    if batch_size < 1 or batch_size % num_replicas:
        raise InputError(
            f"batch_size must be a positive multiple of {num_replicas} replicas. "
            f"Received: {batch_size=}"
        )
    local = batch_size // num_replicas
    with tf.device("cpu:0"):  # captured by the graph, not copied into it; a GPU must not hold them
        images = tf.constant(image_set.images)
        labels = tf.constant(image_set.labels)
        ids = tf.constant(range(num_replicas) if replica_ids is None else replica_ids, tf.int64)

    def moved(batch, distribution, numbers, step, replica):
        """Images plus random numbers, clipped to the box; they themselves where those would be 0."""
        if not numbers[1]:
            return batch
        # As the crops: of the global batch, its part taken.
        draws = getattr(tf.random, f"stateless_{distribution}")(
            [batch_size, *batch.shape[1:]], [seed, step + _KEY_STRIDES[distribution]], *numbers,
            tf.float32, "philox")
        part = tf.reshape(draws, [num_replicas, local, *batch.shape[1:]])[replica]
        return tf.clip_by_value(batch + part, -0.5, 0.5)

    def make_batch(step: "tf.Tensor", replica: "tf.Tensor"):
        first = step * batch_size + replica * local
        # Differs from the original: its shuffling queue has a state that no checkpoint holds. Here
        # rows follow from the position alone, so a step needs none of those before it, and a run
        # that goes on ends in the bytes of one that was never stopped.
        rows = _shuffled(first + tf.range(local, dtype=tf.int64), len(image_set.labels), seed)
        batch = tf.gather(images, rows)
        if augment:
            # Drawn for the global batch, then sliced: the number of replicas changes nothing.
            draws = tf.random.stateless_uniform(
                # One number an image holds row, column and flip. The algorithm is named: left to
                # TensorFlow it may depend on the device, and the same seed would augment otherwise
                # there.
                [batch_size], [seed, step], 0, NUM_CROPS, tf.int32, "philox"
            )
            batch = crop_and_flip(batch, tf.reshape(draws, [num_replicas, local])[replica])
        # Scaled last, as in the original: zeros of the padding are black, not grey, and until here
        # bytes are moved, a quarter of the floats.
        batch = moved(scaled(batch), "normal", (0.0, noise_std), step, replica)
        # Around the noisy image, which is the one that is trained on.
        start = moved(batch, "uniform", (-start_eps, start_eps), step, replica)
        return (batch, tf.gather(labels, rows), *([start] if start_eps else []))

    # An element a replica: the strategy deals successive elements to successive replicas.
    steps = tf.data.Dataset.range(start_step, num_steps)
    dataset = steps.flat_map(
        lambda step: tf.data.Dataset.from_tensor_slices(ids).map(lambda replica: (step, replica))
    )
    # Two steps ahead, of every replica.
    return _by_one_worker(dataset.map(make_batch).prefetch(2 * len(ids)))


def _by_one_worker(dataset):
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    # One worker thread fills the queue many times faster than a step empties it; more would only
    # take cores from the step.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def paired_dataset(image_set: inputs.ImageSet, index: "np.ndarray", attacked: "np.ndarray", *,
                   batch_size: int, start_step: int, num_steps: int, seed: int | None = None
                   ) -> "tf.data.Dataset":
    """Global batches of images beside what was made of them, a pure function of (seed, step).

    Each epoch has as many whole batches as there are; a remainder is left out.

    Args:
        image_set: images [n, h, w, c] and labels [n].
        index: which image each row is of, int [m].
        attacked: what was made of it, network inputs float32 [m, h, w, c].
        batch_size: at most m.
        start_step: first step, 0-based.
        num_steps: the step to stop before.
        seed: of the order, another in each epoch; None: as they lie.

    Returns:
        Dataset of (images float32 [b, h, w, c] in [-0.5, 0.5], labels int32 [b], attacked like the
        images).
    """
    import tensorflow as tf

    with tf.device("cpu:0"):  # as above
        images, labels, index, attacked = map(
            tf.constant, (image_set.images, image_set.labels, index, attacked))
    per_epoch, size = len(index) // batch_size, len(index)

    def make_batch(step):
        epoch, number = step // per_epoch, step % per_epoch
        rows = number * batch_size + tf.range(batch_size, dtype=tf.int64)
        if seed is not None:
            rows = _shuffled(epoch * size + rows, size, seed)
        of_rows = tf.gather(index, rows)
        return (scaled(tf.gather(images, of_rows)), tf.gather(labels, of_rows),
                tf.gather(attacked, rows))

    return _by_one_worker(tf.data.Dataset.range(start_step, num_steps).map(make_batch).prefetch(2))


def scaled(images: "tf.Tensor") -> "tf.Tensor":
    """Network inputs float32 in [-0.5, 0.5] of images as stored: uint8, or float32 in [0, 1]."""
    import tensorflow as tf

    if images.dtype == tf.uint8:
        images = tf.cast(images, tf.float32) / 255.0
    return images - 0.5


def _shuffled(positions: "tf.Tensor", size: int, seed: int) -> "tf.Tensor":
    """Maps sample positions int64 [b] to image rows int64 [b], one permutation per epoch."""
    import tensorflow as tf

    epochs = positions // size
    # The public index_shuffle pads a matrix of seeds along the wrong axis (TF 2.21), hence the op.
    # It is a cipher whose key is the seed: with a key of zeros or few rounds small sets hardly move.
    words = [tf.fill(epochs.shape, tf.constant(word, tf.int64)) for word in (seed, _SHUFFLE_KEY)]
    seeds = tf.stack([words[0], epochs, words[1]], axis=1)
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % size, seed=seeds, max_index=tf.constant(size - 1, tf.int64), rounds=16
    )


def crop_and_flip(images: "tf.Tensor", draws: "tf.Tensor") -> "tf.Tensor":
    """Shifts and flips images [b, h, w, c] by draws int32 [b] in [0, NUM_CROPS).

    Equal to cropping at (row, column) from the image zero-padded by 2 on each side, then flipping
    left to right: two gathers for the whole batch.
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(images)[1:3])
    pad = [CROP_PADDING, CROP_PADDING]
    padded = tf.pad(images, [[0, 0], pad, pad, [0, 0]])
    offsets = 2 * CROP_PADDING + 1
    rows = (draws // 2 // offsets)[:, None] + tf.range(height)
    columns = tf.range(width)
    columns = tf.where((draws % 2 == 1)[:, None], width - 1 - columns, columns)
    columns += (draws // 2 % offsets)[:, None]
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)

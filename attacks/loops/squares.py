"""The moves of the Square attack: how large a window is, where it lies, and what it changes."""

import math

import tensorflow as tf

from attacks.loops.balls import Ball
from attacks.loops.draws import uniform_directions

# Share of an image that the first window covers; halved after each of these queries of 10,000.
FIRST_SHARE = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
SCHEDULE = 10_000


def sides(height: int, width: int, num_queries: int) -> list[int]:
    """The side of each query's window, of a schedule that is stretched to so many queries."""
    found = []
    for query in range(num_queries):
        halvings = sum(int(query / num_queries * SCHEDULE) > after for after in HALVED_AFTER)
        share = FIRST_SHARE / 2**halvings
        found.append(max(1, round(math.sqrt(share * height * width))))
    return found


def draw_moves(clean: tf.Tensor, sides_of: list[int], seed: int, image_index: tf.Tensor,
               restart: tf.Tensor) -> dict[str, tf.Tensor]:
    """The moves of each image, which depend on it and its restart alone.

    Args:
      clean: images float [n, h, w, c].
      sides_of: side of each query's window.
      seed: of the draws.
      image_index: int32 [n], which image of the data set each row is.
      restart: int32 [n], which of its starts.

    Returns:
      "stripes" ±1 like the images' type [n, w, c], of the start; "signs" [n, queries, c]; "row" and
      "column" int32 [n, queries], the corners of the windows.
    """
    num, height, width, channels = clean.shape
    stripes = uniform_directions(tf.zeros([num, width, channels], clean.dtype), seed, image_index,
                                 2 * restart)
    # All at once: a draw for each query would be a loop over the images in each.
    numbers = uniform_directions(tf.zeros([num, len(sides_of), 2 + channels], clean.dtype), seed,
                                 image_index, 2 * restart + 1)
    # Differs from the reference: it never draws the last place.
    places = tf.constant([[height - side + 1, width - side + 1] for side in sides_of], tf.int32)
    corners = tf.cast((numbers[..., :2] + 1) / 2 * tf.cast(places, clean.dtype), tf.int32)
    # A number just below 1 may round up.
    corners = tf.minimum(corners, places - 1)
    return {"stripes": _sign(stripes), "signs": _sign(numbers[..., 2:]), "row": corners[..., 0],
            "column": corners[..., 1]}


def striped(ball: Ball, stripes: tf.Tensor) -> tf.Tensor:
    """The start: vertical stripes ±eps [n, w, c] on the images of a ball."""
    return ball.project(ball.clean + ball.eps * stripes[:, None])


def moved(ball: Ball, image: tf.Tensor, row: tf.Tensor, column: tf.Tensor, side: tf.Tensor,
          signs: tf.Tensor) -> tf.Tensor:
    """Images with one window moved by 2 eps.

    Args:
      ball: where they may go.
      image: float [n, h, w, c].
      row: upper edge of each window, int32 [n].
      column: left edge, int32 [n].
      side: of all windows, int32 scalar.
      signs: of each channel ±1 [n, c].
    """
    def covers(first, length):
        place = tf.range(length)[None] - first[:, None]
        return tf.logical_and(place >= 0, place < side)

    window = tf.logical_and(covers(row, image.shape[1])[:, :, None],
                            covers(column, image.shape[2])[:, None])
    change = (2 * ball.eps * signs)[:, None, None] * tf.cast(window, image.dtype)[..., None]
    return ball.project(image + change)


def _sign(numbers):
    """±1, never 0."""
    return tf.where(numbers < 0, -tf.ones_like(numbers), tf.ones_like(numbers))

"""Where an attack may go: a ball of a norm around the clean images, inside the box; and starts in
it."""

import dataclasses

import tensorflow as tf

from attacks.loops.draws import uniform_directions

NORMS = ("linf", "l2")
# Keeps a step along a vanishing gradient finite.
_TINY = 1e-12


def norm_of(x: tf.Tensor) -> tf.Tensor:
    """L2 norm of each image [n, h, w, c], as [n, 1, 1, 1]."""
    return tf.sqrt(tf.reduce_sum(tf.square(x), axis=[1, 2, 3], keepdims=True))


@dataclasses.dataclass(frozen=True)
class Ball:
    """All images within eps of the clean ones, inside the box.

    Attributes:
      norm: of NORMS.
      clean: images float [n, h, w, c] in the box.
      eps: radius, scalar of the same type.
      clip_min: lower edge of the box.
      clip_max: upper edge of the box.
    """

    norm: str
    clean: tf.Tensor
    eps: tf.Tensor
    clip_min: float
    clip_max: float

    @property
    def low(self) -> tf.Tensor:
        """The least value of each pixel in L-inf."""
        return tf.maximum(self.clean - self.eps, self.clip_min)

    @property
    def high(self) -> tf.Tensor:
        """The largest."""
        return tf.minimum(self.clean + self.eps, self.clip_max)

    def project(self, x: tf.Tensor) -> tf.Tensor:
        """The images of the ball near x: in L-inf the nearest; in L2 the box, then the ball, twice."""
        if self.norm == "linf":
            # Box and ball together are an interval per pixel: one clip is the projection onto both.
            return tf.clip_by_value(x, self.low, self.high)
        for _ in range(2):
            change = tf.clip_by_value(x, self.clip_min, self.clip_max) - self.clean
            # Towards the clean image, which is in the box: what was inside stays there.
            x = self.clean + change * tf.minimum(
                tf.ones([], x.dtype), self.eps / tf.maximum(norm_of(change), _TINY))
        return x

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """The steepest ascent of norm 1: the sign, or the normalised gradient."""
        if self.norm == "linf":
            return tf.sign(gradient)
        return gradient / (norm_of(gradient) + _TINY)

    def step(self, x: tf.Tensor, gradient: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """x moved by `size` along the gradient, and projected."""
        return self.project(x + size * self.direction(gradient))

    def start(self, seed: tf.Tensor | int, image_index: tf.Tensor, restart: tf.Tensor) -> tf.Tensor:
        """A random image of the ball: in its inner half for restart 0, later anywhere.

        Args:
          seed: of the draw.
          image_index: int32 [n], which image of the data set each row is.
          restart: int32 [n], which of the image's starts.
        """
        first = tf.reshape(restart == 0, [-1, 1, 1, 1])
        radius = self.eps * tf.where(first, tf.cast(0.5, self.eps.dtype), tf.ones([], self.eps.dtype))
        change = uniform_directions(self.clean, seed, image_index, restart)
        if self.norm == "l2":
            # On the sphere: in so many dimensions the volume of a ball is there. The normal quantiles
            # of uniform numbers, so that the directions favour no corner of the cube.
            change = tf.math.erfinv(tf.clip_by_value(change, -1 + 1e-6, 1 - 1e-6))
            change /= norm_of(change)
        return self.project(self.clean + radius * change)

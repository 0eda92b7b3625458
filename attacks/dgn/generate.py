"""What becomes of a generator's output: back into the ball around the image, and into the box.

Source: clip_pixels and check_mis_classification of the original's generate_data.py.
"""

import tensorflow as tf


def project(u: tf.Tensor, g: tf.Tensor, eps: float | tf.Tensor | None) -> tf.Tensor:
    """u + clip(g − u, −eps, eps), in the box.

    Args:
      u: images float32 [n, h, w, c] in [0, 1].
      g: what was generated of them, like u.
      eps: largest change of a pixel; None: the box alone.

    Returns:
      Images like u; in float32 they may lie beyond eps by 4e-8.
    """
    if eps is not None:
        eps = tf.cast(eps, u.dtype)
        g = u + tf.clip_by_value(g - u, -eps, eps)
    return tf.clip_by_value(g, 0.0, 1.0)

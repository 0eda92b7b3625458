"""The attacks that know how a defender adapts: FPA and the greedy model space attack (GMSA).

Chen, Wu, Guo, Liang and Jha, ICLR 2022, arXiv 2110.14735: adapt a copy of the defender to what was
crafted so far, and attack its weights too.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from attacks.loops.gmsa import gmsa
from attacks.random_noise import random_noise
from evaluation.crafter import CLIP_MAX, CLIP_MIN
from evaluation.model_space import Kind, Numbers
from networks.network import Network


class GreedyAttack:
    """Crafts an image against several weights of one network, one trace for any number of them.

    Args:
      network: whose variables are set to each of the weights in turn, and stay at the last.
      kind: of `model_space.KINDS`.
      numbers: how hard it tries.
      seed: of the random starts.
    """

    def __init__(self, network: Network, kind: Kind, numbers: Numbers, seed: int):
        self._network, self._kind, self.numbers, self._seed = network, kind, numbers, seed
        # Weights are assigned inside: a network for each of them would be traced for each of them.
        variables = network.model.trainable_variables
        image = tf.TensorSpec([1, *network.model.inputs[0].shape[1:]], tf.float32)
        self._run = tf.function(self._ascend, input_signature=[
            [tf.TensorSpec([None, *variable.shape], tf.float32) for variable in variables],
            image, image, tf.TensorSpec([1], tf.int32), tf.TensorSpec([], tf.int32)])

    def __call__(self, weights: Sequence[Sequence[np.ndarray]], x: np.ndarray, label: int,
                 image_index: int, attempt: int) -> np.ndarray:
        """One round.

        Args:
          weights: of the defender, the newest last.
          x: the clean image float32 [h, w, c] in the box.
          label: its class.
          image_index: which image it is, of which the start depends.
          attempt: number of the round, likewise.

        Returns:
          The image with the largest loss on the way, float32 [h, w, c].
        """
        chosen = weights[-1:] if self._kind.newest else weights
        steps = self.numbers.num_steps * (len(chosen) if self._kind.reduce == "min" else 1)
        start = random_noise(tf.constant(x[None]), eps=self.numbers.eps, seed=self._seed,
                             image_index=tf.constant([image_index], tf.int32), draw=attempt,
                             clip_min=CLIP_MIN, clip_max=CLIP_MAX)
        return self._run([tf.constant(np.stack(values)) for values in zip(*chosen, strict=True)],
                         tf.constant(x[None]), start, tf.constant([label], tf.int32),
                         tf.constant(steps, tf.int32)).numpy()[0]

    def _ascend(self, stacks, x, start, label, num_steps):
        number, variables = tf.shape(stacks[0])[0], self._network.model.trainable_variables

        def gradients(images):
            def under(index, losses, slopes):
                for variable, stack in zip(variables, stacks, strict=True):
                    variable.assign(stack[index])
                with tf.GradientTape() as tape:
                    tape.watch(images)
                    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                        label, self._network.logits(images))
                return (index + 1, losses.write(index, loss),
                        slopes.write(index, tape.gradient(loss, images)))

            arrays = [tf.TensorArray(tf.float32, number) for _ in range(2)]
            _, losses, slopes = tf.while_loop(
                lambda index, *_: index < number, under, (0, *arrays), parallel_iterations=1)
            return (tf.ensure_shape(losses.stack(), [None, 1]),
                    tf.ensure_shape(slopes.stack(), [None, *images.shape]))

        return gmsa(gradients, x, start=start, eps=self.numbers.eps,
                    step_size=self.numbers.step_size, num_steps=num_steps,
                    reduce=self._kind.reduce, clip_min=CLIP_MIN, clip_max=CLIP_MAX)["adversarial"]

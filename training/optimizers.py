"""The optimizers of --Optimizer with TF1's arithmetic, and the learning rate (and momentum) by step."""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from data import get_spec

BASE_LEARNING_RATE = 0.1
MOMENTUM = 0.9
# The original's; Keras has 1e-7.
ADAM_EPSILON = 1.0
# Of one_cycle, by share of the training: the rate in units of its peak, and the momentum.
_CYCLE = ((0.0, 0.1, 0.95), (0.45, 1.0, 0.85), (0.9, 0.1, 0.95), (1.0, 0.001, 0.95))


class _ByStep:
    """Of an optimizer with a momentum: what its kernel takes of the step, evaluated once a step."""

    def __init__(self, *args, momentum=MOMENTUM, **kwargs):
        super().__init__(*args, **kwargs)
        self._momentum = momentum
        self._momentum_at = momentum if callable(momentum) else lambda _: momentum
        self._of_step = None

    def arguments_at(self, step) -> dict[str, tf.Tensor | float]:
        """The arguments of the kernel that are of the step."""
        return {"momentum": self._momentum_at(step)}

    def apply(self, grads, trainable_variables=None):
        # As the learning rate: in each variable's own step it would be 95 times the same dozen of ops.
        self._of_step = self.arguments_at(self.iterations.value)
        try:
            return super().apply(grads, trainable_variables)
        finally:
            self._of_step = None  # or a tensor of this graph would outlive it


class TF1Momentum(_ByStep, keras.optimizers.SGD):
    """TF1's MomentumOptimizer: the slot sums plain gradients, the rate multiplies it at the update.

    Keras SGD keeps the rate inside its velocity, which differs whenever the rate drops.

    Args:
      learning_rate: float or a Keras schedule.
      momentum: float, or a callable from the step to it.
      **kwargs: of `keras.optimizers.SGD`.
    """

    def build(self, variables):
        """Makes a slot for each of the variables."""
        self.momentum = MOMENTUM  # tells Keras that there are slots; what counts is the step's own
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """One update of a variable with the step's own momentum."""
        slot = self.momentums[self._get_variable_index(variable)].value
        # The kernel that TF1 ran: its arithmetic, one op a variable.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle, accum=slot.handle, lr=learning_rate, grad=gradient,
            **self._of_step)


class TF1Adam(_ByStep, keras.optimizers.Adam):
    """TF1's AdamOptimizer: its kernel, and powers of the betas that are products in float32.

    Keras takes 0.001 for 1 - beta_2 where TF1 subtracts in float32 (1.3e-5 less), and its `pow` is not
    the product to the last bit, of which 1 - beta_2^t keeps 1e-5 at the first steps.

    Args:
      learning_rate: float or a Keras schedule.
      momentum: beta_1: float, or a callable from the step to it (then the bias correction takes the
        step's own, by `pow`).
      **kwargs: of `keras.optimizers.Adam`.
    """

    def arguments_at(self, step):
        """beta_1 and the powers of both betas."""
        beta_1 = self._momentum_at(step)
        power = (_power(beta_1, step) if isinstance(beta_1, float)
                 else tf.pow(beta_1, tf.cast(step + 1, tf.float32)))
        return {"beta1": beta_1, "beta1_power": power, "beta2_power": _power(self.beta_2, step)}

    def update_step(self, gradient, variable, learning_rate):
        """One update of a variable."""
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle, lr=learning_rate, grad=gradient,
            beta2=self.beta_2, epsilon=self.epsilon, **self._of_step)


def _power(beta: float, step) -> tf.Tensor:
    """beta^(step + 1) as step + 1 factors give it in float32."""
    # Where the power no longer moves 1 - beta^t nothing more is multiplied.
    enough = math.ceil(math.log(2.0**-25) / math.log(beta))
    powers = np.cumprod(np.full(enough, beta, np.float32))
    return tf.gather(powers, tf.minimum(step, enough - 1))


class TF1RMSprop(keras.optimizers.Optimizer):
    """TF1's RMSPropOptimizer: epsilon inside the square root, mean-square slot starting at one."""

    def __init__(self, learning_rate, *, rho=0.9, momentum=0.9, epsilon=1.0, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._numbers = {"rho": rho, "momentum": momentum, "epsilon": epsilon}

    def build(self, variables):
        """Makes the two slots of each of the variables."""
        if self.built:
            return
        super().build(variables)
        self._mean_squares = self.add_optimizer_variables(variables, "rms", initializer="ones")
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        """One update of a variable."""
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle, ms=self._mean_squares[index].value.handle,
            mom=self._momentums[index].value.handle, lr=learning_rate, grad=gradient,
            **self._numbers)


def make_optimizer(name: str, learning_rate, *, momentum=None, mixed_precision: str = "",
                   adam_epsilon: float = ADAM_EPSILON) -> keras.optimizers.Optimizer:
    """The optimizer of --Optimizer with the original's TF1 numbers.

    Args:
      name: "sgd", "mom", "adam" or "rmsprop".
      learning_rate: float or a Keras schedule.
      momentum: callable from the step to the momentum of "mom" and the beta_1 of "adam"; None: 0.9.
      mixed_precision: "float16" wraps it in Keras's loss scaling, which the small gradients of that
        type need; `scale_loss` of what is returned does nothing otherwise.
      adam_epsilon: of Adam alone.
    """
    if mixed_precision == "float16":
        return keras.optimizers.LossScaleOptimizer(
            make_optimizer(name, learning_rate, momentum=momentum, adam_epsilon=adam_epsilon),
            name="loss_scale")
    if name == "mom":
        return TF1Momentum(learning_rate, momentum=momentum or MOMENTUM, name=name)
    if name == "rmsprop":
        return TF1RMSprop(learning_rate, name=name)
    if name == "adam":
        return TF1Adam(learning_rate, momentum=momentum or MOMENTUM, epsilon=adam_epsilon, name=name)
    return keras.optimizers.SGD(learning_rate, name=name)


def build_for(run, strategy: tf.distribute.Strategy, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer of a `TrainingRun`, with its slots for the model built in `strategy`."""
    with strategy.scope():
        optimizer = make_optimizer(
            run.optimizer, rate_of(run), momentum=momentum_of(run), mixed_precision=run.mixed_precision,
            adam_epsilon=run.adam_epsilon)
        # In the scope, too: slots made outside it would not be mirrored. And now, not at the first
        # step, so that a checkpoint can be read into them.
        optimizer.build(model.trainable_variables)
    return optimizer


def default_boundaries(dataset: str, total_steps: int) -> tuple[int, ...]:
    """Steps at which the rate falls: the data set's, or 1/2, 3/4 and all of total_steps."""
    return get_spec(dataset).lr_boundaries or (total_steps // 2, total_steps * 3 // 4, total_steps)


def learning_rate_schedule(boundaries: tuple[int, ...], base: float = BASE_LEARNING_RATE):
    """`base` below the first boundary, then a tenth of it from each boundary on."""
    rates = [base / 10**k for k in range(len(boundaries) + 1)]
    # Keras keeps a rate up to and including its boundary, the original stops one step before.
    return keras.optimizers.schedules.PiecewiseConstantDecay([b - 1 for b in boundaries], rates)


class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Straight lines between knots, constant beyond the last.

    Args:
      steps: increasing, from 0.
      values: at these steps.
    """

    def __init__(self, steps: list[float], values: list[float]):
        self._steps, self._values = steps, values

    def __call__(self, step):
        step, value = tf.cast(step, tf.float32), self._values[0]
        for i, (start, end) in enumerate(itertools.pairwise(self._steps)):
            passed = tf.clip_by_value((step - start) / (end - start), 0.0, 1.0)
            value += (self._values[i + 1] - self._values[i]) * passed
        return value

    def get_config(self):
        """The arguments, as Keras asks of a schedule."""
        return {"steps": self._steps, "values": self._values}


def rate_of(run) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate by step of a `files.checkpoints.TrainingRun`.

    step: `learning_rate_schedule`. cosine: rate · (1 + cos(π · step / total_steps)) / 2. one_cycle:
    linear from a tenth of the rate to the rate in 45 % of the steps, back in 45 %, then to a
    thousandth (after Smith, arXiv 1708.07120).
    """
    if run.lr_schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(run.learning_rate, run.total_steps)
    if run.lr_schedule == "one_cycle":
        return _cycle(run, [run.learning_rate * rate for _, rate, _ in _CYCLE])
    return learning_rate_schedule(run.lr_boundaries, run.learning_rate)


def momentum_of(run) -> PiecewiseLinear | None:
    """The momentum by step of one_cycle, 0.95 → 0.85 → 0.95 against the rate; None of the others."""
    if run.lr_schedule != "one_cycle":
        return None
    return _cycle(run, [momentum for *_, momentum in _CYCLE])


def _cycle(run, values):
    return PiecewiseLinear([share * run.total_steps for share, *_ in _CYCLE], values)

"""The optimizers of --Optimizer with TF1's arithmetic, and the original's learning rate by step."""

import keras
import tensorflow as tf

BASE_LEARNING_RATE = 0.1
ADAM_EPSILON = 1.0
# Steps at which the rate falls tenfold, by data set; digits and npz: see `default_boundaries`.
LR_BOUNDARIES = {
    "mnist": (10000, 15000, 20000),
    "cifar10": (40000, 60000, 80000),
    "cifar100": (40000, 60000, 80000),
}


class TF1Momentum(keras.optimizers.SGD):
    """TF1's MomentumOptimizer: the slot sums plain gradients, the rate multiplies it at the update.

    Keras SGD keeps the rate inside its velocity, which differs whenever the rate drops.
    """

    def update_step(self, gradient, variable, learning_rate):
        slot = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle, accum=slot.handle, lr=learning_rate, grad=gradient,
            momentum=self.momentum)


class TF1RMSprop(keras.optimizers.Optimizer):
    """TF1's RMSPropOptimizer: epsilon inside the square root, mean-square slot starting at one."""

    def __init__(self, learning_rate, *, rho=0.9, momentum=0.9, epsilon=1.0, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._numbers = {"rho": rho, "momentum": momentum, "epsilon": epsilon}

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._mean_squares = self.add_optimizer_variables(variables, "rms", initializer="ones")
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle, ms=self._mean_squares[index].value.handle,
            mom=self._momentums[index].value.handle, lr=learning_rate, grad=gradient,
            **self._numbers)


def make_optimizer(name: str, learning_rate, *, mixed_precision: str = "",
                   adam_epsilon: float = ADAM_EPSILON) -> keras.optimizers.Optimizer:
    """The optimizer of --Optimizer with the original's TF1 numbers.

    Args:
      name: "sgd", "mom", "adam" or "rmsprop".
      learning_rate: float or a Keras schedule.
      mixed_precision: "float16" wraps it in Keras's loss scaling, which the small gradients of that
        type need; `scale_loss` of what is returned does nothing otherwise.
      adam_epsilon: of Adam alone.
    """
    if mixed_precision == "float16":
        return keras.optimizers.LossScaleOptimizer(
            make_optimizer(name, learning_rate, adam_epsilon=adam_epsilon), name="loss_scale")
    if name == "mom":
        return TF1Momentum(learning_rate, momentum=0.9, name=name)
    if name == "rmsprop":
        return TF1RMSprop(learning_rate, name=name)
    if name == "adam":
        return keras.optimizers.Adam(learning_rate, epsilon=adam_epsilon, name=name)
    return keras.optimizers.SGD(learning_rate, name=name)


def build_for(run, strategy: tf.distribute.Strategy, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer of a `checkpoints.RunRecord`, with its slots for the model built in `strategy`."""
    with strategy.scope():
        optimizer = make_optimizer(
            run.optimizer, learning_rate_schedule(run.lr_boundaries, run.learning_rate),
            mixed_precision=run.mixed_precision, adam_epsilon=run.adam_epsilon)
        optimizer.build(model.trainable_variables)
    return optimizer


def default_boundaries(dataset: str, total_steps: int) -> tuple[int, ...]:
    """Steps at which the rate falls: the original's, or 1/2, 3/4 and all of total_steps."""
    return LR_BOUNDARIES.get(dataset, (total_steps // 2, total_steps * 3 // 4, total_steps))


def learning_rate_schedule(boundaries: tuple[int, ...], base: float = BASE_LEARNING_RATE):
    """`base` below the first boundary, then a tenth of it from each boundary on."""
    rates = [base / 10**k for k in range(len(boundaries) + 1)]
    # Keras keeps a rate up to and including its boundary, the original stops one step before.
    return keras.optimizers.schedules.PiecewiseConstantDecay([b - 1 for b in boundaries], rates)

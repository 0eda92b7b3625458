"""How arXiv 1706.00633v1 trains the networks of networks/v1.py (its table 3)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Numbers of a training.

    Attributes:
      optimizer: name as in --Optimizer.
      learning_rate: before its first fall.
      adam_epsilon: of Adam alone.
      weight_decay: factor of Σ ‖W‖²/2.
      batch_size: images per step.
      epochs: length of the training.
      falls: shares of the training at which the rate falls tenfold.
    """

    optimizer: str
    learning_rate: float
    adam_epsilon: float
    weight_decay: float
    batch_size: int
    epochs: int
    falls: tuple[float, ...]

    def total_steps(self, num_images: int, batch_size: int) -> int:
        """Steps of the epochs over so many images, the last batch included."""
        return -(-self.epochs * num_images // batch_size)

    def boundaries(self, total_steps: int) -> tuple[int, ...]:
        """Steps at which the rate falls; the last is the end of the run."""
        return (*(int(share * total_steps) for share in self.falls), total_steps)

    def numbers(self, optimizer: str) -> dict[str, float]:
        """Fields of a `files.checkpoints.TrainingRun` for an optimizer, the recipe's or another.

        Rate and epsilon are the recipe's optimizer's: another takes those of the ResNet.
        """
        decay = {"weight_decay": self.weight_decay}
        if optimizer != self.optimizer:
            return decay
        return decay | {"learning_rate": self.learning_rate, "adam_epsilon": self.adam_epsilon}


# Stated: Adam 0.001, 5 epochs, batch 100. Chosen: Adam's epsilon as it was by default in TensorFlow
# and Keras then, no fall of the rate, no weight decay.
_MNIST = Recipe("adam", 0.001, 1e-8, weight_decay=0.0, batch_size=100, epochs=5, falls=())
# Stated: momentum 0.9 at rate 0.1, 60 epochs, batch 100, weight decay 0.001. Chosen: the falls.
_CIFAR = Recipe("mom", 0.1, 1.0, weight_decay=0.001, batch_size=100, epochs=60, falls=(0.5, 0.75))


def get(model: str, channels: int) -> Recipe | None:
    """The recipe for images of so many channels; None of the ResNet, which the flags describe."""
    # Of the dense net nothing is stated: trained as the simple CNN on MNIST.
    recipes = {"simple_cnn": _MNIST if channels == 1 else _CIFAR, "mlp": _MNIST}
    return recipes.get(model)

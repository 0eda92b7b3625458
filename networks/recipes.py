"""How a network is trained where the flags do not say: the kind of value its row holds."""

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
      augment: whether its images are cropped and flipped; None: as the data set says.
    """

    optimizer: str
    learning_rate: float
    adam_epsilon: float
    weight_decay: float
    batch_size: int
    epochs: int
    falls: tuple[float, ...]
    augment: bool | None = None

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
            # A rate found for one optimizer says nothing of another.
            return decay
        return decay | {"learning_rate": self.learning_rate, "adam_epsilon": self.adam_epsilon}

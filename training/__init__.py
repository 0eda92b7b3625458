"""What training minimises, and how: the objectives, a row each, and the names of the optimizers.

This file starts without TensorFlow.
"""

import dataclasses

from errors import InputError

# Of --Optimizer, --lr_schedule and --mixed_precision; training/optimizers.py makes them.
OPTIMIZERS = ("sgd", "mom", "adam", "rmsprop")
LR_SCHEDULES = ("step", "cosine", "one_cycle")
MIXED_PRECISIONS = ("bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a training minimises, whatever the network's head.

    Attributes:
      name: key in `OBJECTIVES`, as in --objective.
      weights: (term, weight) each, terms of `training.losses.TERMS`; the weight decay, which belongs
        to the network's recipe, comes on top.
      craft: "module:function" from (model, head, images, labels) to the adversarial images that its
        terms see, float32 as the images; "" of an objective without them.
    """

    name: str
    weights: tuple[tuple[str, float], ...]
    craft: str = ""


OBJECTIVES: dict[str, Objective] = {
    row.name: row
    for row in (
        # The loss of the head alone: CE or RCE.
        Objective("plain", (("head_loss", 1.0),)),
    )
}


def get_objective(name: str) -> Objective:
    """The row of a training objective; InputError if the name is not in `OBJECTIVES`."""
    if name not in OBJECTIVES:
        raise InputError(f"objective must be one of [{', '.join(OBJECTIVES)}]; RCE is chosen by "
                         f"--RCE_train. Received: objective={name!r}.")
    return OBJECTIVES[name]

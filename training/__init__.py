"""What training minimises, and how: the objectives, a row each, and the names of the optimizers.

This file starts without TensorFlow.
"""

import dataclasses
from collections.abc import Mapping

from errors import InputError

# Of --Optimizer, --lr_schedule and --mixed_precision; training/optimizers.py makes them.
OPTIMIZERS = ("sgd", "mom", "adam", "rmsprop")
LR_SCHEDULES = ("step", "cosine", "one_cycle")
MIXED_PRECISIONS = ("bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class TrainingAttack:
    """The PGD whose images an objective trains on; units of the network input.

    Attributes:
      eps: largest change of a pixel; 0: there is no attack.
      step_size: change of a pixel per step.
      iterations: steps.
    """

    eps: float = 0.0
    step_size: float = 0.0
    iterations: int = 0


NO_ATTACK = TrainingAttack()


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a training minimises, whatever the network's head.

    Attributes:
      name: key in `OBJECTIVES`, as in --objective.
      weights: (term, weight) each, terms of `training.losses.TERMS`; the weight decay, which belongs
        to the network's recipe, comes on top.
      noisy: whether its images are given Gaussian noise where --noise_std does not say.
    """

    name: str
    weights: tuple[tuple[str, float], ...]
    noisy: bool = False


_CLEAN, _ADVERSARIAL, _ALP = ("head_loss", 1.0), ("adversarial_loss", 1.0), ("alp", 1.0)
_HALF = (("head_loss", 0.5), ("adversarial_loss", 0.5))
OBJECTIVES: dict[str, Objective] = {
    row.name: row
    for row in (
        # The loss of the head alone: CE or RCE.
        Objective("plain", (_CLEAN,)),
        # Logit pairing (Kannan et al. 2018, arXiv 1803.06373), weights of Mosbach et al.'s code.
        Objective("clp", (_CLEAN, ("clp", 0.5)), noisy=True),
        Objective("lsq", (_CLEAN, ("lsq", 0.5)), noisy=True),
        Objective("alp", (_CLEAN, _ALP)),
        # Adversarial training (Madry et al. 2018), of half the loss and of all of it.
        Objective("at50", _HALF),
        Objective("at50_alp", (*_HALF, _ALP)),
        Objective("at100", (_ADVERSARIAL,)),
        Objective("at100_alp", (_ADVERSARIAL, _ALP)),
    )
}
# Of dgn.py --adv_type; training/mixed.py says what they are.
ADVERSARIAL_TYPES = ("gf", "default", "online")
# Of terms that look at what an attack has made.
ATTACKED_TERMS = ("adversarial_loss", "alp")
# Flag that weighs a term → the term, in the order in which they are summed.
TERM_OF_FLAG = {"ct_lambda": "head_loss", "at_lambda": "adversarial_loss", "alp_lambda": "alp",
                "clp_lambda": "clp", "lsq_lambda": "lsq"}
# By channels (Mosbach et al. 2018, their train.py); images of others are taken as of three.
NOISE_STD = {1: 0.5, 3: 0.06}
TRAINING_ATTACKS = {1: TrainingAttack(0.3, 0.01, 40), 3: TrainingAttack(16 / 255, 2 / 255, 10)}


def get_objective(name: str) -> Objective:
    """The row of a training objective; InputError if the name is not in `OBJECTIVES`."""
    if name not in OBJECTIVES:
        raise InputError(f"objective must be one of [{', '.join(OBJECTIVES)}]; RCE is chosen by "
                         f"--RCE_train. Received: objective={name!r}.")
    return OBJECTIVES[name]


def weighed(objective: Objective, given: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """The weights of an objective, those that are given in place of its own.

    Args:
      objective: a row.
      given: flag of TERM_OF_FLAG → weight.

    Raises:
      InputError: a weight that is negative or not finite, none that tells the classes apart, or
        weights for the plain objective, which has one term.
    """
    for flag, weight in given.items():
        if not 0 <= weight < float("inf"):
            raise InputError(f"{flag} must be at least 0. Received: {flag}={weight}.")
    if given and objective.name == "plain":
        flag, weight = next(iter(given.items()))
        raise InputError(f"{flag} weighs a term of an --objective, one of "
                         f"[{', '.join(name for name in OBJECTIVES if name != 'plain')}]. "
                         f"Received: {flag}={weight}, objective='plain'.")
    weights = dict(objective.weights) | {TERM_OF_FLAG[flag]: value for flag, value in given.items()}
    if not (weights.get("head_loss") or weights.get("adversarial_loss")):
        raise InputError("ct_lambda and at_lambda must not both be 0: nothing would tell the classes "
                         "apart. Received: 0 and 0.")
    # Ours in one order, whatever was given, then a new row's own.
    order = dict.fromkeys([*TERM_OF_FLAG.values(), *weights])
    return tuple((term, weights[term]) for term in order if weights.get(term))


def is_attacked(weights: tuple[tuple[str, float], ...]) -> bool:
    """Whether an objective of these weights trains on attacked images."""
    return any(term in ATTACKED_TERMS for term, _ in weights)

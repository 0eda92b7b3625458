"""The attacks that follow a defender as it adapts, a row each; --rmc_attack.

Chen, Wu, Guo, Liang and Jha, ICLR 2022, arXiv 2110.14735. This file starts without TensorFlow;
greedy.py runs them.
"""

import dataclasses
from typing import NamedTuple


class Kind(NamedTuple):
    """What an attack does with the weights that it has collected.

    Attributes:
      reduce: of `attacks.loops.gmsa`.
      newest: whether the newest alone count.
      title: in tables.
    """

    reduce: str
    newest: bool
    title: str


KINDS = {"fpa": Kind("sum", True, "FPA"), "gmsa_avg": Kind("sum", False, "GMSA-AVG"),
         "gmsa_min": Kind("min", False, "GMSA-MIN")}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """How hard it tries.

    Attributes:
      eps: largest change of a pixel.
      step_size: change of a pixel per step.
      num_steps: gradients a round, of GMSA-MIN for each of the weights.
      rounds: adaptations that are looked at.
    """

    eps: float
    step_size: float
    num_steps: int
    rounds: int

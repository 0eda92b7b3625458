"""The attacks that ask a detector the whole question, by how much time there is.

One attack leaves a low figure that means nothing: another may break what it did not. A challenge runs
those that the caveats of `evaluation/soundness.py` and `evaluation/evidence.py` ask for, on the same
images, and what `evaluation/verdicts.py` says of all of them together is the answer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from files.names import ALL_SCORES

# One for all attacks: --eval_batch_count counts batches of it.
COUNT_BATCH = 10
DENSITY = "k_density"


@dataclasses.dataclass(frozen=True)
class Task:
    """An attack of a challenge.

    Attributes:
      method: name of its row.
      against: the score it aims at, or ALL_SCORES; "" of an attack that aims at none.
      settings: keywords of its function and of its restarts.
      target: kind of target.
      looked_at_twice: whether twice the steps, and the whole box, tell what the run is worth.
    """

    method: str
    against: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target: str = ""
    looked_at_twice: bool = False


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is tried.

    Attributes:
      tasks: the attacks, the strongest first.
      every_eps: at every eps; False: at the last alone.
    """

    tasks: Sequence[Task]
    every_eps: bool = True


# The recipe that finds the smallest changes in the least time (docs/attacks.md).
_CARLINI = {"num_steps": 40, "num_search_steps": 5, "learning_rate": 0.1, "initial_tradeoff": 1.0,
            "continued": True}
_HARD = {"num_steps": 200, "num_restarts": 2}
_STANDARD = (
    Task("selective_pgd", ALL_SCORES, _HARD, looked_at_twice=True),
    # Whose attackers who do not know it win most; of the starts every second goes deep.
    Task("selective_pgd", DENSITY, _HARD | {"num_restarts": 4}),
    Task("apgd_detector", ALL_SCORES, _HARD), Task("apgd_ce", settings=_HARD),
    Task("apgd_dlr", settings=_HARD), Task("pgd", settings=_HARD),
    Task("square", ALL_SCORES, {"num_steps": 1000}), Task("random"))
BUDGETS = {
    "quick": Budget((Task("selective_pgd", ALL_SCORES, {"num_steps": 100}),
                     Task("selective_pgd", DENSITY, {"num_steps": 100, "num_restarts": 2}),
                     Task("pgd", settings={"num_steps": 100}),
                     Task("square", ALL_SCORES, {"num_steps": 300}), Task("random")),
                    every_eps=False),
    "standard": Budget(_STANDARD),
    "full": Budget((
        *_STANDARD, *(Task("selective_pgd", score, _HARD)
                      for score in ("confidence", "non_me", "j_score")),
        Task("orthogonal_pgd", ALL_SCORES, _HARD),
        Task("matching_pgd", ALL_SCORES, {"num_steps": 200}, target="nearest"),
        Task("logit_matching", ALL_SCORES, _HARD),
        Task("hopskipjump", ALL_SCORES, {"num_steps": 2000}),
        Task("carliniL2", settings=_CARLINI, target="random"),
        Task("carliniL2_highden", settings={
            name: value if name == "continued" else (value, value) for name, value in _CARLINI.items()
        } | {"distance_from_clean": True}, target="random")))}

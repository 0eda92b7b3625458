"""One attack with its numbers: what the flags ask for, or a part of a challenge."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import attacks
from evaluation.aims import Aim
from evaluation.generated import Known
from evaluation.white_box import KnownDensity
from files.names import variant_of


@dataclasses.dataclass(frozen=True)
class Job:
    """What is run.

    Attributes:
      method: name of the attack's row.
      settings: keywords of its function and of its restarts, those that were asked for.
      eps_values: one round each; (None,) for an attack without eps.
      target: kind of target, "" where there is no choice.
      known: what the attack knows of a detector, or its generators; None of others.
    """

    method: str
    settings: Mapping[str, Any]
    eps_values: Sequence[float | None]
    target: str = ""
    known: KnownDensity | Aim | Known | None = None

    @property
    def attack(self) -> attacks.Attack:
        """The row."""
        return attacks.get(self.method)

    @property
    def aim(self) -> Aim | None:
        """The scores that it aims at, where it aims at any."""
        return self.known if isinstance(self.known, Aim) else None

    @property
    def classes(self) -> str:
        """The kind of target whose classes it is given; "" of an attack that finds them itself."""
        row = self.attack
        return self.target if row.stages or "targets_if_given" in row.takes else ""

    @property
    def norm(self) -> str:
        """In which eps bounds the change, or in which a search finds the smallest."""
        return self.attack.norm or self.settings["norm"]

    @property
    def variant(self) -> str:
        """The attack's name with what it was told to do: that of its folder."""
        # Of an attack of one norm there is no other folder.
        chosen = "" if self.attack.norm else self.norm
        return variant_of(self.method, self.aim.name if self.aim else "", chosen)

    def keywords(self) -> dict[str, Any]:
        """All keywords of the attack's function that are not those of every attack."""
        settings = dict(self.settings)
        if self.target == "none":
            settings["targeted"] = False
        if self.target and "targets_if_given" in self.attack.takes:
            settings["targeted"] = True
        if self.target and not self.classes:
            settings["num_targets"] = attacks.NEAREST_TARGETS[self.target]
        if "aimed_kernels" in self.attack.takes:
            settings["kernels"] = self.aim.detector.reference.kernels.features
        return settings | (self.known.keywords() if self.known else {})

    def identity(self) -> dict[str, Any]:
        """The numbers that decide its results, as JSON values."""
        return {**self.settings, **(self.known.identity() if self.known else {})}

    def knowledge(self) -> dict[str, Any]:
        """What the attacker knew and was bound by, for the run record."""
        row = self.attack
        knows = row.knowledge if self.aim or "scores_if_given" not in row.takes else "oblivious"
        # How hard it tried: whoever judges the figures asks.
        steps = row.num_steps(self.settings)
        tried = {} if steps is None else {"num_steps": steps}
        if row.path:
            tried["path_length"] = min(row.path_length(self.settings, eps) for eps in self.eps_values)
        return {"knowledge": knows, **tried, "norm": self.norm,
                **(self.aim.identity() if self.aim else {})}

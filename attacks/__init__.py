"""The attacks: each one file with one public function of arrays and callables, and their registry."""

import dataclasses
from collections.abc import Callable, Mapping

from attacks.bim import bim
from attacks.carliniL2 import carliniL2
from attacks.carliniL2_highcon import carliniL2_highcon
from attacks.carliniL2_highden import carliniL2_highden
from attacks.carliniL2_specific import carliniL2_specific
from attacks.fgsm import fgsm
from attacks.jsma import jsma
from attacks.pgd import pgd
from attacks.random_noise import random_noise
from attacks.smda import smda
from attacks.tgsm import tgsm
from errors import InputError

TARGETED = ("random", "least_likely", "all")


@dataclasses.dataclass(frozen=True)
class Attack:
    """How test_adv.py runs an attack.

    Attributes:
      function: the attack.
      count_batch: images that one of --eval_batch_count stands for, as in the original.
      batch_size: images per call, the fastest measured (benchmarks/attack_throughput.py).
      part_size: images that are saved together while it runs; fixed, whatever runs it.
      uses_gradient: takes the network's logits first.
      uses_features: takes the network's logits and features first.
      uses_seed: takes a seed and the images' indices.
      stages: 0 where a call crafts the images; else `function` returns a `Search` of so many stages.
      uses_eps: takes eps, over which test_adv.py sweeps.
      uses_kernels: takes kernels and density medians.
      ascends_cross_entropy: of the predicted class; there its gradient is what must not vanish.
      target: default of --target; "" where there is no choice.
      targets: kinds of --target allowed besides a class number.
      settings: flag → keyword of `function`, of the numbers a user may override.
    """

    function: Callable
    count_batch: int = 200
    batch_size: int = 200
    part_size: int = 1000
    uses_gradient: bool = True
    uses_features: bool = False
    uses_seed: bool = False
    stages: int = 0
    uses_eps: bool = True
    uses_kernels: bool = False
    ascends_cross_entropy: bool = False
    target: str = ""
    targets: tuple[str, ...] = ()
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


_STEPS = {"attack_iterations": "num_steps"}
_CARLINI = {
    "stages": 1, "uses_eps": False, "target": "random", "uses_features": True,
    "count_batch": 10, "batch_size": 160, "part_size": 160, "targets": (*TARGETED, "none"),
    "settings": _STEPS | {
        "attack_confidence": "kappa", "attack_learning_rate": "learning_rate",
        "attack_search_steps": "num_search_steps", "attack_initial_const": "initial_tradeoff"}}
_SALIENCY = {"stages": 1, "count_batch": 1, "batch_size": 192, "part_size": 192,
             "target": "least_likely", "targets": TARGETED, "settings": _STEPS}
_WHITE_BOX = _CARLINI | {"stages": 2, "uses_kernels": True, "count_batch": 1, "batch_size": 64,
                         "part_size": 64, "targets": TARGETED}

ATTACKS = {
    "random": Attack(random_noise, uses_gradient=False, uses_seed=True),
    "fgsm": Attack(fgsm, ascends_cross_entropy=True),
    "bim": Attack(bim, ascends_cross_entropy=True, settings=_STEPS),
    "tgsm": Attack(tgsm, settings=_STEPS),
    "jsma": Attack(jsma, **_SALIENCY),
    "smda": Attack(smda, **_SALIENCY),
    "carliniL2": Attack(carliniL2, **_CARLINI),
    "carliniL2_highcon": Attack(carliniL2_highcon, **_CARLINI),
    "carliniL2_highden": Attack(carliniL2_highden, **_WHITE_BOX),
    "carliniL2_specific": Attack(carliniL2_specific, **_WHITE_BOX),
    "pgd": Attack(pgd, uses_seed=True, ascends_cross_entropy=True, settings=_STEPS),
}


def get(name: str) -> Attack:
    """The attack that --attack_method=name runs, or an InputError that lists what there is."""
    if name not in ATTACKS:
        raise InputError(f"attack_method must be one of [{', '.join(ATTACKS)}]. "
                         f"Received: attack_method={name!r}.")
    return ATTACKS[name]

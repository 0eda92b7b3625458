"""The attacks: each one file with one public function of arrays and callables, and their registry."""

import dataclasses
from collections.abc import Callable

from attacks.bim import bim
from attacks.fgsm import fgsm
from attacks.random_noise import random_noise
from attacks.tgsm import tgsm
from errors import InputError


@dataclasses.dataclass(frozen=True)
class Attack:
    """How test_adv.py runs an attack.

    Attributes:
      function: the attack.
      count_batch: images that one of --eval_batch_count stands for, as in the original.
      batch_size: images per call, the fastest measured (benchmarks/attack_throughput.py).
      uses_gradient: takes the network's logits first; otherwise a seed and the images' indices.
    """

    function: Callable
    count_batch: int = 200
    batch_size: int = 200
    uses_gradient: bool = True


ATTACKS = {
    "random": Attack(random_noise, uses_gradient=False),
    "fgsm": Attack(fgsm),
    "bim": Attack(bim),
    "tgsm": Attack(tgsm),
}


def get(name: str) -> Attack:
    """The attack that --attack_method=name runs, or an InputError that lists what there is."""
    if name not in ATTACKS:
        raise InputError(f"attack_method must be one of [{', '.join(ATTACKS)}]. "
                         f"Received: attack_method={name!r}.")
    return ATTACKS[name]

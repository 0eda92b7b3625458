"""Numbers of PGD under a name, by data set: --pgd_preset.

Source: Mosbach et al. 2018, arXiv 1810.12042, and their eval.py; steps there count pixels in [0, 255].
"""

import dataclasses

from errors import InputError


@dataclasses.dataclass(frozen=True)
class Preset:
    """How hard PGD tries; units of the network input.

    Attributes:
      eps: largest change of a pixel.
      step_size: change of a pixel per step.
      num_steps: gradients per start.
      num_restarts: starts per image.
      num_images: that are attacked; 0: as --eval_batch_count says.
    """

    eps: float
    step_size: float
    num_steps: int
    num_restarts: int
    num_images: int = 0


_STRONGEST = Preset(0.3, 50 / 255, 200, 10_000)
_STRONGEST_COLOUR = Preset(16 / 255, 4 / 255, 400, 100)
# What two cores can do of the strongest; not the authors'.
_LITE = {"num_restarts": 50, "num_steps": 200, "num_images": 200}
PRESETS = {
    "mnist": {"baseline": Preset(0.3, 2.55 / 255, 40, 1), "mid": Preset(0.3, 50 / 255, 200, 1),
              "strongest": _STRONGEST, "lite": dataclasses.replace(_STRONGEST, **_LITE)},
    "cifar10": {"baseline": Preset(16 / 255, 2 / 255, 10, 1),
                "mid": Preset(16 / 255, 4 / 255, 400, 1), "strongest": _STRONGEST_COLOUR,
                "lite": dataclasses.replace(_STRONGEST_COLOUR, **_LITE)}}


def get(name: str, dataset: str) -> Preset:
    """The preset of a data set; InputError where there is none."""
    if dataset not in PRESETS:
        raise InputError(f"pgd_preset is known for {' and '.join(PRESETS)}. "
                         f"Received: pgd_preset={name!r}, dataset={dataset!r}.")
    if name not in PRESETS[dataset]:
        raise InputError(f"pgd_preset must be one of [{', '.join(PRESETS[dataset])}]. "
                         f"Received: pgd_preset={name!r}.")
    return PRESETS[dataset][name]

"""Pictures of one attack's results."""

import os
from collections.abc import Sequence

from figures import drawing
from files.attack_results import Attacked
from files.names import IMAGE_GRID

# The round of the sweep that the image grid shows.
GRID_EPS = 0.1
GRID_COLUMNS = 10


def closest_round(eps_values: Sequence[float | None], eps: float = GRID_EPS) -> int:
    """Number, from 0, of the round whose eps is the closest."""
    # An attack without eps has one round, whose eps is None.
    return min(range(len(eps_values)), key=lambda k: abs((eps_values[k] or 0) - eps))


def draw_grid(folder: str | os.PathLike, attacked: Attacked,
              eps_values: Sequence[float | None], attack: str) -> str:
    """Draws some normal images beside the adversarial ones of the round closest to GRID_EPS.

    Args:
      folder: of the results.
      attacked: the results.
      eps_values: of the rounds.
      attack: its name, for the title.

    Returns:
      The words that tell of the picture; none where images have no 1 or 3 channels.
    """
    if attacked.x.shape[-1] not in (1, 3):
        return ""  # no picture has other channels
    shown = closest_round(eps_values)
    eps, num_per_eps = eps_values[shown], len(attacked.labels) // len(eps_values)
    first = slice(shown * num_per_eps, shown * num_per_eps + min(GRID_COLUMNS, num_per_eps))
    titles = [f"true {true}\n{clean} → {adversarial}" for true, clean, adversarial in zip(
        attacked.labels[first], attacked.normal.predicted[first],
        attacked.adversarial.predicted[first], strict=True)]
    path = os.path.join(folder, IMAGE_GRID)
    at_eps = "" if eps is None else f", eps {eps:g}"
    drawing.image_grid(path, attacked.x[first], attacked.x_adv[first],
                       column_titles=titles, title=f"{attack}{at_eps}: predicted class of the normal → "
                       "of the adversarial image")
    return f", pictures{'' if eps is None else f' of eps {eps:g}'} in {path}"

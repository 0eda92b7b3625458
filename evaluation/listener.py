"""Who is told how the crafting of adversarial images gets on."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who is told how a crafter gets on; by default nobody.

    Attributes:
      rows_done: images finished since the last call, and how many of them successfully (None: the
        attack does not know).
      stage_done: at the end of each stage of a search: its number from 1, success bool [n].
      restarts_done: so many restarts of all images of a part are done, and how many images are left of
        how many; of attacks whose broken images leave.
    """

    rows_done: Callable[[int, int | None], None] = lambda rows, successes: None
    stage_done: Callable[[int, np.ndarray], None] = lambda stage, success: None
    restarts_done: Callable[[int, int, int], None] = lambda restarts, left, images: None

    def tell_of(self, result: Mapping[str, np.ndarray]) -> None:
        """Tells of images whose results, of `Crafter`, came all at once."""
        if "first_success" in result:
            self.stage_done(1, result["first_success"])
        success = result.get("success")
        self.rows_done(len(result["adversarial"]), None if success is None else int(success.sum()))
        if "first_success" in result:
            self.stage_done(2, success)


NOBODY = Listener()

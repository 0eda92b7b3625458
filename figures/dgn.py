"""The grid of hardened networks and what attacks them, as a picture."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.grid import Cell
from figures import drawing


def draw_grid(path: str | os.PathLike, rows: Mapping[str, Mapping[str, Cell]], columns: Sequence[str]
              ) -> None:
    """Draws the right answers of `evaluation.grid.row` as a heat map; columns that no row has are left
    out.

    Args:
      path: PNG file to write.
      rows: name of the network → cells.
      columns: of `evaluation.grid.columns`.
    """
    names = [name for name in columns if any(name in cells for cells in rows.values())]
    values = np.array([[100 * cells[name].right.value if name in cells else np.nan for name in names]
                       for cells in rows.values()])
    drawing.table(path, names, list(rows), values, "%", "Right answers, %, of the networks in rows; "
                  "stored images were made against the target")

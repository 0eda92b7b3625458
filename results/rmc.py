"""Runtime masking and cleansing on MNIST: the runs of results/rmc.sh beside their controls.

    python -m results.rmc rmc    # the folder of results/rmc.sh

Writes results/rmc.json, which `make report` draws up. What was not run has no figure.
"""

import sys
from pathlib import Path
from typing import Any

from errors import InputError
from evaluation import defended_table
from evaluation.success import Share
from files import atomic
from files import rmc as rmc_files
from results import command
from results.cells import HERE, read_found
from results.collect import run_of

PATH = HERE / "rmc.json"
# ImageNet, ResNet-152, from the README of the authors' code: robust accuracy / attack success, in %.
PUBLISHED = (("network", "clean", "PGD-10, 8/255", "PGD-10, 16/255", "PGD-100, 16/255"),
             ("none", "72.9", "8.5 / 54.69", "5.2 / 61.7", "0.6 / 98.1"),
             ("adversarially trained", "62.3", "N/A", "52.5 / 5.5", "41.7 / 31.0"),
             ("denoising block", "65.3", "N/A", "55.7 / 4.9", "45.5 / 26.6"),
             ("DeepNN", "26.6", "12.9 / 0.16", "8.7 / 1.2", "7.8 / 1.2"),
             ("WebNN", "27.8", "18.8 / 0.54", "15.2 / 0.3", "13.9 / 0.3"),
             ("RMC", "73.6", "62.4 / 0.28", "55.9 / 1.6", "55.6 / 1.3"))
_SHARES = ("clean", "attacked", "reached")
# Of what a training and an evaluation leave, in the folder of rmc.sh.
_TRAINING = "resnet8/train"
_AUGMENTED, _DEEP = "rmc_mnist", "rmc_resnet32"


def collect(work: Path) -> dict[str, Any]:
    """Lines of the table of `evaluation.defended_table`, and the runs behind them.

    Args:
      work: folder of results/rmc.sh.

    Returns:
      {"rows": [...], "runs": {name: run}}: rows with the fields of `defended_table.Line`, shares as
      [value, low, high, n]; under "resnet32" the same of the shipped ResNet-32, where it was run.

    Raises:
      InputError: `work` has no finished evaluation.
    """
    found = _of_set(work, _AUGMENTED)
    if not found["rows"]:
        raise InputError(f"expected evaluations of results/rmc.sh in {work}. Received: none.")
    deep = _of_set(work, _DEEP) if (work / _DEEP).is_dir() else {}
    return found | ({"resnet32": deep} if deep.get("rows") else {})


def _of_set(work, folder):
    """Rows and runs of the evaluations with an augmented set."""
    augmented = rmc_files.load(work / folder).sha256
    runs = defended_table.find([work], augmented, lambda sentence: None)
    return {"rows": [line._asdict() for line in defended_table.lines(runs)] if runs else [],
            "runs": {str(run.folder.relative_to(work)): run_of(run.record) for run in runs}}


def load(folder: Path = HERE) -> dict[str, Any]:
    """What was collected; without its file no rows."""
    return read_found(folder / PATH.name)


def table_rows(found: dict[str, Any]) -> list[list[str]]:
    """Head and rows as text."""
    return defended_table.format_rows([_line(row) for row in found["rows"]])


def _line(row):
    shares = {name: row[name] and Share(*row[name]) for name in _SHARES}
    after = row["afterwards"]
    told = after and {name: Share(*share) for name, share in after.items()}
    return defended_table.Line(**{**row, **shares, "afterwards": told})


def _write(work):
    found = collect(work)
    atomic.write_json(PATH, found)
    return f"{len(found['rows'])} rows: {PATH}\n"


def main() -> int:
    """Collects from the folder that is named."""
    return command.run("rmc.sh", _write)


if __name__ == "__main__":
    sys.exit(main())

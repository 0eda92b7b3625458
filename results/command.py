"""The command line of what collects results: one folder, one sentence where it cannot be."""

import sys
from collections.abc import Callable
from pathlib import Path

from errors import InputError


def run(script: str, collect: Callable[[Path], str]) -> int:
    """Collects from the folder that the command line names.

    Args:
      script: of results/, which leaves such a folder.
      collect: writes what the folder holds; returns what is said of it, lines that end.

    Returns:
      Exit code: 1 without a folder, or where its results are refused.
    """
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.stderr.write(f"error: expected the folder of results/{script}. "
                         f"Received: {sys.argv[1:]}.\n")
        return 1
    try:
        said = collect(Path(sys.argv[1]))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(said)
    return 0

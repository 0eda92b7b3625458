"""Tables of Markdown."""

from collections.abc import Sequence

# Of a cell without a figure.
NOT_RUN = "not run"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table, the first row its head."""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))

"""Tables in Markdown, as every report prints them."""

from __future__ import annotations

from collections.abc import Sequence

_NARROWEST = 3  # that Markdown takes for a rule


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are aligned, also where nothing renders it.

    Args:
        head: title of each column.
        rows: cells of each row, as many as there are titles.
    """
    widths = [
        max(_NARROWEST, *(len(row[column]) for row in (head, *rows))) for column in range(len(head))
    ]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, ["-" * width for width in widths], *rows)
    )

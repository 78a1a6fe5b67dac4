"""Text that the verbs of the simulation read and print."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def names(listed: str) -> tuple[str, ...]:
    """Split a comma-separated option; blanks and empty parts are dropped."""
    return tuple(part.strip() for part in listed.split(",") if part.strip())


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns by blanks."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def say(text: str) -> None:
    """Print a line for a person."""
    sys.stdout.write(text + "\n")

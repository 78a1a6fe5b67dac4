"""A sub-verb as another package registers it."""

from __future__ import annotations

from collections.abc import Sequence


def stop(argv: Sequence[str]) -> int:
    """Stop, and show that the rest of the line came along."""
    return 7 if list(argv) == ["--now"] else 1

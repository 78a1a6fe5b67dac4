"""What the importer decided and why, so that nobody has to guess later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice of the importer.

    Attributes:
        name: what was decided, for example ``layout``.
        value: the outcome.
        why: the fact or option that decided it.
    """

    name: str
    value: str
    why: str


def decisions_as_text(decisions: Iterable[Decision]) -> dict[str, str]:
    """Return ``decision.<name>`` -> ``value: why``, the form in which provenance is stored."""
    return {f"decision.{item.name}": f"{item.value}: {item.why}" for item in decisions}

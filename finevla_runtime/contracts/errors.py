"""The error taxonomy: which class is raised decides what the caller does.

SetupError is raised before any motion, PolicyError fails one trial and lets the session go on, BodyError halts
and asks for a human, SafetyStop halts and stays latched. Each error carries a stable code ``FV-<AREA>-<NNN>``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FineVLAError(Exception):
    """Base of every coded error.

    Attributes:
        code: stable identifier, for example ``FV-BUN-003``.
        message: what happened, where, what was got and wanted, and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        """Store the code beside the message; ``str(error)`` shows both."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class SetupError(FineVLAError):
    """Something is wrong before motion: configuration, files, compatibility."""


class PolicyError(FineVLAError):
    """The policy or its server failed: the trial fails or is repeated, the session goes on."""


class BodyError(FineVLAError):
    """The robot or the simulated body failed: halt and ask for a human."""


class SafetyStop(FineVLAError):
    """The guard stopped the motion: halt and stay latched until somebody resets it."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like ``name``, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(code: str, kind: str, name: str, known: Iterable[str], where: str = "") -> SetupError:
    """Build the error for an unknown name: it lists the known names and the nearest match.

    Args:
        code: stable error code.
        kind: what the name stands for, for example ``camera``.
        name: the name that was got.
        known: the names that would have been accepted.
        where: file, line or message the name came from.
    """
    listed = sorted(known)
    guess = nearest(name, listed)
    hint = f" Did you mean {guess!r}?" if guess else ""
    place = f" in {where}" if where else ""
    return SetupError(code, f"unknown {kind} {name!r}{place}.{hint} Known: {', '.join(listed) or 'none'}.")

"""What the guard says about one command."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from finevla_runtime.motion.setpoint import Setpoint


class Outcome(str, Enum):
    """How a wanted setpoint fared, in order of severity."""

    PASS = "pass"  # noqa: S105  # A verdict, no password.
    LIMIT = "limit"
    HOLD = "hold"
    STOP = "stop"


@dataclass(frozen=True)
class Reason:
    """Why a command is not the one that was wanted.

    Attributes:
        code: stable code, for example ``FV-SAF-003``.
        text: what, where, got and wanted.
    """

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True, eq=False)
class Verdict:
    """What to send, and why.

    Attributes:
        outcome: pass: the wanted setpoint; limit: as near to it as the limits allow; hold: braking or standing, until
            the reason ends; stop: braking or standing, until somebody resets the guard.
        command: the setpoint to send; every one of a guard's commands continues the one before.
        reasons: why it is not the wanted one; empty for pass.
    """

    outcome: Outcome
    command: Setpoint
    reasons: tuple[Reason, ...] = ()

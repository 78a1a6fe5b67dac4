"""The joint limits inside an arm's own firmware, held against those of the body before anything moves.

Firmware limits have been seen to become corrupted (every joint from -0.10 to -0.10 degrees), and tighter ones stop an
arm in the middle of a motion. Wider ones do no harm: ours hold. Only positions are compared; for the top speed the
vendor's documents give two units that differ by ten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finevla_runtime.contracts.embodiment import Embodiment, Joint
from finevla_runtime.contracts.errors import BodyError

JOINTS = 6
# The firmware counts in tenths of a degree, so a limit may be off by one such step.
STEP_RAD = math.radians(0.1)
# No joint of an arm turns further than this; larger values are unset or unsigned garbage.
FULL_TURN_RAD = 2.0 * math.pi
ADVICE = (
    "Support the arm, write the limits with the vendor's own tool, switch the arm off and on, and read them again. "
    "Nothing here writes to the firmware."
)


@dataclass(frozen=True)
class FirmwareLimits:
    """What one arm's firmware says about j1..j6, rad."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse another number of joints (FV-ROB-005)."""
        if len(self.lower) != JOINTS or len(self.upper) != JOINTS:
            raise BodyError(
                "FV-ROB-005", f"the firmware gave {len(self.lower)} lower and {len(self.upper)} upper limits; wanted 6."
            )

    @classmethod
    def from_values(cls, values: Sequence[float]) -> FirmwareLimits:
        """Build from twelve values in rad: six lower, then six upper (BodyError FV-ROB-005 for another number)."""
        if len(values) != 2 * JOINTS:
            raise BodyError("FV-ROB-005", f"the firmware's limits have {len(values)} values; wanted {2 * JOINTS}.")
        return cls(tuple(map(float, values[:JOINTS])), tuple(map(float, values[JOINTS:])))


def require_firmware_limits(embodiment: Embodiment, arm: str, got: FirmwareLimits) -> None:
    """Refuse to begin when an arm's firmware would not let the body do what it may.

    Raises:
        BodyError: FV-ROB-006 for limits that no arm has, FV-ROB-007 for limits tighter than the body's.
    """
    joints = [joint for joint in embodiment.joints if joint.name.startswith(f"{arm}_j")]
    rows = list(zip(joints, got.lower, got.upper, strict=True))
    broken = [_said(joint, low, high) for joint, low, high in rows if not _possible(low, high)]
    if broken:
        raise BodyError(
            "FV-ROB-006", f"the limits in the firmware of the {arm} arm are corrupted: {'; '.join(broken)}. {ADVICE}"
        )
    tight = [
        _said(joint, low, high)
        for joint, low, high in rows
        if low > joint.lower + STEP_RAD or high < joint.upper - STEP_RAD
    ]
    if tight:
        raise BodyError(
            "FV-ROB-007",
            f"the firmware of the {arm} arm allows less than {embodiment.name}: {'; '.join(tight)}. {ADVICE} Or narrow "
            "the body's limits to the firmware's.",
        )


def _possible(low: float, high: float) -> bool:
    """Tell whether a joint can have this range; comparisons with NaN are false."""
    return -FULL_TURN_RAD <= low < high <= FULL_TURN_RAD


def _said(joint: Joint, low: float, high: float) -> str:
    return f"{joint.name} got {low:.4f} to {high:.4f} rad, wanted {joint.lower:g} to {joint.upper:g}"

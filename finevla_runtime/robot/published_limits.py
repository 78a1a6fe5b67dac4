"""Joint ranges that others published for one arm, and what they all allow.

The vendor's SDK, its URDF files and its users disagree about the same arm, and a too wide number is found out by a hard
stop. So each table is kept with its source, and a body gets the intersection of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.paths import HW_CONFIGS

ARM_JOINTS = tuple(f"j{number}" for number in range(1, 7))
LIMITS = HW_CONFIGS / "limits"


@dataclass(frozen=True)
class JointRange:
    """What one joint may do.

    Attributes:
        lower, upper: rad.
        velocity_s: rad/s; None where a source says nothing.
    """

    lower: float
    upper: float
    velocity_s: float | None = None


@dataclass(frozen=True)
class LimitTable:
    """The ranges of j1..j6 of one source.

    Attributes:
        name: file stem in ``hw_configs/limits``, or the names behind an intersection.
        source: where the numbers were read.
        joints: ranges of j1..j6.
    """

    name: str
    source: str
    joints: tuple[JointRange, ...]


def load_limit_table(path: Path) -> LimitTable:
    """Read one ``hw_configs/limits/*.yaml``.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys; FV-ROB-001 for an empty range or a speed that is
            not positive.
    """
    keys = load_yaml(path).mapping(["limits", "source", "joints"])
    rows = keys["joints"].mapping(ARM_JOINTS)
    return LimitTable(
        name=keys["limits"].one_of([path.stem]),
        source=keys["source"].text(),
        joints=tuple(_read_range(rows[joint]) for joint in ARM_JOINTS),
    )


def intersect(tables: Sequence[LimitTable]) -> LimitTable:
    """Return what every table allows.

    Raises:
        SetupError: FV-ROB-001 when there is no table, or when nothing is allowed by all of them.
    """
    if not tables:
        raise SetupError("FV-ROB-001", "no table of limits was given; wanted one or more.")
    name = " and ".join(table.name for table in tables)
    ranges = []
    for index, joint in enumerate(ARM_JOINTS):
        rows = [table.joints[index] for table in tables]
        lower, upper = max(row.lower for row in rows), min(row.upper for row in rows)
        if lower >= upper:
            raise SetupError(
                "FV-ROB-001",
                f"{name} leave {joint} nothing: {lower:g} to {upper:g} rad. One of them is for another arm.",
            )
        speeds = [row.velocity_s for row in rows if row.velocity_s is not None]
        ranges.append(JointRange(lower, upper, min(speeds) if speeds else None))
    return LimitTable(name, "; ".join(table.source for table in tables), tuple(ranges))


def _read_range(node: Node) -> JointRange:
    keys = node.mapping(["lower", "upper"], ["velocity_s"])
    found = JointRange(
        keys["lower"].number(),
        keys["upper"].number(),
        keys["velocity_s"].number() if "velocity_s" in keys else None,
    )
    if found.lower >= found.upper or (found.velocity_s is not None and found.velocity_s <= 0):
        raise node.fail("FV-ROB-001", "wanted lower below upper, and a speed above 0 where there is one.")
    return found

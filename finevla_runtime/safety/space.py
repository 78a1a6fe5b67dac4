"""The space that the guard looks into: tool points, table, boxes to keep out of, and the arms themselves.

What is guaranteed. At every row of a path, and on the straight line in joint space between rows, no moving link comes
nearer to another body than wanted, no tool point leaves its box, and no link sinks below the table. Distances are those
between the URDF's primitives: what a hand holds, cables, and shapes that the URDF lacks are not seen.

What is not. A braking arm does not move along straight lines between the rows. With joints that accelerate by at most
``a`` and rows ``t`` seconds apart it leaves them by at most ``a t^2 / 8`` in each joint, a few millimetres at the hand.
The wanted distances have to be greater than that and than what the arm lags behind its command.

How it stays fast: all rows are placed at once, capsules around the links rule out nearly every pair, and exact
distances (coal) are asked for the few that are left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.body import Body
from finevla_runtime.safety.contacts import Boxes, Contacts
from finevla_runtime.safety.flat_rules import Table, Workspace
from finevla_runtime.safety.placed_path import Finding, Placer
from finevla_runtime.safety.space_config import SpaceConfig, load_space_config
from finevla_runtime.safety.verdict import Reason


class BodySpace:
    """A :class:`~finevla_runtime.safety.guard.Space` made of a body's own shapes, a table and a few boxes."""

    def __init__(self, config: SpaceConfig) -> None:
        """Build the model once.

        Raises:
            SetupError: FV-SAF-032 to 034 for the URDF, FV-SAF-035 when a pair names an unknown part.
        """
        self.config = config
        self.body = Body(config.urdf, config.finger_travel)
        self._placer = placer = Placer(self.body)
        self._rules = (Workspace(config), Boxes(placer, config), Table(placer, config), Contacts(placer, config))

    def breach(self, path: JointArray) -> Reason | None:
        """Return what is wrong first along float64[n, 14] positions, or None.

        A body that stands in a breach is told so whatever it would do next, also if that led out of it: the guard then
        holds, and somebody moves the arm by hand.

        Raises:
            ValueError: for numbers that are not finite; a guard stops on it.
        """
        if not np.isfinite(path).all():
            raise ValueError("the path has positions that are not finite")
        placed = self._placer.place(path)
        found = [finding for rule in self._rules if (finding := rule.find(placed)) is not None]
        if not found:
            return None
        first = min(found, key=lambda finding: finding.row)
        return Reason(first.code, f"{first.text}{_where(first, len(path))}.")


def load_space(path: Path) -> BodySpace:
    """Read one ``hw_configs/spaces/*.yaml`` and build its space.

    Raises:
        SetupError: FV-CFG-* and FV-SAF-030 to 035.
    """
    return BodySpace(load_space_config(path))


def _where(finding: Finding, rows: int) -> str:
    if finding.row:
        return f" (point {finding.row + 1} of {rows} ahead)"
    return "; it stands there already: move the arm away by hand" if finding.standing else " (where it starts)"

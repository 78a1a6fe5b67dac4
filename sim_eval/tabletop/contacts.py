"""Reads SAPIEN's contact list into the flags of a trace sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
TOUCH_DISTANCE = 0.001
"""Shapes closer than this many metres count as touching; the physics engine lists pairs that are farther apart."""
STEEP = 0.5
"""Least vertical part of a contact normal for which the contact carries weight (60 degrees from vertical)."""


@dataclass(frozen=True, slots=True)
class ContactFlags:
    """The contact arrays of a trace sample; shapes as in :class:`sim_eval.tabletop.trace.Trace` without time."""

    touch: Bools
    finger_touch: Bools
    contact: Bools
    support: Bools
    arm_table: Bools
    arm_arm: bool


class ContactReader:
    """Sorts contacts by the names of the bodies: scene objects, table, links of the left and the right arm."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        """Takes the actor kinds of the scene in the order of the object axis."""
        self._index = {kind: number for number, kind in enumerate(kinds)}
        self._index["table"] = len(kinds)
        self._count = len(kinds)

    def read(self, contacts: Iterable[Any], poses: NDArray[np.float64]) -> ContactFlags:
        """Flags for one instant.

        Args:
            contacts: SAPIEN contacts of that instant.
            poses: [N, 7] object poses, to tell which of two touching objects is on top.
        """
        count = self._count
        flags = ContactFlags(
            np.zeros((2, count), dtype=bool),
            np.zeros((2, 2, count), dtype=bool),
            np.zeros((count, count + 1), dtype=bool),
            np.zeros((count, count + 1), dtype=bool),
            np.zeros(2, dtype=bool),
            False,
        )
        arms_met = False
        for contact in contacts:
            points = contact.points
            if not points or min(point.separation for point in points) > TOUCH_DISTANCE:
                continue
            first, second = (body.entity.name for body in contact.bodies)
            one, two = self._index.get(first), self._index.get(second)
            if one is not None and two is not None:
                steep = max(abs(float(point.normal[2])) for point in points) >= STEEP
                self._objects(flags, one, two, steep, poses)
            elif one is None and two is None:
                arms_met = arms_met or _arm(first) != _arm(second)
            else:
                self._arm_contact(flags, first if one is None else second, two if one is None else one)
        return ContactFlags(flags.touch, flags.finger_touch, flags.contact, flags.support, flags.arm_table, arms_met)

    def _objects(self, flags: ContactFlags, one: int, two: int, steep: bool, poses: NDArray[np.float64]) -> None:
        """Notes a contact between two objects, or an object and the table."""
        for low, high in ((one, two), (two, one)):
            if high == self._count:
                continue
            flags.contact[high, low] = True
            below = low == self._count or poses[low, 2] < poses[high, 2]
            if steep and below:
                flags.support[high, low] = True

    def _arm_contact(self, flags: ContactFlags, link: str, other: int | None) -> None:
        """Notes a contact of an arm's link with an object or the table."""
        arm = _arm(link)
        if arm is None or other is None:
            return
        if other == self._count:
            flags.arm_table[arm] = True
            return
        flags.touch[arm, other] = True
        if "_finger_" in link:
            flags.finger_touch[arm, 0 if "_finger_a" in link else 1, other] = True


def _arm(name: str) -> int | None:
    """0 for a link of the left arm, 1 for the right, None for anything else."""
    if name.startswith("left_"):
        return 0
    return 1 if name.startswith("right_") else None

"""A trace with the quantities judges measure on it: boxes, clearances, tilts, turns and firm grasps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sim_eval.tabletop.trace import LEFT, RIGHT, Bools, Floats, Trace

ARMS = {"left": LEFT, "right": RIGHT}
GAP_S = 0.1
"""Contacts of a firm grasp flicker; gaps up to this long do not end it."""
GRASP_MARGIN = 0.012
"""Metres the point between the fingers may be outside the object's box while both fingers touch it: fingers that
push an object from the same side have that point well outside."""
_EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True)
class View:
    """One trace as the judge words see it.

    Attributes:
        trace: the trace.
        hold_s: seconds a grasp must last to be firm.
        settle_s: seconds at the end during which a final state must hold.
    """

    trace: Trace
    hold_s: float = 0.3
    settle_s: float = 0.5
    _memory: dict[tuple[str, object, object], Floats | Bools] = field(default_factory=dict)

    def _remember(self, what: str, key: object, compute: Callable[[], Floats], also: object = 0) -> Floats:
        entry = (what, key, also)
        if entry not in self._memory:
            self._memory[entry] = compute()
        return self._memory[entry]  # type: ignore[return-value]

    def knows(self, name: str) -> bool:
        """Return whether the scene has the object; ``none`` and ``unclear`` are names without one."""
        return name in self.trace.objects

    def runs(self, truth: Bools, fill_s: float = 0.0) -> list[tuple[int, int]]:
        """Return (first, last) sample of every run of true samples; gaps up to ``fill_s`` are bridged."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], truth, [False]]).astype(np.int8)))
        found: list[tuple[int, int]] = []
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if found and self.trace.time[start] - self.trace.time[found[-1][1]] <= fill_s + _EPSILON_S:
                found[-1] = (found[-1][0], int(stop) - 1)
            else:
                found.append((int(start), int(stop) - 1))
        return found

    def lasts(self, run: tuple[int, int], seconds: float) -> bool:
        """Return whether a run spans at least that long."""
        return bool(self.trace.time[run[1]] - self.trace.time[run[0]] >= seconds - _EPSILON_S)

    def last(self, seconds: float) -> Bools | None:
        """Return which samples lie in the last ``seconds``, or None when the trace is shorter."""
        time = self.trace.time
        if time[-1] - time[0] < seconds - _EPSILON_S:
            return None
        return np.asarray(time >= time[-1] - seconds - _EPSILON_S)

    def finally_(self, truth: Bools) -> bool:
        """Return whether something was true all through the last ``settle_s`` seconds."""
        window = self.last(self.settle_s)
        return window is not None and bool(truth[window].all())

    def rotation(self, name: str) -> Floats:
        """Rotation matrices [T, 3, 3] of an object."""
        index = self.trace.index(name)
        return self._remember("rotation", name, lambda: matrices(self.trace.object_pose[:, index, 3:]))

    def centre(self, name: str) -> Floats:
        """Centre [T, 3] of an object's box, world frame, metres."""
        index = self.trace.index(name)
        offset = np.asarray(self.trace.info[index].center)
        pose = self.trace.object_pose[:, index]
        return self._remember("centre", name, lambda: pose[:, :3] + self.rotation(name) @ offset)

    def reach(self, name: str) -> Floats:
        """Half height [T] of an object's box as it stands, metres."""
        half = np.asarray(self.trace.info[self.trace.index(name)].half_size)
        return self._remember("reach", name, lambda: np.abs(self.rotation(name)[:, 2, :]) @ half)

    def bottom(self, name: str) -> Floats:
        """Height [T] of the lowest corner of an object's box, metres."""
        return np.asarray(self.centre(name)[:, 2] - self.reach(name))

    def top(self, name: str) -> Floats:
        """Height [T] of the highest corner of an object's box, metres."""
        return np.asarray(self.centre(name)[:, 2] + self.reach(name))

    def clearance(self, name: str) -> Floats:
        """How far [T] the lowest corner is above where it started, metres; tilting does not raise it."""
        bottom = self.bottom(name)
        return np.asarray(bottom - bottom[0])

    def offset(self, name: str, frame: str) -> Floats:
        """Centre [T, 3] of one object in the frame of another, from that one's box centre, metres."""
        difference = self.centre(name) - self.centre(frame)
        return np.asarray(np.einsum("tij,ti->tj", self.rotation(frame), difference))

    def tcp_distance(self, arm: int, name: str) -> Floats:
        """Distance [T] from the point between the fingers to the object's box, 0 inside, metres."""
        half = np.asarray(self.trace.info[self.trace.index(name)].half_size)

        def compute() -> Floats:
            difference = self.trace.tcp_pose[:, arm, :3] - self.centre(name)
            local = np.einsum("tij,ti->tj", self.rotation(name), difference)
            outside = np.maximum(np.abs(local) - half, 0.0)
            return np.asarray(np.linalg.norm(outside, axis=1))

        return self._remember("distance", name, compute, arm)

    def tilt(self, name: str) -> Floats:
        """Angle [T] between an object's long axis and the vertical, degrees."""
        axis = np.asarray(self.trace.info[self.trace.index(name)].long_axis)
        upwards = (self.rotation(name) @ axis)[:, 2]
        return np.asarray(np.degrees(np.arccos(np.clip(upwards, -1.0, 1.0))))

    def yaw(self, name: str) -> Floats:
        """Turn [T] about the vertical since the start, degrees, counter-clockwise seen from above positive."""

        def compute() -> Floats:
            # R_t R_0^T is the turn since the start in the world frame; its twist about z is the yaw.
            turn = self.rotation(name) @ self.rotation(name)[0].T
            angle = np.arctan2(turn[:, 1, 0] - turn[:, 0, 1], turn[:, 0, 0] + turn[:, 1, 1])
            return np.asarray(np.degrees(np.unwrap(angle)))

        return self._remember("yaw", name, compute)

    def touched(self, name: str) -> Bools:
        """Which arms touch an object: bool [T, 2]."""
        return np.asarray(self.trace.touch[:, :, self.trace.index(name)])

    def free(self, name: str) -> Bools:
        """When [T] no arm touches an object."""
        return np.asarray(~self.touched(name).any(axis=1))

    def grips(self, arm: int, name: str, seconds: float | None = None) -> list[tuple[int, int]]:
        """Runs during which an arm holds an object between both fingers, each at least ``seconds`` long.

        Both fingers touch it and the point between them is in its box. Gaps of GAP_S are bridged.
        """
        index = self.trace.index(name)
        between = self.tcp_distance(arm, name) <= GRASP_MARGIN
        both = self.trace.finger_touch[:, arm, :, index].all(axis=1) & between
        wanted = self.hold_s if seconds is None else seconds
        return [run for run in self.runs(both, GAP_S) if self.lasts(run, wanted)]

    def first_grip(self, name: str) -> int | None:
        """First sample of the first firm grasp of an object by either arm."""
        starts = [run[0] for arm in ARMS.values() for run in self.grips(arm, name)]
        return min(starts, default=None)


def matrices(quaternions: Floats) -> Floats:
    """Rotation matrices [T, 3, 3] of quaternions [T, 4] in the order wxyz."""
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    w, x, y, z = unit.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.asarray(np.moveaxis(np.array(rows), 2, 0))

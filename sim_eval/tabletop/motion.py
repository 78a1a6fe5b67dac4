"""Motion primitives of the scripted experts: one track of joint targets per arm, merged into a plan at 10 Hz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_eval.tabletop import kinematics as km

Floats = NDArray[np.float64]
FREE, NEAR, FINE = 1.0, 0.6, 0.3
"""Share of the demonstration noise that a row takes: in free motion, near objects, while grasping or releasing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A scripted episode.

    Attributes:
        targets: float64 [T, 14], one clean joint target per control step.
        noise_scale: float64 [T, 2], how much of the demonstration noise each arm takes in that step.
    """

    targets: Floats
    noise_scale: Floats


class ArmTrack:
    """Joint targets of one arm, appended primitive by primitive; the first row follows the home pose."""

    def __init__(self, arm: int) -> None:
        """Starts at home with the gripper open; arm 0 left, 1 right."""
        self.arm = arm
        self._home = km.home_joints()[arm]
        self._joints: Floats = self._home
        self._position, self._rotation = km.forward(arm, self._home)
        self._opening = 1.0
        self._rows: list[Floats] = []
        self._noise: list[float] = []

    def __len__(self) -> int:
        return len(self._rows)

    def reach(self, position: Floats, rotation: Floats, steps: int, noise: float = FREE) -> None:
        """Moves to a tool pose along a straight line in joint space."""
        self._blend(km.inverse(self.arm, position, rotation), steps, noise)
        self._position, self._rotation = np.asarray(position, dtype=np.float64), rotation

    def line(self, position: Floats, steps: int, noise: float = NEAR) -> None:
        """Moves the tool along a straight line in space, its orientation kept."""
        start, goal = self._position, np.asarray(position, dtype=np.float64)
        for index in range(1, steps + 1):
            point = start + (goal - start) * _ease(index / steps)
            self._push(km.inverse(self.arm, point, self._rotation), noise)
        self._position = goal

    def over(self, position: Floats, height: float, steps: int, noise: float = FREE) -> None:
        """Carries the tool to a point with its orientation kept, bulging up by a height (m) half way."""
        start, goal = self._position, np.asarray(position, dtype=np.float64)
        for index in range(1, steps + 1):
            share = _ease(index / steps)
            point = start + (goal - start) * share
            point[2] += height * 4.0 * share * (1.0 - share)
            self._push(km.inverse(self.arm, point, self._rotation), noise)
        self._position = goal

    def arc(self, centre: Floats, angle: float, steps: int, noise: float = FINE) -> None:
        """Turns the tool about the vertical through a point by an angle (rad, counterclockwise from above)."""
        offset, rotation = self._position - centre, self._rotation
        for index in range(1, steps + 1):
            turn = km.rot_z(angle * _ease(index / steps))
            self._position, self._rotation = centre + turn @ offset, turn @ rotation
            self._push(km.inverse(self.arm, self._position, self._rotation), noise)

    def grip(self, opening: float, steps: int) -> None:
        """Moves the fingers to an opening 0..1 in the first two steps and waits out the rest."""
        start = self._opening
        for index in range(1, steps + 1):
            self._opening = start + (opening - start) * min(1.0, index / 2.0)
            self._push(self._joints, FINE)

    def wait(self, steps: int, noise: float = FINE) -> None:
        """Holds the present target."""
        for _ in range(steps):
            self._push(self._joints, noise)

    def wait_until(self, row: int) -> None:
        """Holds the present target until the track has that many rows."""
        self.wait(max(0, row - len(self)), FREE)

    def home(self, steps: int) -> None:
        """Goes home in joint space with the gripper open."""
        self._opening = 1.0
        self._blend(self._home, steps, FREE)
        self._position, self._rotation = km.forward(self.arm, self._home)

    def rows(self) -> tuple[Floats, Floats]:
        """Targets [T, 7] (six joints and the opening) and noise scales [T]."""
        return np.asarray(self._rows).reshape(-1, 7), np.asarray(self._noise)

    def _blend(self, goal: Floats, steps: int, noise: float) -> None:
        start = self._joints
        for index in range(1, steps + 1):
            self._push(start + (goal - start) * _ease(index / steps), noise)

    def _push(self, joints: Floats, noise: float) -> None:
        self._joints = joints
        self._rows.append(np.append(joints, self._opening))
        self._noise.append(noise)


def merge(left: ArmTrack, right: ArmTrack, stay: int = 5) -> Plan:
    """Joins two tracks into one plan, holding the shorter one, and stays for some steps at the end."""
    length = max(len(left), len(right), 1) + stay
    targets, scales = np.zeros((length, 14)), np.zeros((length, 2))
    for track in (left, right):
        track.wait_until(length)
        rows, noise = track.rows()
        targets[:, track.arm * 7 : track.arm * 7 + 7] = rows
        scales[:, track.arm] = noise
    return Plan(targets, scales)


def _ease(share: float) -> float:
    """Smooth start and stop: 0..1 to 0..1 with no speed at either end."""
    return share * share * (3.0 - 2.0 * share)

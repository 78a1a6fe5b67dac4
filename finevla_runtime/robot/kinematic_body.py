"""A body of two numbers per joint: where it is and how fast it moves. It needs no simulator and no renderer.

Joints do not touch anything and cameras see a moving pattern, which is all that timing, limits, topics and faults need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.embodiment import CameraMount, Embodiment
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.simulated_body import EMPTY_SCENE, STATUS_OK, BodyJudgement, Substeps, checked_drive

SUBSTEP_HZ = 500
# Natural frequency of the drives (rad/s), critically damped: at a steady speed a joint lags 2/40 s behind its target.
DRIVE_RAD_S = 40.0


class KinematicBody:
    """Joints that follow their targets as second-order drives within the speeds and ranges of the embodiment."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Stand at the home position of the embodiment."""
        self.embodiment = embodiment.name
        joints = embodiment.joints
        self._home = np.array([joint.home for joint in joints])
        self._lower = np.array([joint.lower for joint in joints])
        self._upper = np.array([joint.upper for joint in joints])
        self._speed = np.array([joint.velocity_s for joint in joints])
        self._patterns = {camera.name: _pattern(camera, index) for index, camera in enumerate(embodiment.cameras)}
        self._drive = _drive(DRIVE_RAD_S, 1.0 / SUBSTEP_HZ)
        self.reset(EMPTY_SCENE)

    def reset(self, scene: str) -> None:
        """Stand at home; the only scene is ``empty`` (SetupError FV-BDY-003 for another one)."""
        if scene != EMPTY_SCENE:
            raise unknown_name("FV-BDY-003", "scene", scene, [EMPTY_SCENE], "the kinematic body, which has no objects")
        self._position, self._velocity = self._home.copy(), np.zeros(DOF)
        self._substeps = Substeps(SUBSTEP_HZ)
        self._taken = 0

    def advance(self, target: JointArray, dt_s: float) -> None:
        """Follow a target float64[14] for ``dt_s`` seconds (BodyError FV-BDY-004 for one that cannot be followed)."""
        goal = np.clip(checked_drive(target, dt_s), self._lower, self._upper)
        for _ in range(self._substeps.take(dt_s)):
            self._substep(goal)

    def measured(self) -> JointArray:
        """Return where the joints are, float64[14]."""
        return self._position.copy()

    def images(self) -> Mapping[str, ByteArray]:
        """Return a pattern per camera that moves by one column each substep, so that a frozen camera shows."""
        images = {}
        for name, pattern in self._patterns.items():
            width = pattern.shape[1] // 2
            shift = self._taken % width
            images[name] = np.ascontiguousarray(pattern[:, shift : shift + width])
        return images

    def judge(self, variant: str, kind: str) -> BodyJudgement:
        """Refuse (SetupError FV-BDY-005): where nothing can be touched there is nothing to judge."""
        raise SetupError(
            "FV-BDY-005",
            f"the kinematic body has no objects, so it cannot judge {kind} {variant!r}; use a body with a judge, "
            "for example 'tabletop'.",
        )

    def status(self) -> int:
        """Return 0: nothing can go wrong here."""
        return STATUS_OK

    def _substep(self, goal: JointArray) -> None:
        """Go on by one substep of the exact critically damped motion, no joint faster than it may be."""
        place, speed = self._drive @ np.stack([self._position - goal, self._velocity])
        most = self._speed / SUBSTEP_HZ
        self._position = self._position + np.clip(goal + place - self._position, -most, most)
        self._velocity = np.clip(speed, -self._speed, self._speed)
        self._taken += 1


def _drive(omega: float, dt_s: float) -> JointArray:
    """Return float64[2, 2], the step of (offset, velocity) of a critically damped drive over ``dt_s``."""
    fade = math.exp(-omega * dt_s)
    return fade * np.array([[1.0 + omega * dt_s, dt_s], [-omega * omega * dt_s, 1.0 - omega * dt_s]])


def _pattern(camera: CameraMount, index: int) -> ByteArray:
    """Return uint8[height, 2 * width, 3], two periods of a picture of which no two shifts look alike."""
    rows, columns = np.mgrid[0 : camera.height, 0 : camera.width]
    ramp = columns * 255 // max(1, camera.width - 1)
    stripes = (rows // 8 % 2) * 128 + index * 32
    checks = ((rows // 16 + columns // 16) % 2) * 255
    one = np.stack([ramp, stripes, checks], axis=2).astype(np.uint8)
    return np.concatenate([one, one], axis=1)

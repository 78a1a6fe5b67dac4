"""A body with something wrong with it: faults that a robot has, set and taken back by name, for tests and dry runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.simulated_body import BodyJudgement, SimulatedBody, checked_drive

# What takes all faults back.
NO_FAULT = "none"
# A drive with this fault moves its target by so much at most (rad, or open fraction, per second).
SLOW_DRIVE_S = 0.05


class Fault(str, Enum):
    """What can be wrong, by the name under which it is injected."""

    FROZEN_CAMERA = "frozen_camera"
    """The driver repeats one picture and stamps it anew."""
    FROZEN_STAMP = "frozen_stamp"
    """The driver repeats one picture with the stamp it had; the body repeats it, whoever stamps must do the rest."""
    SILENT_CAMERA = "silent_camera"
    """No more pictures come."""
    STALLED_FEEDBACK = "stalled_feedback"
    """Positions are repeated as if the arm stood still."""
    SILENT_FEEDBACK = "silent_feedback"
    """No more positions come; the body cannot be silent, whoever sends them must be."""
    NAN_FEEDBACK = "nan_feedback"
    """The position of the first joint is not a number."""
    EMERGENCY_STOP = "emergency_stop"
    """The arms say that their own button was pressed (status 1) and stand."""
    OVERSPEED = "overspeed"
    """The arms say that they were too fast (status 8) and stand."""
    SLOW_DRIVE = "slow_drive"
    """The drives follow their targets far too slowly."""


# Status codes of the arms (AgileX Piper, arm_status of its CAN protocol).
STATUS = {Fault.EMERGENCY_STOP: 1, Fault.OVERSPEED: 8}
_OF_CAMERAS = (Fault.FROZEN_CAMERA, Fault.FROZEN_STAMP, Fault.SILENT_CAMERA)
ALL_CAMERAS = ""


class FaultyBody:
    """Another body with the faults that were injected; without any it behaves as the other body does."""

    def __init__(self, body: SimulatedBody) -> None:
        """Wrap a body, with no fault yet."""
        self._body = body
        self._cameras: dict[Fault, set[str]] = {}
        self._faults: set[Fault] = set()
        self._frozen: dict[str, ByteArray] = {}
        self._held: JointArray | None = None
        self._slow: JointArray | None = None
        self._stalled: JointArray | None = None

    @property
    def embodiment(self) -> str:
        """Return the name of the embodiment of the other body."""
        return self._body.embodiment

    def inject(self, name: str) -> None:
        """Add a fault, or take all back.

        Args:
            name: a name of Fault, for cameras optionally with the one it is for (``frozen_camera/cam_high``, all
                cameras without), or ``none``.

        Raises:
            SetupError: FV-BDY-007 for an unknown fault or camera.
        """
        if name == NO_FAULT:
            self._recover()
            return
        word, slash, camera = name.partition("/")
        if word not in [fault.value for fault in Fault]:
            raise unknown_name("FV-BDY-007", "fault", word, [*(fault.value for fault in Fault), NO_FAULT])
        fault = Fault(word)
        if fault not in _OF_CAMERAS:
            if slash:
                raise SetupError("FV-BDY-007", f"fault {word!r} is not one of a camera; inject it without {camera!r}.")
            self._begin(fault)
            return
        seen = self._body.images()
        if slash and camera not in seen:
            raise unknown_name("FV-BDY-007", "camera", camera, seen, f"fault {name!r}")
        chosen = {camera} if slash else set(seen)
        self._cameras.setdefault(fault, set()).update(chosen)
        if fault is not Fault.SILENT_CAMERA:
            self._frozen.update({one: seen[one] for one in chosen - self._frozen.keys()})

    def has(self, fault: Fault, camera: str = ALL_CAMERAS) -> bool:
        """Return whether a fault was injected, and for a camera whether it is one of that camera."""
        return camera in self._cameras.get(fault, ()) if fault in _OF_CAMERAS else fault in self._faults

    def reset(self, scene: str) -> None:
        """Reset the other body; a fault outlasts a reset, as it does on a robot."""
        self._body.reset(scene)
        home = self._body.measured()
        self._held = None if self._held is None else home
        self._slow = None if self._slow is None else home

    def advance(self, target: JointArray, dt_s: float) -> None:
        """Move the other body as far as the faults let it (errors as the other body's)."""
        goal = checked_drive(target, dt_s)
        if self._held is not None:
            goal = self._held
        elif self._slow is not None:
            most = SLOW_DRIVE_S * dt_s
            goal = self._slow = self._slow + np.clip(goal - self._slow, -most, most)
        self._body.advance(goal, dt_s)

    def measured(self) -> JointArray:
        """Return what the feedback says, float64[14]."""
        joints = self._body.measured() if self._stalled is None else self._stalled.copy()
        if Fault.NAN_FEEDBACK in self._faults:
            joints[0] = np.nan
        return joints

    def true_position(self) -> JointArray:
        """Return where the joints truly are, float64[14], whatever the feedback says."""
        return self._body.measured()

    def images(self) -> Mapping[str, ByteArray]:
        """Return what the cameras deliver; a silent camera is missing."""
        silent = self._cameras.get(Fault.SILENT_CAMERA, set())
        fresh = self._body.images()
        return {name: self._frozen.get(name, image) for name, image in fresh.items() if name not in silent}

    def judge(self, variant: str, kind: str) -> BodyJudgement:
        """Judge what truly happened, whatever the feedback said (errors as the other body's)."""
        return self._body.judge(variant, kind)

    def status(self) -> int:
        """Return the code of the fault that the arms report, else what the other body says."""
        return next((code for fault, code in STATUS.items() if fault in self._faults), self._body.status())

    def _begin(self, fault: Fault) -> None:
        self._faults.add(fault)
        if fault in STATUS:
            self._held = self._body.measured()
        elif fault is Fault.SLOW_DRIVE:
            self._slow = self._body.measured()
        elif fault is Fault.STALLED_FEEDBACK:
            self._stalled = self._body.measured()

    def _recover(self) -> None:
        self._faults.clear()
        self._cameras.clear()
        self._frozen.clear()
        self._held = self._slow = self._stalled = None

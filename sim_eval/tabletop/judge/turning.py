"""Judge words about directions: of the hand before contact, of turning, of standing."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.judge.expression import AXIS, DIRECTION, EACH, NAME, NUMBER, OBJECT, TRUTH, word
from sim_eval.tabletop.judge.holding import first_arm
from sim_eval.tabletop.judge.view import ARMS, View
from sim_eval.tabletop.trace import Floats

CONE_DEG = 35.0
"""Directions within this angle of the vertical are ``above``, of the horizontal ``side``, between them unclear."""


def _direction(downwards: float) -> str:
    """Name a unit direction by its downward component."""
    steep = float(np.degrees(np.arcsin(np.clip(abs(downwards), 0.0, 1.0))))
    if steep >= 90.0 - CONE_DEG and downwards > 0.0:
        return "above"
    return "side" if steep <= CONE_DEG else "unclear"


@word((OBJECT, NUMBER), NAME)
def tcp_dir(view: View, name: str, distance: float) -> str:
    """From where the gripper came over the last ``distance`` metres before it first touched an object.

    The direction of travel decides. Where travel is oblique (between the cones), or the hand started nearer than
    half the distance, the direction in which the gripper points at the touch decides instead: a hand that points
    down and drifts sideways while it sinks came from above to any human eye.
    """
    arm = str(first_arm(view, name))
    if arm not in ARMS:
        return arm
    touch = int(np.argmax(view.touched(name)[:, ARMS[arm]]))
    path = view.trace.tcp_pose[: touch + 1, ARMS[arm], :3]
    travel = path[-1] - path
    far = np.flatnonzero(np.linalg.norm(travel, axis=1) >= distance)
    start = int(far[-1]) if len(far) else int(np.argmax(np.linalg.norm(travel, axis=1)))
    length = float(np.linalg.norm(travel[start]))
    came = _direction(-float(travel[start][2]) / length) if length >= distance / 2.0 else "unclear"
    return came if came != "unclear" else _direction(-_pointing(view.trace.tcp_pose[touch, ARMS[arm], 3:])[2])


def _pointing(quaternion: Floats) -> tuple[float, float, float]:
    """Direction in which a gripper points: the x axis of its frame."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return (float(1 - 2 * (y * y + z * z)), float(2 * (x * y + z * w)), float(2 * (x * z - y * w)))


@word((OBJECT, AXIS, NUMBER), NAME)
def turn(view: View, name: str, axis: str, degrees: float) -> str:
    """Which way an object turned first by more than ``degrees``, seen from above."""
    if not view.knows(name):
        return "none"
    yaw = view.yaw(name)
    beyond = np.flatnonzero(np.abs(yaw) > degrees)
    if not len(beyond):
        return "none"
    return "counterclockwise" if yaw[beyond[0]] > 0 else "clockwise"


@word((OBJECT, AXIS, DIRECTION), NUMBER, optional=1)
def net_turn(view: View, name: str, axis: str, direction: str = "counterclockwise") -> float:
    """How far an object is turned at the end in a direction seen from above, degrees; 0 for ``none``."""
    sign = {"counterclockwise": 1.0, "clockwise": -1.0}.get(direction, 0.0)
    return sign * float(view.yaw(name)[-1]) if view.knows(name) else 0.0


@word((EACH, NUMBER), TRUTH)
def upright(view: View, name: str, degrees: float) -> bool:
    """Whether an object stands within that angle of the vertical at the end."""
    return view.knows(name) and view.finally_(view.tilt(name) <= degrees)


@word((EACH, NUMBER), TRUTH)
def kept_upright(view: View, name: str, degrees: float) -> bool:
    """Whether an object never tilted more than that before it was gripped; it must have been touched."""
    if first_arm(view, name) == "none":
        return False
    grip = view.first_grip(name)
    before = view.tilt(name) if grip is None else view.tilt(name)[: grip + 1]
    return bool((before <= degrees).all())

"""Closed-form kinematics of one arm: yaw, pitch, pitch, roll, pitch, roll with a spherical wrist.

A closed form (rather than an iterative solver) keeps the experts deterministic to the last bit on one machine and
always on the same branch: elbow up, hand in the plane of the arm whenever the wanted pose allows it.
Conventions follow the published Piper limits: ``j2 = 0`` lays the upper arm backwards, ``j2 = pi / 2`` points it up,
``j3 = 0`` folds the forearm onto it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHOULDER_HEIGHT = 0.12
"""Metres from the arm's base to the axis of j2."""
UPPER_ARM = 0.33
"""Metres from the axis of j2 to the axis of j3."""
FOREARM = 0.33
"""Metres from the axis of j3 to the wrist centre."""
HAND = 0.17
"""Metres from the wrist centre to the tool centre point between the finger tips."""
BASES = ((-0.27, -0.46, 0.74), (0.27, -0.46, 0.74))
"""World position in metres of the left and the right arm's base; both look along world +y."""
LOWER = np.array([-2.6179, 0.0, -2.967, -1.745, -1.75, -2.6])
"""Lower limits of j1..j6 in rad. Piper's published limits but for j5 and j6 (see UPPER)."""
UPPER = np.array([2.6179, 3.14, 0.0, 1.745, 1.75, 2.6])
"""Upper limits of j1..j6 in rad.

Piper's j5 (+-1.22) cannot point straight down at far reach and its j6 (+-2.09) leaves no room around a half turn,
so both are widened here.
"""
_BASE_ROTATION = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


class Unreachable(ValueError):
    """The wanted tool pose lies outside the arm's reach or joint limits."""


def rot_x(angle: float) -> Floats:
    """Rotation matrix [3, 3] about x by an angle in rad."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rot_y(angle: float) -> Floats:
    """Rotation matrix [3, 3] about y by an angle in rad."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rot_z(angle: float) -> Floats:
    """Rotation matrix [3, 3] about z by an angle in rad."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def forward(arm: int, joints: Floats) -> tuple[Floats, Floats]:
    """World position [3] (m) and rotation [3, 3] of the tool centre point for j1..j6 (rad) of arm 0 or 1."""
    q1, q2, q3, q4, q5, q6 = (float(value) for value in joints)
    upper, lower = q2 - math.pi, q2 + q3
    reach = UPPER_ARM * math.cos(upper) + FOREARM * math.cos(lower)
    height = SHOULDER_HEIGHT - UPPER_ARM * math.sin(upper) - FOREARM * math.sin(lower)
    rotation = rot_z(q1) @ rot_y(lower) @ rot_x(q4) @ rot_y(q5) @ rot_x(q6)
    wrist = np.array([reach * math.cos(q1), reach * math.sin(q1), height])
    position = wrist + HAND * rotation[:, 0]
    return np.asarray(BASES[arm]) + _BASE_ROTATION @ position, _BASE_ROTATION @ rotation


def inverse(arm: int, position: Floats, rotation: Floats) -> Floats:
    """Joints j1..j6 (rad) that put the tool centre point at a world pose.

    Args:
        arm: 0 left, 1 right.
        position: [3], metres.
        rotation: [3, 3]; the first column is the direction of approach, the second the opening of the fingers.

    Raises:
        Unreachable: when the pose is out of reach or beyond a joint limit.
    """
    local = _BASE_ROTATION.T @ (np.asarray(position, dtype=np.float64) - np.asarray(BASES[arm]))
    turn = _BASE_ROTATION.T @ rotation
    wrist = local - HAND * turn[:, 0]
    reach, height = math.hypot(wrist[0], wrist[1]), wrist[2] - SHOULDER_HEIGHT
    cosine = (reach**2 + height**2 - UPPER_ARM**2 - FOREARM**2) / (2.0 * UPPER_ARM * FOREARM)
    if not -1.0 <= cosine <= 1.0:
        raise Unreachable(f"arm {arm}: {np.round(position, 3)} m needs a reach of {math.hypot(reach, height):.3f} m")
    bend = math.acos(cosine)
    upper = math.atan2(-height, reach) - math.atan2(FOREARM * math.sin(bend), UPPER_ARM + FOREARM * math.cos(bend))
    yaw = math.atan2(wrist[1], wrist[0])
    wrist_turn = (rot_z(yaw) @ rot_y(upper + bend)).T @ turn
    best: Floats | None = None
    for joints in _wrist_branches(wrist_turn):
        candidate = np.array([yaw, upper + math.pi, bend - math.pi, *joints])
        inside = bool(np.all(candidate >= LOWER) and np.all(candidate <= UPPER))
        if inside and (best is None or abs(candidate[3]) < abs(best[3])):
            best = candidate
    if best is None:
        raise Unreachable(f"arm {arm}: {np.round(position, 3)} m needs a joint beyond its limit")
    return best


def _wrist_branches(turn: Floats) -> list[tuple[float, float, float]]:
    """Both solutions (j4, j5, j6) of Rx(j4) Ry(j5) Rx(j6) = turn; only j4 = 0 where the two rolls coincide."""
    bend = math.acos(min(1.0, max(-1.0, float(turn[0, 0]))))
    if math.sin(bend) < 1e-6:
        return [(0.0, 0.0, math.atan2(turn[2, 1], turn[1, 1]))]
    first = math.atan2(turn[1, 0], -turn[2, 0]), bend, math.atan2(turn[0, 1], turn[0, 2])
    second = math.atan2(-turn[1, 0], turn[2, 0]), -bend, math.atan2(-turn[0, 1], -turn[0, 2])
    return [first, second]


def downward(yaw: float) -> Floats:
    """Tool rotation [3, 3] that points straight down; at yaw 0 the first finger is at world -x."""
    return pitched(yaw, math.pi / 2.0)


def pitched(heading: float, pitch: float) -> Floats:
    """Tool rotation [3, 3] along a heading (rad from world +y, counterclockwise), pitched down by an angle."""
    turn: Floats = rot_z(heading) @ _BASE_ROTATION @ rot_y(pitch)
    return turn


def home_joints() -> Floats:
    """The home pose [2, 6] in rad: hands just outside the head view, wrist cameras on the table."""
    rows = [inverse(arm, np.array([x, -0.20, 0.96]), pitched(0.0, 1.0)) for arm, x in enumerate((-0.26, 0.26))]
    return np.stack(rows)


def quaternion(rotation: Floats) -> Floats:
    """Unit quaternion [4] (w, x, y, z) of a rotation matrix [3, 3], w >= 0."""
    m = rotation
    candidates = np.array(
        [
            [1 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2]],
        ]
    )
    row = candidates[int(np.argmax(np.diagonal(candidates)))]
    unit: Floats = row / np.linalg.norm(row)
    return unit if unit[0] >= 0 else -unit

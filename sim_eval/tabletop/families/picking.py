"""Pieces shared by the families that pick something up from above and put it somewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.actors import TABLE_HEIGHT
from sim_eval.tabletop.motion import FINE, NEAR, ArmTrack
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.trace import Trace

Floats = NDArray[np.float64]
HOVER = 0.09
"""Metres above the grasp from which the hand goes straight down."""


def position(scene: Scene, name: str) -> Floats:
    """Start position [3] (m) of an object."""
    return np.asarray(scene.placement(name).pose[:3], dtype=np.float64)


def nearest_arm(scene: Scene, name: str) -> int:
    """The arm on whose side of the table's middle the object stands: 0 left, 1 right."""
    return 0 if scene.placement(name).pose[0] < 0 else 1


def right_hand_object(scene: Scene, *names: str) -> str:
    """The one of several objects that stands furthest to the right: what a right-handed demonstrator takes."""
    return max(names, key=lambda name: scene.placement(name).pose[0])


def raised(point: Floats, height: float) -> Floats:
    """A point lifted by a height (m)."""
    return np.asarray(point + np.array([0.0, 0.0, height]))


def pick_from_above(track: ArmTrack, point: Floats, lift: float = HOVER, yaw: float = 0.0) -> None:
    """Goes above a grasp point, straight down, closes and lifts, in 22 steps; fingers along world x at yaw 0."""
    track.reach(raised(point, HOVER), km.downward(yaw), 8)
    track.line(point, 5)
    track.wait(1)
    track.grip(0.0, 3)
    track.line(raised(point, lift), 5)


def put_down(track: ArmTrack, point: Floats, hover: float, arch: float = 0.02) -> None:
    """Carries what is held to a hover above a point, lowers, opens, backs off upwards and goes home. 32 steps."""
    track.over(raised(point, hover), arch, 9)
    track.line(point, 4)
    track.wait(1)
    track.grip(1.0, 3)
    track.line(raised(point, hover), 4, NEAR)
    track.home(8)


def drop_into(track: ArmTrack, point: Floats, arch: float = 0.03) -> None:
    """Carries what is held to a point above a container, lets it fall and goes home."""
    track.over(point, arch, 9)
    track.wait(1, FINE)
    track.grip(1.0, 3)
    track.line(raised(point, 0.04), 3, NEAR)
    track.home(8)


def table_point(x: float, y: float, height: float) -> tuple[float, float, float]:
    """A point so many metres above the table top."""
    return (x, y, TABLE_HEIGHT + height)


def final(trace: Trace, name: str) -> Floats:
    """Last pose [7] of an object."""
    return np.asarray(trace.object_pose[-1, trace.index(name)])


def rests_on(trace: Trace, upper: str, lower: str) -> bool:
    """Whether the last sample shows an object resting on another and touched by no arm."""
    row = trace.index(upper)
    return bool(trace.support[-1, row, trace.index(lower)]) and not bool(trace.touch[-1, :, row].any())


def inside(trace: Trace, name: str, container: str) -> bool:
    """Whether the last sample shows an object's centre inside a container and touched by no arm."""
    row, home = trace.index(name), trace.index(container)
    inner = np.asarray(trace.info[home].inner_half_size)
    offset = trace.object_pose[-1, row, :3] - trace.object_pose[-1, home, :3]
    low, high = np.array([-inner[0], -inner[1], 0.0]), np.array([inner[0], inner[1], 2.0 * inner[2] + 0.02])
    return bool(np.all(offset > low) and np.all(offset < high)) and not bool(trace.touch[-1, :, row].any())

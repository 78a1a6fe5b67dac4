"""The actors of the suite: every object that any scene may show, made of primitives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim_eval.tabletop.trace import ObjectInfo

if TYPE_CHECKING:
    import sapien

TABLE_HEIGHT = 0.74
"""z of the table top in metres."""
RED, BLUE, GREEN, YELLOW = (0.85, 0.08, 0.08), (0.08, 0.20, 0.90), (0.10, 0.62, 0.16), (0.98, 0.82, 0.10)
_WHITE, _GREY, _WOOD, _DARK = (0.92, 0.92, 0.92), (0.45, 0.47, 0.50), (0.62, 0.52, 0.42), (0.16, 0.17, 0.20)
_ORANGE, _PINK, _CREAM = (0.95, 0.45, 0.05), (0.92, 0.36, 0.58), (0.90, 0.85, 0.72)
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
_IDENTITY: Quaternion = (1.0, 0.0, 0.0, 0.0)
_UPRIGHT: Quaternion = (math.sqrt(0.5), 0.0, -math.sqrt(0.5), 0.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One primitive of an actor: a box (half extents) or an upright cylinder (radius, radius, half height)."""

    shape: str
    half_size: Vector
    position: Vector
    colour: Vector
    rotation: Quaternion = _IDENTITY
    solid: bool = True
    shown: bool = True


@dataclass(frozen=True, slots=True)
class ActorKind:
    """How an actor looks, collides and moves.

    Attributes:
        kind: unique id.
        parts: primitives in the actor's frame.
        info: geometry for judges, with the kind as its name.
        density: kg per cubic metre of the solid parts.
        friction: static and dynamic friction coefficient.
    """

    kind: str
    parts: tuple[Part, ...]
    info: ObjectInfo
    density: float = 900.0
    friction: float = 0.9


def _cube(kind: str, colour: Vector, half: Vector = (0.02, 0.02, 0.02)) -> ActorKind:
    """A movable block whose frame is at its centre."""
    return ActorKind(kind, (Part("box", half, (0, 0, 0), colour),), ObjectInfo(kind, kind, half))


def _bottle(kind: str) -> ActorKind:
    """A bottle 12 cm long: a square body so that it lies still, drawn round, with a cap at its top end."""
    body = Part("box", (0.0185, 0.0185, 0.06), (0, 0, 0), _PINK, shown=False)
    drawn = Part("cylinder", (0.0195, 0.0195, 0.048), (0, 0, -0.012), _PINK, solid=False)
    cap = Part("cylinder", (0.013, 0.013, 0.012), (0, 0, 0.048), _WHITE, solid=False)
    return ActorKind(kind, (body, drawn, cap), ObjectInfo(kind, kind, (0.0185, 0.0185, 0.06)), density=500.0)


def _cup(kind: str) -> ActorKind:
    """A paper cup 6 cm high."""
    body = Part("box", (0.019, 0.019, 0.03), (0, 0, 0), _WHITE, shown=False)
    drawn = Part("cylinder", (0.021, 0.021, 0.03), (0, 0, 0), _WHITE, solid=False)
    band = Part("cylinder", (0.0216, 0.0216, 0.008), (0, 0, 0), RED, solid=False)
    return ActorKind(kind, (body, drawn, band), ObjectInfo(kind, kind, (0.019, 0.019, 0.03)), density=500.0)


def _tray(kind: str, inner: Vector, wall: float, colour: Vector, floor: Vector) -> ActorKind:
    """An open box fixed to the table: floor 4 mm thick and four walls; inner is half width, half depth, height."""
    x, y, height = inner
    half = height / 2.0
    parts = (
        Part("box", (x + wall, y + wall, 0.002), (0, 0, 0.002), floor),
        Part("box", (wall / 2, y + wall, half), (-x - wall / 2, 0, half), colour),
        Part("box", (wall / 2, y + wall, half), (x + wall / 2, 0, half), colour),
        Part("box", (x, wall / 2, half), (0, -y - wall / 2, half), colour),
        Part("box", (x, wall / 2, half), (0, y + wall / 2, half), colour),
    )
    info = ObjectInfo(kind, kind, (x + wall, y + wall, half), (0, 0, half), (x, y, half), movable=False)
    return ActorKind(kind, parts, info)


def _bowl(kind: str, colour: Vector, radius: float, height: float, marked: bool) -> ActorKind:
    """A round bowl: a ring of 16 straight pieces around a flat floor; a marked one can move and shows its yaw."""
    sides, thick = 16, 0.007
    reach = radius - thick / 2.0
    width = reach * math.tan(math.pi / sides) + thick * 0.2
    floor = Part("cylinder", (reach, reach, 0.003), (0, 0, 0.003), colour, solid=False)
    slab = Part("box", (reach * 0.70, reach * 0.70, 0.003), (0, 0, 0.003), colour, shown=False)
    parts = [floor, slab]
    for index in range(sides):
        angle = 2.0 * math.pi * index / sides
        turn = (math.cos(angle / 2.0), 0.0, 0.0, math.sin(angle / 2.0))
        side = index * 360 // sides
        mark = marked and (side <= 45 or side >= 315)
        place = (reach * math.cos(angle), reach * math.sin(angle), height / 2.0)
        parts.append(Part("box", (thick / 2, width, height / 2), place, _DARK if mark else colour, turn))
    if marked:
        parts.append(Part("box", (reach / 2, 0.008, 0.002), (reach / 2, 0, 0.006), _DARK, solid=False))
    inner = (reach - thick / 2) * math.sqrt(0.5)
    info = ObjectInfo(
        kind, kind, (radius, radius, height / 2), (0, 0, height / 2), (inner, inner, height / 2), movable=marked
    )
    return ActorKind(kind, tuple(parts), info, density=900.0, friction=0.5)


def _mat(kind: str) -> ActorKind:
    """A yellow mat 12 x 12 cm, 2 mm high, fixed to the table."""
    half = (0.06, 0.06, 0.001)
    info = ObjectInfo(kind, kind, half, (0, 0, 0.001), movable=False)
    return ActorKind(kind, (Part("box", half, (0, 0, 0.001), YELLOW),), info)


BOWL_RADIUS, BOWL_HEIGHT = 0.055, 0.045
"""Outer radius and height in metres of the bowl that is turned."""
KINDS: dict[str, ActorKind] = {
    item.kind: item
    for item in (
        _cube("red_cube", RED),
        _cube("blue_cube", BLUE),
        _cube("green_cube", GREEN),
        _cube("green_block", GREEN, (0.02, 0.02, 0.05)),
        _cube("wrapper", _ORANGE, (0.019, 0.026, 0.015)),
        _cup("cup"),
        _bottle("bottle_1"),
        _bottle("bottle_2"),
        _mat("mat"),
        _tray("bin", (0.075, 0.065, 0.06), 0.008, _GREY, _DARK),
        _tray("box", (0.082, 0.070, 0.05), 0.008, (0.55, 0.36, 0.18), _CREAM),
        _bowl("bowl", _WHITE, BOWL_RADIUS, BOWL_HEIGHT, marked=True),
        _bowl("bowl_1", BLUE, 0.060, 0.04, marked=False),
        _bowl("bowl_2", BLUE, 0.060, 0.04, marked=False),
    )
}
"""Every actor of the suite by kind."""


def build_actor(scene: sapien.Scene, kind: ActorKind, pose: sapien.Pose, visuals: bool) -> Any:
    """Adds one actor to a scene at a pose and returns its entity; fixed kinds never move."""
    import sapien
    from sapien.pysapien.physx import PhysxMaterial

    builder: Any = scene.create_actor_builder()
    grip = PhysxMaterial(kind.friction, kind.friction, 0.0)
    for part in kind.parts:
        round_part = part.shape == "cylinder"
        turn = _UPRIGHT if round_part else part.rotation
        local = sapien.Pose(list(part.position), list(turn))
        if part.solid:
            builder.add_box_collision(local, list(part.half_size), grip, kind.density)
        if visuals and part.shown:
            if round_part:
                builder.add_cylinder_visual(local, part.half_size[0], part.half_size[2], part.colour)
            else:
                builder.add_box_visual(local, list(part.half_size), part.colour)
    builder.set_initial_pose(pose)
    build = builder.build if kind.info.movable else builder.build_static
    return build(name=kind.kind)


def build_table(scene: sapien.Scene, visuals: bool) -> Any:
    """Adds the table: a static slab whose top is at TABLE_HEIGHT, and a floor to look at."""
    import sapien
    from sapien.pysapien.physx import PhysxMaterial

    builder: Any = scene.create_actor_builder()
    half = np.array([0.75, 0.60, 0.03])
    pose = sapien.Pose([0.0, 0.0, TABLE_HEIGHT - half[2]])
    builder.add_box_collision(pose, half, PhysxMaterial(0.8, 0.8, 0.0))
    if visuals:
        builder.add_box_visual(pose, half, _WOOD)
        builder.add_box_visual(sapien.Pose([0.0, 0.0, -0.05]), [4.0, 4.0, 0.05], (0.30, 0.31, 0.33))
    return builder.build_static(name="table")

"""A scene: which objects stand where when an episode begins; a function of (family, seed) alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

Pose = tuple[float, float, float, float, float, float, float]
"""Position x, y, z in metres and rotation quaternion w, x, y, z, in the world frame."""


@dataclass(frozen=True, slots=True)
class ObjectPlacement:
    """One visible object: the role it plays, the actor that plays it, and its pose. Other actors are parked."""

    name: str
    kind: str
    pose: Pose


@dataclass(frozen=True, slots=True)
class Scene:
    """The start of an episode. All variants of a family share the scene of a seed."""

    family: str
    seed: int
    objects: tuple[ObjectPlacement, ...]

    def placement(self, name: str) -> ObjectPlacement:
        """The placement of an object.

        Raises:
            KeyError: when the scene has no object of that name.
        """
        for item in self.objects:
            if item.name == name:
                return item
        raise KeyError(f"scene {self.family}/{self.seed} has no object {name!r}")

    def digest(self) -> str:
        """SHA-256 over family, seed and every placement, to the last bit."""
        text = f"{self.family}|{self.seed}|" + "|".join(
            f"{item.name},{item.kind},{','.join(value.hex() for value in item.pose)}" for item in self.objects
        )
        return hashlib.sha256(text.encode()).hexdigest()


def place(name: str, kind: str, position: tuple[float, float, float], yaw: float = 0.0) -> ObjectPlacement:
    """An upright object at a position (m), turned about the vertical by yaw (rad)."""
    x, y, z = (float(value) for value in position)
    return ObjectPlacement(name, kind, (x, y, z, float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))))

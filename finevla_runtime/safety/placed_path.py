"""A path with every link placed at every row, which the rules of a space look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.body import Body, Floats
from finevla_runtime.safety.capsules import enclose
from finevla_runtime.safety.sweep import Sweep


@dataclass(frozen=True, eq=False)
class PlacedPath:
    """Where everything is along a path of n rows.

    Attributes:
        frames: float64[shapes, n, 4, 4], the shapes in the world.
        halves: float64[shapes, n, 3], half segments of the capsules around them.
        tools: float64[2, n, 3], the tool points.
        sweep: what happens between the rows.
    """

    frames: Floats
    halves: Floats
    tools: Floats
    sweep: Sweep

    @property
    def centres(self) -> Floats:
        """Return float64[shapes, n, 3], the centres of the shapes."""
        return np.asarray(self.frames[:, :, :3, 3])


@dataclass(frozen=True)
class Finding:
    """What is wrong at one row of a path.

    Attributes:
        row: first row at which it is.
        code: ``FV-SAF-1<NN>``.
        text: which bodies, got and wanted.
        standing: whether the row itself is wrong, not only the way beside it.
    """

    row: int
    code: str
    text: str
    standing: bool


class Placer:
    """Places the shapes of one body."""

    def __init__(self, body: Body) -> None:
        """Prepare the capsules."""
        self.body = body
        self.halves, self.radii = enclose(body.shapes)

    def place(self, path: JointArray) -> PlacedPath:
        """Place float64[n, 14] positions."""
        joints = self.body.joint_frames(path)
        frames = self.body.shape_frames(joints)
        halves = (frames[:, :, :3, :3] @ self.halves[:, None, :, None])[..., 0]
        sweep = Sweep(self.body, self.body.joint_values(path), frames[:, :, :3, 3], halves, self.radii)
        return PlacedPath(frames, halves, self.body.tool_points(joints), sweep)


def millimetres(distance: float) -> str:
    """Return a distance for messages."""
    return f"{distance * 1000.0:.1f} mm"

"""Rules about flat faces: the tool points stay in their boxes, and nothing sinks below the table."""

from __future__ import annotations

import numpy as np

from finevla_runtime.safety.body import ARMS, FINGERS, Floats
from finevla_runtime.safety.placed_path import Finding, PlacedPath, Placer, millimetres
from finevla_runtime.safety.space_config import SpaceConfig


class Workspace:
    """The rule that each tool point stays in its box."""

    def __init__(self, config: SpaceConfig) -> None:
        """Read the boxes."""
        self._lower = np.array([box.lower for box in config.workspace])[:, None]
        self._upper = np.array([box.upper for box in config.workspace])[:, None]

    def find(self, path: PlacedPath) -> Finding | None:
        """Return the first tool point that leaves."""
        outside = np.maximum(self._lower - path.tools, path.tools - self._upper)
        wrong = outside + path.sweep.tool_bow[:, :, None] > 0.0
        if not wrong.any():
            return None
        row = int(np.argmax(wrong.any(axis=(0, 2))))
        arm, axis = divmod(int(np.argmax(wrong[:, row])), 3)
        place = ", ".join(f"{value:.3f}" for value in path.tools[arm, row])
        low, high = float(self._lower[arm, 0, axis]), float(self._upper[arm, 0, axis])
        text = f"{ARMS[arm]}_tcp comes to ({place}) m, wanted {'xyz'[axis]} in {low:g}..{high:g} m"
        return Finding(row, "FV-SAF-101", text, bool(outside[arm, row, axis] > 0.0))


class Table:
    """The rule that moving links stay above the table; fingers may come nearer to it than the rest."""

    def __init__(self, placer: Placer, config: SpaceConfig) -> None:
        """Choose the links that move."""
        body = placer.body
        self._moving = np.flatnonzero(body.moves.any(axis=1))
        shapes = [body.shapes[index] for index in self._moving]
        self._links = [shape.link for shape in shapes]
        self._halves = np.array([shape.half for shape in shapes])[:, None]
        self._lengths = np.array([[shape.half_length] for shape in shapes])
        self._radii = np.array([[shape.radius] for shape in shapes])
        self._balls = np.array([[shape.is_ball] for shape in shapes])
        self._height = config.table_height
        wanted = [config.table_fingers if shape.part in FINGERS else config.table_links for shape in shapes]
        self._wanted = np.array(wanted)[:, None]

    def find(self, path: PlacedPath) -> Finding | None:
        """Return the first link that comes too low."""
        heights = self.heights(path)
        wrong = heights - path.sweep.bow[self._moving] < self._wanted
        if not wrong.any():
            return None
        row = int(np.argmax(wrong.any(axis=0)))
        part = int(np.argmax(np.where(wrong[:, row], self._wanted[:, 0] - heights[:, row], -np.inf)))
        height, wanted = float(heights[part, row]), float(self._wanted[part, 0])
        text = f"{self._links[part]} comes to {millimetres(height)} above the table, "
        text += f"wanted at least {millimetres(wanted)}"
        if height >= wanted:
            text += f" and {millimetres(float(path.sweep.bow[self._moving[part], row]))} for the way on"
        return Finding(row, "FV-SAF-103", text, height < wanted)

    def heights(self, path: PlacedPath) -> Floats:
        """Return float64[moving shapes, n], heights of the lowest points above the table, metres."""
        frames = path.frames[self._moving]
        upright = np.abs(frames[:, :, 2, :3])
        tilt = np.where(self._balls, 1.0, np.sqrt(np.clip(1.0 - upright[:, :, 2] ** 2, 0.0, 1.0)))
        below = (upright * self._halves).sum(axis=2) + upright[:, :, 2] * self._lengths + tilt * self._radii
        return np.asarray(frames[:, :, 2, 3] - below - self._height)

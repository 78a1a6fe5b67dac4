"""Which parts of a body would touch one another or a box: capsules rule out, exact distances decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.safety.body import Floats, Shape
from finevla_runtime.safety.capsules import segment_distances
from finevla_runtime.safety.placed_path import Finding, PlacedPath, Placer, millimetres
from finevla_runtime.safety.space_config import KeepOut, SpaceConfig

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Pair:
    """Two shapes, by index, and the least distance wanted between them in metres."""

    one: int
    other: int
    wanted: float
    code: str


class Contacts:
    """The rule that parts of the arms keep apart from one another."""

    def __init__(self, placer: Placer, config: SpaceConfig) -> None:
        """Choose the pairs.

        Raises:
            SetupError: FV-SAF-035 when the configuration names an unknown part.
        """
        self._shapes = placer.body.shapes
        self._radii = placer.radii
        pairs = [*_between(self._shapes, config), *_within(self._shapes, config)]
        self.pairs = tuple(pairs)
        self._ones = np.array([pair.one for pair in pairs], dtype=np.intp)
        self._others = np.array([pair.other for pair in pairs], dtype=np.intp)
        self._wanted = np.array([pair.wanted for pair in pairs])[:, None]
        bounds = np.array([shape.bound for shape in self._shapes])
        self._bounds = (bounds[self._ones] + bounds[self._others])[:, None]
        self._thick = self._radii[self._ones] + self._radii[self._others]

    def find(self, path: PlacedPath) -> Finding | None:
        """Return the first pair that comes too near."""
        margin = path.sweep.half_way
        need = self._wanted + margin[self._ones] + margin[self._others]
        apart = path.centres[self._ones] - path.centres[self._others]
        near = np.einsum("pni,pni->pn", apart, apart) <= (self._bounds + need) ** 2
        pairs, rows = np.nonzero(near)
        if not pairs.size:
            return None
        ones, others = self._ones[pairs], self._others[pairs]
        gaps = segment_distances(
            path.centres[ones, rows], path.halves[ones, rows], path.centres[others, rows], path.halves[others, rows]
        )
        close = np.flatnonzero(gaps - self._thick[pairs] < need[pairs, rows])
        first: Finding | None = None
        worst = 0.0
        for index in close[np.argsort(rows[close], kind="stable")]:
            pair, row = self.pairs[pairs[index]], int(rows[index])
            if first is not None and row > first.row:
                break
            one, other = self._shapes[pair.one], self._shapes[pair.other]
            gap = distance(one.solid, path.frames[pair.one, row], other.solid, path.frames[pair.other, row])
            wanted = float(need[pairs[index], row])
            if gap - wanted < worst:
                first, worst = _too_near(pair.code, one.link, other.link, gap, pair.wanted, wanted, row), gap - wanted
        return first


class Boxes:
    """The rule that moving parts keep away from boxes in the world."""

    def __init__(self, placer: Placer, config: SpaceConfig) -> None:
        """Place the boxes."""
        shapes = placer.body.shapes
        self._shapes = shapes
        self._moving = np.flatnonzero(placer.body.moves.any(axis=1))
        self._bounds = np.array([[shapes[index].bound] for index in self._moving])
        self._boxes = [(keep_out, *_solid_box(keep_out)) for keep_out in config.keep_out]

    def find(self, path: PlacedPath) -> Finding | None:
        """Return the first part that comes too near to a box."""
        found = [finding for box in self._boxes if (finding := self._find(path, *box)) is not None]
        return min(found, key=lambda finding: finding.row, default=None)

    def _find(self, path: PlacedPath, box: KeepOut, solid: Any, frame: Floats) -> Finding | None:
        need = box.distance + path.sweep.half_way[self._moving]
        centres = path.centres[self._moving]
        outside = centres - np.clip(centres, box.box.lower, box.box.upper)
        near = np.einsum("sni,sni->sn", outside, outside) <= (self._bounds + need) ** 2
        rows, parts = np.nonzero(near.T)
        for row, part in zip(rows.tolist(), parts.tolist(), strict=True):
            index = int(self._moving[part])
            gap = distance(self._shapes[index].solid, path.frames[index, row], solid, frame)
            wanted = float(need[part, row])
            if gap < wanted:
                link = self._shapes[index].link
                return _too_near("FV-SAF-102", link, box.name, gap, box.distance, wanted, row)
        return None


def distance(one: Any, one_frame: Floats, other: Any, other_frame: Floats) -> float:
    """Return the exact distance of two solids at float64[4, 4] frames, metres; negative when they overlap."""
    import coal

    first = coal.Transform3s(one_frame[:3, :3], one_frame[:3, 3])
    second = coal.Transform3s(other_frame[:3, :3], other_frame[:3, 3])
    return float(coal.distance(one, first, other, second, coal.DistanceRequest(), coal.DistanceResult()))


def _too_near(code: str, one: str, other: str, gap: float, wanted: float, need: float, row: int) -> Finding:
    text = f"{one} comes within {millimetres(gap)} of {other}, wanted at least {millimetres(wanted)}"
    if gap >= wanted:
        text += f" and {millimetres(need - wanted)} for the way on"
    return Finding(row, code, text, gap < wanted)


def _between(shapes: tuple[Shape, ...], config: SpaceConfig) -> Iterator[Pair]:
    """Every part of the left arm with every part of the right one, unless neither moves."""
    for one, left in enumerate(shapes):
        for other, right in enumerate(shapes):
            if (left.arm, right.arm) == ("left", "right") and (left.joint or right.joint):
                yield Pair(one, other, config.between_arms, "FV-SAF-104")


def _within(shapes: tuple[Shape, ...], config: SpaceConfig) -> Iterator[Pair]:
    parts = {shape.part for shape in shapes}
    for names in config.pairs:
        for name in names:
            if name not in parts:
                raise unknown_name("FV-SAF-035", "part of an arm", name, parts, "within_arm.pairs")
        for one, first in enumerate(shapes):
            for other, second in enumerate(shapes):
                if first.arm == second.arm and (first.part, second.part) == names:
                    yield Pair(one, other, config.within_arm, "FV-SAF-105")


def _solid_box(keep_out: KeepOut) -> tuple[Any, Floats]:
    import coal

    lower, upper = np.array(keep_out.box.lower), np.array(keep_out.box.upper)
    frame = np.eye(4)
    frame[:3, 3] = (lower + upper) / 2.0
    return coal.Box(*(upper - lower)), frame

"""Pictures of a scene for people: the three views side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.recording.json_lines import write_atomically
from finevla_runtime.recording.png import encode_png
from sim_eval.tabletop.catalog import sample_scene
from sim_eval.tabletop.world import TabletopWorld

_SCALE = 4


def write_views(family: str, seed: int, out: Path) -> None:
    """Write the views of a scene at its start, four times enlarged (FV-SIM-001 for an unknown family)."""
    scene = sample_scene(family, seed)
    world = TabletopWorld(render=True)
    world.reset(scene)
    write_atomically(out, encode_png(side_by_side(list(world.observe().images.values()), _SCALE)))


def side_by_side(frames: list[ByteArray], scale: int) -> ByteArray:
    """Put frames of any size on one canvas, top-aligned, enlarged by a whole number."""
    height = max(frame.shape[0] for frame in frames) * scale
    canvas = np.zeros((height, sum(frame.shape[1] for frame in frames) * scale, 3), dtype=np.uint8)
    left = 0
    for frame in frames:
        enlarged = frame.repeat(scale, axis=0).repeat(scale, axis=1)
        canvas[: enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
        left += enlarged.shape[1]
    return canvas

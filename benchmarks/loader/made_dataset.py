"""Datasets made on the fly: moving gradients and squares, as cheap to draw as they are typical to decode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.action import DOF, GRIPPER_INDICES, JOINT_NAMES, ActionSpace
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec
from finevla_runtime.processing.pipeline import Processor
from finevla_runtime.recording.dataset_format import CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import Episode
from finevla_runtime.recording.lerobot_writer import DatasetWriter
from training.tokenizer import build_tokenizer

VIEWS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
RAW = "Put the red cube into the left bowl."
FINE = (
    "Move the left arm above the red cube.",
    "Grasp the cube from above with the left gripper.",
    "Lift it straight up and carry it to the left bowl without tilting it.",
    "Open the gripper and let the cube fall into the bowl.",
)


@dataclass(frozen=True)
class Setting:
    """What is recorded and what the model sees.

    Attributes:
        name: shown in the table.
        frames: ``video`` or ``png``.
        recorded: height and width of the recorded frames.
        seen: side of the square frames that the model sees; 0 as recorded.
    """

    name: str
    frames: str
    recorded: tuple[int, int]
    seen: int = 0

    @property
    def sizes(self) -> tuple[int, int]:
        """Return height and width that the model sees."""
        return (self.seen, self.seen) if self.seen else self.recorded


def write_made_dataset(root: Path, setting: Setting, episodes: int, length: int) -> None:
    """Write one dataset, half of it annotated."""
    height, width = setting.recorded
    cameras = tuple(CameraFormat(view, height, width) for view in VIEWS)
    writer = DatasetWriter(root, DatasetFormat("cobot_magic_sim", 30, cameras, setting.frames))
    for number in range(episodes):
        rng = np.random.default_rng(number)
        rows = np.cumsum(rng.normal(0, 0.02, (length, DOF)), axis=0).astype(np.float32)
        rows[:, list(GRIPPER_INDICES)] = np.linspace(0, 1, length)[:, None]
        frames = {view: _frames(rng, length, height, width) for view in VIEWS}
        writer.add_episode(Episode(RAW, FINE if number % 2 == 0 else (), rows, rows, frames))
    writer.finish()


def _frames(rng: np.random.Generator, length: int, height: int, width: int) -> ByteArray:
    """Return a noisy table with a square that moves across it, uint8[length, height, width, 3]."""
    table = rng.integers(60, 120, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    table = table.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    frames = np.repeat(table[None], length, axis=0)
    side = height // 5
    for step in range(length):
        left = (width - side) * step // length
        frames[step, height // 2 : height // 2 + side, left : left + side] = (200, 40, 40)
    return frames


def made_processor(setting: Setting) -> Processor:
    """Return the processing of a policy that sees these frames."""
    height, width = setting.sizes
    spec = PolicySpec(
        name="loader-benchmark",
        version="1",
        embodiment="cobot_magic_sim",
        framework="oft",
        cameras=tuple(CameraSpec(view, height, width, "bicubic") for view in VIEWS),
        action=ActionSpace(
            JOINT_NAMES,
            tuple("open_fraction" if index in GRIPPER_INDICES else "rad" for index in range(DOF)),
            (-3.2,) * DOF,
            (3.2,) * DOF,
        ),
        layout="project",
        state=False,
        normalisation=Normalisation(("min_max",) * DOF, (-3.2,) * DOF, (3.2,) * DOF, clip=False),
        prompt=PromptSpec("{instruction}", 96, 0, True),
        chunk_rows=16,
        execution_rows=8,
        control_hz=30.0,
        trained_kinds=(InstructionKind.RAW, InstructionKind.FINE_GRAINED),
        fg_share=0.5,
    )
    return Processor(spec, build_tokenizer((RAW, " ".join(FINE))))

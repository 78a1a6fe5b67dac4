"""Small recorded episodes for tests."""

from __future__ import annotations

import numpy as np

from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.recording.dataset_format import CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import DemonstrationNote, Episode

JOINTS = JOINT_NAMES
CAMERAS = (CameraFormat("cam_high", 24, 32), CameraFormat("cam_left_wrist", 16, 16))


def small_format(frames: str = "png", chunk_episodes: int = 1000) -> DatasetFormat:
    return DatasetFormat("cobot_magic_sim", 10, CAMERAS, frames, chunk_episodes=chunk_episodes)


def note(seed: int = 3, variant: str = "red") -> DemonstrationNote:
    return DemonstrationNote(
        family="colour",
        variant=variant,
        scene_seed=seed,
        noise=0.02,
        target_xy=(0.125, -0.25),
        acting_arm="left",
        success=True,
        habitual=True,
        decision_steps=4,
        raw_texts=("Put the cube in the box.", "Box the cube."),
        fine_grained_texts=(f"Put the {variant} cube in the box.",),
    )


def smooth_frames(rng: np.random.Generator, length: int, height: int, width: int) -> ByteArray:
    corners = rng.integers(0, 255, (length, 2, 2, 3), dtype=np.uint8)
    return corners.repeat(height // 2, axis=1).repeat(width // 2, axis=2)


def small_episode(seed: int = 0, length: int = 7, task: str = "Put the cube in the box.") -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        task=task,
        fine_grained=("Use the left hand.", "Put the red cube in the box."),
        state=rng.normal(size=(length, 14)).astype(np.float32),
        action=rng.normal(size=(length, 14)).astype(np.float32),
        frames={c.name: smooth_frames(rng, length, c.height, c.width) for c in CAMERAS},
        note=note(seed),
    )


def conformance_episodes() -> tuple[Episode, ...]:
    """Three episodes of two tasks: what our writer and lerobot's both write for one another to read."""
    tasks = ("Put the cube in the box.", "Stack the blocks.", "Put the cube in the box.")
    return tuple(small_episode(number, 5 + number, task) for number, task in enumerate(tasks))

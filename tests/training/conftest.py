"""A tiny paired dataset: two coloured squares, and a text that says to which one the arms go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from finevla_runtime.recording.dataset_format import CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import DemonstrationNote, Episode
from finevla_runtime.recording.lerobot_writer import DatasetWriter

# Sums of several threads round otherwise than those of one, and some tests compare to the last bit.
torch.set_num_threads(1)

STEPS = 6
CAMERAS = (
    CameraFormat("cam_high", 96, 96),
    CameraFormat("cam_left_wrist", 64, 64),
    CameraFormat("cam_right_wrist", 64, 64),
)
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


def demonstration(family: str, variant: str, seed: int, swapped: bool, polite: str) -> Episode:
    """An episode whose joints move towards the square of the colour that the text names."""
    rng = np.random.default_rng(seed)
    places = dict(zip(COLOURS, [64, 16] if swapped else [16, 64], strict=True))
    high = np.full((STEPS, 96, 96, 3), 90, np.uint8)
    for name, place in places.items():
        high[:, 40:56, place : place + 16] = COLOURS[name]
    goal = (places[variant if variant in places else "red"] - 40) / 40
    ramp = np.linspace(0.2, 1.0, STEPS, dtype=np.float32)[:, None]
    action = np.float32(goal) * ramp * np.ones((1, 14), np.float32)
    action[:, [6, 13]] = (ramp > 0.5).astype(np.float32)
    wrist = rng.integers(0, 255, (STEPS, 64, 64, 3), dtype=np.uint8)
    how = f"move to the {variant} square" if family == "colour" else "move to the square slowly"
    note = DemonstrationNote(
        family=family,
        variant=variant,
        scene_seed=seed,
        noise=0.0,
        target_xy=(0.3 * goal, 0.0),
        acting_arm="right" if goal > 0 else "left",
        success=True,
        habitual=variant in ("red", "default"),
        decision_steps=4,
        raw_texts=("move to a square",),
        fine_grained_texts=(how, f"{polite} {how}"),
    )
    frames = {"cam_high": high, "cam_left_wrist": wrist, "cam_right_wrist": wrist}
    state = np.concatenate([np.zeros((1, 14), np.float32), action[:-1]])
    return Episode("move to a square", (how,), state, action, frames, note)


def write_dataset(root: Path, scenes: int = 10, first: int = 20, swap: bool = True, polite: str = "please") -> Path:
    """Scenes 20..29 contain 24, which is held out; ``swap`` exchanges the squares in every other scene."""
    writer = DatasetWriter(root, DatasetFormat("cobot_magic_sim", 10, CAMERAS))
    for seed in range(first, first + scenes):
        for family, variant in (("colour", "red"), ("colour", "blue"), ("clean_table", "default")):
            writer.add_episode(demonstration(family, variant, seed, swap and seed % 2 == 1, polite))
    writer.finish()
    return root


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("training") / "demos")

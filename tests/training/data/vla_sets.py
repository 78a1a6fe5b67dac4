"""Small datasets and the processing of a small policy, for the tests of mixtures and loaders."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from finevla_runtime.contracts.action import DOF, JOINT_NAMES, ActionSpace
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec
from finevla_runtime.processing.pipeline import Processor
from finevla_runtime.recording.episode import Episode
from finevla_runtime.recording.lerobot_writer import DatasetWriter
from tests.recording.episodes import CAMERAS, small_episode, small_format
from training.data.batch import BatchBuilder
from training.data.frame_reader import FrameReader
from training.data.instruction_mixture import InstructionMixture, MixturePlan
from training.data.vla_dataset import DataSource, VLADataset, open_vla_dataset

VIEWS = tuple(camera.name for camera in CAMERAS)
TASKS = ("Put the cube in the box.", "Stack the blocks.")
CHUNK = 16


def episode(seed: int, length: int, annotated: bool, task: str = TASKS[0]) -> Episode:
    made = small_episode(seed, length, task)
    rows = {"state": made.state.copy(), "action": made.action.copy()}
    for values in rows.values():
        values[:, [6, 13]] = np.linspace(0, 1, length)[:, None]
    words = ("Use the left hand.", f"Do it {seed} times.") if annotated else ()
    return replace(made, fine_grained=words, note=None, **rows)


def write_set(
    root: Path, lengths: Collection[int] = (5, 7, 9, 4), annotated: Collection[int] = (0, 2), frames: str = "png"
) -> Path:
    writer = DatasetWriter(root, small_format(frames))
    for number, length in enumerate(lengths):
        writer.add_episode(episode(number, length, number in annotated, TASKS[number % 2]))
    writer.finish()
    return root


def opened(root: Path, cache: Path, weight: float = 1.0, **changes: object) -> VLADataset:
    return open_vla_dataset(replace(DataSource(root, weight), **changes), VIEWS, cache)


def word_tokenizer() -> Tokenizer:
    words = ["[PAD]", "[UNK]", *sorted({w for t in TASKS for w in t.lower().replace(".", " .").split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def processor(scale: float = 1.0, state: bool = True, max_tokens: int = 24) -> Processor:
    spec = PolicySpec(
        name="tiny",
        version="1",
        embodiment="cobot_magic_sim",
        framework="gr00t",
        cameras=tuple(CameraSpec(c.name, round(c.height * scale), round(c.width * scale), "area") for c in CAMERAS),
        action=ActionSpace(
            JOINT_NAMES,
            tuple("open_fraction" if "gripper" in joint else "rad" for joint in JOINT_NAMES),
            (-9.0,) * DOF,
            (9.0,) * DOF,
        ),
        layout="project",
        state=state,
        normalisation=Normalisation(("min_max",) * DOF, (-2.0,) * DOF, (2.0,) * DOF, clip=False),
        prompt=PromptSpec("{instruction}", max_tokens, 0, True),
        chunk_rows=CHUNK,
        execution_rows=8,
        control_hz=10.0,
        trained_kinds=(InstructionKind.RAW, InstructionKind.FINE_GRAINED),
        fg_share=0.5,
    )
    return Processor(spec, word_tokenizer().to_str())


def builder(datasets: list[VLADataset], plan: MixturePlan, rank: int = 0, world: int = 1) -> BatchBuilder:
    return BatchBuilder(InstructionMixture(datasets, plan, seed=7), processor(), FrameReader(), rank, world)

"""The golden batch of a staged bundle: at least one prompt for every bucket, and real frames where there are some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.processing.pipeline import ModelInputs, Processor
from finevla_runtime.recording.lerobot_reader import read_dataset
from finevla_runtime.recording.modality import read_modality
from training.data.row_store import episode_state
from training.data.vla_dataset import DataSource, camera_in
from training.export.onnx import Inputs

EPISODES = 4
TEXT = "use the left arm to pick up the red cube from above and place it slowly on the right side of the mat"
BLOCK = 64


def default_buckets(shortest: int, longest: int) -> tuple[int, ...]:
    """Return prompt lengths for raw texts, fine-grained ones and the longest: 64 apart, then twice as far each time.

    Args:
        shortest: tokens of a prompt without instruction.
        longest: of the spec.
    """
    first = -(-(shortest + BLOCK // 2) // BLOCK) * BLOCK
    listed = [size for size in (first, first + BLOCK, first + 3 * BLOCK) if size < longest]
    return (*listed, longest)


def prompt_length(inputs: ModelInputs, pad_id: int) -> int:
    """Return the tokens of a prompt without its padding on the right."""
    used = np.flatnonzero(np.asarray(inputs["tokens"]) != pad_id)
    return int(used[-1]) + 1 if used.size else 0


def golden_inputs(spec: PolicySpec, tokenizer_json: str, buckets: Sequence[int], dataset: DataSource | None) -> Inputs:
    """Return a batch through the same processing that serves, with every bucket in it.

    Args:
        spec: the policy's contract.
        tokenizer_json: its tokenizer.
        buckets: prompt lengths, ascending.
        dataset: LeRobot dataset, read as in training; random pictures when None.

    Raises:
        SetupError: FV-EXP-004 for a bucket that no prompt can have, FV-DAT-001, FV-DAT-005 and FV-REC-* for the
            dataset.
    """
    processor = Processor(spec, tokenizer_json)
    rows = [processor.inputs(seen, seed) for seed, seen in enumerate(_observations(spec, dataset))]
    template = next(_observations(spec, dataset))
    below = 0
    for bucket in buckets:
        if not any(below < prompt_length(row, spec.prompt.pad_id) <= bucket for row in rows):
            rows.append(_filling(processor, template, below, bucket))
        below = bucket
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _filling(processor: Processor, seen: Observation, below: int, bucket: int) -> ModelInputs:
    """Return inputs whose prompt is longer than ``below`` and at most ``bucket`` tokens."""
    words = TEXT.split()
    for count in range(1, 2 * bucket):
        text = " ".join(words[i % len(words)] for i in range(count))
        told = Observation(
            seen.images,
            seen.joint_position,
            Instruction(text, InstructionKind.FINE_GRAINED),
            seen.capture_time_ns,
            seen.control_step + count,
        )
        found = processor.inputs(told, 0)
        if below < prompt_length(found, processor.spec.prompt.pad_id) <= bucket:
            return found
    raise SetupError(
        "FV-EXP-004", f"no prompt has more than {below} and at most {bucket} tokens; choose other --buckets."
    )


def _observations(spec: PolicySpec, dataset: DataSource | None) -> Iterator[Observation]:
    """Yield frames of a few episodes with raw and fine-grained text, or random ones."""
    if dataset is None:
        rng = np.random.default_rng(0)
        images = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in spec.cameras}
        state = np.full(spec.action.size, 0.25, np.float32)
        yield Observation(images, state, Instruction("pick up the cube", InstructionKind.RAW), 0, 0)
        return
    source = read_dataset(dataset.root)
    modality = read_modality(source, dataset.language)
    cameras = {c.name: camera_in(source, modality, dataset, c.name) for c in spec.cameras}
    for number, index in enumerate(np.linspace(0, len(source) - 1, min(EPISODES, len(source))).astype(int)):
        episode = source.episodes[int(index)]
        step = number * (episode.length - 1) // EPISODES
        told = bool(number % 2 and episode.fine_grained)
        text = episode.fine_grained_text if told else episode.tasks[0]
        kind = InstructionKind.FINE_GRAINED if told else InstructionKind.RAW
        images = {name: episode.frames(theirs)[step] for name, theirs in cameras.items()}
        state = episode_state(episode, modality, dataset.grippers)[step]
        yield Observation(images, state, Instruction(text, kind), 0, step)

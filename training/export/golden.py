"""Real frames and instructions for the golden batch of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy_json import spec_from_json
from finevla_runtime.processing.pipeline import Processor
from finevla_runtime.recording.lerobot_reader import read_dataset
from training.checkpoint import load_checkpoint
from training.export.onnx import Inputs

BATCH = 8


def golden_inputs(checkpoint: Path, dataset: Path) -> Inputs:
    """Return a batch of real observations through the same processing that serves.

    Raises:
        SetupError: FV-TRN-009, FV-REC-*.
    """
    read = load_checkpoint(checkpoint)
    processor = Processor(spec_from_json(read.meta["spec"]), read.meta["tokenizer"])
    source = read_dataset(dataset)
    rows = []
    for number, index in enumerate(np.linspace(0, len(source) - 1, BATCH).astype(int)):
        episode = source.episodes[int(index)]
        step = number * (episode.length - 1) // BATCH
        text = episode.fine_grained_text if number % 2 else episode.tasks[0]
        kind = InstructionKind.FINE_GRAINED if number % 2 else InstructionKind.RAW
        images = {c.name: episode.frames(c.name)[step] for c in processor.spec.cameras}
        seen = Observation(images, episode.state()[step], Instruction(text, kind), 0, step)
        rows.append(processor.inputs(seen))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

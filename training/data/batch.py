"""One training batch, and the building of it: images, text, state and targets of the samples of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.processing.pipeline import ModelInputs, Processor
from training.data.frame_reader import FrameReader
from training.data.instruction_mixture import InstructionMixture
from training.data.vla_dataset import VLADataset

# A flow-matching policy's input of the served graph; training draws its noise per step from its own generator.
SERVING_NOISE = "noise"
KINDS = {False: InstructionKind.RAW, True: InstructionKind.FINE_GRAINED}


@dataclass(frozen=True)
class SampleIdentity:
    """Where a sample comes from.

    Attributes:
        dataset: name of its dataset.
        episode, frame: episode index and control step.
        kind: which instruction it carries.
    """

    dataset: str
    episode: int
    frame: int
    kind: InstructionKind

    def __str__(self) -> str:
        return f"episode {self.episode}, frame {self.frame} of {self.dataset} ({self.kind.value} text)"


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of one step on one rank.

    Attributes:
        step: training step.
        inputs: model inputs with a batch axis, keys and types as ``Processor.inputs``: ``image.<camera>``
            uint8[B, height, width, 3], ``tokens`` int64[B, max_tokens], ``state`` float32[B, 14] where the policy
            reads it. Without ``noise``: training draws its own.
        actions: float32[B, rows, 14], targets in model units and model layout.
        samples: identities in batch order.
    """

    step: int
    inputs: Mapping[str, npt.NDArray[np.generic]]
    actions: FloatArray
    samples: tuple[SampleIdentity, ...]

    def where(self, number: int) -> str:
        """Return episode and frame of one sample, for errors."""
        return str(self.samples[number])

    @property
    def fg_share(self) -> float:
        """Return the share of samples with fine-grained text."""
        return sum(s.kind is InstructionKind.FINE_GRAINED for s in self.samples) / len(self.samples)


class BatchBuilder:
    """Builds the batch of any step for one rank; safe to call from several threads."""

    def __init__(
        self, mixture: InstructionMixture, processor: Processor, frames: FrameReader, rank: int = 0, world: int = 1
    ) -> None:
        """Keep what batches are made of (FV-DAT-012 when the batch cannot be split over the ranks)."""
        mixture.draw(0, rank, world)
        self.mixture = mixture
        self._processor = processor
        self._frames = frames
        self._rank, self._world = rank, world

    def build(self, step: int) -> Batch:
        """Return the batch of ``step``.

        Raises:
            FineVLAError: what went wrong with a sample, with its code, naming step, episode and frame; FV-DAT-014
                for a failure without a code of its own.
        """
        draws = self.mixture.draw(step, self._rank, self._world)
        samples, inputs, actions = [], [], []
        for number in range(len(draws)):
            dataset = self.mixture.datasets[int(draws.dataset[number])]
            identity = SampleIdentity(
                dataset.name,
                int(draws.episode[number]),
                int(draws.frame[number]),
                KINDS[bool(draws.fine_grained[number])],
            )
            try:
                inputs.append(self._inputs(dataset, identity))
                actions.append(self._targets(dataset, identity))
            except FineVLAError as error:
                raise type(error)(error.code, f"step {step}, {identity}: {error.message}") from error
            except (OSError, ValueError, KeyError, IndexError, RuntimeError, MemoryError) as error:
                raise SetupError("FV-DAT-014", f"step {step}, {identity}: {error!r}") from error
            samples.append(identity)
        stacked = {key: np.stack([sample[key] for sample in inputs]) for key in inputs[0] if key != SERVING_NOISE}
        return Batch(step, stacked, np.stack(actions), tuple(samples))

    def check_texts(self) -> int:
        """Build the model inputs of every text that can be drawn, on black images; return how many there are.

        Finds prompts that are too long before the first step instead of somewhere in the run.

        Raises:
            FineVLAError: FV-TOK-003 or FV-INS-001 naming an episode that carries the text.
        """
        black = {c.name: np.zeros((c.height, c.width, 3), dtype=np.uint8) for c in self._processor.spec.cameras}
        seen: set[str] = set()
        for dataset in self.mixture.datasets:
            for sample in _samples_of_texts(dataset, self.mixture.plan.fg_share):
                text = dataset.text(sample.episode, sample.frame, sample.kind is InstructionKind.FINE_GRAINED)
                if text in seen:
                    continue
                seen.add(text)
                try:
                    self._processor.inputs(self._observation(dataset, sample, black))
                except FineVLAError as error:
                    raise type(error)(error.code, f"{sample}: {error.message}") from error
        return len(seen)

    def _inputs(self, dataset: VLADataset, sample: SampleIdentity) -> ModelInputs:
        episode = dataset.episode(sample.episode)
        images = {
            camera.name: self._frames.frame(episode, dataset.cameras[camera.name], camera, sample.frame)
            for camera in self._processor.spec.cameras
        }
        return self._processor.inputs(self._observation(dataset, sample, images))

    def _observation(self, dataset: VLADataset, sample: SampleIdentity, images: Mapping[str, ByteArray]) -> Observation:
        text = dataset.text(sample.episode, sample.frame, sample.kind is InstructionKind.FINE_GRAINED)
        state = dataset.state(sample.episode, sample.frame)
        return Observation(images, state, Instruction(text, sample.kind), 0, sample.frame)

    def _targets(self, dataset: VLADataset, sample: SampleIdentity) -> FloatArray:
        rows = dataset.chunk(sample.episode, sample.frame, self._processor.spec.chunk_rows)
        return self._processor.model_rows(rows)


def _samples_of_texts(dataset: VLADataset, fg_share: float) -> list[SampleIdentity]:
    """Return one sample for every text of a dataset that a share can draw."""
    samples = []
    if fg_share > 0:
        samples += [SampleIdentity(dataset.name, int(e), 0, InstructionKind.FINE_GRAINED) for e in dataset.annotated]
    if fg_share < 1:
        _, firsts = np.unique(dataset.rows.task, return_index=True)
        for row in firsts:
            episode = int(np.searchsorted(dataset.rows.first_row, row, side="right")) - 1
            frame = int(row - dataset.rows.first_row[episode])
            samples.append(SampleIdentity(dataset.name, episode, frame, InstructionKind.RAW))
    return samples

"""The scripted expert behind the policy interface: what a perfect policy would score, without a model or a server."""

from __future__ import annotations

import numpy as np

from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from sim_eval.tabletop.catalog import find_family, sample_scene
from sim_eval.tabletop.expert import plan

CHUNK_ROWS = 16
STEP_S = 0.1
EXPERT_LABEL = "expert"


class ExpertPolicy:
    """Replays the expert's plan of the trial's scene in chunks.

    It reads family and variant from the instruction's ids, which trained policies never see. Told only the goal (a
    raw instruction), it does what the demonstrator's habit is, whatever variant the trial asks for.
    """

    def __init__(self, rows: int = CHUNK_ROWS) -> None:
        """Choose the rows of a chunk."""
        self._rows = rows
        self._seed = 0
        self._plan: tuple[Instruction, FloatArray] | None = None

    def reset(self, instruction_seed: int) -> None:
        """Start an episode; the seed is the scene seed of the trial."""
        self._seed, self._plan = instruction_seed, None

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the next rows of the plan, the last row repeated at its end.

        Raises:
            PolicyError: FV-EXP-001 when the instruction changes within an episode.
            SetupError: FV-SIM-001 for an unknown family.
        """
        if self._plan is None:
            self._plan = (observation.instruction, self._targets(observation.instruction))
        told, targets = self._plan
        if told != observation.instruction:
            raise PolicyError("FV-EXP-001", "the instruction changed within an episode; call reset first.")
        first = observation.control_step
        rows = np.minimum(np.arange(first, first + self._rows), len(targets) - 1)
        return ActionChunk(
            chunk_id=f"{EXPERT_LABEL}-{first}",
            positions=targets[rows],
            first_control_step=first,
            step_s=STEP_S,
            capture_time_ns=observation.capture_time_ns,
            model_name=EXPERT_LABEL,
            model_version="1",
        )

    def close(self) -> None:
        """Nothing to close; remote policies have a connection."""

    def _targets(self, told: Instruction) -> FloatArray:
        scene = sample_scene(told.task_id, self._seed)
        habit = find_family(told.task_id).habit(scene)
        variant = habit if told.kind is InstructionKind.RAW else told.variant_id
        return plan(scene, variant).targets.astype(np.float32)

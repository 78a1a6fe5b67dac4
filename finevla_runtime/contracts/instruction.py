"""Instructions and the ten fine-grained dimensions (paper section 2.1, Table 9)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum

from finevla_runtime.contracts.errors import SetupError

MAX_INSTRUCTION_CHARACTERS = 2_000


class InstructionKind(str, Enum):
    """Raw names the goal; fine-grained also says how (paper section 3.2)."""

    RAW = "raw"
    FINE_GRAINED = "fine_grained"


# The identifiers and slots are those of the released extraction schema, in its fixed order.
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "action_sequence": ("primitive_action", "gripper_state"),
    "active_actor": ("actor",),
    "target_object": ("category", "color", "material", "shape_or_size"),
    "initial_configuration": (
        "initial_pose",
        "initial_workspace_location",
        "initial_relation",
        "initial_state",
    ),
    "final_configuration": ("final_pose", "final_workspace_location", "final_relation", "final_state"),
    "contact_and_approach": ("contact_region", "approach_direction"),
    "trajectory_and_orientation": (
        "translation_direction",
        "translation_extent",
        "rotation_direction",
        "rotation_angle",
        "path_shape",
    ),
    "object_interaction": ("interaction_type", "affected_object", "effect"),
    "failure_and_recovery": ("failure", "retry", "recovery_result", "attempt_count"),
    "body_motion": ("base_motion", "torso_motion", "camera_motion"),
}


@dataclass(frozen=True)
class Instruction:
    """One instruction as it is given to the policy; the server never rewrites it.

    Attributes:
        text: what the policy reads, at most 2,000 characters.
        kind: raw or fine-grained.
        task_id: family the instruction belongs to, empty outside trials.
        variant_id: paired variant it asks for, empty outside trials.
    """

    text: str
    kind: InstructionKind
    task_id: str = ""
    variant_id: str = ""

    def __post_init__(self) -> None:
        """Refuse empty and overlong text (FV-INS-001)."""
        if not self.text.strip():
            raise SetupError("FV-INS-001", "the instruction is empty; say what the robot shall do.")
        if len(self.text) > MAX_INSTRUCTION_CHARACTERS:
            raise SetupError(
                "FV-INS-001",
                f"the instruction has {len(self.text)} characters, at most {MAX_INSTRUCTION_CHARACTERS} fit.",
            )


def differing_words(first: str, second: str) -> tuple[tuple[str, str], ...]:
    """Return the word runs in which two instructions differ, as (in first, in second) pairs.

    Two paired variants must differ in their control factor alone (paper section 4.1); this shows the difference.
    """
    a, b = first.split(), second.split()
    matcher = difflib.SequenceMatcher(a=a, b=b, autojunk=False)
    return tuple(
        (" ".join(a[i1:i2]), " ".join(b[j1:j2])) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal"
    )

"""Small valid contract values that tests vary."""

from __future__ import annotations

import json

import numpy as np

from finevla_runtime.contracts.action import DOF, GRIPPER_INDICES, JOINT_NAMES, ActionSpace
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec

WORDS = ["pick", "up", "the", "red", "blue", "cube", "with", "left", "right", "arm", "and", "put", "it", "on", "mat"]


def make_spec(**changes: object) -> PolicySpec:
    """Return a spec of the tabletop policy's shape, with fields replaced by ``changes``."""
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "embodiment": "cobot_magic_sim",
        "framework": "oft",
        "cameras": (
            CameraSpec("cam_high", 96, 96),
            CameraSpec("cam_left_wrist", 64, 64),
            CameraSpec("cam_right_wrist", 64, 64),
        ),
        "action": ActionSpace(
            names=JOINT_NAMES,
            units=tuple("open_fraction" if i in GRIPPER_INDICES else "rad" for i in range(DOF)),
            lower=tuple(0.0 if i in GRIPPER_INDICES else -3.0 for i in range(DOF)),
            upper=tuple(1.0 if i in GRIPPER_INDICES else 3.0 for i in range(DOF)),
        ),
        "layout": "project",
        "state": False,
        "normalisation": Normalisation(
            mode=tuple("min_max" if i in GRIPPER_INDICES else "q99" for i in range(DOF)),
            low=tuple(0.0 if i in GRIPPER_INDICES else -2.0 for i in range(DOF)),
            high=tuple(1.0 if i in GRIPPER_INDICES else 2.0 for i in range(DOF)),
            clip=False,
        ),
        "prompt": PromptSpec(template="{instruction}", max_tokens=16, pad_id=0, lowercase=True),
        "chunk_rows": 16,
        "execution_rows": 8,
        "control_hz": 10.0,
        "trained_kinds": (InstructionKind.RAW, InstructionKind.FINE_GRAINED),
        "fg_share": 0.5,
    }
    values.update(changes)
    return PolicySpec(**values)  # type: ignore[arg-type]


def make_tokenizer_json() -> str:
    """Return a word-level tokenizer over WORDS in the Hugging Face format."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: i + 2 for i, word in enumerate(dict.fromkeys(WORDS))}}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        }
    )


def make_observation(text: str = "pick up the red cube", seed: int = 0, step: int = 0) -> Observation:
    """Return an observation with random images at the tabletop's sizes."""
    rng = np.random.default_rng(seed)
    sizes = {"cam_high": 96, "cam_left_wrist": 64, "cam_right_wrist": 64}
    return Observation(
        images={n: rng.integers(0, 256, (s, s, 3), dtype=np.uint8) for n, s in sizes.items()},
        joint_position=rng.uniform(-1, 1, DOF).astype(np.float32),
        instruction=Instruction(text, InstructionKind.FINE_GRAINED),
        capture_time_ns=step * 100_000_000,
        control_step=step,
    )

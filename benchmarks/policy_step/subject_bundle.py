"""The measured policy as a bundle, so that engines run the very network that Hugging Face runs beside them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.policy_step.subject import PAD, ROWS, Subject
from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, PolicySpec, PromptSpec
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.processing.normalise import fit_normalisation
from training.export.policy_source import PolicySource
from training.export.staged_bundle import StagedOptions, export_staged
from training.policies.gr00t import GR00TPolicy

GOLDEN_ROWS = 2


def write_subject_bundle(subject: Subject, out: Path) -> Bundle:
    """Export a float32 subject with the prompts it is measured on; random tokens need no tokenizer."""
    body = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
    side, dof = subject.size.frame, body.action_space.size
    spec = PolicySpec(
        name=f"bench-{subject.framework}",
        version="0",
        embodiment=body.name,
        framework=subject.framework,
        cameras=tuple(CameraSpec(name, side, side) for name in subject.policy.cameras),
        action=body.action_space,
        layout="project",
        state=False,
        normalisation=fit_normalisation([[-1.0] * dof, [1.0] * dof], ["min_max"] * dof, clip=False),
        prompt=PromptSpec("{instruction}", subject.length, PAD, lowercase=False),
        chunk_rows=ROWS,
        execution_rows=ROWS,
        control_hz=body.control_hz,
        trained_kinds=(InstructionKind.RAW,),
        fg_share=0.0,
    )
    policy = subject.policy.requires_grad_(False)
    steps = policy.denoise_steps if isinstance(policy, GR00TPolicy) else 0
    source = PolicySource(policy, spec, "{}", steps, {"weights": "random"})
    options = StagedOptions((subject.length,), tensorrt=False)
    return export_staged(source, out, options, subject.inputs(GOLDEN_ROWS)).bundle

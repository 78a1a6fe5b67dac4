"""The measured policy as a bundle, so that engines run the very network that Hugging Face runs beside them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch

from benchmarks.policy_step.subject import PAD, ROWS, Subject
from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, PolicySpec, PromptSpec
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.processing.normalise import fit_normalisation
from policy_server.engines.engine import stored_precision
from policy_server.engines.tensorrt_build import build_engine
from policy_server.engines.tensorrt_library import tensorrt_library
from training.export.policy_source import PolicySource
from training.export.staged_bundle import StagedOptions, export_staged
from training.policies.gr00t import GR00TPolicy
from training.policies.policy import VLAPolicy

GOLDEN_ROWS = 2


def write_subject_bundle(subject: Subject, out: Path, precision: str = "float32", tensorrt: bool = False) -> Bundle:
    """Export a subject with the prompts it is measured on; random tokens need no tokenizer.

    Export happens on the CPU and converts weights in place, so a subject that lives elsewhere, or has to stay as it
    is, is copied.

    Args:
        subject: the policy.
        out: folder of the bundle.
        precision: of the exported backbone, ``float32``, ``float16`` or ``bfloat16``.
        tensorrt: whether to write the graphs that TensorRT needs.
    """
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
    policy = _on_the_cpu(subject, precision).requires_grad_(False)
    steps = policy.denoise_steps if isinstance(policy, GR00TPolicy) else 0
    source = PolicySource(policy, spec, "{}", steps, {"weights": "random"})
    options = StagedOptions((subject.length,), tensorrt, precision=precision)
    return export_staged(source, out, options, subject.inputs(GOLDEN_ROWS)).bundle


def build_subject_engine(bundle: Bundle, out: Path, max_batch: int) -> Path:
    """Build the TensorRT plans of a bundle in its own precision (FV-ENG-* where that fails); return ``out``."""
    build_engine(bundle, out, stored_precision(bundle), max_batch, tensorrt_library(), _report)
    return out


def _on_the_cpu(subject: Subject, precision: str) -> VLAPolicy:
    """Return the subject's policy as float32 in host memory: itself where it is just that and stays it."""
    if subject.device.type == "cpu" and precision == "float32":
        return subject.policy
    copied = copy.deepcopy(subject.policy).to("cpu", torch.float32)
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()
    return copied


def _report(line: str) -> None:
    sys.stderr.write(line + "\n")

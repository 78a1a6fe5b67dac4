"""Tiny policies with random weights, exported once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, PolicySpec
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.processing.normalise import fit_normalisation
from training.export.policy_source import PolicySource
from training.export.staged_bundle import ExportedStages, StagedOptions, export_staged
from training.policies.gr00t import GR00TSizes
from training.policies.prompt_layout import read_tokenizer
from training.policies.tiny_backbone import write_tiny_backbone
from training.policies.vla import PolicyPlan, build_policy, plan_prompt

SIZES = GR00TSizes(width=48, heads=3, blocks=4, out=40, inner=56, future_tokens=5, dropout=0.1)
CASES = {
    "oft": ("oft", "qwen3_5", False),
    "oft-state-vl": ("oft", "qwen3_vl", True),
    "gr00t": ("gr00t", "qwen3_5", False),
    "gr00t-state": ("gr00t", "qwen3_5", True),
}
CAMERAS = (CameraSpec("cam_high", 64, 64), CameraSpec("cam_left_wrist", 64, 64), CameraSpec("cam_right_wrist", 32, 64))


def make_source(folder: Path, framework: str, kind: str, state: bool) -> PolicySource:
    """A policy with random weights and 400-token prompts."""
    backbone = write_tiny_backbone(folder / "backbone", kind)
    plan = PolicyPlan(framework, str(backbone), CAMERAS, state=state, max_tokens=400, sizes=SIZES, seed=3)
    policy = build_policy(plan)
    body = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
    spec = PolicySpec(
        name=f"tiny-{framework}",
        version="0",
        embodiment=body.name,
        framework=framework,
        cameras=CAMERAS,
        action=body.action_space,
        layout="project",
        state=state,
        normalisation=fit_normalisation([[-1.0] * 14, [1.0] * 14], ["min_max"] * 14, clip=False),
        prompt=plan_prompt(plan, policy),
        chunk_rows=16,
        execution_rows=8,
        control_hz=body.control_hz,
        trained_kinds=(InstructionKind.RAW,),
        fg_share=0.0,
    )
    steps = plan.denoise_steps if framework == "gr00t" else 0
    return PolicySource(policy.eval().requires_grad_(False), spec, read_tokenizer(backbone), steps, {"seed": "3"})


@pytest.fixture(scope="session", params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PolicySource, ExportedStages]:
    folder = tmp_path_factory.mktemp(str(request.param))
    source = make_source(folder, *CASES[request.param])
    # One case of each framework brings programs: tracing is what takes time.
    options = StagedOptions((128, 400), programs=request.param in ("oft", "gr00t"))
    return source, export_staged(source, folder / "bundle", options)

"""From a plan to a policy: which backbone, which head, which frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import CameraSpec, PromptSpec
from training.policies.backbone import load_backbone, resolve_folder
from training.policies.gr00t import GR00THead, GR00TPolicy, GR00TSizes
from training.policies.oft import OFTHead, OFTPolicy
from training.policies.policy import VLAPolicy
from training.policies.prompt_layout import FRAMEWORKS, build_prompt, read_special_ids, read_tokenizer

__all__ = ["PolicyPlan", "VLAPolicy", "build_policy", "parameter_count", "plan_prompt"]


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """Everything that decides the shape of a policy.

    Attributes:
        framework: ``oft`` or ``gr00t``.
        backbone: local Hugging Face folder, or ``hub:ORGANISATION/NAME`` to download one.
        cameras: views in model order with the sizes of their frames.
        chunk_rows: rows per answer.
        dof: width of one row.
        state: whether the policy reads proprioception: as text (OFT) or through the state encoder (GR00T).
        max_tokens: longest prompt, None for the fixed part plus 320 tokens.
        dtype: of the backbone's weights; heads are always float32.
        random_weights: build the backbone with random numbers instead of reading the folder's weights.
        checkpointing: recompute the backbone's layers in the backward pass.
        seed: of the head's initial weights, and the backbone's where they are random.
        sizes: of the GR00T head.
        repeats: noises and times per sample and training step of GR00T.
        denoise_steps: Euler steps of GR00T's answer.
    """

    framework: str
    backbone: str
    cameras: tuple[CameraSpec, ...]
    chunk_rows: int = 16
    dof: int = 14
    state: bool = False
    max_tokens: int | None = None
    dtype: str = "float32"
    random_weights: bool = False
    checkpointing: bool = False
    seed: int = 0
    sizes: GR00TSizes = field(default_factory=GR00TSizes)
    repeats: int = 4
    denoise_steps: int = 4


def build_policy(plan: PolicyPlan) -> VLAPolicy:
    """Build the policy of a plan; the same plan and folder give the same weights.

    Raises:
        SetupError: FV-POL-* for everything in the plan or the folder that does not fit.
    """
    _check(plan)
    ids = read_special_ids(read_tokenizer(resolve_folder(plan.backbone)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        backbone = load_backbone(
            plan.backbone,
            [(camera.height, camera.width) for camera in plan.cameras],
            dtype=plan.dtype,
            random_weights=plan.random_weights,
            checkpointing=plan.checkpointing,
        )
        # The head's numbers must not depend on how many the backbone drew.
        torch.manual_seed(plan.seed + 1)
        cameras = [camera.name for camera in plan.cameras]
        if backbone.image_token_id != ids.image_pad:
            raise SetupError(
                "FV-POL-012",
                f"{plan.backbone}: the config's image token is {backbone.image_token_id}, the tokenizer's "
                f"{ids.image_pad}; the folder mixes two models.",
            )
        if plan.framework == "oft":
            oft = OFTHead(backbone.width, plan.chunk_rows, plan.dof, ids.action)
            return OFTPolicy(backbone, oft, cameras)
        gr00t = GR00THead(backbone.width, plan.chunk_rows, plan.dof, ids.pad, plan.state, plan.sizes)
        return GR00TPolicy(backbone, gr00t, cameras, plan.repeats, plan.denoise_steps)


def plan_prompt(plan: PolicyPlan, policy: VLAPolicy) -> PromptSpec:
    """Return the prompt rule of a built policy (SetupError FV-POL-011, FV-POL-012, FV-POL-014)."""
    return build_prompt(
        resolve_folder(plan.backbone),
        policy.backbone.grids,
        plan.framework,
        plan.chunk_rows,
        plan.state,
        plan.max_tokens,
    )


def parameter_count(module: nn.Module) -> int:
    """Return how many numbers a module holds; tied weights count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _check(plan: PolicyPlan) -> None:
    if plan.framework not in FRAMEWORKS:
        raise unknown_name("FV-POL-013", "framework", plan.framework, FRAMEWORKS, "policy plan")
    if not plan.cameras or len({camera.name for camera in plan.cameras}) != len(plan.cameras):
        raise SetupError("FV-POL-015", "a policy plan needs one camera or more, each with its own name.")
    for name in ("chunk_rows", "dof", "repeats", "denoise_steps"):
        if getattr(plan, name) < 1:
            raise SetupError("FV-POL-015", f"policy plan: {name} is {getattr(plan, name)}, wanted 1 or more.")

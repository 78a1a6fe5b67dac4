"""The settings of a policy on a vision-language backbone, and where the figures that all recipes share come from.

The paper prints its hyper-parameters in Table 20, of which no copy could be had. The figures stand in for it; their
sources are named in short:

- YAML: the training configurations in the authors' repository (xlang-ai/FineVLA, FineVLA-Policy, read at 41e02a3,
  add19ad, 0e89cee and 8d02bf9).
- SCRIPT: the launch scripts in the same repository, whose options override the YAML.
- PAPER: the text of arXiv 2605.27284.
- STARVLA: the code of the framework that the authors build on (starVLA, 0ed0aad), where their files set nothing.
- OURS: neither; chosen here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import CameraSpec
from training.policies.gr00t import GR00TSizes
from training.schedule import Schedule
from training.stepping import OptimiserSettings

# Where statistics come from when a run starts from given weights.
FIT, KEEP = "fit", "keep"
RATES = ("learning_rate", "learning_rate_backbone", "learning_rate_head")
STAGES = ("pretraining", "fine-tuning", "test")


@dataclass(frozen=True)
class VLARecipe:
    """Everything that decides a run besides the data and the machine.

    Attributes:
        name: recipe and policy name.
        framework: ``oft`` or ``gr00t``.
        stage: ``pretraining``, ``fine-tuning`` or ``test``; where the published run stands. It decides nothing.
        data: what the published run was trained on, for people.
        backbone: local Hugging Face folder, or ``hub:ORGANISATION/NAME``.
        cameras: views in model order.
        image_px: side of the square frames.
        resize: kernel that brings frames to that size.
        chunk_rows, execution_rows: predicted rows, and rows the card recommends to execute per query.
        state: whether the policy reads proprioception.
        fg_raw: ``FG:Raw`` as a ratio of samples (``1:2``), ``raw`` or ``fg``.
        unannotated, uniform_over: see ``training.data.instruction_mixture.MixturePlan``.
        joint_mode, gripper_mode: normalisation of joints and grippers.
        layout: joint order of the model's rows (key of ``contracts.action.LAYOUTS``).
        statistics: of a run that starts from given weights: ``fit`` those of the data, as the published fine-tuning
            does, or ``keep`` those the weights were trained with. Empty: given weights must have the statistics of the
            data, because rows scaled otherwise mean other motions.
        learning_rate, learning_rate_backbone, learning_rate_head: peaks; the first is that of whatever is neither.
        schedule, warmup_steps, min_lr: see ``training.schedule``.
        beta1, beta2, eps, weight_decay, clip_norm: AdamW and the clipping before it.
        steps: optimiser steps.
        global_batch: samples per step over all devices; kept on any number of them by adding up micro-batches.
        batch_per_device: samples a device takes at a time.
        repeats: noises and times per sample and step of GR00T.
        head: sizes of the GR00T head.
        random_backbone: start from random numbers instead of the backbone's weights.
        max_tokens: longest prompt; 0 for the fixed part plus 320 tokens of instruction.
        bf16: bfloat16 autocast, on CUDA.
        gradient_checkpointing: recompute layers in the backward pass.
        ema: decay of the averaged weights, 0 for none.
        seed: weights, samples, noise.
        log_steps, check_steps, save_steps: steps between lines of the log, checks and checkpoints.
        keep_checkpoints: how many of the newest stay.
    """

    name: str
    framework: str
    stage: str
    data: str
    steps: int
    global_batch: int
    batch_per_device: int
    learning_rate: float
    learning_rate_backbone: float
    learning_rate_head: float
    schedule: str
    warmup_steps: int
    # PAPER: the policies stand on Qwen3.5-4B; the id is that of the hub.
    backbone: str = "hub:Qwen/Qwen3.5-4B"
    # YAML: image_0 head or front, image_1 left wrist, image_2 right wrist; 224x224 each.
    cameras: tuple[str, ...] = ("cam_high", "cam_left_wrist", "cam_right_wrist")
    image_px: int = 224
    # STARVLA: PIL's default kernel in training. Its evaluation client shrinks by area instead; here both are one.
    resize: str = "bicubic"
    # YAML: action chunk 16 (delta_indices 0..15), past window 0.
    chunk_rows: int = 16
    # STARVLA: the evaluation client asks again when step % 16 == 0, so the whole chunk is executed.
    execution_rows: int = 16
    # YAML: include_state is absent, so neither model reads proprioception.
    state: bool = False
    fg_raw: str = "raw"
    # SCRIPT: only annotated episodes have fine-grained samples, 7.0 % of AlohaMix' and 21.2 % of RDT's.
    unannotated: str = "annotated_only"
    # SCRIPT: one entry per task folder with weight 1, then a uniform step inside it.
    uniform_over: str = "tasks"
    # YAML (data configurations): joints q99, grippers binary.
    joint_mode: str = "q99"
    gripper_mode: str = "binary"
    # YAML (data configurations): left joints, left gripper, right joints, right gripper, which is the project's order.
    layout: str = "project"
    statistics: str = ""
    # YAML: cosine_with_min_lr with min_lr 5e-7; unused by the constant schedule.
    min_lr: float = 5e-7
    # YAML: AdamW betas (0.9, 0.95), eps 1e-8, weight decay 1e-8, fused.
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-8
    # YAML: gradient clipping at 1.0.
    clip_norm: float = 1.0
    # YAML: trainer.repeated_diffusion_steps 4, which wins over the 8 of action_model; GR00T only.
    repeats: int = 4
    # YAML: DiT-B with dropout 0.2 and 32 future tokens; GR00T only.
    head: GR00TSizes = field(default_factory=GR00TSizes)
    random_backbone: bool = False
    # OURS: fine-grained texts have up to 300 tokens.
    max_tokens: int = 0
    # YAML: bf16 autocast, gradient checkpointing on, nothing frozen.
    bf16: bool = True
    gradient_checkpointing: bool = True
    # Neither YAML nor PAPER mentions an average of the weights.
    ema: float = 0.0
    # YAML: seed 42.
    seed: int = 42
    # OURS: nothing that is learnt depends on these.
    log_steps: int = 20
    check_steps: int = 2000
    save_steps: int = 1000
    keep_checkpoints: int = 2

    @property
    def summary(self) -> str:
        """Return one line for people."""
        size = f"{self.steps} steps of {self.global_batch} samples"
        return f"{self.framework.upper()}, {self.stage}: {size} at FG:Raw {self.fg_raw}; {self.data}"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.global_batch < 1:
            raise SetupError(
                "FV-TRN-021", f"{self.name}: {self.steps} steps of {self.global_batch} samples; both must be 1 or more."
            )
        for name in ("chunk_rows", "batch_per_device", "repeats", "log_steps", "check_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise SetupError("FV-TRN-021", f"{self.name}: {name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("execution_rows", "warmup_steps", "save_steps", "max_tokens"):
            if getattr(self, name) < 0:
                raise SetupError("FV-TRN-021", f"{self.name}: {name} is {getattr(self, name)}; it must be 0 or more.")
        for name in ("seed", "weight_decay", "min_lr", *RATES):
            if not getattr(self, name) >= 0:
                raise SetupError("FV-TRN-021", f"{self.name}: {name} is {getattr(self, name)}; it must be 0 or more.")
        for name in ("ema", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise SetupError(
                    "FV-TRN-021", f"{self.name}: {name} is {getattr(self, name)}; it must be 0 or more and below 1."
                )
        for name in ("eps", "clip_norm"):
            if not getattr(self, name) > 0:
                raise SetupError("FV-TRN-021", f"{self.name}: {name} is {getattr(self, name)}; it must be above 0.")
        if self.statistics not in ("", FIT, KEEP):
            raise unknown_name("FV-TRN-021", "source of statistics", self.statistics, (FIT, KEEP))
        self.schedule_settings()

    def schedule_settings(self) -> Schedule:
        """Return how the learning rates change (FV-TRN-028 for an impossible schedule)."""
        # A base of 0 freezes everything, which only tests ask for; the floor is then 0 as well.
        floor = min(self.min_lr, self.learning_rate)
        return Schedule(self.schedule, self.warmup_steps, floor, self.learning_rate or 1.0)

    def camera_specs(self) -> tuple[CameraSpec, ...]:
        """Return the views with the size and kernel of their frames."""
        return tuple(CameraSpec(name, self.image_px, self.image_px, self.resize) for name in self.cameras)

    def optimiser(self) -> OptimiserSettings:
        """Return the settings of AdamW."""
        return OptimiserSettings((self.beta1, self.beta2), self.eps, self.weight_decay, self.clip_norm)

    @property
    def digest(self) -> str:
        """Return the sha256 of all settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

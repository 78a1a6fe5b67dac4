"""One built tiny policy with its prompts and random inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finevla_runtime.contracts.policy import CameraSpec
from finevla_runtime.processing.prompt import Prompt, load_tokenizer
from training.policies.gr00t import GR00TSizes
from training.policies.prompt_layout import read_tokenizer
from training.policies.vla import PolicyPlan, VLAPolicy, build_policy, plan_prompt

CAMERAS = (CameraSpec("cam_high", 64, 64), CameraSpec("cam_left_wrist", 64, 96), CameraSpec("cam_right_wrist", 64, 64))
SIZES = GR00TSizes(width=48, heads=3, blocks=4, out=40, inner=56, future_tokens=5, dropout=0.0)
TEXTS = ("pick up the red cube", "place the blue bowl with the left arm slowly from above and then open the gripper")


class Case:
    """One built policy with its prompts and random inputs."""

    def __init__(self, plan: PolicyPlan) -> None:
        self.plan = plan
        self.policy: VLAPolicy = build_policy(plan).eval()
        self.spec = plan_prompt(plan, self.policy)
        self.prompt = Prompt(self.spec, load_tokenizer(read_tokenizer(Path(plan.backbone))))

    def inputs(self, texts: tuple[str, ...] = TEXTS, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        batch = len(texts)
        inputs = {
            f"image.{camera.name}": torch.randint(
                0, 256, (batch, camera.height, camera.width, 3), dtype=torch.uint8, generator=generator
            )
            for camera in self.plan.cameras
        }
        state = torch.rand((batch, 14), generator=generator) * 2 - 1
        rows = [
            self.prompt.tokens(text, row if self.prompt.reads_state else None)
            for text, row in zip(texts, state.numpy(), strict=True)
        ]
        inputs["tokens"] = cut(torch.tensor(np.stack(rows)), self.spec.pad_id)
        if self.plan.framework == "gr00t":
            inputs["noise"] = torch.randn((batch, 16, 14), generator=generator)
            if self.plan.state:
                inputs["state"] = state
        return inputs


def cut(tokens: Tensor, pad_id: int) -> Tensor:
    """Drop the columns in which every prompt is padded, as engines do."""
    return tokens[:, : int((tokens != pad_id).sum(1).max())]


def one(inputs: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index : index + 1] for name, value in inputs.items()}

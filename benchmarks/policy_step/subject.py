"""The policy that is measured: random weights, tiny or at full Qwen3.5-4B size, built where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, Qwen3_5Config

from training.policies.backbone import Backbone
from training.policies.gr00t import GR00THead, GR00TPolicy, GR00TSizes
from training.policies.image_patches import PatchRule
from training.policies.oft import OFTHead, OFTPolicy
from training.policies.policy import VLAPolicy
from training.policies.vision_tower import BATCHED_ATTENTION

Arrays = dict[str, npt.NDArray[np.generic]]
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
ROWS, DOF = 16, 14
PAD, IMAGE, ACTION, FIRST_WORD = 0, 1, 2, 3
# Markup of the prompt besides images, instruction and action tokens.
MARKUP = 16


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of a backbone and of what it is asked.

    Attributes:
        text, vision: fields of the Hugging Face configs.
        frame: side of every camera's frame in pixels.
        min_pixels: area below which the processor enlarges a frame.
        instruction: words of the instruction, in tokens.
        head: sizes of the flow-matching head.
    """

    text: dict[str, object]
    vision: dict[str, object]
    frame: int
    min_pixels: int
    instruction: int
    head: GR00TSizes


ROPE = {"rope_type": "default", "partial_rotary_factor": 0.25, "mrope_interleaved": True}
SIZES = {
    "tiny": Size(
        text={
            "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
            "rope_parameters": {**ROPE, "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        },
        vision={
            "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 128,
            "num_position_embeddings": 64,
        },
        frame=96,
        min_pixels=1024,
        instruction=20,
        head=GR00TSizes(width=96, heads=4, blocks=4, out=96, inner=96, future_tokens=8),
    ),
    # Text width, vocabulary, layer pattern and the head are the FineVLA training files'; the other sizes are those of
    # the released Qwen3.5-4B config.
    "4b": Size(
        text={
            "vocab_size": 248320, "hidden_size": 2560, "intermediate_size": 9216, "num_hidden_layers": 32,
            "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "linear_num_key_heads": 16,
            "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
            "rope_parameters": {**ROPE, "rope_theta": 10000000.0, "mrope_section": [11, 11, 10]},
        },
        vision={
            "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2560,
            "num_position_embeddings": 2304,
        },
        frame=224,
        min_pixels=65536,
        instruction=20,
        head=GR00TSizes(),
    ),
}  # fmt: skip


class Subject:
    """One policy on one device, the same network as plain Hugging Face runs it, and inputs for both."""

    def __init__(self, size: Size, framework: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        """Build both; they share every weight."""
        self.size = size
        self.device = device
        self.framework = framework
        rule = PatchRule(16, 2, 2, min_pixels=size.min_pixels)
        with torch.random.fork_rng(), device:
            torch.manual_seed(seed)
            backbone = Backbone(_model(size, dtype, BATCHED_ATTENTION), rule, [(size.frame, size.frame)] * len(CAMERAS))
            self.policy: VLAPolicy = _policy(backbone, framework, size)
            self.plain: Any = _model(size, dtype, "sdpa")
        self.plain.load_state_dict(backbone.model.state_dict(), assign=True)
        self.plain.tie_weights()
        self.policy.to(device).eval()
        self.plain.to(device).eval()

    @property
    def length(self) -> int:
        """Return the tokens of a prompt."""
        actions = ROWS if self.framework == "oft" else 0
        return self.policy.backbone.image_tokens + MARKUP + self.size.instruction + actions

    def inputs(self, batch: int, seed: int = 0) -> Arrays:
        """Return one batch of observation tensors in host memory, as the server hands them to an engine."""
        rng = np.random.default_rng(seed)
        frame = (batch, self.size.frame, self.size.frame, 3)
        inputs: Arrays = {f"image.{name}": rng.integers(0, 256, frame, dtype=np.uint8) for name in CAMERAS}
        words = rng.integers(FIRST_WORD, cast(int, self.size.text["vocab_size"]), (batch, self.length), dtype=np.int64)
        # A word stands before each image; without it, two images would be one.
        place = 1
        for grid in self.policy.backbone.grids:
            words[:, place : place + grid.tokens] = IMAGE
            place += grid.tokens + 1
        if self.framework == "oft":
            words[:, -ROWS - 2 : -2] = ACTION
        inputs["tokens"] = words
        if self.framework == "gr00t":
            inputs["noise"] = rng.standard_normal((batch, ROWS, DOF), dtype=np.float32)
        return inputs

    def act(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return rows float32[batch, 16, 14] as the policy computes them."""
        return self.policy.act(inputs)

    def act_plainly(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the same rows through the forward pass of Hugging Face, which knows none of our shortcuts.

        Patches are cut by our module on the device, which is faster than its image processor on the host: the
        comparison errs in favour of Hugging Face.
        """
        backbone, tokens = self.policy.backbone, inputs["tokens"]
        patches = [patchify(inputs[f"image.{name}"]) for name, patchify in zip(CAMERAS, backbone.patchify, strict=True)]
        grid = [[1, g.rows, g.columns] for g in backbone.grids] * len(tokens)
        out = self.plain(
            input_ids=tokens,
            attention_mask=(tokens != PAD).long(),
            mm_token_type_ids=(tokens == IMAGE).int(),
            pixel_values=torch.stack(patches, 1).flatten(0, 2),
            image_grid_thw=torch.tensor(grid, device=tokens.device),
            output_hidden_states=True,
            use_cache=False,
            logits_to_keep=1,
        )
        hidden = out.hidden_states[-1].float()
        if isinstance(self.policy, OFTPolicy):
            return cast(Tensor, self.policy.head(hidden, tokens))
        head = cast(GR00TPolicy, self.policy).head
        x = inputs["noise"]
        steps = cast(GR00TPolicy, self.policy).denoise_steps
        for step in range(steps):
            time = torch.full((len(x),), step * 1000 // steps, device=x.device)
            # As upstream does: the prefix is projected again in every denoising step.
            x = x + head(hidden, tokens, x, time) / steps
        return x

    def step(self, forward: Callable[[dict[str, Tensor]], Tensor]) -> Callable[[Arrays], npt.NDArray[np.float32]]:
        """Return a step from arrays in host memory to rows in host memory around a torch function."""

        def run(inputs: Arrays) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                tensors = {name: torch.from_numpy(value).to(self.device) for name, value in inputs.items()}
                return cast(npt.NDArray[np.float32], forward(tensors).float().cpu().numpy())

        return run


def _model(size: Size, dtype: torch.dtype, vision_attention: str) -> Any:
    config = Qwen3_5Config(
        text_config={**size.text, "pad_token_id": PAD},
        vision_config=size.vision,
        image_token_id=IMAGE,
        tie_word_embeddings=True,
    )
    attention = {"": "sdpa", "text_config": "sdpa", "vision_config": vision_attention}
    # The auto classes of transformers carry no usable types.
    return cast(Any, AutoModelForImageTextToText).from_config(config, dtype=dtype, attn_implementation=attention)


def _policy(backbone: Backbone, framework: str, size: Size) -> VLAPolicy:
    if framework == "oft":
        return OFTPolicy(backbone, OFTHead(backbone.width, ROWS, DOF, ACTION), CAMERAS)
    return GR00TPolicy(backbone, GR00THead(backbone.width, ROWS, DOF, PAD, False, size.head), CAMERAS)

"""The tiny staged policy as torch programs, saved the way a bundle wants them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.serving.staged_bundle import ACTION_IDS, BUCKETS, IMAGES, STEPS, random_inputs, weights
from tests.serving.tiny_bundle import SIZES


class StagedPolicy(nn.Module):
    """The same arithmetic as ``staged_bundle.reference``."""

    def __init__(self, framework: str) -> None:
        super().__init__()
        self.framework = framework
        for name, value in weights(framework).items():
            self.register_buffer(name.replace(".", "_"), torch.from_numpy(value))
        self.register_buffer("ids", torch.tensor(ACTION_IDS))

    def weight(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "_"))

    def vision(self, images: Mapping[str, Tensor]) -> Tensor:
        seen = [images[f"image.{c}"].float().mean((1, 2)) / 255 @ self.weight(f"see.{c}") for c in SIZES]
        return torch.stack(seen, 1)

    def hidden(self, tokens: Tensor, image_embeds: Tensor) -> Tensor:
        text = nn.functional.embedding(tokens, self.weight("words"))[:, IMAGES:]
        return torch.tanh(torch.cumsum(torch.cat([image_embeds, text], 1), 1) * 0.1)

    def regress(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        at = (tokens[:, None] == self.weight("ids")[None, :, None]).float()
        return at @ hidden @ self.weight("out")

    def velocity(self, hidden: Tensor, tokens: Tensor, x: Tensor, time: Tensor, state: Tensor) -> Tensor:
        mask = (tokens != 0).float()[..., None]
        pooled = (hidden * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True) @ self.weight("out")
        moved = x @ self.weight("from_x") + (state @ self.weight("from_state"))[:, None]
        return torch.tanh(moved + pooled + time.float()[:, None, None] / 1000 * self.weight("from_time"))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        tokens = inputs["tokens"]
        hidden = self.hidden(tokens, self.vision(inputs))
        if self.framework == "oft":
            return self.regress(hidden, tokens)
        x = inputs["noise"]
        for step in range(STEPS):
            time = torch.full_like(tokens[:, 0], step * 1000 // STEPS)
            x = x + self.velocity(hidden, tokens, x, time, inputs["state"]) / STEPS
        return x


class _Stage(nn.Module):
    def __init__(self, policy: StagedPolicy, name: str) -> None:
        super().__init__()
        self.policy, self.name = policy, name

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.name == "vision":
            return self.policy.vision(inputs)
        if self.name == "prefix":
            return self.policy.hidden(inputs["tokens"], inputs["image_embeds"])
        x, time, state = inputs["x"], inputs["time"], inputs["state"]
        return self.policy.velocity(inputs["hidden"], inputs["tokens"], x, time, state)


def save_program(
    module: nn.Module, inputs: dict[str, Tensor], path: Path, any_length: bool = True, with_weights: bool = True
) -> Path:
    """Export with dynamic batch and prompt length, and save without pickles and without names of source files."""
    batch, length = Dim("batch", min=1, max=64), Dim("length", min=5, max=BUCKETS[-1])
    shapes = {
        name: {0: batch, 1: length} if name in ("tokens", "hidden") and any_length else {0: batch} for name in inputs
    }
    with torch.no_grad():
        program = torch.export.export(module.eval(), (inputs,), dynamic_shapes=(shapes,))
    program.example_inputs = None
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
    if not with_weights:
        for name, value in program.state_dict.items():
            # One element stands for the whole tensor; the engine puts the bundle's shared weights in its place.
            program.state_dict[name] = torch.zeros(1, dtype=value.dtype).expand(value.shape)
    torch.export.save(program, path)
    return path


def sample(framework: str) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in random_inputs(framework).items()}


def policy_program(framework: str, path: Path, any_length: bool = True) -> Path:
    return save_program(StagedPolicy(framework), sample(framework), path, any_length)


def stage_programs(folder: Path, with_weights: bool = True) -> dict[str, Path]:
    """Write vision, prefix and head of the gr00t policy."""
    policy, inputs = StagedPolicy("gr00t"), sample("gr00t")
    images = {name: value for name, value in inputs.items() if name.startswith("image.")}
    embeds = policy.vision(images)
    prefix = {"tokens": inputs["tokens"], "image_embeds": embeds}
    head = {
        "hidden": policy.hidden(**prefix),
        "tokens": inputs["tokens"],
        "x": inputs["noise"],
        "time": torch.zeros(len(embeds), dtype=torch.int64),
        "state": inputs["state"],
    }
    feeds = {"vision": images, "prefix": prefix, "head": head}
    return {
        name: save_program(_Stage(policy, name), feed, folder / f"{name}.pt2", with_weights=with_weights)
        for name, feed in feeds.items()
    }

"""The graphs of a policy: what each reads, what it gives, and how it is built from operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from finevla_runtime.contracts.errors import unknown_name
from training.export.head_graph import GR00THeadGraph, OFTHeadGraph
from training.export.onnx_graph import Port
from training.export.operations import Operations, Value
from training.export.prefix_graph import PrefixGraph
from training.export.prompt_positions import PromptPositions
from training.export.vision_graph import VisionGraph
from training.policies.gr00t import GR00TPolicy
from training.policies.oft import OFTPolicy
from training.policies.policy import VLAPolicy

BATCH, LENGTH = "B", "S"
VISION, PREFIX, HEAD = "vision", "prefix", "head"
STATIC_PREFIX = "prefix_static_"


@dataclass(frozen=True, eq=False)
class Stage:
    """One graph, not yet in any dialect.

    Attributes:
        name: file stem of the graph.
        inputs: what it reads, in order.
        output: what it gives.
        build: writes or runs it: operations and input name -> value.
    """

    name: str
    inputs: tuple[Port, ...]
    output: Port
    build: Callable[[Operations, Mapping[str, Value]], Value]

    @property
    def static(self) -> bool:
        """Return whether the stage serves prompts of one length only."""
        return self.name.startswith(STATIC_PREFIX)


def policy_stages(policy: VLAPolicy, layout: PromptPositions, buckets: Sequence[int] = ()) -> tuple[Stage, ...]:
    """Return the stages vision, prefix (any length), prefix_static_<bucket> for every bucket, head.

    Raises:
        SetupError: FV-EXP-002 for a kind of policy without graphs.
    """
    prefix = _prefix(policy, layout)
    return (_vision(policy), prefix(None), *(prefix(bucket) for bucket in buckets), _head(policy, layout))


def _vision(policy: VLAPolicy) -> Stage:
    backbone = policy.backbone
    graph = VisionGraph(backbone)
    names = [f"image.{camera}" for camera in policy.cameras]
    inputs = tuple(
        Port(name, torch.uint8, (BATCH, grid.height, grid.width, 3))
        for name, grid in zip(names, backbone.grids, strict=True)
    )
    output = Port("image_embeds", torch.float32, (BATCH, backbone.image_tokens, backbone.embed_width))
    return Stage(VISION, inputs, output, lambda ops, values: graph.build(ops, [values[name] for name in names]))


def _prefix(policy: VLAPolicy, layout: PromptPositions) -> Callable[[int | None], Stage]:
    backbone = policy.backbone
    graph = PrefixGraph(backbone.model.model.language_model, layout, backbone.deepstack)  # type: ignore[union-attr,arg-type]

    def stage(length: int | None) -> Stage:
        size: int | str = LENGTH if length is None else length
        inputs = (
            Port("tokens", torch.int64, (BATCH, size)),
            Port("image_embeds", torch.float32, (BATCH, backbone.image_tokens, backbone.embed_width)),
        )
        output = Port("hidden", torch.float32, (BATCH, size, backbone.width))
        return Stage(
            PREFIX if length is None else f"{STATIC_PREFIX}{length}",
            inputs,
            output,
            lambda ops, values: graph.build(ops, values["tokens"], values["image_embeds"], length),
        )

    return stage


def _head(policy: VLAPolicy, layout: PromptPositions) -> Stage:
    hidden = Port("hidden", torch.float32, (BATCH, LENGTH, policy.backbone.width))
    tokens = Port("tokens", torch.int64, (BATCH, LENGTH))
    if isinstance(policy, OFTPolicy):
        oft = OFTHeadGraph(policy.head, layout.positions.shape[1])
        rows = (BATCH, policy.head.rows, policy.head.model.fc2.out_features)
        return Stage(
            HEAD,
            (hidden, tokens),
            Port("actions", torch.float32, rows),
            lambda ops, values: oft.build(ops, values["hidden"], values["tokens"]),
        )
    if isinstance(policy, GR00TPolicy):
        head, gr00t = policy.head, GR00THeadGraph(policy.head)
        dof = head.action_encoder.layer1.in_features
        inputs = [
            hidden,
            tokens,
            Port("x", torch.float32, (BATCH, head.rows, dof)),
            Port("time", torch.int64, (BATCH,)),
        ]
        if head.state:
            inputs.append(Port("state", torch.float32, (BATCH, dof)))
        return Stage(
            HEAD,
            tuple(inputs),
            Port("velocity", torch.float32, (BATCH, head.rows, dof)),
            lambda ops, values: gr00t.build(
                ops, values["hidden"], values["tokens"], values["x"], values["time"], values.get("state")
            ),
        )
    raise unknown_name("FV-EXP-002", "policy", type(policy).__name__, ("OFTPolicy", "GR00TPolicy"), "export")

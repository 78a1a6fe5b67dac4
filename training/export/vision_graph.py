"""The vision tower as a graph: uint8 frames of fixed size in, ``image_embeds`` out.

Hugging Face's forward packs all images into one sequence and splits it by data-dependent lengths, which cannot be
exported. The frames of a policy have fixed sizes, so here every image is one entry of the batch, and its position
embeddings and rotary tables are constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from finevla_runtime.contracts.graph_plan import EXACT_WEIGHTS
from training.export.layers import attend, layer_norm, rotate
from training.export.operations import Operations, Value
from training.policies.backbone import Backbone
from training.policies.image_patches import ImageGrid, Patchify


class VisionGraph:
    """The vision tower of a backbone with fixed cameras."""

    def __init__(self, backbone: Backbone) -> None:
        """Read the frame sizes and precompute positions and rotary angles."""
        self._tower = cast(Any, backbone.model).model.visual
        self._patchify = {p.grid: p for p in cast("Sequence[Patchify]", backbone.patchify)}
        self._grids = backbone.grids
        self._tables = {
            grid: _tables(self._tower, cast(Any, backbone.constants[backbone.grids.index(grid)]))
            for grid in self._grids
        }
        prepare = next(iter(self._patchify.values()))
        self._scale, self._shift = 1.0 / (255.0 * prepare.std), -prepare.mean / prepare.std
        self._levels = [int(i) for i in getattr(self._tower, "deepstack_visual_indexes", ())]

    def build(self, ops: Operations, frames: Sequence[Value]) -> Value:
        """Return float32[B, image tokens, width, times one plus the deepstack levels]; uint8[B, H, W, 3] per camera."""
        views: dict[int, Value] = {}
        for grid in dict.fromkeys(self._grids):
            # Cameras of one size run through the tower together.
            cameras = [i for i, own in enumerate(self._grids) if own == grid]
            wide = [ops.reshape(ops.floats(frames[i]), 0, 1, grid.height, grid.width, 3) for i in cameras]
            together = wide[0] if len(wide) == 1 else ops.concat(wide, 1)
            seen, features = self._see(ops, ops.reshape(together, -1, grid.height, grid.width, 3), grid)
            seen = ops.reshape(seen, -1, len(cameras), grid.tokens, features)
            for place, camera in enumerate(cameras):
                views[camera] = ops.squeeze(ops.slice(seen, 1, place, place + 1), 1)
        ordered = [views[i] for i in range(len(self._grids))]
        return ops.floats(ordered[0] if len(ordered) == 1 else ops.concat(ordered, 1))

    def _see(self, ops: Operations, frames: Value, grid: ImageGrid) -> tuple[Value, int]:
        """Return float[n, tokens, features] of float32[n, H, W, 3] and how many features there are."""
        name = f"{grid.height}x{grid.width}"
        positions, cos, sin = (
            ops.weight(table, name=f"vision.{kind}.{name}")
            for kind, table in zip(("positions", "cos", "sin"), self._tables[grid], strict=True)
        )
        x = self._patches(ops, frames, grid) + positions
        size = int(self._tables[grid][1].shape[-1])
        found = []
        for number, block in enumerate(self._tower.blocks):
            x = x + _attention(ops, block.attn, layer_norm(ops, x, block.norm1), cos, sin, grid.patches, size)
            inner = ops.linear(layer_norm(ops, x, block.norm2), block.mlp.linear_fc1)
            x = x + ops.linear(ops.elementwise("gelu_tanh", inner), block.mlp.linear_fc2)
            if number in self._levels:
                found.append(_merge(ops, self._tower.deepstack_merger_list[self._levels.index(number)], x, grid))
        found.insert(0, _merge(ops, self._tower.merger, x, grid))
        width = int(self._tower.merger.linear_fc2.out_features)
        return (found[0] if len(found) == 1 else ops.concat(found, 2)), width * len(found)

    def _patches(self, ops: Operations, frames: Value, grid: ImageGrid) -> Value:
        """Return float[n, patches, channels] in the tower's order: merged blocks first, patches inside a block next."""
        prepare, projection = self._patchify[grid], self._tower.patch_embed.proj
        size = f"{grid.height}x{grid.width}"
        x = ops.transpose(frames, 0, 3, 1, 2)
        if prepare.across is not None and prepare.down is not None:
            # Pillow resizes rows first and rounds to bytes after each of the two passes.
            across = ops.weight(prepare.across, transposed=True, name=f"{EXACT_WEIGHTS}across.{size}")
            x = ops.clip(ops.elementwise("floor", ops.exact_product(x, across) + 0.5), 0.0, 255.0)
            down = ops.weight(prepare.down, name=f"{EXACT_WEIGHTS}down.{size}")
            x = ops.clip(ops.elementwise("floor", ops.exact_product(down, x) + 0.5), 0.0, 255.0)
        x = x * ops.weight(self._scale, name="vision.pixel.scale") + ops.weight(self._shift, name="vision.pixel.shift")
        # A still image is shown to the tower as identical frames, so its kernels may be summed over time.
        kernel = ops.derived(projection.weight, "still", lambda w: w.float().sum(2).to(w.dtype))
        x = ops.patches(ops.cast(x, kernel.dtype), kernel, ops.weight(projection.bias), prepare.rule.patch)
        channels = int(projection.out_channels)
        x = ops.reshape(x, 0, channels, grid.token_rows, grid.merge, grid.token_columns, grid.merge)
        return ops.reshape(ops.transpose(x, 0, 2, 4, 3, 5, 1), 0, grid.patches, channels)


def _attention(ops: Operations, layer: Any, x: Value, cos: Value, sin: Value, patches: int, size: int) -> Value:
    """Return softmax attention inside every image, float[n, patches, channels]."""
    heads = int(layer.num_heads)
    mixed = ops.reshape(ops.linear(x, layer.qkv), 0, patches, 3, heads, size)
    mixed = ops.transpose(mixed, 2, 0, 3, 1, 4)
    q, k, v = (ops.squeeze(ops.slice(mixed, 0, i, i + 1), 0) for i in range(3))
    q, k = rotate(ops, q, cos, sin, size, size), rotate(ops, k, cos, sin, size, size)
    seen = attend(ops, q, ops.transpose(k, 0, 1, 3, 2), v, size**-0.5)
    return ops.linear(ops.reshape(ops.transpose(seen, 0, 2, 1, 3), 0, 0, -1), layer.proj)


def _merge(ops: Operations, merger: Any, x: Value, grid: ImageGrid) -> Value:
    """Return one token per block of patches, float[n, tokens, width]."""
    after = bool(getattr(merger, "use_postshuffle_norm", False))
    x = x if after else layer_norm(ops, x, merger.norm)
    x = ops.reshape(x, 0, grid.tokens, -1)
    x = layer_norm(ops, x, merger.norm) if after else x
    return ops.linear(ops.elementwise("gelu", ops.linear(x, merger.linear_fc1)), merger.linear_fc2)


def _tables(tower: Any, constants: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return position embeddings float[patches, channels] and rotary cos, sin float32[patches, head width]."""
    table = tower.pos_embed.weight.detach()
    with torch.no_grad():
        # Summed in the tower's own type and order, as Hugging Face does.
        positions = (table[constants.indices] * constants.weights[:, :, None]).sum(1).to(table.dtype)
        cos, sin = tower.rotary_pos_emb(positions, constants.positions)
    return positions, cos.float().contiguous(), sin.float().contiguous()

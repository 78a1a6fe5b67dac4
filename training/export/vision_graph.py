"""The vision tower as a graph: uint8 frames of fixed size in, image embeddings out.

Hugging Face's forward packs all images into one sequence and splits it by data-dependent lengths, which cannot be
exported. The frames of a policy have fixed sizes, so here every image is one entry of the batch, and its position
embeddings and rotary tables are constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from training.export.rotary import rotate


class VisionGraph(nn.Module):
    """Frames of every camera to ``image_embeds`` float[B, N, width], cameras in order."""

    def __init__(self, visual: nn.Module, sizes: Sequence[tuple[int, int]]) -> None:
        """Share the modules of a Qwen3.5 vision tower.

        Args:
            visual: Hugging Face's ``Qwen3_5VisionModel`` in evaluation mode.
            sizes: height and width of every camera in pixels, multiples of patch size times merge size.
        """
        super().__init__()
        self.sizes = tuple(sizes)
        self.blocks = cast(nn.ModuleList, visual.blocks)
        self.merger = cast(nn.Module, visual.merger)
        projection = cast(nn.Conv3d, cast(nn.Module, visual.patch_embed).proj)
        self.patch = int(projection.kernel_size[1])
        self.merge = int(cast(int, visual.spatial_merge_size))
        # A still image is shown to the tower as identical frames, so its kernels may be summed over time.
        self.patch_weight = nn.Buffer(projection.weight.detach().float().sum(2).to(projection.weight.dtype))
        self.patch_bias = nn.Buffer(cast(Tensor, projection.bias).detach())
        for height, width in dict.fromkeys(self.sizes):
            positions, cos, sin = _tables(visual, height // self.patch, width // self.patch)
            self.register_buffer(f"positions_{height}x{width}", positions.to(projection.weight.dtype))
            self.register_buffer(f"cos_{height}x{width}", cos)
            self.register_buffer(f"sin_{height}x{width}", sin)

    def forward(self, *frames: Tensor) -> Tensor:
        """Return float[B, N, width] for uint8[B, H, W, 3] per camera, 0..255."""
        batch = frames[0].shape[0]
        found: list[Tensor | None] = [None] * len(frames)
        for size in dict.fromkeys(self.sizes):
            cameras = [i for i, own in enumerate(self.sizes) if own == size]
            # Cameras of one size go through the tower as one batch, camera-major.
            seen = self._tower(torch.cat([frames[i] for i in cameras]), size)
            for place, camera in enumerate(cameras):
                found[camera] = seen[place * batch : (place + 1) * batch]
        return torch.cat([part for part in found if part is not None], dim=1)

    def _tower(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Return float[n, tokens, width] for uint8[n, H, W, 3]."""
        positions, cos, sin = (getattr(self, f"{name}_{size[0]}x{size[1]}") for name in ("positions", "cos", "sin"))
        x = self._patches(frames, size) + positions
        for block in self.blocks:
            x = x + _attend(cast(nn.Module, block.attn), block.norm1(x), cos, sin)
            x = x + block.mlp(block.norm2(x))
        merged = x.shape[1] // self.merge**2
        # The merger flattens its input to rows of merged patches, which mixes batch and tokens.
        return cast(Tensor, self.merger(x)).reshape(-1, merged, self._width())

    def _width(self) -> int:
        return int(cast(nn.Linear, self.merger.linear_fc2).out_features)

    def _patches(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Return float[n, patches, channels] in the tower's order: merged blocks first, patches inside a block next."""
        pixels = frames.permute(0, 3, 1, 2).float() * (1.0 / 127.5) - 1.0
        weight = cast(Tensor, self.patch_weight)
        x = F.conv2d(pixels.to(weight.dtype), weight, cast(Tensor, self.patch_bias), stride=self.patch)
        rows, columns = size[0] // (self.patch * self.merge), size[1] // (self.patch * self.merge)
        x = x.reshape(-1, weight.shape[0], rows, self.merge, columns, self.merge)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, rows * columns * self.merge**2, weight.shape[0])


def _attend(attention: nn.Module, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return softmax attention inside every image, float[n, patches, channels]."""
    heads = int(cast(int, attention.num_heads))
    patches, width = x.shape[1], x.shape[2]
    mixed = cast(nn.Linear, attention.qkv)(x).reshape(-1, patches, 3, heads, width // heads)
    q, k, v = mixed.permute(2, 0, 3, 1, 4).unbind(0)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    weights = torch.softmax((q @ k.transpose(-1, -2)) * (width // heads) ** -0.5, dim=-1, dtype=torch.float32)
    seen = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(-1, patches, width)
    return cast(Tensor, cast(nn.Linear, attention.proj)(seen))


def _tables(visual: nn.Module, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return position embeddings float[patches, channels] and rotary cos, sin float32[patches, head width]."""
    merge = int(cast(int, visual.spatial_merge_size))
    grid = torch.tensor([[1, rows, columns]])
    with torch.no_grad():
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid, num_grid_per_side=int(cast(int, visual.num_grid_per_side)), mode="bilinear", align_corners=True,
            spatial_merge_size=merge,
        )
        table = cast(nn.Embedding, visual.pos_embed).weight
        positions = (table.float()[indices.to(table.device)] * weights.to(table.device)[:, :, None]).sum(1)
        where = get_vision_position_ids(grid, merge).to(table.device)
        cos, sin = cast(nn.Module, visual.rotary_pos_emb)(positions, where)
    return positions, cos, sin

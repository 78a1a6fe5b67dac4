"""Camera frames to the flattened patches a Qwen vision tower reads, inside the graph and without torchvision.

The arithmetic is that of the Hugging Face image processor of the Qwen-VL family (``Qwen2VLImageProcessorPil``): the
frame is first resized so that both sides are multiples of patch times merge and the area lies within the folder's
limits, then scaled, normalised and cut into patches in merge-block order. At fixed frame sizes everything except the
pixels is a constant, so frames enter the graph as bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError

# Limits of the released Qwen3-VL and Qwen3.5 folders, used where a folder carries no processor file.
MIN_PIXELS = 65536
MAX_PIXELS = 16777216
PILLOW_PRECISION_BITS = 22
MAX_ASPECT = 200


@dataclass(frozen=True, slots=True)
class PatchRule:
    """How a folder's processor prepares frames.

    Attributes:
        patch: side of a patch in pixels.
        merge: patches merged per side into one token.
        temporal: frames per patch; a still image is repeated.
        mean, std: per colour channel, applied to values in 0..1.
        min_pixels, max_pixels: area limits; a frame outside is resized with Pillow's bicubic kernel.
    """

    patch: int
    merge: int
    temporal: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """The patches of one view.

    Attributes:
        height, width: pixels of the frame that enters.
        rows, columns: patches after the processor's own resize.
        merge: patches merged per side into one token.
    """

    height: int
    width: int
    rows: int
    columns: int
    merge: int

    @property
    def patches(self) -> int:
        """Return the number of patches."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Return the number of image tokens the language model sees."""
        return self.patches // self.merge**2

    @property
    def token_rows(self) -> int:
        """Return the image tokens per column."""
        return self.rows // self.merge

    @property
    def token_columns(self) -> int:
        """Return the image tokens per row."""
        return self.columns // self.merge


def read_patch_rule(folder: Path, patch: int, merge: int, temporal: int) -> PatchRule:
    """Return the rule of a backbone folder; the sizes come from its model config, the rest from its processor file.

    Reads ``preprocessor_config.json``, or the ``image_processor`` entry of the newer ``processor_config.json``;
    without either, the values of the released Qwen3.5 folders hold.

    Raises:
        SetupError: FV-POL-002 when the processor file contradicts the model config or asks for another arithmetic.
    """
    raw = _processor_entry(folder)
    for name, wanted in (("patch_size", patch), ("merge_size", merge), ("temporal_patch_size", temporal)):
        if raw.get(name, wanted) != wanted:
            raise SetupError(
                "FV-POL-002",
                f"{folder}: the processor file says {name} {raw[name]}, the model config says {wanted}; the folder "
                "mixes two models, download it again.",
            )
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if raw.get(name, True) is not True:
            raise SetupError("FV-POL-002", f"{folder}: the processor file switches {name} off, which is unsupported.")
    size = raw.get("size")
    limits = size if isinstance(size, dict) else {}
    return PatchRule(
        patch=patch,
        merge=merge,
        temporal=temporal,
        mean=_channels(raw.get("image_mean")),
        std=_channels(raw.get("image_std")),
        min_pixels=_pixels(raw.get("min_pixels") or limits.get("shortest_edge"), MIN_PIXELS),
        max_pixels=_pixels(raw.get("max_pixels") or limits.get("longest_edge"), MAX_PIXELS),
    )


def image_grid(height: int, width: int, rule: PatchRule) -> ImageGrid:
    """Return the grid of a frame of ``height`` x ``width`` pixels.

    A released Qwen3.5 folder wants at least 65536 pixels: a 224x224 frame is enlarged to 256x256, 16 x 16 patches,
    64 image tokens.

    Raises:
        SetupError: FV-POL-003 for an impossible frame size.
    """
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise SetupError("FV-POL-003", f"a frame of {height}x{width} pixels cannot be cut into patches.")
    unit = rule.patch * rule.merge
    tall, wide = round(height / unit) * unit, round(width / unit) * unit
    if tall * wide > rule.max_pixels:
        shrink = math.sqrt(height * width / rule.max_pixels)
        tall = max(unit, math.floor(height / shrink / unit) * unit)
        wide = max(unit, math.floor(width / shrink / unit) * unit)
    elif tall * wide < rule.min_pixels:
        grow = math.sqrt(rule.min_pixels / (height * width))
        tall = math.ceil(height * grow / unit) * unit
        wide = math.ceil(width * grow / unit) * unit
    return ImageGrid(height, width, tall // rule.patch, wide // rule.patch, rule.merge)


def bicubic_weights(size: int, wanted: int) -> npt.NDArray[np.float64]:
    """Return float64[wanted, size], Pillow's bicubic kernel (a = -0.5, antialiased) in its own fixed-point steps."""
    scale = size / wanted
    stretch = max(scale, 1.0)
    weights = np.zeros((wanted, size))
    for row in range(wanted):
        centre = (row + 0.5) * scale
        first = max(int(centre - 2.0 * stretch + 0.5), 0)
        last = min(int(centre + 2.0 * stretch + 0.5), size)
        distance = np.abs((np.arange(first, last) - centre + 0.5) / stretch)
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        taps = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
        weights[row, first:last] = taps / taps.sum()
    steps = 1 << PILLOW_PRECISION_BITS
    return np.trunc(weights * steps + np.copysign(0.5, weights)) / steps


class Patchify(nn.Module):
    """One view's bytes to patches; the buffers are constants and never part of a state dict."""

    across: Tensor | None
    down: Tensor | None
    mean: Tensor
    std: Tensor

    def __init__(self, grid: ImageGrid, rule: PatchRule) -> None:
        """Precompute the constants of one frame size."""
        super().__init__()
        self.grid = grid
        self.rule = rule
        tall, wide = grid.rows * rule.patch, grid.columns * rule.patch
        same = (tall, wide) == (grid.height, grid.width)
        across = None if same else torch.tensor(bicubic_weights(grid.width, wide), dtype=torch.float32)
        down = None if same else torch.tensor(bicubic_weights(grid.height, tall), dtype=torch.float32)
        self.register_buffer("across", across, persistent=False)
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("mean", torch.tensor(rule.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(rule.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return float32[B, patches, 3 * temporal * patch * patch] for uint8[B, height, width, 3]."""
        grid, rule = self.grid, self.rule
        x = frames.permute(0, 3, 1, 2).to(torch.float32)
        if self.across is not None and self.down is not None:
            # Pillow resizes rows first and rounds to bytes after each of the two passes. In float64 the products of
            # bytes with its fixed-point kernels are exact, and no autocast touches them: in bfloat16 the resize alone
            # would brighten frames by a grey level.
            x = torch.floor((x.double() @ self.across.double().t()).float() + 0.5).clamp(0.0, 255.0)
            x = torch.floor((self.down.double() @ x.double()).float() + 0.5).clamp(0.0, 255.0)
        x = (x * (1.0 / 255.0) - self.mean) / self.std
        x = x.reshape(
            x.shape[0], 3, grid.token_rows, rule.merge, rule.patch, grid.token_columns, rule.merge, rule.patch
        )
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        x = x.expand(-1, -1, -1, -1, -1, -1, rule.temporal, -1, -1)
        return x.reshape(x.shape[0], grid.patches, 3 * rule.temporal * rule.patch**2)


def _processor_entry(folder: Path) -> dict[str, object]:
    plain = folder / "preprocessor_config.json"
    if plain.is_file():
        return dict(json.loads(plain.read_text()))
    nested = folder / "processor_config.json"
    if nested.is_file():
        entry = json.loads(nested.read_text()).get("image_processor")
        if isinstance(entry, dict):
            return dict(entry)
    return {}


def _channels(value: object) -> tuple[float, ...]:
    if isinstance(value, list) and len(value) == 3:
        return tuple(float(channel) for channel in value)
    return (0.5, 0.5, 0.5)


def _pixels(value: object, otherwise: int) -> int:
    return int(value) if isinstance(value, (int, float)) else otherwise

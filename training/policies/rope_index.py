"""M-RoPE positions of a prompt: where every token stands in time, height and width.

Qwen's rule: text advances all three axes by one per token; an image holds its time axis, spreads its rows and columns
over the other two, and then advances all three by the longer of its sides. The grids are constants of the policy, so
two small tables and a running count give the positions of any prompt without a loop over tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.policies.image_patches import ImageGrid


class RopeIndex(nn.Module):
    """Positions for prompts that contain the images of ``grids`` once each, in that order."""

    within: Tensor
    behind: Tensor

    def __init__(self, grids: Sequence[ImageGrid]) -> None:
        """Precompute, per image token, its offset, and per count of image tokens seen, what they advanced."""
        super().__init__()
        within: list[tuple[int, int, int]] = []
        behind = [0]
        advanced = 0
        for grid in grids:
            within += [
                (advanced, advanced + row, advanced + column)
                for row in range(grid.token_rows)
                for column in range(grid.token_columns)
            ]
            # A count inside an image never occurs at a text token, so those entries are never read.
            behind += [advanced] * (grid.tokens - 1)
            advanced += max(grid.token_rows, grid.token_columns)
            behind.append(advanced)
        self.register_buffer("within", torch.tensor(within or [(0, 0, 0)]).t().contiguous(), persistent=False)
        self.register_buffer("behind", torch.tensor(behind), persistent=False)

    def forward(self, image_mask: Tensor) -> Tensor:
        """Return int64[3, B, S] for bool[B, S], true at image tokens; padding on the right counts as text."""
        seen = image_mask.long().cumsum(1)
        text = (~image_mask).long()
        text_before = text.cumsum(1) - text
        image_index = (seen - 1).clamp(0, self.within.shape[1] - 1)
        behind = self.behind[seen.clamp(max=self.behind.shape[0] - 1)]
        return text_before + torch.where(image_mask, self.within[:, image_index], behind)

"""Where the images stand in the prompts of a policy, and the positions of every token: constants of its graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finevla_runtime.contracts.errors import SetupError
from training.policies.backbone import Backbone


@dataclass(frozen=True, eq=False)
class PromptPositions:
    """The fixed part of every prompt.

    Attributes:
        runs: first place and length of every unbroken run of image tokens, ascending, cameras in order.
        positions: int64[3, longest prompt + 1], time, height and width of every place (M-RoPE). One place is spare,
            because tracers take it for a law when a prompt is as long as a table.
    """

    runs: tuple[tuple[int, int], ...]
    positions: Tensor

    @property
    def shortest(self) -> int:
        """Return the length of the shortest prompt that graphs accept: two tokens follow the last image token."""
        return sum(self.runs[-1]) + 2

    @property
    def longest(self) -> int:
        """Return the length of the longest prompt."""
        return int(self.positions.shape[1]) - 1


def prompt_positions(backbone: Backbone, tokens: Tensor) -> PromptPositions:
    """Return the positions that all prompts int64[B, S] share.

    Raises:
        SetupError: FV-EXP-001 when prompts disagree about their image tokens, or hold another number of them than
            the cameras have: graphs with constant places would then read the wrong ones.
    """
    mask = tokens == backbone.image_token_id
    if not bool((mask == mask[:1]).all()) or int(mask[0].sum()) != backbone.image_tokens:
        counts = sorted({int(n) for n in mask.sum(1)})
        raise SetupError(
            "FV-EXP-001",
            f"the prompts hold {counts} image tokens, wanted {backbone.image_tokens} at the same places in every one; "
            "put the images before the instruction in the template.",
        )
    places = mask[0].nonzero().flatten().tolist()
    spare = torch.nn.functional.pad(mask[:1], (0, 1))
    with torch.no_grad():
        positions = backbone.rope_index(spare.to(backbone.rope_index.within.device))[:, 0].cpu()
    return PromptPositions(tuple(_runs(places)), positions)


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((place, 1))
    return runs

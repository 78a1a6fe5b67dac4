"""The exponential moving average of the weights, which is what is evaluated and exported where it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged weights of a module; sharded weights are averaged shard by shard."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start at the present weights; ``decay`` 0 keeps none."""
        self._module = module
        self.decay = decay
        self.tensors: dict[str, Tensor] = {}
        self.reset()

    def reset(self) -> None:
        """Start again at the present weights."""
        if self.decay:
            self.tensors = {name: t.detach().clone() for name, t in self._module.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` (counted from 0); the first steps weigh more, so that it starts warm."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        state = self._module.state_dict()
        moving = [name for name, t in self.tensors.items() if t.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in moving], [state[n] for n in moving], 1 - decay)
        for name in self.tensors.keys() - set(moving):
            self.tensors[name].copy_(state[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the module for the duration of the block."""
        if not self.decay:
            yield
            return
        kept = {name: t.detach().clone() for name, t in self._module.state_dict().items()}
        self._module.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self._module.load_state_dict(kept)

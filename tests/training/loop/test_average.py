"""The averaged weights."""

from __future__ import annotations

import torch
from torch import nn

from training.average import Average


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


def test_the_average_follows_its_formula_and_starts_warm() -> None:
    module = Counted()
    average = Average(module, 0.9)
    wanted = torch.zeros(3)
    for step in range(30):
        with torch.no_grad():
            module.weight.fill_(float(step))
            module.seen += 1
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
        assert torch.allclose(average.tensors["weight"], wanted, rtol=1e-5)
        assert int(average.tensors["seen"]) == step + 1


def test_the_average_is_in_the_module_for_the_block_alone() -> None:
    module = Counted()
    average = Average(module, 0.5)
    with torch.no_grad():
        module.weight.fill_(2.0)
    with average.applied():
        assert module.weight.tolist() == [0.0] * 3
    assert module.weight.tolist() == [2.0] * 3


def test_no_average_is_kept_where_none_is_asked_for() -> None:
    module = Counted()
    average = Average(module, 0.0)
    average.update(0)
    with average.applied():
        assert average.tensors == {}

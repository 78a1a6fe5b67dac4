"""Names of weights in graphs, programs and the weights index."""

from __future__ import annotations

from torch import Tensor, nn

TRANSPOSED = ".transposed"


class WeightNames:
    """State-dict names for the weights of a policy; derived constants bring their own."""

    def __init__(self, policy: nn.Module) -> None:
        """Note the names of all parameters and buffers; tied ones go by their first name."""
        self._by_address: dict[tuple[int, tuple[int, ...]], str] = {}
        for name, tensor in [*policy.named_parameters(), *policy.named_buffers()]:
            self._by_address.setdefault(_key(tensor), name)

    def name(self, tensor: Tensor, transposed: bool, given: str) -> str:
        """Return the name of a weight.

        Raises:
            AssertionError: for a tensor that is not the policy's and brings no name, a fault of a graph's definition.
        """
        name = given or self._by_address.get(_key(tensor), "")
        if not name:
            raise AssertionError(f"a constant of shape {tuple(tensor.shape)} has no name")
        return name + TRANSPOSED if transposed else name


def _key(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape)

"""Names of weights in graphs, programs and the weights index."""

from __future__ import annotations

from torch import Tensor, nn

TRANSPOSED = ".transposed"


class WeightNames:
    """State-dict names for the weights of a policy; derived constants bring their own."""

    def __init__(self, policy: nn.Module) -> None:
        """Note the names of all parameters; tied ones go by their first name."""
        # By identity, which tracing leaves alone; the policy is kept so that no identity is used again.
        self._policy = policy
        self._by_identity = {id(tensor): name for name, tensor in policy.named_parameters()}

    def name(self, tensor: Tensor, transposed: bool = False, given: str = "") -> str:
        """Return the name of a weight.

        Raises:
            AssertionError: for a tensor that is not the policy's and brings no name, a fault of a graph's definition.
        """
        name = given or self._by_identity.get(id(tensor), "")
        if not name:
            raise AssertionError(f"a constant of shape {tuple(tensor.shape)} has no name")
        return name + TRANSPOSED if transposed else name

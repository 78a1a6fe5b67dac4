"""What the OFT and the GR00T policy have in common: a backbone, a head in full precision, loss and act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError
from training.policies.backbone import Backbone


class VLAPolicy(nn.Module, ABC):
    """A vision-language-action policy over the model inputs of ``processing/pipeline.py``, with a batch axis.

    Inputs are ``image.<camera>`` uint8[B, H, W, 3] per camera, ``tokens`` int64[B, S] padded on the right, and, for
    GR00T, ``noise`` float32[B, rows, dof] and ``state`` float32[B, dof] where the policy reads it.

    Attributes:
        backbone: state-dict names below ``backbone.model`` are those of the Hugging Face folder.
        cameras: camera names in model order.
    """

    def __init__(self, backbone: Backbone, cameras: Sequence[str]) -> None:
        """Keep the backbone; a subclass adds ``head``, whose state-dict names are StarVLA's below ``action_model``."""
        super().__init__()
        self.backbone = backbone
        self.cameras = tuple(cameras)

    def hidden(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the last hidden state, float32[B, S, width].

        Raises:
            SetupError: FV-POL-008 when an input is missing, FV-POL-004 for frames of another size.
        """
        images = [self.read(inputs, f"image.{camera}") for camera in self.cameras]
        embeds = self.backbone.embed_images(images)
        return self.backbone.hidden(self.read(inputs, "tokens"), embeds).float()

    def read(self, inputs: Mapping[str, Tensor], name: str) -> Tensor:
        """Return one input (SetupError FV-POL-008 when it is missing)."""
        value = inputs.get(name)
        if value is None:
            raise SetupError(
                "FV-POL-008", f"the batch lacks {name!r}; it has {', '.join(sorted(inputs)) or 'nothing'}."
            )
        return value

    @abstractmethod
    def loss(self, inputs: Mapping[str, Tensor], actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32[B], one loss per sample, for ``actions`` float[B, rows, dof] in model units."""

    @abstractmethod
    def act(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32[B, rows, dof] in model units; a function of the inputs alone."""

    def forward(self, inputs: Mapping[str, Tensor], actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss; data-parallel wrappers only see what goes through this method."""
        return self.loss(inputs, actions, generator)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast is off: heads always compute in float32, as in training upstream."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()

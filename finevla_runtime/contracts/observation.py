"""What the robot saw and felt at one control step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray, FloatArray, frozen_float32
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.contracts.instruction import Instruction


@dataclass(frozen=True, eq=False)
class Observation:
    """One synchronised observation.

    Attributes:
        images: camera name -> uint8[height, width, 3], RGB.
        joint_position: float32[14], measured, in the project's joint layout (radians; gripper 0 closed .. 1 open).
        instruction: what the policy is asked to do.
        capture_time_ns: the sender's monotonic clock when the images were taken.
        control_step: index of the control step that row 0 of the answer refers to.
    """

    images: Mapping[str, ByteArray]
    joint_position: FloatArray
    instruction: Instruction
    capture_time_ns: int
    control_step: int
    image_time_ns: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, dtypes and finiteness (FV-OBS-001, FV-OBS-002) and freeze the arrays."""
        object.__setattr__(
            self, "joint_position", frozen_float32(self.joint_position, (14,), "joint_position", "FV-OBS-001")
        )
        for name, image in self.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise PolicyError(
                    "FV-OBS-002",
                    f"image {name!r} is {image.dtype}{list(image.shape)}, wanted uint8[height, width, 3] in RGB.",
                )
        object.__setattr__(self, "images", MappingProxyType(dict(self.images)))
        object.__setattr__(self, "image_time_ns", MappingProxyType(dict(self.image_time_ns)))

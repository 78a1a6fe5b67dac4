"""Tiny policies and their weights under the names that StarVLA writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from finevla_runtime.contracts.policy import CameraSpec
from tests.training.importer.foreign_run import write_weights
from tests.training.policies.tiny_backbone import write_tiny_backbone
from training.policies.gr00t import GR00TSizes
from training.policies.vla import PolicyPlan, VLAPolicy, build_policy

SIZE = 32
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
# DiT-B's width and heads cannot be configured upstream; everything else is as small as it gets.
SIZES = GR00TSizes(blocks=2, out=24, inner=16, future_tokens=3, max_rows=20)


def tiny_policy(backbone: Path, framework: str, state: bool = False) -> VLAPolicy:
    """Build the policy whose weights a foreign run will hold."""
    cameras = tuple(CameraSpec(name, SIZE, SIZE) for name in CAMERAS)
    return build_policy(PolicyPlan(framework, str(backbone), cameras, state=state, seed=5, sizes=SIZES)).eval()


def foreign_tensors(policy: VLAPolicy) -> dict[str, Tensor]:
    """Return a policy's weights under StarVLA's names."""
    renamed = {}
    for name, tensor in policy.state_dict().items():
        part, _, rest = name.partition(".")
        prefix = "action_model." if part == "head" else "qwen_vl_interface."
        renamed[prefix + rest] = tensor
    return renamed


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_backbone(tmp_path_factory.mktemp("importer") / "backbone")


@pytest.fixture(scope="session")
def oft(backbone: Path) -> VLAPolicy:
    return tiny_policy(backbone, "oft")


@pytest.fixture(scope="session")
def gr00t(backbone: Path) -> VLAPolicy:
    return tiny_policy(backbone, "gr00t")


@pytest.fixture(scope="session")
def gr00t_weights(gr00t: VLAPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("importer") / "steps_100_model.safetensors"
    write_weights(path, foreign_tensors(gr00t))
    return path

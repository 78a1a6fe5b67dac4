"""Tiny backbones and policies, written and built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.policies.tiny_backbone import KINDS, write_tiny_backbone
from tests.training.policies.tiny_policy import CAMERAS, SIZES, Case
from training.policies.vla import PolicyPlan


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("backbones")
    return {kind: write_tiny_backbone(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="session")
def case(folders: dict[str, Path]) -> Callable[..., Case]:
    """Return a function that builds a policy, or hands out the one built before; tests must not change weights."""
    built: dict[PolicyPlan, Case] = {}

    def get(framework: str, kind: str = "qwen3_5", state: bool = False) -> Case:
        plan = PolicyPlan(framework, str(folders[kind]), CAMERAS, state=state, sizes=SIZES)
        if plan not in built:
            built[plan] = Case(plan)
        return built[plan]

    return get

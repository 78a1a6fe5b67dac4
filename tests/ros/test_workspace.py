"""The workspace is built and holds what its packages promise."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory

from tests.ros.node_process import ROOT, SCRIPTS

INTERFACES = ROOT / "ros2_ws/src/finevla_interfaces"
DEFINITIONS = sorted(path for kind in ("msg", "srv", "action") for path in (INTERFACES / kind).iterdir())


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_definition_is_generated_as_it_is_written(path: Path) -> None:
    kind = path.parent.name
    assert hasattr(import_module(f"finevla_interfaces.{kind}"), path.stem)
    installed = Path(get_package_share_directory("finevla_interfaces"), kind, path.name)
    assert installed.read_text() == path.read_text()


@pytest.mark.parametrize("name", ["arm_commander", "policy_client", "recorder", "session", "sim_arm"])
def test_every_node_has_a_program(name: str) -> None:
    assert (SCRIPTS / name).stat().st_mode & 0o100

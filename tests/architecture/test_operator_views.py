"""The views for RViz and Foxglove load, show what an operator needs, and name topics and joints that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from finevla_runtime.contracts.action import DOF

COBOT = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "finevla_cobot"
CAMERAS = {f"/camera_{place}/color/image_raw" for place in "flr"}


def foxglove() -> dict[str, Any]:
    return json.loads((COBOT / "foxglove" / "cobot_magic.json").read_text())  # type: ignore[no-any-return]


def leaves(layout: Any) -> list[str]:
    """The panels of a layout, from left to right and top to bottom."""
    return [layout] if isinstance(layout, str) else [*leaves(layout["first"]), *leaves(layout["second"])]


def test_foxglove_lays_out_exactly_the_panels_that_are_configured() -> None:
    view = foxglove()
    panels = leaves(view["layout"])
    assert sorted(panels) == sorted(view["configById"])
    kinds = [panel.partition("!")[0] for panel in panels]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "3D": 1,
        "Image": 3,
        "Plot": 2,
        "RawMessages": 1,
        "DiagnosticSummary": 1,
    }


def test_foxglove_shows_all_cameras_and_every_joint_as_measured_and_as_commanded() -> None:
    panels = foxglove()["configById"]
    assert {item["imageMode"]["imageTopic"] for name, item in panels.items() if name.startswith("Image!")} == CAMERAS
    shown = [series["value"] for name, item in panels.items() if name.startswith("Plot!") for series in item["paths"]]
    wanted = [f"/finevla/status.{field}[{joint}]" for field in ("command", "measured") for joint in range(DOF)]
    assert sorted(shown) == sorted(wanted)


def test_rviz_shows_the_robot_in_the_world_frame_and_all_cameras() -> None:
    view = yaml.safe_load((COBOT / "rviz" / "cobot_magic.rviz").read_text())["Visualization Manager"]
    by_kind: dict[str, list[Any]] = {}
    for display in view["Displays"]:
        by_kind.setdefault(display["Class"].rpartition("/")[2], []).append(display)
    assert view["Global Options"]["Fixed Frame"] == "world"
    assert [item["Description Topic"]["Value"] for item in by_kind["RobotModel"]] == ["/robot_description"]
    assert {item["Topic"]["Value"] for item in by_kind["Image"]} == CAMERAS


def test_the_joints_that_rviz_asks_for_are_those_of_the_description() -> None:
    note = (COBOT / "rviz" / "cobot_magic.rviz").read_text()
    urdf = (COBOT.parents[2] / "hw_configs" / "robots" / "cobot_magic.urdf").read_text()
    asked = set(re.findall(r"(?:left|right)_(?:j\d|finger_a)", note))
    assert asked
    assert all(f'<joint name="{name}"' in urdf for name in asked)

"""The robot file, the embodiment file and the simulated robot name the same joints, limits and cameras."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.embodiment import load_embodiment
from sim_eval.tabletop.cameras import CAMERAS
from sim_eval.tabletop.robot import JOINT_NAMES, narrow, robot_urdf, widen, write_urdf
from sim_eval.tabletop.world import CONTROL_HZ, home_target

_BODY = load_embodiment(Path(__file__).parents[3] / "hw_configs" / "cobot_magic_sim.yaml")


def test_the_embodiment_file_matches_the_simulated_body() -> None:
    assert tuple(joint.name for joint in _BODY.joints) == JOINT_NAMES
    assert np.allclose([joint.home for joint in _BODY.joints], home_target(), atol=1e-5)
    assert _BODY.control_hz == CONTROL_HZ
    for mount, camera in zip(_BODY.cameras, CAMERAS, strict=True):
        assert (mount.name, mount.width, mount.height) == (camera.name, camera.width, camera.height)
        assert mount.fov_y_deg == camera.fovy
        assert mount.position == camera.position
        assert mount.forward == camera.forward


def test_the_robot_file_has_the_limits_of_the_embodiment_file() -> None:
    root = ElementTree.fromstring(robot_urdf())
    limits = {
        joint.get("name"): (float(limit.get("lower", "nan")), float(limit.get("upper", "nan")))
        for joint in root.iter("joint")
        if (limit := joint.find("limit")) is not None
    }
    for joint in _BODY.joints:
        if not joint.name.endswith("gripper"):
            assert limits[joint.name] == (joint.lower, joint.upper)
    assert sum(name.count("_finger_") for name in limits if name) == 4


def test_robot_files_are_named_by_content_and_rewritten_safely(tmp_path: Path) -> None:
    first, again, bare = write_urdf(True, tmp_path), write_urdf(True, tmp_path), write_urdf(False, tmp_path)
    assert first == again != bare
    assert "<visual>" in first.read_text(encoding="utf-8")
    assert "<visual>" not in bare.read_text(encoding="utf-8")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".urdf", ".urdf"]


@given(st.lists(st.floats(0.0, 1.0), min_size=14, max_size=14))
def test_spreading_grippers_to_fingers_loses_nothing(row: list[float]) -> None:
    assert np.allclose(narrow(widen(np.array(row))), row, atol=1e-9)

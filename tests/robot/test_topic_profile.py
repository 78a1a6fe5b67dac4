"""Promises of topic profiles: what ships loads and fits the robot, and what is doubtful is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.arm_status import find_status_table
from finevla_runtime.robot.topic_profile import (
    ARMS,
    TOPICS,
    find_topic_profile,
    load_topic_profile,
    require_cameras,
)

SHIPPED = sorted(path.stem for path in TOPICS.glob("*.yaml"))
BODY = load_embodiment(HW_CONFIGS / "cobot_magic.yaml")


def written(tmp_path: Path, old: str, new: str, count: int = 1) -> Path:
    """Return the template with something changed."""
    text = (TOPICS / "custom.yaml").read_text()
    assert old in text
    path = tmp_path / "custom.yaml"
    path.write_text(text.replace(old, new, count))
    return path


def test_both_published_stacks_a_template_and_the_simulated_pair_ship() -> None:
    assert SHIPPED == ["agilex_ros1_names", "agilex_ros2", "cobot_magic_sim", "custom"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_loads_and_fits_the_robot(name: str) -> None:
    profile = find_topic_profile(name)
    assert profile.name == name
    require_cameras(profile, load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml") if "sim" in name else BODY)
    for arm in ARMS:
        status = profile.arm(arm).status
        if status is not None:
            find_status_table(status.table)
    assert profile.feedback_hz * profile.sources.joint_age_s >= 5, "a few lost messages are not a stale arm"
    assert profile.camera_hz * profile.sources.image_age_s >= 3, "a few lost frames are not a stale camera"


def test_the_drive_is_allowed_to_go_faster_than_the_guard_lets_it() -> None:
    top_rad_s = 3.14  # 30 rpm, the vendor's figure behind the percentage in velocity[6].
    for name in ("agilex_ros1_names", "agilex_ros2"):
        for arm in ARMS:
            share = find_topic_profile(name).arm(arm).command.velocity[6] / 100
            assert max(joint.velocity_s for joint in BODY.joints[:6]) < share * top_rad_s


def test_an_unknown_profile_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SetupError, match=r"FV-TOP-007.*'agilex_ros2'"):
        find_topic_profile("agilex_ros")


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(SetupError, match=r"FV-TOP-006.*left, right"):
        find_topic_profile("custom").arm("middle")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("match: name", "match: nmae", "FV-CFG-007"),
        ("unit: normalised, ", "", "FV-CFG-004"),
        ("closed: 0, open: 1", "open: 1", "FV-CFG-004"),
        ("unit: normalised", "unit: millimetres", "FV-CFG-007"),
        ("closed: 0, open: 1", "closed: 0.5, open: 0.5", "FV-TOP-003"),
        ("tolerance: 0.1", "tolerance: 0.9", "FV-TOP-003"),
        ("joint6, gripper]", "joint6]", "FV-TOP-001"),
        ("joint6, gripper]", "joint6, joint6]", "FV-TOP-001"),
        ("topic: /left/joint_states", "topic: /left/joint_commands", "FV-TOP-002"),
        ("topic: /left/joint_states", "topic: '/left/joint states'", "FV-TOP-001"),
        ("camera_hz: 30", "camera_hz: 0", "FV-TOP-004"),
        ("freeze_frames: 5", "freeze_frames: 0", "FV-TOP-004"),
        ("max_age_s: 0.05", "max_age_s: -1", "FV-TOP-004"),
        ("# send: {velocity: [0, 0, 0, 0, 0, 0, 50]", "send: {velocity: [50]", "FV-TOP-001"),
        ("stamp: header", "stamp: guess", "FV-CFG-007"),
        ("output: joint_state", "output: joint_states", "FV-CFG-007"),
        ("profile: custom", "profile: other", "FV-CFG-007"),
        ("rates: {", "rate_hz: 3\nrates: {", "FV-CFG-003"),
    ],
)
def test_a_doubtful_profile_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    with pytest.raises(SetupError) as caught:
        load_topic_profile(written(tmp_path, old, new))
    assert caught.value.code == code


def test_a_trajectory_cannot_carry_speeds_and_torques_of_a_driver(tmp_path: Path) -> None:
    path = written(tmp_path, "# send:", "send:")
    assert load_topic_profile(path).left.command.effort == (0, 0, 0, 0, 0, 0, 1)
    path.write_text(path.read_text().replace("output: joint_state\n", "output: joint_trajectory\n"))
    with pytest.raises(SetupError, match="FV-TOP-005"):
        load_topic_profile(path)
    path.write_text(path.read_text().replace("send:", "# send:", 1))
    assert load_topic_profile(path).output == "joint_trajectory"


def test_status_and_firmware_limits_are_read_where_a_driver_has_them(tmp_path: Path) -> None:
    path = written(tmp_path, "# status:", "status:")
    path.write_text(path.read_text().replace("# firmware_limits:", "firmware_limits:"))
    left, right = (load_topic_profile(path).arm(arm) for arm in ARMS)
    assert left.status is not None
    assert (left.status.topic, left.status.table) == ("/left/arm_status", "piper")
    assert left.firmware_limits == "/left/firmware_limits"
    assert right.status is None
    assert right.firmware_limits is None


@pytest.mark.parametrize(("old", "new"), [("cam_high: {", "cam_front: {"), ("height: 480", "height: 720")])
def test_cameras_of_another_name_or_size_than_the_body_are_refused(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(SetupError, match=r"FV-TOP-008.*cam_high 480x640"):
        require_cameras(load_topic_profile(written(tmp_path, old, new)), BODY)

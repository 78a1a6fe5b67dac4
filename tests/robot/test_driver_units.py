"""Promises of the conversion: both ways undo one another for every profile, and nothing doubtful goes through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.driver_units import arm_rows_to_driver, from_driver
from finevla_runtime.robot.gripper_map import UNITS, GripperMap
from finevla_runtime.robot.topic_profile import ARMS, BY_NAME, BY_POSITION, TopicProfile, find_topic_profile

SHIPPED = {name: find_topic_profile(name) for name in ("agilex_ros1_names", "agilex_ros2", "custom")}
CUSTOM = SHIPPED["custom"]
ANGLES = st.lists(st.floats(-3.2, 3.2), min_size=6, max_size=6)
ROWS = st.tuples(ANGLES, st.floats(0, 1)).map(lambda t: np.array([*t[0], t[1]]))
ENDS = st.floats(-5, 5)
MAPS = st.tuples(st.sampled_from(UNITS), ENDS, ENDS).filter(lambda t: abs(t[1] - t[2]) > 0.01)


def with_gripper(profile: TopicProfile, gripper: GripperMap) -> TopicProfile:
    return replace(profile, left=replace(profile.left, gripper=gripper), right=replace(profile.right, gripper=gripper))


def matched(profile: TopicProfile, match: str) -> TopicProfile:
    left = replace(profile.left, feedback=replace(profile.left.feedback, match=match))
    return replace(profile, left=left)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", SHIPPED)
@given(row=ROWS)
def test_what_is_sent_reads_back_as_what_was_meant(name: str, arm: str, row: JointArray) -> None:
    profile = SHIPPED[name]
    sent = arm_rows_to_driver(profile, arm, row)
    back = from_driver(profile, arm, profile.arm(arm).feedback.joints, list(sent))
    np.testing.assert_allclose(back, row, rtol=0, atol=1e-9)


@given(row=ROWS, line=MAPS)
def test_every_gripper_map_undoes_itself_and_meets_its_ends(row: JointArray, line: tuple[str, float, float]) -> None:
    unit, closed, opened = line
    profile = with_gripper(CUSTOM, GripperMap(unit, closed, opened, 0.1))
    sent = arm_rows_to_driver(profile, "left", row)
    assert min(closed, opened) <= sent[6] <= max(closed, opened)
    back = from_driver(profile, "left", profile.left.feedback.joints, list(sent))
    np.testing.assert_allclose(back, row, rtol=0, atol=1e-9)
    ends = [arm_rows_to_driver(profile, "left", np.array([*row[:6], end]))[6] for end in (0.0, 1.0)]
    assert ends == [closed, opened]


def test_the_caller_keeps_its_row() -> None:
    row = np.array([0, 0, 0, 0, 0, 0, 1.0])
    arm_rows_to_driver(SHIPPED["agilex_ros2"], "left", row)
    assert row[6] == 1.0


@given(order=st.permutations(range(8)))
def test_names_are_matched_in_any_order_and_other_joints_are_ignored(order: list[int]) -> None:
    profile = matched(CUSTOM, BY_NAME)
    names = [*profile.left.feedback.joints, "lift"]
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 99.0]
    got = from_driver(profile, "left", [names[i] for i in order], [values[i] for i in order])
    np.testing.assert_allclose(got, values[:7])


def test_by_position_names_are_not_read() -> None:
    profile = matched(CUSTOM, BY_POSITION)
    np.testing.assert_allclose(from_driver(profile, "left", ["x"], [0, 1, 2, 3, 2, 1, 0.5]), [0, 1, 2, 3, 2, 1, 0.5])


def refused(match: str, names: list[str], positions: list[float]) -> BodyError:
    with pytest.raises(BodyError) as caught:
        from_driver(matched(CUSTOM, match), "left", names, positions)
    return caught.value


def test_a_joint_that_is_missing_or_named_twice_is_named() -> None:
    names = list(CUSTOM.left.feedback.joints)
    for wrong in ([*names[:4], "other", *names[5:]], [*names[:4], names[0], *names[5:]]):
        error = refused(BY_NAME, wrong, [0.0] * 7)
        assert error.code == "FV-TOP-010"
        assert names[4] in error.message


@pytest.mark.parametrize("count", [0, 6, 8, 14])
def test_another_number_of_positions_is_refused(count: int) -> None:
    assert refused(BY_POSITION, [], [0.0] * count).code == "FV-TOP-011"
    names = list(CUSTOM.left.feedback.joints)
    assert refused(BY_NAME, names, [0.0] * count).code == "FV-TOP-011"
    with pytest.raises(BodyError, match="FV-TOP-011"):
        arm_rows_to_driver(CUSTOM, "left", np.zeros(count))


@given(joint=st.integers(0, 6), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_value_that_is_not_finite_names_its_joint_both_ways(joint: int, value: float) -> None:
    profile = CUSTOM
    row = np.full(7, 0.5)
    row[joint] = value
    name = profile.left.feedback.joints[joint]
    with pytest.raises(BodyError, match=rf"FV-TOP-012.*: the position of {name} is not finite"):
        from_driver(profile, "left", profile.left.feedback.joints, list(row))
    with pytest.raises(BodyError, match=rf"FV-TOP-012.* {profile.left.command.joints[joint]} "):
        arm_rows_to_driver(profile, "left", row)


def test_a_gripper_in_another_unit_is_refused_with_the_one_that_was_expected() -> None:
    profile = SHIPPED["agilex_ros1_names"]
    radians = [0.0] * 6 + [3.5578]  # The open gripper of the first Cobot Magic, which counts in radians.
    with pytest.raises(BodyError, match=r"FV-TOP-013.*open 0\.07 metres") as caught:
        from_driver(profile, "left", [], radians)
    assert "left arm" in caught.value.message


@given(beyond=st.floats(-0.5, 0.5))
def test_a_gripper_may_lie_beyond_its_ends_by_its_tolerance_and_is_sent_to_them(beyond: float) -> None:
    profile = CUSTOM
    fraction = beyond if beyond < 0 else 1 + beyond
    row = np.array([0, 0, 0, 0, 0, 0, fraction])
    if profile.left.gripper.holds(fraction):
        assert arm_rows_to_driver(profile, "left", row)[6] == (0.0 if beyond < 0 else 1.0)
        back = from_driver(profile, "left", profile.left.feedback.joints, list(row))
        assert back[6] == pytest.approx(fraction), "what is measured is not made prettier"
    else:
        assert abs(beyond) > profile.left.gripper.tolerance
        with pytest.raises(BodyError, match="FV-TOP-013"):
            arm_rows_to_driver(profile, "left", row)

"""Promises of the real robot's files: no limit is wider than any published one, and the guard is made for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.published_limits import LIMITS, intersect, load_limit_table
from finevla_runtime.robot.topic_profile import TOPICS, load_topic_profile
from finevla_runtime.safety.profile import load_safety_profile

BODY = load_embodiment(HW_CONFIGS / "cobot_magic.yaml")
SAFETY = load_safety_profile(HW_CONFIGS / "safety" / "cobot_magic.yaml", BODY)
TABLES = tuple(load_limit_table(path) for path in sorted(LIMITS.glob("piper_*.yaml")))


@pytest.mark.parametrize("first", [0, 7])
def test_the_ranges_of_the_body_are_the_intersection_of_the_published_ones(first: int) -> None:
    assert len(TABLES) >= 2
    wanted = intersect(TABLES).joints
    arm = BODY.joints[first : first + 6]
    assert [(joint.lower, joint.upper) for joint in arm] == [(row.lower, row.upper) for row in wanted]
    for joint, row in zip(arm, wanted, strict=True):
        assert row.velocity_s is None or joint.velocity_s <= row.velocity_s


def test_no_table_is_left_without_a_source() -> None:
    assert all(len(table.source) > 20 for table in TABLES)


def test_tables_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    text = (LIMITS / "piper_sdk.yaml").read_text().replace("limits: piper_sdk", "limits: other")
    other.write_text(text.replace("j2: {lower: 0, upper: 3.14}", "j2: {lower: -3, upper: 0}"))
    with pytest.raises(SetupError, match=r"FV-ROB-001.* j2 "):
        intersect([*TABLES, load_limit_table(other)])
    with pytest.raises(SetupError, match="FV-ROB-001"):
        intersect([])
    other.write_text(text.replace("j2: {lower: 0, upper: 3.14}", "j2: {lower: 3.14, upper: 0}"))
    with pytest.raises(SetupError, match=r"FV-ROB-001.*other\.yaml:\d+"):
        load_limit_table(other)


def test_the_intersection_does_not_depend_on_the_order() -> None:
    assert intersect(TABLES).joints == intersect(TABLES[::-1]).joints


def test_the_guard_tolerates_what_drivers_measure_and_no_more_than_a_hand_breadth() -> None:
    largest = max(
        load_topic_profile(path).arm(arm).gripper.tolerance
        for path in TOPICS.glob("*.yaml")
        for arm in ("left", "right")
    )
    assert (SAFETY.outside[[6, 13]] > largest).all(), "a gripper that reads fine must not stop the robot"
    arms = np.delete(np.arange(14), [6, 13])
    assert (SAFETY.limits.velocity[arms] <= 1.0).all()
    assert (SAFETY.limits.acceleration[arms] < np.radians(286.48)).all(), "what the firmware allows"
    # Full speed is gone after less than 0.4 rad: v^2 / 2a and the time that the jerk needs.
    stop = SAFETY.limits.velocity**2 / (2 * SAFETY.limits.acceleration)
    stop += SAFETY.limits.velocity * SAFETY.limits.acceleration / (2 * SAFETY.limits.jerk)
    assert (stop[arms] < 0.4).all()


def test_a_chunk_is_not_stale_before_it_can_be_executed() -> None:
    rows, inference_s = 16, 0.3
    assert rows / BODY.control_hz + inference_s < SAFETY.observation_age_s
    assert SAFETY.start.shape == (14,)

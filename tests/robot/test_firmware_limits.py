"""Promises of the check of firmware limits: wider is fine, tighter and corrupted ones are refused with their joints."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.firmware_limits import STEP_RAD, FirmwareLimits, require_firmware_limits

BODY = load_embodiment(HW_CONFIGS / "cobot_magic.yaml")
LOWER = tuple(joint.lower for joint in BODY.joints[:6])
UPPER = tuple(joint.upper for joint in BODY.joints[:6])


def changed(values: tuple[float, ...], joint: int, value: float) -> tuple[float, ...]:
    return (*values[:joint], value, *values[joint + 1 :])


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_firmware_that_allows_as_much_or_more_is_accepted(more: list[float]) -> None:
    lower = [low - extra for low, extra in zip(LOWER, more[:6], strict=True)]
    upper = [high + extra for high, extra in zip(UPPER, more[6:], strict=True)]
    require_firmware_limits(BODY, "left", FirmwareLimits.from_values([*lower, *upper]))


def test_tenths_of_a_degree_are_enough() -> None:
    lower = tuple(math.radians(round(math.degrees(low), 1)) for low in LOWER)
    upper = tuple(math.radians(round(math.degrees(high), 1)) for high in UPPER)
    require_firmware_limits(BODY, "right", FirmwareLimits(lower, upper))


@given(joint=st.integers(0, 5), by=st.floats(2 * STEP_RAD, 0.5), at_the_top=st.booleans())
def test_tighter_firmware_is_refused_and_the_joint_is_named(joint: int, by: float, at_the_top: bool) -> None:
    lower = LOWER if at_the_top else changed(LOWER, joint, LOWER[joint] + by)
    upper = changed(UPPER, joint, UPPER[joint] - by) if at_the_top else UPPER
    with pytest.raises(BodyError, match=rf"FV-ROB-007.*right_j{joint + 1} got .* wanted") as caught:
        require_firmware_limits(BODY, "right", FirmwareLimits(lower, upper))
    assert caught.value.message.count("got") == 1


def test_limits_that_are_all_minus_a_tenth_of_a_degree_are_corrupted_and_every_joint_is_named() -> None:
    broken = (math.radians(-0.10),) * 6
    with pytest.raises(BodyError, match="FV-ROB-006") as caught:
        require_firmware_limits(BODY, "left", FirmwareLimits(broken, broken))
    assert all(f"left_j{number} got -0.0017 to -0.0017 rad" in caught.value.message for number in range(1, 7))
    assert "Support the arm" in caught.value.message


@given(joint=st.integers(0, 5), value=st.sampled_from([math.nan, math.inf, -math.inf, 114.38, -7.0]))
def test_values_that_no_joint_has_are_corrupted(joint: int, value: float) -> None:
    for lower, upper in ((changed(LOWER, joint, value), UPPER), (LOWER, changed(UPPER, joint, value))):
        with pytest.raises(BodyError, match=rf"FV-ROB-006.*left_j{joint + 1} "):
            require_firmware_limits(BODY, "left", FirmwareLimits(lower, upper))


@pytest.mark.parametrize("count", [0, 6, 11, 14])
def test_another_number_of_values_is_refused(count: int) -> None:
    with pytest.raises(BodyError, match=f"FV-ROB-005.*{count} values"):
        FirmwareLimits.from_values([0.0] * count)

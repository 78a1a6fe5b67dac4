"""A simulated driver hears exactly what the project sends, and what it says is what the project reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.arm_status import find_status_table
from finevla_runtime.robot.driver_units import arm_rows_to_driver, from_driver
from finevla_runtime.robot.faulty_body import STATUS
from finevla_runtime.robot.simulated_driver import SimulatedDriver
from finevla_runtime.robot.topic_profile import ARMS, TOPICS, TopicProfile, find_topic_profile, require_cameras

PROFILES = [find_topic_profile(path.stem) for path in sorted(TOPICS.glob("*.yaml"))]
ROWS = hnp.arrays(np.float64, 7, elements=st.floats(0.0, 1.0))
EVERY_ARM = pytest.mark.parametrize(("profile", "arm"), [(profile, arm) for profile in PROFILES for arm in ARMS])


@EVERY_ARM
@given(row=ROWS)
def test_a_command_arrives_as_it_was_meant(profile: TopicProfile, arm: str, row: np.ndarray) -> None:
    sent = arm_rows_to_driver(profile, arm, row)
    heard = SimulatedDriver(profile).read_command(arm, profile.arm(arm).command.joints, sent)
    assert np.allclose(heard, row, atol=1e-9)


@EVERY_ARM
@given(row=ROWS)
def test_feedback_is_read_as_it_was_meant(profile: TopicProfile, arm: str, row: np.ndarray) -> None:
    said = SimulatedDriver(profile).feedback(arm, row)
    assert np.allclose(from_driver(profile, arm, profile.arm(arm).feedback.joints, said), row, atol=1e-9)


def test_a_commands_joints_may_come_in_any_order() -> None:
    profile = find_topic_profile("cobot_magic_sim")
    names, row = profile.left.command.joints, np.linspace(0.1, 0.7, 7)
    assert np.allclose(SimulatedDriver(profile).read_command("left", names[::-1], row[::-1]), row)


@pytest.mark.parametrize(
    ("names", "positions", "code"),
    [
        (("joint1",) * 7, [0.0] * 7, "FV-TOP-010"),
        ((), [], "FV-TOP-010"),
        (None, [0.0] * 6, "FV-TOP-011"),
        (None, [float("nan")] + [0.0] * 6, "FV-TOP-012"),
        (None, [0.0] * 6 + [1.5], "FV-TOP-013"),
    ],
)
def test_a_command_that_the_profile_does_not_describe_is_refused(
    names: tuple[str, ...] | None, positions: list[float], code: str
) -> None:
    profile = find_topic_profile("cobot_magic_sim")
    with pytest.raises(BodyError, match=code):
        SimulatedDriver(profile).read_command(
            "left", profile.left.command.joints if names is None else names, positions
        )


def test_a_position_that_is_not_a_number_is_said_as_it_is() -> None:
    said = SimulatedDriver(find_topic_profile("cobot_magic_sim")).feedback("left", np.full(7, np.nan))
    assert np.isnan(said).all()


def test_the_simulated_profile_has_the_cameras_of_the_simulated_body() -> None:
    embodiment = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
    require_cameras(find_topic_profile("cobot_magic_sim"), embodiment)


@pytest.mark.parametrize(("fault", "code"), STATUS.items(), ids=lambda item: str(item))
def test_the_tables_know_the_codes_of_injected_faults(fault: object, code: int) -> None:
    assert find_status_table("simulated").read({"data": 0}).ok
    assert not find_status_table("simulated").read({"data": code}).ok
    assert "is not in the table" not in find_status_table("simulated").read({"data": code}).fault
    piper = find_status_table("piper")
    assert piper.codes["arm_status"][code].text == find_status_table("simulated").codes["data"][code].text

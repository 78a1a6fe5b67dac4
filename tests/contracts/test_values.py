"""Instruction, observation, chunk, layouts, policy spec and compatibility."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finevla_runtime.contracts.action import DOF, LAYOUTS, ActionChunk, ActionSpace, from_layout, to_layout
from finevla_runtime.contracts.clock import ManualClock, SteadyClock, elapsed_s
from finevla_runtime.contracts.embodiment import CameraMount, Embodiment, Joint
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.instruction import DIMENSIONS, Instruction, InstructionKind, differing_words
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import check_compatibility, raise_for_errors
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json
from tests.builders import make_observation, make_spec

rows = hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(DOF)), elements=st.floats(-4, 4, width=32))


def make_chunk(positions: np.ndarray) -> ActionChunk:
    return ActionChunk("c1", positions, 0, 0.1, 0, "tiny", "1")


def test_the_ten_dimensions_stand_in_the_published_order() -> None:
    assert list(DIMENSIONS)[:3] == ["action_sequence", "active_actor", "target_object"]
    assert len(DIMENSIONS) == 10
    assert sum(len(slots) for slots in DIMENSIONS.values()) == 32


def test_paired_variants_show_the_one_word_they_differ_in() -> None:
    pair = differing_words("Grasp the green block from above.", "Grasp the green block from the side.")
    assert pair == (("above.", "the side."),)
    assert differing_words("same text", "same text") == ()


@pytest.mark.parametrize("text", ["", "   ", "x" * 2_001])
def test_empty_and_overlong_instructions_are_refused(text: str) -> None:
    with pytest.raises(SetupError, match="FV-INS-001"):
        Instruction(text, InstructionKind.RAW)


@given(rows)
def test_every_layout_comes_back_to_the_projects_own(values: np.ndarray) -> None:
    for layout in LAYOUTS:
        np.testing.assert_array_equal(from_layout(to_layout(values, layout), layout), values)


def test_starvla_layout_puts_both_grippers_last() -> None:
    """Golden vector: StarVLA's RoboTwin rows are [L6, R6, left gripper, right gripper]."""
    project = np.arange(14, dtype=np.float32)
    assert to_layout(project, "starvla_robotwin").tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 6, 13]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_non_finite_joint_refuses_the_whole_chunk_and_names_it(bad: float) -> None:
    positions = np.zeros((16, DOF), np.float32)
    positions[4, 3] = bad
    with pytest.raises(PolicyError, match=r"FV-ACT-003.*\(4, 3\)"):
        make_chunk(positions)


def test_chunks_are_read_only_and_of_fourteen_joints() -> None:
    chunk = make_chunk(np.zeros((16, DOF), np.float32))
    with pytest.raises(ValueError, match="read-only"):
        chunk.positions[0, 0] = 1.0
    with pytest.raises(PolicyError, match="FV-ACT-003"):
        make_chunk(np.zeros((16, 13), np.float32))


def test_observations_refuse_wrong_images_and_states() -> None:
    good = make_observation()
    with pytest.raises(PolicyError, match=r"FV-OBS-002.*cam_high"):
        Observation({"cam_high": np.zeros((3, 96, 96), np.uint8)}, good.joint_position, good.instruction, 0, 0)
    with pytest.raises(PolicyError, match="FV-OBS-001"):
        Observation(good.images, np.full(14, np.nan, np.float32), good.instruction, 0, 0)


def test_action_space_refuses_an_empty_range() -> None:
    with pytest.raises(SetupError, match="FV-ACT-001"):
        ActionSpace(("a",), ("rad",), (1.0,), (1.0,))


def test_spec_json_round_trip_keeps_the_hash() -> None:
    spec = make_spec()
    again = spec_from_json(spec_to_json(spec))
    assert again == spec
    assert again.spec_hash == spec.spec_hash
    assert make_spec(execution_rows=4).spec_hash != spec.spec_hash


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("layout",), "starvla_robotwim", "FV-SPC-003"),
        (("framework",), "oftt", "FV-SPC-003"),
        (("execution_rows",), 17, "FV-SPC-004"),
        (("control_hz",), 0, "FV-SPC-004"),
        (("control_hz",), "10", "FV-SPC-004"),
        (("state",), 1, "FV-SPC-004"),
        (("trained_kinds",), ["rew"], "FV-SPC-003"),
        (("prompt", "max_tokens"), 1.5, "FV-SPC-004"),
        (("surprise",), 1, "FV-SPC-003"),
    ],
)
def test_a_wrong_spec_value_is_refused_with_its_code(path: tuple[str, ...], value: object, code: str) -> None:
    raw = json.loads(spec_to_json(make_spec()))
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(SetupError, match=code):
        spec_from_json(json.dumps(raw))


def test_a_missing_spec_key_is_refused() -> None:
    raw = json.loads(spec_to_json(make_spec()))
    del raw["cameras"]
    with pytest.raises(SetupError, match=r"FV-SPC-002.*cameras"):
        spec_from_json(json.dumps(raw))


def make_body(**changes: object) -> Embodiment:
    spec = make_spec()
    values: dict[str, object] = {
        "name": "cobot_magic_sim",
        "joints": tuple(Joint(n, -1.0, 1.0, 1.0, 0.0) for n in spec.action.names),
        "cameras": tuple(
            CameraMount(c.name, c.height, c.width, 60, "world", (0, 0, 0), (1, 0, 0), (0, 0, 1)) for c in spec.cameras
        ),
        "control_hz": 10.0,
        "hold": "hold_position",
    }
    values.update(changes)
    return Embodiment(**values)  # type: ignore[arg-type]


def test_a_fitting_body_has_no_issues_and_each_mismatch_has_a_code() -> None:
    spec, body = make_spec(), make_body()
    assert check_compatibility(spec, body) == ()
    cases = {
        "FV-CMP-001": make_body(name="other"),
        "FV-CMP-002": make_body(joints=tuple(reversed(body.joints))),
        "FV-CMP-003": make_body(control_hz=25.0),
        "FV-CMP-004": make_body(cameras=body.cameras[:2]),
    }
    for code, wrong in cases.items():
        issues = check_compatibility(spec, wrong)
        assert [issue.code for issue in issues] == [code]
        with pytest.raises(SetupError, match=code):
            raise_for_errors(issues)


def test_another_frame_size_warns_and_refuses_only_when_the_spec_forbids_resizing() -> None:
    spec, body = make_spec(), make_body()
    big = CameraMount("cam_high", 480, 640, 60, "world", (0, 0, 0), (1, 0, 0), (0, 0, 1))
    issues = check_compatibility(spec, make_body(cameras=(big, *body.cameras[1:])))
    assert [(i.code, i.severity) for i in issues] == [("FV-CMP-005", "warning")]
    raise_for_errors(issues)


def test_clocks_only_move_forward() -> None:
    manual = ManualClock()
    start = manual.now_ns()
    manual.sleep_s(0.25)
    assert elapsed_s(manual, start) == pytest.approx(0.25)
    steady = SteadyClock()
    first = steady.now_ns()
    steady.sleep_s(0.001)
    assert steady.now_ns() > first

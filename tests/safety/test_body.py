"""The shipped robot descriptions are the robots they stand for, and links are placed where pinocchio places them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.body import Body
from tests.safety.bodies import BODIES, CONFIGS, MODELS, NAMES, SIM, joint_vector, poses, surface_points

NAME = st.sampled_from(NAMES)
# piper_sdk 0.6.2, kinematics/piper_fk.py: millimetres and degrees, one row for each joint.
PIPER_A = (0.0, 0.0, 285.03, -21.98, 0.0, 0.0)
PIPER_D = (123.0, 0.0, 0.0, 250.75, 0.0, 91.0)
PIPER_ALPHA = (0.0, -90.0, 0.0, 90.0, -90.0, 90.0)
PIPER_THETA = (0.0, -172.22, -102.78, 0.0, 0.0, 0.0)
# Published position limits, rad: (piper_sdk, URDF of Piper_ros) for each joint.
PUBLISHED = (
    ((-2.6179, 2.6179), (-2.618, 2.618)),
    ((0.0, 3.14), (0.0, 3.14)),
    ((-2.967, 0.0), (-2.967, 0.0)),
    ((-1.745, 1.745), (-1.832, 1.832)),
    ((-1.22, 1.22), (-1.22, 1.22)),
    ((-2.09439, 2.09439), (-3.14, 3.14)),
)


def frame(name: str, link: str, row: JointArray) -> pinocchio.SE3:
    """Where pinocchio places a link."""
    model = MODELS[name]
    data = model.createData()
    pinocchio.framesForwardKinematics(model, data, joint_vector(name, row))
    return data.oMf[model.getFrameId(link)]


@settings(max_examples=50, deadline=None)
@given(name=NAME, rows=poses(3))
def test_all_shapes_and_tools_are_placed_where_pinocchio_places_them(name: str, rows: JointArray) -> None:
    body = BODIES[name]
    joints = body.joint_frames(rows)
    frames, tools = body.shape_frames(joints), body.tool_points(joints)
    model = MODELS[name]
    solids = pinocchio.buildGeomFromUrdfString(model, CONFIGS[name].urdf.read_text(), pinocchio.GeometryType.COLLISION)
    data, placed = model.createData(), solids.createData()
    for index, row in enumerate(rows):
        pinocchio.updateGeometryPlacements(model, data, solids, placed, joint_vector(name, row))
        expected = np.array([item.homogeneous for item in placed.oMg])
        np.testing.assert_allclose(frames[:, index], expected, atol=1e-9)
        for arm, point in zip(("left", "right"), tools[:, index], strict=True):
            np.testing.assert_allclose(point, frame(name, f"{arm}_tcp", row).translation, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(name=NAME, rows=poses())
def test_no_point_of_a_shape_is_further_from_a_joint_than_its_reach(name: str, rows: JointArray) -> None:
    body = BODIES[name]
    joints = body.joint_frames(rows)[:, 0]
    frames = body.shape_frames(joints[:, None])[:, 0]
    for index, shape in enumerate(body.shapes):
        points = (frames[index] @ surface_points(shape))[:3].T
        for joint in np.flatnonzero(body.moves[index]):
            if "finger" not in MODELS[name].names[int(joint)]:
                away = np.linalg.norm(points - joints[joint, :3, 3], axis=1).max()
                assert away <= body.reach[index, joint] + 1e-9


@settings(max_examples=50, deadline=None)
@given(rows=poses())
def test_the_piper_moves_as_its_published_table_says(rows: JointArray) -> None:
    row = rows[0]
    flange = np.eye(4)
    for a, d, alpha, theta, angle in zip(PIPER_A, PIPER_D, PIPER_ALPHA, PIPER_THETA, row[:6], strict=True):
        turn, tilt = angle + np.radians(theta), np.radians(alpha)
        c, s, ct, st_ = np.cos(turn), np.sin(turn), np.cos(tilt), np.sin(tilt)
        step = [[c, -s, 0, a], [s * ct, c * ct, -st_, -st_ * d], [s * st_, c * st_, ct, ct * d], [0, 0, 0, 1]]
        flange = flange @ np.array(step)
    found = frame("cobot_magic", "left_base", row).actInv(frame("cobot_magic", "left_link6", row))
    np.testing.assert_allclose(found.translation * 1000.0, flange[:3, 3], atol=1e-6)
    np.testing.assert_allclose(found.rotation, flange[:3, :3], atol=1e-9)


def test_a_piper_at_zero_holds_its_flange_where_the_manufacturer_says() -> None:
    for arm in ("left", "right"):
        zero = np.zeros(14)
        found = frame("cobot_magic", f"{arm}_base", zero).actInv(frame("cobot_magic", f"{arm}_link6", zero))
        np.testing.assert_allclose(found.translation * 1000.0, (56.128, 0.0, 213.266), atol=1e-3)
        np.testing.assert_allclose(np.degrees(pinocchio.rpy.matrixToRpy(found.rotation)), (0, 85, 0), atol=1e-6)


def test_a_piper_may_go_where_all_published_limits_allow_and_nowhere_else() -> None:
    model = MODELS["cobot_magic"]
    for arm in ("left", "right"):
        for number, sources in enumerate(PUBLISHED, start=1):
            index = model.joints[model.getJointId(f"{arm}_j{number}")].idx_q
            assert model.lowerPositionLimit[index] == max(low for low, _ in sources)
            assert model.upperPositionLimit[index] == min(high for _, high in sources)


def test_the_simulated_body_has_the_limits_of_its_embodiment() -> None:
    model = MODELS["cobot_magic_sim"]
    for joint in SIM.joints:
        if not joint.name.endswith("gripper"):
            index = model.joints[model.getJointId(joint.name)].idx_q
            limits = (model.lowerPositionLimit[index], model.upperPositionLimit[index], model.velocityLimit[index])
            assert limits == (joint.lower, joint.upper, joint.velocity_s)


@pytest.mark.parametrize("name", NAMES)
def test_fingers_travel_as_far_as_the_space_says(name: str) -> None:
    model = MODELS[name]
    fingers = [joint for joint in model.names if "finger" in joint]
    assert len(fingers) == 4
    for finger in fingers:
        assert model.upperPositionLimit[model.joints[model.getJointId(finger)].idx_q] == CONFIGS[name].finger_travel


def test_the_real_body_is_marked_as_not_measured() -> None:
    assert not CONFIGS["cobot_magic"].measured


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"left_j3"', '"left_elbow"', "FV-SAF-033: .*left_elbow, left_j3"),
        ('"left_tcp"', '"left_tip"', "FV-SAF-033: .*left_tcp"),
        ('<box size="0.33 0.06 0.06"/>', '<capsule radius="0.03" length="0.3"/>', "FV-SAF-034: .*16 of 18"),
        ("</robot>", "", "FV-SAF-032"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_by_name(tmp_path: Path, old: str, new: str, code: str) -> None:
    broken = tmp_path / "robot.urdf"
    broken.write_text(CONFIGS["cobot_magic_sim"].urdf.read_text().replace(old, new))
    with pytest.raises(SetupError, match=code):
        Body(broken, 0.045)


def test_a_missing_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-SAF-032"):
        Body(tmp_path / "none.urdf", 0.045)

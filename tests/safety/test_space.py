"""The space refuses what touches, leaves or sinks, before it happens, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import coal
import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.space import BodySpace
from finevla_runtime.safety.space_config import Box, KeepOut, SpaceConfig, load_space_config
from tests.safety.bodies import CONFIGS, HARDWARE, HOME, MODELS, NAMES, joint_vector, poses, toward

SIM = CONFIGS["cobot_magic_sim"]
SPACES = {name: BodySpace(config) for name, config in CONFIGS.items()}
SPACE = SPACES["cobot_magic_sim"]
WIDE = Box((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0))


def code_of(path: JointArray, space: BodySpace = SPACE) -> str | None:
    reason = space.breach(path)
    return reason.code if reason else None


def rooms(name: str, row: JointArray) -> Iterator[tuple[str, float]]:
    """Every rule's room at one pose, metres: what is there less what is wanted. Pinocchio and coal, the long way."""
    config, model = CONFIGS[name], MODELS[name]
    solids = pinocchio.buildGeomFromUrdfString(model, config.urdf.read_text(), pinocchio.GeometryType.COLLISION)
    data, placed = model.createData(), solids.createData()
    pinocchio.framesForwardKinematics(model, data, joint_vector(name, row))
    pinocchio.updateGeometryPlacements(model, data, solids, placed)
    for arm, box in zip(("left", "right"), config.workspace, strict=True):
        point = data.oMf[model.getFrameId(f"{arm}_tcp")].translation
        yield "FV-SAF-101", float(np.min([point - box.lower, np.array(box.upper) - point]))
    floor = coal.Halfspace(np.array([0.0, 0.0, 1.0]), config.table_height)
    bodies = list(zip(solids.geometryObjects, placed.oMg, strict=True))
    names = [model.frames[item.parentFrame].name for item, _ in bodies]

    def gap(one: object, one_at: pinocchio.SE3, other: object, other_at: pinocchio.SE3) -> float:
        frames = [coal.Transform3s(at.rotation, at.translation) for at in (one_at, other_at)]
        return coal.distance(one, frames[0], other, frames[1], coal.DistanceRequest(), coal.DistanceResult())

    for (item, at), link in zip(bodies, names, strict=True):
        if item.parentJoint == 0:
            continue
        above = config.table_fingers if "finger" in link else config.table_links
        yield "FV-SAF-103", gap(item.geometry, at, floor, pinocchio.SE3.Identity()) - above
        for keep_out in config.keep_out:
            lower, upper = np.array(keep_out.box.lower), np.array(keep_out.box.upper)
            middle = pinocchio.SE3(np.eye(3), (lower + upper) / 2)
            yield "FV-SAF-102", gap(item.geometry, at, coal.Box(*(upper - lower)), middle) - keep_out.distance
    for one, (item, at) in enumerate(bodies):
        for other, (second, second_at) in enumerate(bodies):
            arms = names[one].split("_")[0], names[other].split("_")[0]
            parts = tuple(names[index].split("_", 1)[1].removesuffix("_link") for index in (one, other))
            if arms == ("left", "right") and (item.parentJoint or second.parentJoint):
                yield "FV-SAF-104", gap(item.geometry, at, second.geometry, second_at) - config.between_arms
            if arms[0] == arms[1] and parts in config.pairs:
                yield "FV-SAF-105", gap(item.geometry, at, second.geometry, second_at) - config.within_arm


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(NAMES), rows=poses(), share=st.floats(0.0, 1.0))
def test_one_pose_is_refused_exactly_when_some_body_is_nearer_than_wanted(
    name: str, rows: JointArray, share: float
) -> None:
    # Poses near home are often free and random ones hardly ever; this draws both and what lies between.
    row = HOME + share * (rows[0] - HOME)
    short = {}
    for code, room in rooms(name, row):
        short[code] = min(room, short.get(code, np.inf))
    # Nearer to the border than a hundredth of a millimetre either answer is right.
    if all(abs(room) > 1e-5 for room in short.values()):
        found = code_of(row[None], SPACES[name])
        assert (found is None) == all(room > 0 for room in short.values()), short
        assert found is None or short[found] < 0


def test_both_homes_are_free() -> None:
    assert SPACE.breach(HOME[None]) is None
    for opening in (0.0, 1.0):
        folded = np.tile([0.0] * 6 + [opening], 2)
        assert SPACES["cobot_magic"].breach(folded[None]) is None


def test_arms_that_go_to_the_same_point_are_refused_before_they_touch() -> None:
    reach = [toward(inward) for inward in np.linspace(0.0, 1.2, 200)]
    allowed = [row for row in reach if SPACE.breach(row[None]) is None]
    assert 50 < len(allowed) < 190
    gaps = [min(room for code, room in rooms(SIM.embodiment, row) if code == "FV-SAF-104") for row in allowed]
    assert min(gaps) >= 0.0
    assert min(gaps) < 0.005
    reason = SPACE.breach(toward(1.0)[None])
    assert str(reason) == (
        "FV-SAF-104: left_finger_b_link comes within 5.7 mm of right_finger_a_link, wanted at least 30.0 mm; "
        "it stands there already: move the arm away by hand."
    )


def test_a_tool_below_the_table_is_refused_by_height() -> None:
    anywhere = BodySpace(replace(SIM, workspace=(WIDE, WIDE)))
    reason = anywhere.breach(np.stack([toward(0.0, down) for down in np.linspace(0.0, 0.9, 40)]))
    assert reason is not None
    assert reason.code == "FV-SAF-103"
    assert "above the table, wanted at least -5.0 mm" in reason.text
    assert "of 40 ahead)" in reason.text


def test_fingers_may_come_nearer_to_the_table_than_the_rest() -> None:
    heights = np.linspace(0.0, 0.9, 400)
    allowed = [toward(0.0, down) for down in heights if SPACE.breach(toward(0.0, down)[None]) is None]
    tips = [room + SIM.table_fingers for code, room in rooms(SIM.embodiment, allowed[-1]) if code == "FV-SAF-103"]
    assert -0.005 <= min(tips) < SIM.table_links


def test_a_tool_outside_of_its_workspace_is_refused_by_place_and_range() -> None:
    reason = SPACE.breach(toward(-1.5)[None])
    assert reason is not None
    assert reason.code == "FV-SAF-101"
    assert "left_tcp comes to (-0." in reason.text
    assert "wanted y in -0.42..0.25 m" in reason.text


def test_a_thin_post_between_two_rows_is_not_stepped_over() -> None:
    post = KeepOut("post", Box((-0.161, -0.241, 0.90), (-0.159, -0.239, 1.02)), 0.001)
    space = BodySpace(replace(SIM, keep_out=(post,)))
    before, after = HOME, HOME.copy()
    after[0] -= 0.7
    assert space.breach(before[None]) is None
    assert space.breach(after[None]) is None
    assert any(space.breach(row[None]) for row in np.linspace(before, after, 50))
    reason = space.breach(np.stack([before, after]))
    assert reason is not None
    assert reason.code == "FV-SAF-102"
    assert "of post, wanted at least 1.0 mm and " in reason.text


def test_a_reason_that_is_only_about_the_way_says_how_much_room_the_way_needs() -> None:
    edge = max(inward for inward in np.linspace(0.0, 1.2, 600) if SPACE.breach(toward(inward)[None]) is None)
    reason = SPACE.breach(np.stack([toward(edge), toward(edge - 0.2)]))
    assert reason is not None
    assert "wanted at least 30.0 mm and " in reason.text
    assert "for the way on (where it starts)" in reason.text


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_path_that_is_not_finite_is_never_called_free(odd: float) -> None:
    path = np.stack([HOME, HOME])
    path[1, 4] = odd
    with pytest.raises(ValueError, match="not finite"):
        SPACE.breach(path)


def written(folder: Path, old: str, new: str) -> Path:
    """The simulated body's space with a change."""
    text = (HARDWARE / "spaces" / "cobot_magic_sim.yaml").read_text()
    assert old in text
    path = folder / "space.yaml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("measured: true", "", "FV-CFG-004: .*'measured'"),
        ("arm_to_arm: {distance: 0.03}", "arm_to_arm: {distance: 0}", "FV-SAF-031"),
        ("arm_to_arm: {distance: 0.03}", "arm_to_arm: {distances: 0.03}", "FV-CFG-003: .*Did you mean 'distance'"),
        ("lower: [-0.08, -0.60, 1.28]", "lower: [0.08, -0.60, 1.28]", "FV-SAF-030"),
        ("lower: [-0.08, -0.60, 1.28]", "lower: [-0.60, 1.28]", "FV-CFG-006"),
        ("- [base, link3]", "- [base]", "FV-CFG-006"),
    ],
)
def test_a_space_file_with_a_slip_is_refused_with_its_place(tmp_path: Path, old: str, new: str, code: str) -> None:
    with pytest.raises(SetupError, match=code):
        load_space_config(written(tmp_path, old, new))


def test_a_pair_with_an_unknown_part_is_refused_with_the_known_ones() -> None:
    config: SpaceConfig = replace(SIM, pairs=(("base", "link9"),))
    with pytest.raises(SetupError, match=r"FV-SAF-035: .*'link9'.*link6"):
        BodySpace(config)

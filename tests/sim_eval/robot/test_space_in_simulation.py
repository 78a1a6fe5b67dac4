"""The guard's model of the simulated body is that body: frames, solids, contacts, and what experts do is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.motion.follower import Follower
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from finevla_runtime.safety.guard import STOP_POINTS
from finevla_runtime.safety.profile import load_safety_profile
from finevla_runtime.safety.space import BodySpace
from finevla_runtime.safety.space_config import load_space_config
from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.catalog import FAMILIES, sample_scene
from sim_eval.tabletop.expert import plan, run_expert
from sim_eval.tabletop.robot import FINGER_TRAVEL, robot_urdf, widen
from sim_eval.tabletop.trace import Trace
from sim_eval.tabletop.world import CONTROL_HZ, TabletopWorld, home_target

HARDWARE = Path(__file__).resolve().parents[3] / "hw_configs"
CONFIG = load_space_config(HARDWARE / "spaces" / "cobot_magic_sim.yaml")
SPACE = BodySpace(CONFIG)
# Refuses what touches and nothing that does not: for comparing with the contacts of the simulation.
TOUCHING = BodySpace(
    replace(CONFIG, between_arms=1e-6, within_arm=1e-6, table_links=1e-6, table_fingers=1e-6, keep_out=(), pairs=())
)
PROFILE = load_safety_profile(
    HARDWARE / "safety" / "cobot_magic_sim.yaml", load_embodiment(HARDWARE / "cobot_magic_sim.yaml")
)
FOLLOWER = Follower(PROFILE.limits)
VARIANTS = [
    (item.id, variant) for item in FAMILIES.values() for variant in dict.fromkeys((*item.demo_variants, *item.variants))
]
SEEDS = st.integers(0, 2**32 - 1)
LOOKS_HZ = 50


@given(joints=st.tuples(*(st.floats(low, high) for low, high in zip(km.LOWER, km.UPPER, strict=True))))
@settings(max_examples=200, deadline=None)
def test_tools_are_where_the_simulation_has_them(joints: tuple[float, ...]) -> None:
    model = pinocchio.buildModelFromXML(CONFIG.urdf.read_text())
    data = model.createData()
    row = np.tile([*joints, 0.5], 2)
    (left, right) = SPACE.body.tool_points(SPACE.body.joint_frames(row[None]))[:, 0]
    pinocchio.framesForwardKinematics(model, data, widen(row))
    for arm, point in enumerate((left, right)):
        position, rotation = km.forward(arm, np.array(joints))
        np.testing.assert_allclose(point, position, atol=1e-9)
        frame = data.oMf[model.getFrameId(f"{('left', 'right')[arm]}_tcp")]
        np.testing.assert_allclose(frame.translation, position, atol=1e-9)
        np.testing.assert_allclose(frame.rotation, rotation, atol=1e-9)


def solids(text: str) -> dict[str, list[tuple[float, ...]]]:
    """Size and place of every box that collides, by link."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for link in ElementTree.fromstring(text).findall("link"):
        for item in link.findall("collision"):
            numbers = [*item.find("geometry/box").get("size").split(), *item.find("origin").get("xyz").split()]  # type: ignore[union-attr]
            found.setdefault(str(link.get("name")), []).append(tuple(map(float, numbers)))
    return found


def test_every_solid_of_the_simulation_is_one_for_the_guard() -> None:
    theirs, ours = solids(robot_urdf()), solids(CONFIG.urdf.read_text())
    assert len(theirs) == 10
    assert {link: ours[link] for link in theirs} == theirs
    assert CONFIG.finger_travel == FINGER_TRAVEL


def stops(targets: JointArray) -> Iterator[JointArray]:
    """The paths that a guard would look at along smooth motion through targets at the control rate."""
    rows = np.vstack([home_target(), targets])
    times = np.arange(len(rows)) / CONTROL_HZ
    place = PchipInterpolator(times, rows, axis=0)
    speed, top = place.derivative(), PROFILE.limits.velocity
    before = rows[0]
    for time in np.arange(0.0, times[-1], 1.0 / LOOKS_HZ):
        now = Setpoint(place(time), np.clip(speed(time), -top, top), np.zeros(14))
        yield np.vstack([before, FOLLOWER.stop_path(now, STOP_POINTS)])
        before = now.position


@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_what_the_experts_do_is_allowed(family: str, variant: str) -> None:
    for seed in (0, 1, 1_000_000):
        for path in stops(plan(sample_scene(family, seed), variant).targets):
            assert SPACE.breach(path) is None, (seed, SPACE.breach(path))


@pytest.mark.parametrize("family", FAMILIES)
def test_where_the_experts_touch_nothing_the_guard_sees_no_touch(family: str) -> None:
    variant = FAMILIES[family].demo_variants[0]
    trace = run_expert(TabletopWorld(render=False), sample_scene(family, 2), variant, 0.0, 2, observe=False).trace
    assert not trace.arm_arm.any()
    assert not trace.arm_table.any()
    for row in trace.joint_position:
        assert TOUCHING.breach(row[None]) is None


def driven(seed: int) -> Trace | None:
    """Both hands driven to nearly the same point in simulation, or one of them into the table."""
    rng = np.random.default_rng(seed)
    middle = np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.22, -0.05), rng.uniform(0.78, 0.95)])
    goal = home_target()
    for arm in (0, 1):
        aside = rng.uniform(-0.03, 0.03, 3)
        try:
            joints = km.inverse(arm, middle + aside, km.pitched(rng.uniform(-0.6, 0.6), rng.uniform(0.6, 1.57)))
        except km.Unreachable:
            return None
        goal[arm * 7 : arm * 7 + 6] = joints
        goal[arm * 7 + 6] = rng.uniform()
    world = TabletopWorld(render=False)
    world.reset(sample_scene("colour", seed % 100))
    for share in np.linspace(0.0, 1.0, int(rng.integers(12, 30)))[1:]:
        world.step(home_target() + share * (goal - home_target()))
    return world.trace()


@pytest.fixture(scope="module")
def collisions() -> list[tuple[JointArray, int]]:
    """Joint positions float64[samples, 14] of drives in which the arms met, and the sample of the first touch."""
    traces = [trace for seed in range(40) if (trace := driven(seed)) is not None and trace.arm_arm.any()]
    return [(trace.joint_position.astype(np.float64), int(np.argmax(trace.arm_arm))) for trace in traces]


def test_arms_that_collide_in_simulation_are_refused_before_they_touch(
    collisions: list[tuple[JointArray, int]],
) -> None:
    assert len(collisions) >= 10
    for rows, touch in collisions:
        reasons = [SPACE.breach(row[None]) for row in rows[:touch]]
        assert any(reason is not None and reason.code == "FV-SAF-104" for reason in reasons)


def test_the_guard_measures_a_touch_where_the_simulation_has_one(collisions: list[tuple[JointArray, int]]) -> None:
    nearly = BodySpace(replace(TOUCHING.config, between_arms=0.004))
    for rows, touch in collisions:
        reason = nearly.breach(rows[touch][None])
        assert reason is not None
        assert reason.code == "FV-SAF-104"
        # A sample or two before it, the arms are apart for both.
        assert all(TOUCHING.breach(row[None]) is None for row in rows[: max(0, touch - 2)])


def test_a_hand_that_presses_on_the_table_in_simulation_is_refused_before_it_touches() -> None:
    world = TabletopWorld(render=False)
    world.reset(sample_scene("colour", 0))
    goal = home_target()
    goal[7:13] = km.inverse(1, np.array([0.2, -0.15, 0.73]), km.downward(0.0))
    for share in np.linspace(0.0, 1.0, 20)[1:]:
        world.step(home_target() + share * (goal - home_target()))
    trace = world.trace()
    assert trace.arm_table[:, 1].any()
    touch = int(np.argmax(trace.arm_table[:, 1]))
    near = BodySpace(replace(CONFIG, table_fingers=0.002))
    refused = next(i for i, row in enumerate(trace.joint_position) if near.breach(row[None]) is not None)
    assert refused <= touch
    commanded = [home_target() + share * (goal - home_target()) for share in np.linspace(0.0, 1.0, 20)]
    assert SPACE.breach(np.array(commanded)) is not None

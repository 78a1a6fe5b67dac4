"""The trace shows grasps, carriers and supports as they happen."""

from __future__ import annotations

import numpy as np
import pytest

from sim_eval.tabletop.catalog import sample_scene
from sim_eval.tabletop.expert import run_expert
from sim_eval.tabletop.trace import LEFT, RIGHT, Trace, TraceRecorder
from sim_eval.tabletop.world import TabletopWorld


@pytest.fixture(scope="module")
def colour() -> tuple[Trace, int]:
    """A red demonstration and the arm that acts in it."""
    scene = sample_scene("colour", 4)
    demo = run_expert(TabletopWorld(render=False), scene, "red", 0.0, 4, observe=False)
    return demo.trace, LEFT if scene.placement("red_cube").pose[0] < 0 else RIGHT


def test_samples_are_50_per_second_and_begin_before_any_motion(colour: tuple[Trace, int]) -> None:
    trace, _ = colour
    assert trace.time[0] == 0.0
    assert np.allclose(np.diff(trace.time), 0.02)
    assert trace.object_pose.shape == (len(trace.time), 3, 7)
    assert trace.contact.shape == (len(trace.time), 3, 4)
    assert not trace.touch[0].any()


def test_the_acting_arm_grasps_with_both_fingers_and_the_other_never_touches(colour: tuple[Trace, int]) -> None:
    trace, arm = colour
    red, blue = trace.index("red_cube"), trace.index("blue_cube")
    held = trace.finger_touch[:, arm, :, red].all(axis=1)
    assert held.sum() > 50
    assert not trace.touch[:, 1 - arm].any()
    assert not trace.touch[:, :, blue].any()
    lifted = trace.object_pose[:, red, 2] > trace.object_pose[0, red, 2] + 0.03
    assert np.all(held[lifted])


def test_support_moves_from_the_table_to_the_mat(colour: tuple[Trace, int]) -> None:
    trace, _ = colour
    red, mat, table = trace.index("red_cube"), trace.index("mat"), len(trace.objects)
    assert trace.support[5, red, table]
    assert trace.support[-1, red, mat]
    assert not trace.support[-1, red, table]
    assert not trace.support[-1, mat, red]


def test_while_held_the_tool_moves_with_the_object(colour: tuple[Trace, int]) -> None:
    trace, arm = colour
    red = trace.index("red_cube")
    lifted = trace.object_pose[:, red, 2] > trace.object_pose[0, red, 2] + 0.03
    gap = np.linalg.norm(trace.tcp_pose[lifted, arm, :3] - trace.object_pose[lifted, red, :3], axis=1)
    assert gap.max() < 0.02


def test_the_opening_direction_of_approach_is_down_for_a_grasp_from_above(colour: tuple[Trace, int]) -> None:
    trace, arm = colour
    first = int(np.argmax(trace.finger_touch[:, arm].any(axis=(1, 2))))
    _, x, y, _ = w_x_y_z = trace.tcp_pose[first, arm, 3:]
    assert np.isclose(np.linalg.norm(w_x_y_z), 1.0)
    w, z = w_x_y_z[0], w_x_y_z[3]
    assert 2 * (x * z - y * w) < -0.99


def test_no_arm_hits_the_table_or_the_other_arm(colour: tuple[Trace, int]) -> None:
    trace, _ = colour
    assert not trace.arm_table.any()
    assert not trace.arm_arm.any()


def test_a_name_that_is_not_in_the_scene_is_refused(colour: tuple[Trace, int]) -> None:
    with pytest.raises(KeyError, match="bowl"):
        colour[0].index("bowl")


def test_an_empty_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        TraceRecorder("colour", 0, 0.74, ()).finish()

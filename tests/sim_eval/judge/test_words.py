"""Each judge word on traces made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made_traces import AHEAD, DOWN, TABLE, Story, block, box, cube, mat
from hypothesis import given, settings
from hypothesis import strategies as st

FIRST, SECOND = (-0.15, -0.1), (0.15, -0.1)


def two_cubes(seconds: float = 4.0) -> Story:
    return Story(seconds, (cube("red"), FIRST), (cube("blue"), SECOND), (mat(), (0.0, 0.0)))


def one_block(seconds: float = 4.0) -> Story:
    return Story(seconds, (block("green"), (0.0, 0.0)))


# Holding.


def test_first_held_names_the_first_firm_grasp_not_the_first_touch() -> None:
    story = two_cubes().push("left", "red", (0.2, 0.4), (0, 1)).grip("right", "blue", (1.0, 2.0))
    assert story.says("first_held([red, blue])") == "blue"
    assert story.says("first_touched([red, blue])") == "red"


def test_a_grasp_shorter_than_hold_s_is_not_held() -> None:
    assert not two_cubes().grip("left", "red", (1.0, 1.28)).holds("held(red)")
    assert two_cubes().grip("left", "red", (1.0, 1.30)).holds("held(red)")


def test_held_for_longer_needs_an_unbroken_grasp() -> None:
    broken = two_cubes().grip("left", "red", (0.5, 1.4)).grip("left", "red", (2.0, 2.9))
    assert not broken.holds("held(red, 1.5)")
    assert two_cubes().grip("left", "red", (0.5, 2.0)).holds("held(red, 1.5)")


def test_flickering_contacts_do_not_end_a_grasp() -> None:
    story = two_cubes().grip("left", "red", (1.0, 2.0))
    story.fingers[::3, 0, 0, 0] = False
    assert story.holds("held(red, 0.9)")


def test_one_finger_does_not_hold() -> None:
    story = two_cubes().grip("left", "red", (1.0, 2.0))
    story.fingers[:, 0, 1, 0] = False
    assert not story.holds("held(red)")


def test_two_fingers_that_push_from_the_same_side_do_not_hold() -> None:
    beside = (FIRST[0] - 0.04, FIRST[1], TABLE + 0.02)
    story = two_cubes().hand("left", (1.0, 2.0), beside).push("left", "red", (1.0, 2.0), (0, 1))
    assert not story.holds("held(red)")


def test_one_finger_of_each_hand_does_not_hold() -> None:
    story = two_cubes().push("left", "red", (1.0, 2.0), (0,)).push("right", "red", (1.0, 2.0), (1,))
    assert not story.holds("held(red)")


def test_first_held_is_unclear_for_a_tie_and_none_for_nothing() -> None:
    tie = two_cubes().grip("left", "red", (1.0, 2.0)).grip("right", "blue", (1.02, 2.0))
    assert tie.says("first_held([red, blue])") == "unclear"
    assert two_cubes().says("first_held([red, blue])") == "none"


def test_first_arm_counts_any_touch() -> None:
    story = two_cubes().push("right", "red", (0.5, 0.5)).grip("left", "red", (1.0, 2.0))
    assert story.says("first_arm(red)") == "right"
    assert story.says("first_arm(blue)") == "none"
    both = two_cubes().push("right", "red", (0.5, 1.0)).push("left", "red", (0.5, 1.0))
    assert both.says("first_arm(red)") == "unclear"


def test_touched_by_and_held_by_tell_the_arms_apart() -> None:
    story = two_cubes().push("right", "red", (0.5, 0.6)).grip("left", "red", (1.0, 2.0))
    assert story.holds("touched_by(red, right) and touched_by(red, left)")
    assert story.holds("held_by(red, left) and not held_by(red, right)")


def test_holding_is_about_the_end() -> None:
    let_go = two_cubes(4.0).grip("left", "red", (1.0, 3.5))
    assert let_go.holds("held(red, 2.0)")
    assert not let_go.holds("holding(red, 2.0)")
    assert two_cubes(4.0).grip("left", "red", (2.0, 4.0)).holds("holding(red, 2.0)")
    assert not two_cubes(4.0).grip("left", "red", (2.1, 4.0)).holds("holding(red, 2.0)")


def test_released_needs_a_grasp_before_and_no_touch_at_the_end() -> None:
    assert not two_cubes().holds("released(red)")
    assert two_cubes().grip("left", "red", (1.0, 3.4)).holds("released(red)")
    assert not two_cubes().grip("left", "red", (1.0, 3.6)).holds("released(red)")
    touched_again = two_cubes().grip("left", "red", (1.0, 2.0)).push("right", "red", (3.9, 3.9))
    assert not touched_again.holds("released(red)")


def test_free_needs_no_touch_at_the_end_only() -> None:
    assert two_cubes().holds("free(red)")
    assert not two_cubes().push("right", "red", (3.7, 3.8)).holds("free(red)")


def test_lifted_needs_height_and_a_grasp_at_the_same_time() -> None:
    high = (*FIRST, TABLE + 0.02 + 0.031)
    held = two_cubes().put("red", (1.5, 2.0), high).grip("left", "red", (1.0, 2.0))
    assert held.holds("lifted(red, 0.03)")
    assert held.holds("lifted_by(red, left, 0.03) and not lifted_by(red, right, 0.03)")
    assert not held.holds("lifted(red, 0.032)")
    thrown = two_cubes().put("red", (2.0, 2.5), high).grip("left", "red", (1.0, 1.5))
    assert not thrown.holds("lifted(red, 0.03)")


def test_standing_something_up_does_not_lift_it() -> None:
    story = Story(3.0, (block("green"), (0.0, 0.0))).turn("green", lambda t: 90.0 * (t < 1.0), axis=0)
    story.pose[:, 0, 2] = np.where(story.time < 1.0, TABLE + 0.02, TABLE + 0.05)
    story.grip("left", "green", (0.5, 2.5))
    assert not story.holds("lifted(green, 0.01)")


def test_raised_is_about_the_end() -> None:
    high = (*FIRST, TABLE + 0.12)
    up = two_cubes().put("red", (1.0, 4.0), high)
    assert up.holds("raised(red, 0.05)")
    assert not two_cubes().put("red", (1.0, 3.7), high).holds("raised(red, 0.05)")


def test_near_measures_from_the_surface_of_the_object() -> None:
    story = two_cubes().hand("left", (1.0, 1.1), (FIRST[0], FIRST[1] + 0.039, TABLE + 0.02))
    assert story.holds("near(red, 0.02)")
    assert story.holds("near_by(red, left, 0.02) and not near_by(red, right, 0.02)")
    assert not story.holds("near(red, 0.018)")
    assert not story.holds("near(blue, 0.02)")


# Placing.


def on_the_mat(until: float = 4.0) -> Story:
    place = (0.01, 0.0, TABLE + 0.002 + 0.02)
    story = two_cubes().grip("left", "red", (0.5, 1.5)).put("red", (1.5, until), place)
    return story.rest("red", "mat", (1.5, until))


def test_on_needs_place_height_and_support_at_the_end() -> None:
    assert on_the_mat().holds("on(red, mat)")
    assert not two_cubes().holds("on(red, mat)")
    hovering = on_the_mat()
    hovering.pose[-20:, 0, 2] += 0.02
    assert not hovering.holds("on(red, mat)")
    beside = on_the_mat()
    beside.pose[-20:, 0, 0] = 0.07
    assert not beside.holds("on(red, mat)")


def test_on_is_lost_when_the_object_falls_off_after_success() -> None:
    assert not on_the_mat(until=3.8).holds("on(red, mat)")


def test_on_survives_a_sleeping_contact_report() -> None:
    story = on_the_mat()
    story.support[-10:] = False
    assert story.holds("on(red, mat)")


def test_on_is_not_in_the_hand_above() -> None:
    story = on_the_mat()
    story.support[:, 0, 2] = False
    story.pose[-25:, 0, 2] += np.linspace(0.0, 0.005, 25)
    assert not story.holds("on(red, mat)")


def boxed(z: float = 0.03, x: float = 0.02, until: float = 4.0) -> Story:
    story = Story(4.0, (cube("red"), FIRST), (box("box"), (0.0, 0.0)), (box("tray"), (0.3, 0.0)))
    return story.put("red", (1.5, until), (x, 0.0, TABLE + z))


def test_inside_needs_the_centre_within_the_walls_and_the_bottom_below_the_rim() -> None:
    assert boxed().holds("inside(red, box)")
    assert not boxed(z=0.08).holds("inside(red, box)")
    assert not boxed(x=0.078).holds("inside(red, box)")
    assert not boxed().holds("inside(red, tray)")
    assert not boxed(until=3.8).holds("inside(red, box)")


def test_nothing_is_inside_an_object_without_an_interior() -> None:
    assert not on_the_mat().holds("inside(red, mat)")


def test_first_inside_names_the_container_and_stays_after_it_is_taken_out() -> None:
    assert boxed(until=2.5).says("first_inside(red, [box, tray])") == "box"
    assert boxed(until=1.6).says("first_inside(red, [box, tray])") == "none"
    moved_on = boxed(until=2.5).put("red", (2.6, 4.0), (0.3, 0.0, TABLE + 0.03))
    assert moved_on.says("first_inside(red, [tray, box])") == "box"


def test_inside_follows_a_container_that_is_turned() -> None:
    wide = Story(2.0, (cube("red"), (0.0, 0.09)), (box("box"), (0.0, 0.0))).put(
        "red", (0.0, 2.0), (0.0, 0.09, TABLE + 0.03)
    )
    assert not wide.holds("inside(red, box)")
    assert wide.turn("box", lambda t: 45.0 + 0.0 * t).holds("inside(red, box)")


def test_above_needs_the_outline_or_the_distance_and_the_height() -> None:
    over = boxed(z=0.075, until=2.0)
    assert over.holds("above(red, box)")
    assert over.holds("above(red, box, 0.03) and not above(red, box, 0.01)")
    assert not boxed(z=0.05, until=2.0).holds("above(red, box)")
    assert not boxed(z=0.075, x=0.09, until=2.0).holds("above(red, box)")


def test_at_rest_is_about_the_last_seconds() -> None:
    story = on_the_mat()
    assert story.holds("at_rest(red, 2.0)")
    assert not story.holds("at_rest(red, 3.0)")
    assert not story.holds("at_rest(red, 9.0)")
    spinning = two_cubes().turn("red", lambda t: 10.0 * t)
    assert not spinning.holds("at_rest(red, 1.0)")


def test_moved_counts_the_farthest_point_even_when_it_came_back() -> None:
    story = two_cubes().put("blue", (1.0, 1.5), (SECOND[0] + 0.021, SECOND[1], TABLE + 0.02))
    assert story.holds("moved(blue, 0.02)")
    assert not story.holds("moved(blue, 0.03)")
    assert not story.holds("moved(red, 0.001)")


def dropped_from(height: float, where: tuple[float, float] = FIRST) -> Story:
    story = Story(4.0, (cube("red"), FIRST), (box("box"), (0.0, 0.0)))
    story.put("red", (1.0, 2.0), (*where, TABLE + 0.02 + height)).grip("left", "red", (0.5, 2.0))
    return story.put("red", (2.2, 4.0), (*where, TABLE + 0.02))


def test_dropped_needs_a_fall_of_the_height_after_a_grasp() -> None:
    assert dropped_from(0.06).holds("dropped(0.05)")
    assert not dropped_from(0.04).holds("dropped(0.05)")
    assert not two_cubes().holds("dropped(0.05)")


def test_a_fall_into_a_container_is_no_drop() -> None:
    assert not dropped_from(0.10, (0.0, 0.0)).holds("dropped(0.05)")


def test_lowering_in_the_hand_is_no_drop() -> None:
    story = dropped_from(0.10)
    story.put("red", (2.0, 4.0), (*FIRST, TABLE + 0.02)).grip("left", "red", (0.5, 3.0))
    assert not story.holds("dropped(0.05)")


def test_handing_over_is_no_drop() -> None:
    story = dropped_from(0.10).put("red", (1.0, 4.0), (*FIRST, TABLE + 0.12))
    assert not story.grip("right", "red", (1.9, 4.0)).holds("dropped(0.05)")


def test_arm_on_table_measures_seconds_and_arms_touched_any_sample() -> None:
    story = two_cubes()
    assert story.measures("arm_on_table()") == 0.0
    assert not story.holds("arms_touched()")
    story.arm_table[10:20, 1] = True
    story.arm_arm[7] = True
    assert story.measures("arm_on_table()") == pytest.approx(0.2)
    assert story.holds("arms_touched()")


# Directions and turns.


def coming(start: tuple[float, float, float], pointing: tuple[float, ...] = DOWN) -> Story:
    end = (0.0, 0.0, TABLE + 0.07)
    begin = (end[0] + start[0], end[1] + start[1], end[2] + start[2])
    return one_block().sweep("right", (0.5, 1.5), begin, end, pointing).push("right", "green", (1.5, 4.0), (0, 1))


def test_tcp_dir_tells_above_from_side() -> None:
    assert coming((0.0, 0.0, 0.15)).says("tcp_dir(green, 0.08)") == "above"
    assert coming((0.0, -0.15, 0.0), AHEAD).says("tcp_dir(green, 0.08)") == "side"
    assert one_block().says("tcp_dir(green, 0.08)") == "none"


@settings(deadline=None)
@given(st.floats(0.0, 90.0), st.floats(0.0, 360.0))
def test_tcp_dir_follows_the_cones_of_35_degrees_and_asks_the_hand_between_them(steep: float, around: float) -> None:
    a, b = np.radians(steep), np.radians(around)
    start = (0.15 * np.cos(a) * np.cos(b), 0.15 * np.cos(a) * np.sin(b), 0.15 * np.sin(a))
    answers = {coming(start, hand).says("tcp_dir(green, 0.08)") for hand in (DOWN, AHEAD)}
    if steep > 55.1:
        assert answers == {"above"}
    elif steep < 34.9:
        assert answers == {"side"}
    elif 35.1 < steep < 54.9:
        assert answers == {"above", "side"}


def test_tcp_dir_is_unclear_when_path_and_hand_are_both_oblique() -> None:
    oblique = (np.cos(np.pi / 8), 0.0, np.sin(np.pi / 8), 0.0)
    assert coming((0.0, -0.1, 0.1), oblique).says("tcp_dir(green, 0.08)") == "unclear"


def test_tcp_dir_looks_at_the_last_stretch_only() -> None:
    story = coming((0.0, 0.0, 0.10))
    story.tcp[story.time < 0.5, 1, :3] = (0.4, -0.4, TABLE + 0.17)
    assert story.says("tcp_dir(green, 0.08)") == "above"


def test_tcp_dir_asks_the_arm_that_touched_first() -> None:
    story = coming((0.0, 0.0, 0.15)).push("left", "green", (2.0, 3.0))
    assert story.says("tcp_dir(green, 0.08)") == "above"
    tie = coming((0.0, 0.0, 0.15)).push("left", "green", (1.5, 3.0))
    assert tie.says("tcp_dir(green, 0.08)") == "unclear"


def test_tcp_dir_of_a_hand_that_started_at_the_object_is_where_it_points() -> None:
    near = one_block().hand("right", (0.0, 4.0), (0.0, -0.03, TABLE + 0.05), AHEAD)
    assert near.push("right", "green", (1.0, 2.0)).says("tcp_dir(green, 0.08)") == "side"


def turned(angle: float, back: float = 0.0) -> Story:
    story = Story(4.0, (block("bowl"), (0.0, 0.0)))
    return story.turn("bowl", lambda t: angle * np.clip(t, 0.0, 1.0) + (back - angle) * np.clip(t - 2.0, 0.0, 1.0))


def test_turn_names_the_first_turn_beyond_the_angle() -> None:
    assert turned(90.0, 90.0).says("turn(bowl, z, 20)") == "counterclockwise"
    assert turned(-90.0, -90.0).says("turn(bowl, z, 20)") == "clockwise"
    assert turned(19.0, 19.0).says("turn(bowl, z, 20)") == "none"
    assert turned(-25.0, 80.0).says("turn(bowl, z, 20)") == "clockwise"


@settings(deadline=None)
@given(st.floats(-700.0, 700.0))
def test_net_turn_counts_whole_turns_and_has_the_sign_of_the_direction(angle: float) -> None:
    story = turned(angle, angle)
    assert story.measures("net_turn(bowl, z)") == pytest.approx(angle, abs=1e-6)
    assert story.measures("net_turn(bowl, z, clockwise)") == pytest.approx(-angle, abs=1e-6)
    assert story.measures("net_turn(bowl, z, first_arm(bowl))") == 0.0


def test_net_turn_is_about_the_end() -> None:
    assert turned(90.0, 10.0).measures("net_turn(bowl, z)") == pytest.approx(10.0)


def test_upright_is_about_the_end_and_kept_upright_about_the_time_before_the_grasp() -> None:
    story = one_block().push("right", "green", (0.5, 4.0)).grip("right", "green", (1.0, 4.0))
    assert story.holds("upright(green, 20) and kept_upright(green, 20)")
    tilted_later = story.turn("green", lambda t: 40.0 * (t > 2.0), axis=0)
    assert tilted_later.holds("kept_upright(green, 20)")
    assert not tilted_later.holds("upright(green, 20)")
    knocked = one_block().push("right", "green", (0.5, 4.0)).turn("green", lambda t: 30.0 * (t > 0.6), axis=1)
    assert not knocked.holds("kept_upright(green, 20)")
    assert not one_block().holds("kept_upright(green, 20)")

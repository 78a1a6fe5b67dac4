"""What goes wrong around the arms, and what the commander promises then, over a real graph.

The simulated arms and the commander are processes; the test is session and policy. In every test all commands are heard
and held against the limits.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import Bool, Empty

from finevla_cobot.qos import EVENT
from finevla_interfaces.msg import ControllerStatus, Episode
from tests.ros.conftest import StartNode
from tests.ros.peer import Peer
from tests.ros.robot import COMMANDER, HOME, SAFETY, WRISTS, Robot

# The last tick before rest is no faster on average, even the longest one; a motion that is cut off is.
SLOW = 0.2


@pytest.fixture(scope="module")
def arms(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    robot = Robot(tmp_path_factory.mktemp("arms"), "kinematic", "empty")
    yield robot
    robot.close()


@pytest.fixture
def robot(arms: Robot) -> Robot:
    arms.fresh()
    return arms


def test_activation_is_refused_without_arms_and_says_so(peer: Peer, start_node: StartNode) -> None:
    node = start_node("arm_commander", parameters=COMMANDER, namespace="/nobody")
    statuses = peer.heard(ControllerStatus, "/nobody/finevla/status")

    def change(transition: int) -> bool:
        called = peer.call(ChangeState, "/nobody/arm_commander/change_state", transition=Transition(id=transition))
        return bool(called.success)

    assert change(Transition.TRANSITION_CONFIGURE)
    assert not change(Transition.TRANSITION_ACTIVATE)
    assert "FV-SAF-008: no joint position has come from the left arm on left/joint_states" in node.output()
    first = len(statuses)
    peer.until(lambda: len(statuses) > first + 2, "statuses")
    assert statuses[-1].state == "unstarted"
    assert statuses[-1].reasons[0].startswith("FV-SAF-008")
    assert change(Transition.TRANSITION_CLEANUP)


def test_silent_feedback_holds_then_stops(robot: Robot) -> None:
    robot.swing()
    robot.inject("silent_feedback")
    robot.until_state("holding", "FV-SAF-008")
    robot.until_rest()
    robot.until_state("stopped", "FV-SAF-013")
    robot.commands.assert_smooth()


def test_nan_feedback_stops_and_names_the_joint(robot: Robot) -> None:
    robot.swing()
    robot.inject("nan_feedback")
    status = robot.until_state("stopped", "left arm")
    [reason] = status.reasons
    assert "FV-SAF-004" in reason
    assert "joint1 is not finite" in reason
    robot.until_rest()
    robot.commands.assert_smooth()


def test_arm_status_not_ok_stops_and_cannot_be_reset_while_it_lasts(robot: Robot) -> None:
    robot.swing()
    robot.inject("emergency_stop")
    status = robot.until_state("stopped", "FV-SAF-004")
    assert "data 1: emergency stop" in status.reasons[0]
    robot.until_rest()
    robot.commands.assert_smooth()
    refused = robot.press("reset")
    assert not refused.success
    assert "emergency stop" in refused.message
    robot.inject("none")
    robot.peer.until(lambda: robot.press("reset").success, "a reset")


def test_arms_that_do_not_follow_stop(robot: Robot) -> None:
    robot.inject("slow_drive")
    robot.swing()
    status = robot.until_state("stopped", "FV-SAF-006")
    assert "_j6 is" in status.reasons[0]
    robot.until_rest()
    robot.commands.assert_smooth()


@pytest.mark.parametrize("button", ["topic", "service"])
def test_estop_topic_and_stop_service_brake_within_limits_and_stay_latched_until_reset(
    robot: Robot, button: str
) -> None:
    robot.swing()
    estop = robot.peer.node.create_publisher(Bool, "finevla/estop", EVENT)
    if button == "topic":
        robot.peer.until(estop.get_subscription_count, "a commander that hears the button")
        estop.publish(Bool(data=True))
    else:
        assert robot.press("stop").success
    robot.until_state("stopped", "FV-SAF-022")
    robot.until_rest()
    robot.commands.assert_smooth()
    # Neither the chunks that still come nor a new episode moves it.
    robot.begin(heard=False)
    robot.until_feedback(200)
    assert robot.commands.speed(over=100) == 0.0
    assert robot.status.state == "stopped"
    robot.quiet()
    if button == "topic":
        refused = robot.press("reset")
        assert not refused.success
        assert "FV-SAF-024" in refused.message
        estop.publish(Bool(data=False))
    robot.peer.until(lambda: robot.press("reset").success, "a reset")
    robot.until_state("waiting")
    robot.peer.node.destroy_publisher(estop)
    # A reset moves nothing: the next episode does.
    robot.commands.begin()
    robot.until_feedback(50)
    assert robot.commands.moved == 0.0
    stands = robot.commands.last
    robot.begin()
    robot.offer(np.linspace(stands, HOME, 8))
    robot.until_state("moving")


def test_an_emergency_button_that_is_pressed_prevents_the_activation(robot: Robot) -> None:
    robot.change("arm_commander", Transition.TRANSITION_DEACTIVATE)
    estop = robot.peer.node.create_publisher(Bool, "finevla/estop", EVENT)
    robot.peer.until(estop.get_subscription_count, "a commander that hears the button")

    def activate() -> bool:
        transition = Transition(id=Transition.TRANSITION_ACTIVATE)
        return bool(robot.peer.call(ChangeState, "arm_commander/change_state", transition=transition).success)

    estop.publish(Bool(data=True))
    # A service call may overtake the message before it.
    robot.until_feedback(20)
    assert not activate()
    assert "FV-SAF-024" in robot.nodes["arm_commander"].output()
    estop.publish(Bool(data=False))
    robot.peer.until(activate, "an activation after the release")
    robot.peer.node.destroy_publisher(estop)


def test_operator_gone_holds_and_goes_on_only_when_begun_again(arms: Robot) -> None:
    arms.fresh(deadman_s=0.25)
    heartbeat = arms.peer.node.create_publisher(Empty, "finevla/heartbeat", EVENT)
    arms.peer.until(heartbeat.get_subscription_count, "a commander that feels the pulse")
    beating = arms.peer.node.create_timer(0.05, lambda: heartbeat.publish(Empty()))
    arms.swing()
    # With a pulse it goes on for longer than without one; the pulse of a busy machine may miss, so it is not counted.
    arms.peer.node.destroy_timer(beating)
    status = arms.until_state("waiting", "FV-SAF-021")
    assert "no sign of the operator" in status.reasons[0]
    arms.until_rest()
    arms.commands.assert_smooth()
    accepted = arms.status.chunks_accepted
    heartbeat.publish(Empty())
    arms.until_feedback(200)
    assert arms.status.chunks_accepted == accepted
    assert arms.status.state == "waiting"
    arms.quiet()
    # Beginning again is a sign of the operator.
    arms.begin()
    arms.peer.node.destroy_publisher(heartbeat)


@dataclass(frozen=True)
class Stranger:
    """Somebody else's chunk."""

    episode_id: str
    epoch: int


@pytest.mark.parametrize(
    "stranger", [Stranger("another", 0), Stranger("", 0), Stranger("mine", 0), Stranger("mine", 2)]
)
def test_chunks_of_another_episode_or_epoch_never_move_the_arms(robot: Robot, stranger: Stranger) -> None:
    robot.begin()
    robot.begin(epoch=1)
    name = robot.episode.episode_id if stranger.episode_id == "mine" else stranger.episode_id
    told = Episode(episode_id=name, epoch=stranger.epoch)
    rows = np.tile(HOME, (16, 1))
    rows[:, WRISTS] += 0.05
    before = robot.status.chunks_refused
    robot.repeat(0.05, lambda: robot.offer(rows, told))
    robot.peer.until(lambda: robot.status.chunks_refused >= before + 10, "ten refused chunks")
    robot.quiet()
    assert robot.commands.moved == 0.0
    # The same rows in the right name are followed.
    robot.offer(rows)
    robot.until_state("moving")


def test_the_first_command_far_away_is_refused_until_an_operator_allows_the_approach(robot: Robot) -> None:
    far = np.tile(HOME, (8, 1))
    far[:, WRISTS] += 0.8
    robot.begin()
    robot.offer(far)
    status = robot.until_state("holding", "FV-SAF-015")
    assert "_j6 would begin 0.800 rad away" in status.reasons[0]
    robot.until_feedback(100)
    assert robot.commands.moved == 0.0
    assert robot.press("allow_approach").success
    robot.offer(far)
    robot.until_state("approaching")
    robot.peer.until(lambda: robot.is_near(far[0]), "the arms where the chunk begins")
    robot.commands.assert_smooth()
    times, path = robot.commands.path()
    # Up to the start tolerance the approach keeps to its share of the speed limits.
    slow = np.abs(path - far[0]).max(axis=1) > SAFETY.start.max()
    speeds = np.abs(np.diff(path[slow], axis=0)) / np.diff(times[slow])[:, None]
    assert (speeds <= SAFETY.approach_share * SAFETY.limits.velocity * 1.05 + 1e-3).all()


def test_deactivated_in_motion_it_brakes_and_says_nothing_more_until_it_is_active_again(robot: Robot) -> None:
    robot.swing()
    robot.change("arm_commander", Transition.TRANSITION_DEACTIVATE)
    # What was on its way arrives before the statuses that come after it.
    robot.until_state("unstarted")
    count, last = len(robot.commands), robot.commands.last
    robot.until_feedback(100)
    assert len(robot.commands) == count
    assert robot.commands.speed(over=1) < SLOW
    assert robot.is_near(last)
    robot.commands.assert_smooth()
    robot.quiet()
    robot.end()
    robot.change(
        "arm_commander",
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    )
    robot.commands.begin()
    robot.until_state("waiting")
    robot.until_feedback(50)
    # It begins from where the arms stand, not from where it was before.
    assert robot.commands.moved == 0.0
    assert robot.is_near(robot.commands.last)
    assert robot.peer.node.count_publishers("left/joint_commands") == 1
    assert robot.peer.node.count_publishers("joint_states") == 1


def test_a_signal_in_motion_brakes_and_then_ends_the_process(robot: Robot) -> None:
    robot.swing()
    node = robot.nodes["arm_commander"]
    node.signal(signal.SIGTERM)
    assert node.wait() == 0, node.output()
    robot.until_feedback(50)
    assert robot.commands.speed(over=1) < SLOW
    assert robot.is_near(robot.commands.last)
    robot.commands.assert_smooth()


def test_a_second_signal_in_motion_ends_it_at_once_and_the_arms_hold_the_last_command(robot: Robot) -> None:
    robot.swing()
    node = robot.nodes["arm_commander"]
    node.signal(signal.SIGTERM)
    node.signal(signal.SIGINT)
    assert node.wait() == 0, node.output()
    robot.until_feedback(50)
    assert robot.commands.speed(over=1) > SLOW
    assert robot.is_near(robot.commands.last)
    robot.commands.assert_smooth()


def test_a_killed_commander_leaves_the_arms_where_they_are_and_the_next_one_begins_there(robot: Robot) -> None:
    robot.swing()
    node = robot.nodes["arm_commander"]
    node.signal(signal.SIGKILL)
    assert node.wait() == -signal.SIGKILL
    robot.until_feedback(50)
    stands = robot.measured()
    robot.commands.assert_smooth()
    assert robot.is_near(robot.commands.last)
    robot.until_feedback(100)
    assert robot.is_near(stands, within=1e-3)

"""One arm's topics: commands in the driver's form and units, and limits of a firmware that must be believable."""

from __future__ import annotations

import gc
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Int32
from trajectory_msgs.msg import JointTrajectory

from finevla_cobot import arm_commander
from finevla_cobot.arm_commander import ArmCommander
from finevla_cobot.arm_ports import ArmPort
from finevla_cobot.qos import COMMAND, EVENT, SENSOR, STATE
from finevla_interfaces.msg import ControllerStatus
from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.setpoint import Setpoint
from finevla_runtime.robot.controller import Controller
from finevla_runtime.robot.gripper_map import GripperMap
from finevla_runtime.robot.topic_profile import ARM_DOF, ARMS, JOINT_TRAJECTORY, TopicProfile
from tests.ros.peer import Peer
from tests.ros.robot import BODY, EMBODIMENT, HOME, SAFETY, TOPICS

TICK_S = 0.005
ARM = EMBODIMENT.joints[: ARM_DOF - 1]
LIMITS = [joint.lower for joint in ARM] + [joint.upper for joint in ARM]
LEFT, RIGHT = slice(0, ARM_DOF), slice(ARM_DOF, 2 * ARM_DOF)
MakePort = Callable[[TopicProfile], ArmPort]


@pytest.fixture
def controller() -> Controller:
    return Controller(SAFETY, Execution(Strategy.ASYNCHRONOUS, 8), 0.1, TICK_S)


@pytest.fixture
def make_port(peer: Peer, controller: Controller) -> Iterator[MakePort]:
    made: list[ArmPort] = []

    def make(topics: TopicProfile) -> ArmPort:
        made.append(ArmPort(peer.node, topics, EMBODIMENT, "left", controller, listens=True))
        return made[-1]

    yield make
    for port in made:
        port.close()


def with_left(topics: TopicProfile = TOPICS, **fields: object) -> TopicProfile:
    return replace(topics, left=replace(topics.left, **fields))


def test_a_trajectory_of_one_point_is_due_one_tick_after_its_stamp(peer: Peer, make_port: MakePort) -> None:
    gripper = GripperMap(unit="metres", closed=0.0, open=0.07, tolerance=0.1)
    port = make_port(replace(with_left(gripper=gripper), output=JOINT_TRAJECTORY))
    heard = peer.heard(JointTrajectory, TOPICS.left.command.topic, COMMAND)
    setpoint = Setpoint.at_rest(np.concatenate([HOME[LEFT] * 0.5, HOME[RIGHT]]))
    stamp = Time(sec=12, nanosec=34)
    peer.until(lambda: heard, "a trajectory", each=lambda: port.send(setpoint, LEFT, stamp))
    message = heard[0]
    assert tuple(message.joint_names) == TOPICS.left.command.joints
    assert message.header.stamp == stamp
    [point] = message.points
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, round(TICK_S * 1e9))
    np.testing.assert_allclose(point.positions[:-1], HOME[LEFT][:-1] * 0.5)
    assert point.positions[-1] == pytest.approx(0.07 * 0.5)


def test_a_joint_state_carries_what_the_profile_sends_along(peer: Peer, make_port: MakePort) -> None:
    along = replace(TOPICS.left.command, velocity=(0.0,) * 6 + (30.0,), effort=(0.0,) * 6 + (0.5,))
    port = make_port(with_left(command=along))
    heard = peer.heard(JointState, TOPICS.left.command.topic, COMMAND)
    peer.until(lambda: heard, "a command", each=lambda: port.send(Setpoint.at_rest(HOME), LEFT, Time()))
    message = heard[0]
    np.testing.assert_allclose(message.position, HOME[LEFT])
    assert (tuple(message.velocity), tuple(message.effort)) == (along.velocity, along.effort)
    assert tuple(message.name) == along.joints


def say(peer: Peer, kind: type, topic: str, qos: QoSProfile, message: object, port: ArmPort) -> None:
    """Say a message until the port has taken it."""
    publisher = peer.node.create_publisher(kind, topic, qos)
    before = port.not_ready()
    peer.until(
        lambda: port.not_ready() != before, f"a port that hears {topic}", each=lambda: publisher.publish(message)
    )
    peer.node.destroy_publisher(publisher)


def feedback(first: float = 0.0) -> JointState:
    return JointState(name=TOPICS.left.feedback.joints, position=array("d", [first, *HOME[LEFT][1:]]))


def test_a_port_says_what_is_missing_until_nothing_is(peer: Peer, make_port: MakePort) -> None:
    limits = peer.node.create_publisher(Float64MultiArray, "left/limits", STATE)
    # Said once, before anybody listens: a firmware's limits do not change.
    limits.publish(Float64MultiArray(data=array("d", LIMITS)))
    port = make_port(with_left(firmware_limits="left/limits"))
    assert str(port.not_ready()).startswith("FV-SAF-008")
    say(peer, JointState, TOPICS.left.feedback.topic, EVENT, feedback(), port)
    peer.until(lambda: str(port.not_ready()).startswith("FV-ROB-009"), "the limits to be heard")
    say(peer, Int32, TOPICS.left.status.topic, EVENT, Int32(data=0), port)
    assert port.not_ready() is None


def test_feedback_that_cannot_be_read_is_a_fault_of_the_arm(
    peer: Peer, make_port: MakePort, controller: Controller
) -> None:
    port = make_port(TOPICS)
    say(peer, JointState, TOPICS.left.feedback.topic, EVENT, feedback(), port)
    for arm in (0, 1):
        controller.feedback(arm, HOME[LEFT], 0)
    assert controller.start(0) is None
    publisher = peer.node.create_publisher(JointState, TOPICS.left.feedback.topic, EVENT)

    def refusal() -> str:
        return str(controller.start(0) or "")

    bad = feedback(math.nan)
    peer.until(lambda: "joint1 is not finite" in refusal(), "the fault", each=lambda: publisher.publish(bad))
    peer.until(lambda: not refusal(), "the end of the fault", each=lambda: publisher.publish(feedback()))


@pytest.mark.parametrize(
    ("values", "code"),
    [
        # Every joint from -0.10 to -0.10 degrees, as users have read it back.
        ([math.radians(-0.1)] * 12, "FV-ROB-006"),
        ([math.nan] * 12, "FV-ROB-006"),
        (LIMITS[6:] + LIMITS[:6], "FV-ROB-006"),
        ([LIMITS[0] + 0.5, *LIMITS[1:]], "FV-ROB-007"),
        (LIMITS[:11], "FV-ROB-005"),
        ([], "FV-ROB-005"),
    ],
    ids=["corrupted", "unset", "swapped", "tighter", "short", "empty"],
)
def test_limits_of_a_firmware_that_no_arm_can_have_prevent_a_start(
    peer: Peer, make_port: MakePort, values: list[float], code: str
) -> None:
    limits = peer.node.create_publisher(Float64MultiArray, "left/limits", STATE)
    limits.publish(Float64MultiArray(data=array("d", values)))
    port = make_port(with_left(firmware_limits="left/limits"))
    say(peer, JointState, TOPICS.left.feedback.topic, SENSOR, feedback(), port)
    peer.until(lambda: str(port.not_ready()).startswith(code), code)


def test_a_driver_that_says_no_limits_is_refused_when_the_profile_names_them(make_port: MakePort) -> None:
    with pytest.raises(BodyError, match="FV-ROB-008: nobody publishes the firmware limits of the left arm"):
        make_port(with_left(firmware_limits="left/limits"))


@pytest.mark.parametrize("corrupted", [True, False], ids=["corrupted", "well"])
def test_the_commander_does_not_begin_on_corrupted_firmware_limits(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, corrupted: bool
) -> None:
    topics = with_left(firmware_limits="left/limits")
    monkeypatch.setattr(arm_commander, "find_topic_profile", lambda _name: topics)
    values = [math.radians(-0.1)] * 12 if corrupted else LIMITS
    limits = peer.node.create_publisher(Float64MultiArray, "left/limits", STATE)
    limits.publish(Float64MultiArray(data=array("d", values)))
    parameters = {"embodiment": BODY, "topic_profile": "patched", "space": "none", "arm_status": "off"}
    node = ArmCommander(
        context=peer.context, parameters=[Parameter(name, value=value) for name, value in parameters.items()]
    )
    # The services of a lifecycle end with its object alone; a test after this one must not find them.
    request.addfinalizer(lambda: end_of_life(peer, node))
    peer.add(node)
    state = LifecycleState("any", 1)
    assert node.on_configure(state) == TransitionCallbackReturn.SUCCESS
    arms = [peer.node.create_publisher(JointState, TOPICS.arm(arm).feedback.topic, EVENT) for arm in ARMS]
    heard = peer.heard(JointState, TOPICS.left.command.topic, COMMAND)
    statuses = peer.heard(ControllerStatus, "finevla/status")

    def talk() -> None:
        for publisher, rows in zip(arms, (LEFT, RIGHT), strict=True):
            publisher.publish(JointState(name=TOPICS.left.feedback.joints, position=array("d", HOME[rows])))

    def spoken(rounds: int) -> None:
        left = iter(range(rounds))
        peer.until(lambda: next(left, None) is None, f"{rounds} rounds", each=talk)

    peer.until(lambda: all(one.get_subscription_count() for one in (*arms, limits)), "a commander that listens")
    spoken(20)
    refused, done = TransitionCallbackReturn.FAILURE, TransitionCallbackReturn.SUCCESS
    assert node.on_activate(state) == (refused if corrupted else done)
    if corrupted:
        spoken(50)
        assert not heard
        assert statuses[-1].reasons[0].startswith("FV-ROB-006: the limits in the firmware of the left arm")
    else:
        peer.until(lambda: heard, "a command", each=talk)
        np.testing.assert_allclose(heard[0].position, HOME[LEFT])


def end_of_life(peer: Peer, node: ArmCommander) -> None:
    """Take a lifecycle node off the graph, with what it froze and with the services of its state machine."""
    peer.remove(node)
    node.on_shutdown(LifecycleState("any", 1))
    node._state_machine.destroy_when_not_in_use()
    node.destroy_node()
    gc.unfreeze()
    gc.collect()

"""The simulated pair on a real graph: it moves, feels, sees, is judged, and has the faults it is given."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Int32
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from finevla_cobot import sim_arm
from finevla_cobot.qos import COMMAND, SENSOR, STATE
from finevla_cobot.sim_arm import CATCH_UP_S, SimArm
from finevla_interfaces.srv import InjectFault, JudgeScene, ResetScene
from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.driver_units import arm_rows_to_driver, from_driver
from finevla_runtime.robot.topic_profile import (
    ARM_DOF,
    ARMS,
    JOINT_TRAJECTORY,
    StatusSource,
    TopicProfile,
    find_topic_profile,
)
from tests.ros.conftest import StartNode
from tests.ros.node_process import NodeProcess
from tests.ros.peer import Peer

PROFILE = find_topic_profile("cobot_magic_sim")
SIM = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
HOME = np.array([joint.home for joint in SIM.joints])
SIMULATED = {"topic_profile": "cobot_magic_sim"}
TABLETOP = {**SIMULATED, "body": "tabletop", "scene": "colour/3"}


class Commander:
    """Hears what both arms say and tells both the same again and again."""

    def __init__(self, peer: Peer, profile: TopicProfile = PROFILE, target: np.ndarray = HOME) -> None:
        self.target = target
        self._peer, self._profile = peer, profile
        self.heard = {arm: peer.heard(JointState, profile.arm(arm).feedback.topic, SENSOR) for arm in ARMS}
        self._publishers = {
            arm: peer.node.create_publisher(JointState, profile.arm(arm).command.topic, COMMAND) for arm in ARMS
        }

    def __call__(self) -> None:
        for arm, row in zip(ARMS, np.split(self.target, [ARM_DOF]), strict=True):
            position = array("d", arm_rows_to_driver(self._profile, arm, row))
            self._publishers[arm].publish(JointState(name=self._profile.arm(arm).command.joints, position=position))

    def measured(self) -> np.ndarray:
        """Return float64[14], what was heard last."""
        rows = [from_driver(self._profile, arm, self.heard[arm][-1].name, self.heard[arm][-1].position) for arm in ARMS]
        return np.concatenate(rows)

    def is_near(self, place: np.ndarray) -> bool:
        return all(self.heard.values()) and bool(np.abs(self.measured() - place).max() < 0.01)

    def until_near(self, place: np.ndarray, what: str, each: Callable[[], object] | None = None) -> None:
        self._peer.until(lambda: self.is_near(place), what, each=each or self)


def seconds(message: JointState | Image) -> float:
    return Time.from_msg(message.header.stamp).nanoseconds / 1e9


def pictures(peer: Peer) -> dict[str, list[Image]]:
    return {camera.name: peer.heard(Image, camera.topic, SENSOR) for camera in PROFILE.cameras}


def inject(peer: Peer, fault: str) -> None:
    answer = peer.call(InjectFault, "finevla/sim/inject", fault=fault)
    assert answer.ok, answer.reason


def later(peer: Peer, messages: list[Image], count: int = 4) -> list[Image]:
    """Return the next messages but one: what is on its way belongs to the time before."""
    first = len(messages) + 1
    peer.until(lambda: len(messages) >= first + count, f"{count} more messages")
    return messages[first:]


def test_commands_move_both_arms_and_without_commands_they_hold_the_last(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    commander = Commander(peer, target=HOME * 0.5)
    commander.until_near(HOME, "feedback at home", each=lambda: None)
    commander.until_near(HOME * 0.5, "the arms at their target")
    count = len(commander.heard["left"])
    peer.until(lambda: len(commander.heard["left"]) > count + 100, "half a second without commands")
    assert commander.is_near(HOME * 0.5)


def test_feedback_comes_at_the_rate_of_the_profile_with_names_and_stamps(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    commander = Commander(peer)
    left = commander.heard["left"]
    peer.until(lambda: len(left) > 400, "400 messages")
    stamps = np.array([seconds(message) for message in left])
    assert (np.diff(stamps) > 0).all()
    # Half or double the rate is another one; a busy machine is late by less than that.
    assert np.median(np.diff(stamps)) == pytest.approx(1 / PROFILE.feedback_hz, rel=0.5)
    assert {tuple(message.name) for message in left} == {PROFILE.left.feedback.joints}


def test_pictures_have_the_sizes_and_stamps_of_their_cameras(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    seen = pictures(peer)
    peer.until(lambda: all(len(messages) > 3 for messages in seen.values()), "pictures of all cameras")
    for camera in PROFILE.cameras:
        messages = seen[camera.name]
        shapes = {(message.height, message.width, message.encoding, message.step) for message in messages}
        assert shapes == {(camera.height, camera.width, "rgb8", camera.width * 3)}
        assert {len(message.data) for message in messages} == {camera.height * camera.width * 3}
        assert len({bytes(message.data) for message in messages}) == len(messages)
        assert (np.diff([seconds(message) for message in messages]) > 0).all()
    # The cameras of one moment have one stamp.
    assert {seconds(m) for m in seen["cam_high"]} & {seconds(m) for m in seen["cam_left_wrist"]}


def test_another_profile_is_spoken_in_its_own_names_and_units(peer: Peer, start_node: StartNode) -> None:
    parameters = {"topic_profile": "agilex_ros2", "embodiment": "cobot_magic", "camera_hz": 5.0}
    start_node("sim_arm", parameters=parameters)
    profile = find_topic_profile("agilex_ros2")
    target = np.array([joint.home for joint in load_embodiment(HW_CONFIGS / "cobot_magic.yaml").joints])
    target[[0, 7, 6]] = 0.2, -0.2, 0.5
    commander = Commander(peer, profile, target)
    images = peer.heard(Image, "/camera_f/color/image_raw", SENSOR)
    commander.until_near(target, "the arms at their target")
    assert commander.heard["left"][-1].position[6] == pytest.approx(0.035, abs=1e-3)
    peer.until(lambda: images, "a picture")
    assert (images[0].height, images[0].width) == (480, 640)


@pytest.mark.parametrize("position", [[math.nan] + [0.0] * 6, [0.0] * 6 + [3.0], [0.0] * 6])
def test_a_command_that_makes_no_sense_moves_nothing_and_is_told(
    peer: Peer, start_node: StartNode, position: list[float]
) -> None:
    node = start_node("sim_arm", parameters=SIMULATED)
    commander = Commander(peer)
    commander.until_near(HOME, "feedback at home")
    said = peer.heard(DiagnosticArray, "/diagnostics")
    bad = peer.node.create_publisher(JointState, PROFILE.left.command.topic, COMMAND)
    message = JointState(name=PROFILE.left.command.joints, position=position)
    warns = [DiagnosticStatus.WARN]
    peer.until(
        lambda: warns in [[status.level for status in array.status] for array in said],
        "a warning",
        each=lambda: bad.publish(message),
    )
    assert commander.is_near(HOME)
    assert node.stop() == 0
    assert "FV-TOP-01" in node.output()


def test_the_tabletop_is_reset_seen_and_judged(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=TABLETOP)
    seen = pictures(peer)
    peer.until(lambda: all(len(messages) > 10 for messages in seen.values()), "a second of pictures")
    judged = peer.call(JudgeScene, "finevla/sim/judge_scene", variant_id="red", kind="fine_grained")
    assert (judged.ok, judged.success, judged.score) == (True, False, 0.0), judged.reason
    record = json.loads(judged.record_json)
    assert (record["family"], record["scene_seed"], record["outcome"]["compliance"]) == ("colour", 3, "not_engaged")
    assert record["time_s"] >= 1.0
    assert peer.call(ResetScene, "finevla/sim/reset_scene", scene="rotate/4").ok
    record = json.loads(
        peer.call(JudgeScene, "finevla/sim/judge_scene", variant_id="clockwise", kind="raw").record_json
    )
    assert (record["family"], record["scene_seed"]) == ("rotate", 4)


def test_time_in_the_simulation_is_that_of_the_clock_and_long_pauses_are_left_out(peer: Peer) -> None:
    clock = ManualClock()
    node = SimArm(
        context=peer.context, parameters=[Parameter(name, value=value) for name, value in TABLETOP.items()], clock=clock
    )
    peer.add(node)
    left = peer.heard(JointState, PROFILE.left.feedback.topic, SENSOR)
    said = peer.heard(DiagnosticArray, "/diagnostics")

    def simulated_s() -> float:
        count = len(left)
        peer.until(lambda: len(left) > count + 3, "ticks")
        judged = peer.call(JudgeScene, "finevla/sim/judge_scene", variant_id="red", kind="raw")
        return float(json.loads(judged.record_json)["time_s"])

    assert simulated_s() == 0.0
    clock.advance_s(0.2)
    assert simulated_s() == pytest.approx(0.2)
    clock.advance_s(0.012)
    assert simulated_s() == pytest.approx(0.212)
    clock.advance_s(60.0)
    assert simulated_s() == pytest.approx(0.212 + CATCH_UP_S, abs=0.004)
    dropped = str(round(60.0 - CATCH_UP_S, 3))
    peer.until(
        lambda: dropped in {pair.value for array in said for status in array.status for pair in status.values},
        "the time that was left out in the diagnostics",
    )
    node.destroy_node()


def test_a_controllers_trajectories_are_followed_and_firmware_limits_are_said(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = replace(PROFILE.left, firmware_limits="left/limits")
    profile = replace(PROFILE, output=JOINT_TRAJECTORY, left=left)
    monkeypatch.setattr(sim_arm, "find_topic_profile", lambda _name: profile)
    node = SimArm(context=peer.context, parameters=[Parameter("topic_profile", value="patched")])
    peer.add(node)
    limits = peer.heard(Float64MultiArray, "left/limits", STATE)
    heard = peer.heard(JointState, left.feedback.topic, SENSOR)
    publisher = peer.node.create_publisher(JointTrajectory, left.command.topic, COMMAND)
    rows = [HOME[:ARM_DOF] * share for share in (0.9, 0.5)]
    told = JointTrajectory(
        joint_names=left.command.joints, points=[JointTrajectoryPoint(positions=row.tolist()) for row in rows]
    )
    peer.until(
        lambda: heard and np.abs(np.array(heard[-1].position) - rows[-1]).max() < 0.01,
        "the arm at the end of the trajectory",
        each=lambda: publisher.publish(told),
    )
    publisher.publish(JointTrajectory(joint_names=left.command.joints))
    peer.until(lambda: limits, "the limits")
    joints = SIM.joints[: ARM_DOF - 1]
    assert list(limits[0].data) == [joint.lower for joint in joints] + [joint.upper for joint in joints]
    node.destroy_node()


def test_a_status_whose_message_is_not_installed_is_left_out_and_the_rest_goes_on(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors = StatusSource("left/vendor_status", "piper_msgs/msg/PiperStatusMsg", "piper")
    profile = replace(PROFILE, left=replace(PROFILE.left, status=vendors))
    monkeypatch.setattr(sim_arm, "find_topic_profile", lambda _name: profile)
    node = SimArm(context=peer.context, parameters=[Parameter("topic_profile", value="patched")])
    peer.add(node)
    right = peer.heard(Int32, PROFILE.right.status.topic)
    peer.until(lambda: right, "the status of the other arm")
    assert peer.node.count_publishers("left/vendor_status") == 0
    node.destroy_node()


def test_a_reset_puts_the_arms_home_and_leaves_them_there(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    commander = Commander(peer, target=HOME * 0.5)
    commander.until_near(HOME * 0.5, "the arms at their target")
    assert peer.call(ResetScene, "finevla/sim/reset_scene", scene="empty").ok
    count = len(commander.heard["left"])
    peer.until(lambda: len(commander.heard["left"]) > count + 50, "a quarter of a second")
    assert commander.is_near(HOME)


def test_what_cannot_be_done_is_refused_by_code(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    for kind, service, fields, code in (
        (ResetScene, "reset_scene", {"scene": "colour/3"}, "FV-BDY-003"),
        (JudgeScene, "judge_scene", {"variant_id": "red", "kind": "raw"}, "FV-BDY-005"),
        (InjectFault, "inject", {"fault": "frozen_camra"}, "FV-BDY-007"),
    ):
        answer = peer.call(kind, f"finevla/sim/{service}", **fields)
        assert (answer.ok, answer.code) == (False, code)
        assert answer.reason


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"topic_profile": "agilex"}, "FV-TOP-007"),
        ({"topic_profile": "agilex_ros2"}, "FV-TOP-008"),
        ({**SIMULATED, "body": "tabeltop"}, "FV-BDY-001"),
        ({**SIMULATED, "scene": "colour/3"}, "FV-BDY-003"),
        ({**SIMULATED, "fault": "sleepy"}, "FV-BDY-007"),
        ({**SIMULATED, "embodiment": "cobot"}, "FV-CFG-001"),
        ({**SIMULATED, "feedback_hz": -1.0}, "FV-BDY-010"),
    ],
)
def test_a_pair_that_cannot_be_set_up_says_why_and_ends(
    start_node: StartNode, parameters: dict[str, object], code: str
) -> None:
    node = start_node("sim_arm", parameters=parameters)
    assert node.wait(60.0) == 1
    assert code in node.output()


def test_a_frozen_camera_repeats_its_picture_under_new_stamps(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    seen = pictures(peer)
    inject(peer, "frozen_camera/cam_high")
    frozen = later(peer, seen["cam_high"])
    assert len({bytes(message.data) for message in frozen}) == 1
    assert (np.diff([seconds(message) for message in frozen]) > 0).all()
    assert len({bytes(message.data) for message in later(peer, seen["cam_left_wrist"])}) > 1
    inject(peer, "none")
    assert len({bytes(message.data) for message in later(peer, seen["cam_high"])}) > 1


def test_a_frozen_stamp_repeats_picture_and_stamp(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    seen = pictures(peer)
    inject(peer, "frozen_stamp")
    for name in seen:
        assert len({(bytes(message.data), seconds(message)) for message in later(peer, seen[name])}) == 1


def test_a_silent_camera_is_silent_while_the_others_are_not(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    seen = pictures(peer)
    inject(peer, "silent_camera/cam_high")
    later(peer, seen["cam_left_wrist"], 2)
    count = len(seen["cam_high"])
    later(peer, seen["cam_left_wrist"], 5)
    assert len(seen["cam_high"]) == count


def test_silent_feedback_is_silent_until_it_is_taken_back(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    commander, statuses = Commander(peer), peer.heard(Int32, PROFILE.left.status.topic)
    commander.until_near(HOME, "feedback at home")
    inject(peer, "silent_feedback")
    later(peer, statuses, 3)
    count = len(commander.heard["left"])
    later(peer, statuses, 10)
    assert len(commander.heard["left"]) == count
    inject(peer, "none")
    peer.until(lambda: len(commander.heard["left"]) > count, "feedback again")


def test_feedback_can_stall_or_be_no_number(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters={**SIMULATED, "fault": "stalled_feedback"})
    commander = Commander(peer, target=HOME * 0.5)
    commander.until_near(HOME, "feedback at home")
    count = len(commander.heard["left"])
    peer.until(lambda: len(commander.heard["left"]) > count + 100, "half a second of commands", each=commander)
    assert commander.is_near(HOME)
    inject(peer, "none")
    commander.until_near(HOME * 0.5, "the arms where they truly are")
    inject(peer, "nan_feedback")
    left, right = commander.heard["left"], commander.heard["right"]
    peer.until(lambda: math.isnan(left[-1].position[0]), "a position that is no number")
    assert not np.isnan([left[-1].position[1:], right[-1].position[1:]]).any()


@pytest.mark.parametrize(("fault", "code"), [("emergency_stop", 1), ("overspeed", 8)])
def test_arms_that_report_a_fault_stand(peer: Peer, start_node: StartNode, fault: str, code: int) -> None:
    start_node("sim_arm", parameters=SIMULATED)
    commander = Commander(peer, target=HOME * 0.5)
    statuses = {arm: peer.heard(Int32, PROFILE.arm(arm).status.topic) for arm in ARMS}
    peer.until(lambda: all(statuses.values()), "the status of both arms")
    assert {heard[-1].data for heard in statuses.values()} == {0}
    inject(peer, fault)
    peer.until(lambda: all(heard[-1].data == code for heard in statuses.values()), f"status {code}")
    count = len(commander.heard["left"])
    peer.until(lambda: len(commander.heard["left"]) > count + 100, "half a second of commands", each=commander)
    assert commander.is_near(HOME)


def test_a_slow_drive_falls_behind(peer: Peer, start_node: StartNode) -> None:
    start_node("sim_arm", parameters={**SIMULATED, "fault": "slow_drive"})
    commander = Commander(peer, target=HOME * 0.5)
    commander.until_near(HOME, "feedback at home", each=lambda: None)
    count = len(commander.heard["left"])
    peer.until(lambda: len(commander.heard["left"]) > count + 100, "half a second of commands", each=commander)
    off = np.abs(commander.measured() - commander.target)
    assert 0.3 < off.max() < np.abs(HOME * 0.5).max() - 1e-3


def test_it_ends_on_a_signal(start_node: StartNode, peer: Peer) -> None:
    node: NodeProcess = start_node("sim_arm", parameters=SIMULATED)
    peer.until(lambda: peer.node.count_publishers(PROFILE.left.feedback.topic), "the node")
    assert node.stop() == 0

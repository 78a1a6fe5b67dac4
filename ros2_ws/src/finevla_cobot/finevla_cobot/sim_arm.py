"""The simulated pair of arms: it speaks the topics of a topic profile as the drivers of a real pair do."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from finevla_cobot.diagnostics import Diagnostics, Level
from finevla_cobot.message_types import message_class
from finevla_cobot.parameters import read_parameters
from finevla_cobot.qos import EVENT, SENSOR, STATE
from finevla_cobot.spin import STEADY, run
from finevla_interfaces.srv import InjectFault, JudgeScene, ResetScene
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.clock import Clock, SteadyClock
from finevla_runtime.contracts.embodiment import Embodiment, load_embodiment
from finevla_runtime.contracts.errors import BodyError, FineVLAError, SetupError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.arm_status import find_status_table
from finevla_runtime.robot.faulty_body import NO_FAULT, Fault, FaultyBody
from finevla_runtime.robot.simulated_body import EMPTY_SCENE, find_body
from finevla_runtime.robot.simulated_driver import SimulatedDriver
from finevla_runtime.robot.topic_profile import (
    ARM_DOF,
    ARMS,
    JOINT_STATE,
    CameraTopic,
    StatusSource,
    find_topic_profile,
    require_cameras,
)

# Time that is made up for at once; after a longer pause the simulation goes on from where it was.
CATCH_UP_S = 0.25
STATUS_HZ = 20.0
FASTEST_HZ = 1000.0
UPKEEP_S = 1.0
COMPLAIN_S = 1.0
# A reset puts the arms elsewhere; they follow a command again from the first one that is this near.
NEAR_RAD = 0.2
ROWS = {arm: slice(index * ARM_DOF, (index + 1) * ARM_DOF) for index, arm in enumerate(ARMS)}


@dataclass(frozen=True)
class SimArmSettings:
    """Parameters of the simulated pair.

    Attributes:
        topic_profile: file stem in ``hw_configs/topics``.
        embodiment: file stem in ``hw_configs``; its cameras must be those of the profile.
        body: registered simulated body.
        scene: first scene, for the tabletop ``family/seed``.
        fault: fault to begin with; ``none`` for a pair that is well.
        feedback_hz, camera_hz: rates; 0 for those of the profile.
    """

    topic_profile: str
    embodiment: str = "cobot_magic_sim"
    body: str = "kinematic"
    scene: str = EMPTY_SCENE
    fault: str = NO_FAULT
    feedback_hz: float = 0.0
    camera_hz: float = 0.0


@dataclass(frozen=True)
class StatusTopic:
    """Where one arm says how it is: the first field of its table carries the code, the others say all is well."""

    publisher: Publisher
    message: type
    field: str

    def publish(self, code: int) -> None:
        """Say a code."""
        message = self.message()
        setattr(message, self.field, code)
        self.publisher.publish(message)


class SimArm(Node):
    """Node ``sim_arm``; services ``finevla/sim/reset_scene``, ``judge_scene`` and ``inject``.

    Time in the simulation goes on as fast as the steady clock does, whatever the rates are; what a busy machine was
    late by is made up for in the next tick. Like the real arms the pair holds its last target when no command comes.
    """

    def __init__(
        self, *, context: Context | None = None, parameters: Sequence[Parameter] = (), clock: Clock | None = None
    ) -> None:
        """Read the parameters, build the body and its first scene, and begin to move and to speak."""
        super().__init__(
            "sim_arm",
            context=context,
            parameter_overrides=list(parameters),
            automatically_declare_parameters_from_overrides=True,
        )
        settings = read_parameters(self, SimArmSettings)
        self._profile = find_topic_profile(settings.topic_profile)
        embodiment = load_embodiment(HW_CONFIGS / f"{settings.embodiment}.yaml")
        require_cameras(self._profile, embodiment)
        self._body = FaultyBody(find_body(settings.body).build(embodiment))
        self._body.reset(settings.scene)
        self._body.inject(settings.fault)
        self._driver = SimulatedDriver(self._profile)
        self._target = self._body.true_position()
        self._steady = clock or SteadyClock()
        self._last_ns = self._steady.now_ns()
        self._dropped_s, self._refused = 0.0, 0
        self._moved_by_hand: set[str] = set()
        self._stamps: dict[str, Time] = {}
        self._open_topics(embodiment)
        self._open_services()
        self._every("feedback_hz", settings.feedback_hz or self._profile.feedback_hz, self._tick)
        self._every("camera_hz", settings.camera_hz or self._profile.camera_hz, self._look)
        self.create_timer(1.0 / STATUS_HZ, self._say_status, clock=STEADY)
        self.create_timer(UPKEEP_S, self._upkeep, clock=STEADY)

    def stopping(self, hurry: bool) -> bool:
        """Nothing is left to do."""
        del hurry
        return True

    def _every(self, name: str, rate_hz: float, act: Callable[[], None]) -> None:
        if not 0.0 < rate_hz <= FASTEST_HZ:
            raise SetupError("FV-BDY-010", f"sim_arm: parameter {name} is {rate_hz:g}, wanted up to {FASTEST_HZ:g}.")
        self.create_timer(1.0 / rate_hz, act, clock=STEADY)

    def _open_topics(self, embodiment: Embodiment) -> None:
        profile = self._profile
        self._cameras = [(camera, self.create_publisher(Image, camera.topic, SENSOR)) for camera in profile.cameras]
        self._feedback: dict[str, Publisher] = {}
        self._statuses: list[StatusTopic] = []
        self._firmware: list[tuple[Publisher, list[float]]] = []
        is_direct = profile.output == JOINT_STATE
        for arm in ARMS:
            topics = profile.arm(arm)
            self._feedback[arm] = self.create_publisher(JointState, topics.feedback.topic, EVENT)
            kind, heard = (JointState, self._told) if is_direct else (JointTrajectory, self._led)
            self.create_subscription(kind, topics.command.topic, partial(heard, arm), EVENT)
            if topics.status is not None:
                self._open_status(topics.status)
            if topics.firmware_limits is not None:
                joints = embodiment.joints[ROWS[arm]][:-1]
                limits = [joint.lower for joint in joints] + [joint.upper for joint in joints]
                self._firmware.append((self.create_publisher(Float64MultiArray, topics.firmware_limits, STATE), limits))
        self._diagnostics = Diagnostics(self)

    def _open_status(self, source: StatusSource) -> None:
        """Speak a status topic; a vendor's message that is not installed here is reported and left out."""
        try:
            message = message_class(source.message)
        except FineVLAError as error:
            self.get_logger().warning(f"{source.topic} is not published: {error}")
            return
        publisher = self.create_publisher(message, source.topic, EVENT)
        self._statuses.append(StatusTopic(publisher, message, next(iter(find_status_table(source.table).codes))))

    def _open_services(self) -> None:
        self.create_service(ResetScene, "finevla/sim/reset_scene", self._reset_scene)
        self.create_service(JudgeScene, "finevla/sim/judge_scene", self._judge_scene)
        self.create_service(InjectFault, "finevla/sim/inject", self._inject)

    def _told(self, arm: str, message: JointState) -> None:
        self._aim(arm, message.name, message.position)

    def _led(self, arm: str, message: JointTrajectory) -> None:
        """Aim at the end of a trajectory; at the rate of a commander that is the next point of its motion."""
        if message.points:
            self._aim(arm, message.joint_names, message.points[-1].positions)

    def _aim(self, arm: str, names: list[str], positions: array[float]) -> None:
        """Take a new target; a command that the profile does not describe is refused and the old one stays."""
        try:
            wanted = self._driver.read_command(arm, names, positions)
        except BodyError as error:
            self._refused += 1
            self.get_logger().error(str(error), throttle_duration_sec=COMPLAIN_S)
            return
        if arm in self._moved_by_hand:
            if np.abs(wanted - self._target[ROWS[arm]])[:-1].max() > NEAR_RAD:
                return
            self._moved_by_hand.discard(arm)
        self._target[ROWS[arm]] = wanted

    def _tick(self) -> None:
        now_ns = self._steady.now_ns()
        passed_s, self._last_ns = (now_ns - self._last_ns) / 1e9, now_ns
        self._dropped_s += max(0.0, passed_s - CATCH_UP_S)
        self._body.advance(self._target, min(passed_s, CATCH_UP_S))
        if not self._body.has(Fault.SILENT_FEEDBACK):
            self._say_feedback()

    def _say_feedback(self) -> None:
        stamp, joints = self._now(), self._body.measured()
        for arm, publisher in self._feedback.items():
            message = JointState(name=self._profile.arm(arm).feedback.joints)
            message.header.stamp = stamp
            message.position = array("d", self._driver.feedback(arm, joints[ROWS[arm]]))
            publisher.publish(message)

    def _look(self) -> None:
        images = self._body.images()
        stamp = self._now()
        for camera, publisher in self._cameras:
            image = images.get(camera.name)
            if image is None:
                continue
            if not (self._body.has(Fault.FROZEN_STAMP, camera.name) and camera.name in self._stamps):
                self._stamps[camera.name] = stamp
            publisher.publish(image_message(camera, image, self._stamps[camera.name]))

    def _say_status(self) -> None:
        code = self._body.status()
        for status in self._statuses:
            status.publish(code)

    def _upkeep(self) -> None:
        for publisher, limits in self._firmware:
            publisher.publish(Float64MultiArray(data=limits))
        is_well = self._dropped_s == 0.0 and self._refused == 0
        message = "simulating" if is_well else "the machine was too slow, or commands were refused"
        values = {"dropped_s": round(self._dropped_s, 3), "commands_refused": self._refused}
        self._diagnostics.publish(Level.OK if is_well else Level.WARN, message, values)
        self._dropped_s, self._refused = 0.0, 0

    def _reset_scene(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        try:
            self._body.reset(request.scene)
        except FineVLAError as error:
            response.code, response.reason = error.code, error.message
            return response
        # The arms stand at home now. Whoever commands them still means where they were, and must begin anew from here.
        self._moved_by_hand.update(ARMS)
        self._target = self._body.true_position()
        self._last_ns = self._steady.now_ns()
        response.ok = True
        return response

    def _judge_scene(self, request: JudgeScene.Request, response: JudgeScene.Response) -> JudgeScene.Response:
        try:
            found = self._body.judge(request.variant_id, request.kind)
        except FineVLAError as error:
            response.code, response.reason = error.code, error.message
            return response
        response.ok, response.success, response.score = True, found.success, found.score
        response.record_json = found.record_json
        return response

    def _inject(self, request: InjectFault.Request, response: InjectFault.Response) -> InjectFault.Response:
        try:
            self._body.inject(request.fault)
        except FineVLAError as error:
            response.code, response.reason = error.code, error.message
            return response
        self.get_logger().warning(f"fault: {request.fault}")
        response.ok = True
        return response

    def _now(self) -> Time:
        return self.get_clock().now().to_msg()


def image_message(camera: CameraTopic, image: ByteArray, stamp: Time) -> Image:
    """Return a picture as its driver sends it.

    Args:
        camera: says the encoding.
        image: RGB uint8[height, width, 3].
        stamp: when it was taken.
    """
    height, width, channels = image.shape
    shown = image if camera.encoding == "rgb8" else image[..., ::-1]
    message = Image(height=height, width=width, encoding=camera.encoding, step=width * channels)
    message.header.stamp = stamp
    message.header.frame_id = camera.name
    message.data = array("B", shown.tobytes())
    return message


def main() -> None:
    """Run the simulated pair until a signal ends it."""
    sys.exit(run(SimArm, is_busy=True))


if __name__ == "__main__":
    main()

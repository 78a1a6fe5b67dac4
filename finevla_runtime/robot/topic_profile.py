"""Which topics a robot speaks, in which units and how fast: loaded strictly from ``hw_configs/topics/``.

Published stacks for the same robot disagree about every one of these, so nothing has a default that could be wrong
without a sound: joint names, gripper units and ages are written down in each file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.gripper_map import UNITS, GripperMap

ARMS = ("left", "right")
ARM_DOF = 7
JOINT_STATE, JOINT_TRAJECTORY = "joint_state", "joint_trajectory"
BY_NAME, BY_POSITION = "name", "position"
STAMPS = ("header", "arrival")
TOPICS = HW_CONFIGS / "topics"


@dataclass(frozen=True)
class Feedback:
    """Where an arm says where it is (sensor_msgs/JointState).

    Attributes:
        topic: name of the topic.
        match: ``name``: joints are looked up by their names, other joints are ignored; ``position``: names are not
            read and the message has exactly seven positions in this order.
        joints: the driver's names of j1..j6 and the gripper.
    """

    topic: str
    match: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """Where an arm listens.

    Attributes:
        topic: of sensor_msgs/JointState, or a controller's of trajectory_msgs/JointTrajectory.
        joints: the driver's names of j1..j6 and the gripper, in the order of the message.
        velocity, effort: seven values that go along with every JointState; empty when the driver wants none.
    """

    topic: str
    joints: tuple[str, ...]
    velocity: tuple[float, ...] = ()
    effort: tuple[float, ...] = ()


@dataclass(frozen=True)
class StatusSource:
    """Where an arm says how it is: topic, message type and the table in ``hw_configs/arm_status`` that explains it."""

    topic: str
    message: str
    table: str


@dataclass(frozen=True)
class ArmTopics:
    """Everything one arm speaks.

    Attributes:
        feedback: measured positions.
        command: wanted positions.
        gripper: the driver's unit of the gripper.
        status: the arm's own status; None when the driver has none.
        firmware_limits: topic of std_msgs/Float64MultiArray with the limits read back from the firmware (six lower,
            then six upper ones, rad); None when the driver does not publish them.
    """

    feedback: Feedback
    command: Command
    gripper: GripperMap
    status: StatusSource | None = None
    firmware_limits: str | None = None


@dataclass(frozen=True)
class CameraTopic:
    """One camera (sensor_msgs/Image).

    Attributes:
        name: the project's name of the camera.
        topic: name of the topic.
        encoding: the only encoding that is accepted.
        height, width: the only size that is accepted.
        stamp: ``header``: a frame is as old as its header says; ``arrival``: the driver's stamps are no good and the
            time of arrival counts.
    """

    name: str
    topic: str
    encoding: str
    height: int
    width: int
    stamp: str


@dataclass(frozen=True)
class SourceLimits:
    """What the synchroniser accepts.

    Attributes:
        image_skew_s, joint_skew_s: largest distance in time between a frame, or the joints, and the observation.
        image_age_s, joint_age_s: ages from which a source is stale.
        freeze_frames: number of equal frames in a row that make a frozen camera.
    """

    image_skew_s: float
    image_age_s: float
    joint_skew_s: float
    joint_age_s: float
    freeze_frames: int


@dataclass(frozen=True)
class TopicProfile:
    """The topics of one robot.

    Attributes:
        name: file stem in ``hw_configs/topics``.
        output: ``joint_state``, or ``joint_trajectory`` for a controller of ros2_control.
        left, right: the arms.
        cameras: in the order of the file.
        feedback_hz, camera_hz: rates that the sources are expected to keep.
        sources: what the synchroniser accepts.
    """

    name: str
    output: str
    left: ArmTopics
    right: ArmTopics
    cameras: tuple[CameraTopic, ...]
    feedback_hz: float
    camera_hz: float
    sources: SourceLimits

    def __post_init__(self) -> None:
        """Refuse a topic with two meanings (FV-TOP-002) and fields a trajectory cannot carry (FV-TOP-005)."""
        topics = [camera.topic for camera in self.cameras]
        for arm in (self.left, self.right):
            topics += [arm.feedback.topic, arm.command.topic]
            topics += [arm.status.topic] if arm.status else []
            topics += [arm.firmware_limits] if arm.firmware_limits else []
            if self.output == JOINT_TRAJECTORY and (arm.command.velocity or arm.command.effort):
                raise SetupError(
                    "FV-TOP-005", f"{self.name}: `send` belongs to joint_state; remove it for joint_trajectory."
                )
        twice = [topic for topic, count in Counter(topics).items() if count > 1]
        if twice:
            raise SetupError("FV-TOP-002", f"{self.name}: {', '.join(twice)} is named twice; each topic has one use.")

    def arm(self, name: str) -> ArmTopics:
        """Return one arm (SetupError FV-TOP-006 for another name than left or right)."""
        if name not in ARMS:
            raise unknown_name("FV-TOP-006", "arm", name, ARMS, f"topic profile {self.name}")
        return self.left if name == "left" else self.right


def find_topic_profile(name: str, folder: Path = TOPICS) -> TopicProfile:
    """Load a profile by its name (SetupError FV-TOP-007 for an unknown one, else see ``load_topic_profile``)."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise unknown_name("FV-TOP-007", "topic profile", name, known, str(folder.name))
    return load_topic_profile(folder / f"{name}.yaml")


def require_cameras(profile: TopicProfile, embodiment: Embodiment) -> None:
    """Refuse a profile whose cameras are not those of the body.

    Raises:
        SetupError: FV-TOP-008 for a camera that is missing, unknown or of another size.
    """
    wanted = {camera.name: (camera.height, camera.width) for camera in embodiment.cameras}
    got = {camera.name: (camera.height, camera.width) for camera in profile.cameras}
    if wanted != got:
        raise SetupError(
            "FV-TOP-008",
            f"topic profile {profile.name} has the cameras {_sizes(got)}; {embodiment.name} has {_sizes(wanted)}.",
        )


def load_topic_profile(path: Path) -> TopicProfile:
    """Read one ``hw_configs/topics/*.yaml``.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys; FV-TOP-001 for names that are not seven different
            ones, FV-TOP-002 for a topic with two uses, FV-TOP-003 for an impossible gripper, FV-TOP-004 for a rate or
            an age that is not positive, FV-TOP-005 for fields that the output cannot carry.
    """
    keys = load_yaml(path).mapping(["profile", "output", "arms", "cameras", "rates", "sources"])
    arms = keys["arms"].mapping(ARMS)
    rates = keys["rates"].mapping(["feedback_hz", "camera_hz"])
    return TopicProfile(
        name=keys["profile"].one_of([path.stem]),
        output=keys["output"].one_of([JOINT_STATE, JOINT_TRAJECTORY]),
        left=_read_arm(arms["left"]),
        right=_read_arm(arms["right"]),
        cameras=tuple(_read_camera(name, node) for name, node in keys["cameras"].items()),
        feedback_hz=_positive(rates["feedback_hz"]),
        camera_hz=_positive(rates["camera_hz"]),
        sources=_read_sources(keys["sources"]),
    )


def _read_arm(node: Node) -> ArmTopics:
    keys = node.mapping(["feedback", "command", "gripper"], ["status", "firmware_limits"])
    feedback = keys["feedback"].mapping(["topic", "match", "joints"])
    gripper = keys["gripper"].mapping(["unit", "closed", "open", "tolerance"])
    return ArmTopics(
        feedback=Feedback(
            _topic(feedback["topic"]), feedback["match"].one_of([BY_NAME, BY_POSITION]), _names(feedback["joints"])
        ),
        command=_read_command(keys["command"]),
        gripper=GripperMap(
            unit=gripper["unit"].one_of(UNITS),
            closed=gripper["closed"].number(),
            open=gripper["open"].number(),
            tolerance=gripper["tolerance"].number(),
        ),
        status=_read_status(keys["status"]) if "status" in keys else None,
        firmware_limits=_topic(keys["firmware_limits"]) if "firmware_limits" in keys else None,
    )


def _read_command(node: Node) -> Command:
    keys = node.mapping(["topic", "joints"], ["send"])
    send = keys["send"].mapping([], ["velocity", "effort"]) if "send" in keys else {}
    return Command(
        topic=_topic(keys["topic"]),
        joints=_names(keys["joints"]),
        velocity=_seven(send["velocity"]) if "velocity" in send else (),
        effort=_seven(send["effort"]) if "effort" in send else (),
    )


def _read_status(node: Node) -> StatusSource:
    keys = node.mapping(["topic", "message", "table"])
    return StatusSource(_topic(keys["topic"]), keys["message"].text(), keys["table"].text())


def _read_camera(name: str, node: Node) -> CameraTopic:
    keys = node.mapping(["topic", "encoding", "height", "width"], ["stamp"])
    return CameraTopic(
        name=name,
        topic=_topic(keys["topic"]),
        encoding=keys["encoding"].one_of(["rgb8", "bgr8"]),
        height=_count(keys["height"]),
        width=_count(keys["width"]),
        stamp=keys["stamp"].one_of(STAMPS) if "stamp" in keys else "header",
    )


def _read_sources(node: Node) -> SourceLimits:
    keys = node.mapping(["images", "joints"])
    images = keys["images"].mapping(["max_skew_s", "max_age_s", "freeze_frames"])
    joints = keys["joints"].mapping(["max_skew_s", "max_age_s"])
    return SourceLimits(
        image_skew_s=_positive(images["max_skew_s"]),
        image_age_s=_positive(images["max_age_s"]),
        joint_skew_s=_positive(joints["max_skew_s"]),
        joint_age_s=_positive(joints["max_age_s"]),
        freeze_frames=_count(images["freeze_frames"]),
    )


def _topic(node: Node) -> str:
    name = node.text()
    if not name.strip("/~") or any(sign.isspace() for sign in name):
        raise node.fail("FV-TOP-001", f"{name!r} is no name of a topic.")
    return name


def _names(node: Node) -> tuple[str, ...]:
    names = node.map(Node.text)
    if len(set(names)) != ARM_DOF or len(names) != ARM_DOF:
        raise node.fail("FV-TOP-001", f"got {', '.join(names)}; wanted seven different names: j1..j6 and the gripper.")
    return names


def _seven(node: Node) -> tuple[float, ...]:
    values = node.map(Node.number)
    if len(values) != ARM_DOF:
        raise node.fail("FV-TOP-001", f"got {len(values)} values; wanted seven: j1..j6 and the gripper.")
    return values


def _positive(node: Node) -> float:
    value = node.number()
    if value <= 0:
        raise node.fail("FV-TOP-004", f"{value:g}; wanted above 0.")
    return value


def _count(node: Node) -> int:
    value = node.integer()
    if value < 1:
        raise node.fail("FV-TOP-004", f"{value}; wanted 1 or more.")
    return value


def _sizes(cameras: dict[str, tuple[int, int]]) -> str:
    shown: Iterable[str] = (f"{name} {height}x{width}" for name, (height, width) in sorted(cameras.items()))
    return ", ".join(shown) or "none"

"""`finevla robot doctor`: files, graph, sources, policy server and disk: what works, what does not, and what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from finevla_cobot.bring_up import lifecycle_state
from finevla_cobot.conversions import pixels_of
from finevla_cobot.doctor_checks import Source, bad, good, judge_command, judge_disk, judge_node, judge_source
from finevla_cobot.operator_desk import OperatorDesk
from finevla_cobot.qos import SENSOR, STATE
from finevla_cobot.stack import NodeKind, Stack, find_config, load_stack
from finevla_interfaces.msg import ControllerStatus, PolicyStatus
from finevla_runtime.cli.checks import Check
from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import FineVLAError
from finevla_runtime.contracts.policy import check_compatibility, raise_for_errors
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.arm_status import find_status_table
from finevla_runtime.robot.driver_units import from_driver
from finevla_runtime.robot.topic_profile import ARMS, CameraTopic, TopicProfile, find_topic_profile, require_cameras
from finevla_runtime.safety.profile import load_safety_profile
from finevla_runtime.safety.scene_declaration import find_scene_declaration
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.credentials import ClientCredentials, read_secret, read_token

DISCOVERY_S = 1.5
SERVER_S = 5.0


@dataclass(frozen=True)
class DoctorOptions:
    """Look at a robot's files, graph, sources, policy server and disk, and say what to do about what is wrong."""

    config: str
    """Parameter file of the robot, or the name of a shipped one: cobot_magic, sim, tabletop."""
    set: tuple[str, ...] = ()
    """NODE.PARAMETER=VALUE beside the file."""
    seconds: float = 3.0
    """How long to listen to cameras and arms."""
    namespace: str = ""
    """Namespace of the robot's nodes."""


@dataclass
class _Ear:
    """What is heard on one topic."""

    arrivals_ns: list[int] = field(default_factory=list)
    offsets_s: list[float] = field(default_factory=list)
    problem: str = ""


def run_doctor(argv: Sequence[str]) -> int:
    """Say what of a robot's graph works, what does not, and what to do."""
    options = parse(DoctorOptions, argv, prog="finevla robot doctor")
    stack = load_stack(find_config(options.config), options.set)
    checks = list(file_checks(stack))
    with OperatorDesk(options.namespace) as desk:
        checks += Visit(desk, stack, options.seconds).checks()
    checks.append(server_check(stack))
    for check in checks:
        mark = "ok     " if check.ok else "WRONG  " if check.needed else "note   "
        sys.stdout.write(f"{mark}{check.name}: {check.detail}\n")
        if check.remedy:
            sys.stdout.write(f"       remedy: {check.remedy}\n")
    failed = sum(check.needed and not check.ok for check in checks)
    sys.stdout.write(f"\n{failed} of {len(checks)} checks failed\n" if failed else "\nready\n")
    return 1 if failed else 0


def file_checks(stack: Stack) -> Iterator[Check]:
    """Load every file that the nodes will load."""
    body, profile = (str(stack.value("arm_commander", name)) for name in ("embodiment", "topic_profile"))
    space, scene = str(stack.value("arm_commander", "space")), str(stack.value("session", "scene") or "")

    def load_profile() -> None:
        found = find_topic_profile(profile)
        require_cameras(found, load_embodiment(HW_CONFIGS / f"{body}.yaml"))
        for arm in ARMS:
            status = found.arm(arm).status
            if status is not None and stack.value("arm_commander", "arm_status") != "off":
                find_status_table(status.table)

    def load_safety() -> None:
        load_safety_profile(HW_CONFIGS / "safety" / f"{body}.yaml", load_embodiment(HW_CONFIGS / f"{body}.yaml"))

    def load_the_space() -> None:
        from finevla_runtime.safety.space import load_space

        load_space(HW_CONFIGS / "spaces" / f"{space}.yaml")

    yield _loads("embodiment", body, lambda: load_embodiment(HW_CONFIGS / f"{body}.yaml"))
    yield _loads("topic profile", profile, load_profile)
    yield _loads("safety profile", body, load_safety)
    if space == "none":
        yield Check("space", False, False, "none: the guard does not look where the arms are", "name a file in spaces/")
    else:
        yield _loads("space and URDF", space, load_the_space)
    if scene:
        yield _loads("scene", scene, lambda: find_scene_declaration(scene))


def _loads(what: str, name: str, load: Callable[[], object]) -> Check:
    try:
        load()
    except FineVLAError as error:
        return bad(what, str(error), "correct the file, or name another one")
    except ImportError as error:
        return bad(what, f"{name} needs a library: {error}", "pip install 'finevla-runtime[robot]'")
    return good(what, f"{name} loads")


def server_check(stack: Stack) -> Check:
    """Ask the policy server what it serves and hold that against the body."""
    server, model = str(stack.value("policy_client", "server") or ""), str(stack.value("policy_client", "model") or "")
    ca_file, token_file = (str(stack.value("policy_client", name) or "") for name in ("ca_file", "token_file"))
    name = "policy server"
    if not server:
        return bad(name, "no address", "set policy_client.server")
    try:
        credentials = ClientCredentials(
            ca=read_secret(Path(ca_file)) if ca_file else b"", token=read_token(Path(token_file)) if token_file else ""
        )
        body = load_embodiment(HW_CONFIGS / f"{stack.value('policy_client', 'embodiment')}.yaml")
        with RemotePolicy.connect(
            server,
            model=model,
            label="finevla robot doctor",
            timeout_s=SERVER_S,
            connect_timeout_s=SERVER_S,
            credentials=credentials,
        ) as policy:
            raise_for_errors(check_compatibility(policy.spec, body))
            return good(name, f"{server} serves {policy.spec.name}, which fits {body.name}")
    except FineVLAError as error:
        return bad(name, str(error), f"start it: finevla serve BUNDLE, and look at {server}")


class Visit:
    """One look at the graph."""

    def __init__(self, desk: OperatorDesk, stack: Stack, seconds: float) -> None:
        """Prepare; nothing is heard before ``checks``."""
        self._desk, self._stack, self._seconds = desk, stack, seconds
        self._commander = desk.heard(ControllerStatus, "finevla/status", most=1)
        self._policy = desk.heard(PolicyStatus, "finevla/policy_status", most=1)
        self._recorder = desk.heard(String, "finevla/recorder/state", STATE, most=1)

    def checks(self) -> Iterator[Check]:
        """Listen, then judge."""
        try:
            profile: TopicProfile | None = find_topic_profile(str(self._stack.value("arm_commander", "topic_profile")))
        except FineVLAError:
            # Reported with the files.
            profile = None
        ears = self._listen(profile) if profile is not None else {}
        self._desk.wait(lambda: False, DISCOVERY_S)
        for ear in ears.values():
            ear.arrivals_ns.clear()
            ear.offsets_s.clear()
        self._desk.wait(lambda: False, self._seconds)
        yield from (self._node(kind) for kind in self._stack.nodes)
        if profile is not None:
            yield from self._sources(profile, ears)
            yield from self._commands(profile)
        if self._stack.value("recorder", "folder") is not None:
            yield self._disk()

    def _node(self, kind: NodeKind) -> Check:
        is_there = self._desk.is_there(kind.name)
        if not kind.has_lifecycle or not is_there:
            return judge_node(kind.name, is_there, None)
        said = {"arm_commander": self._commander, "policy_client": self._policy}[kind.name]
        reason = "" if not said else "; ".join(said[-1].reasons) if kind.name == "arm_commander" else said[-1].text
        try:
            return judge_node(kind.name, True, lifecycle_state(self._desk, kind.name), reason)
        except FineVLAError as error:
            return bad(kind.name, str(error), "it hangs; end it and start it again")

    def _listen(self, profile: TopicProfile) -> dict[str, _Ear]:
        ears: dict[str, _Ear] = {}
        for camera in profile.cameras:
            ears[camera.topic] = self._ear(Image, camera.topic, _camera_problem(camera), camera.stamp == "header")
        for arm in ARMS:
            topic = profile.arm(arm).feedback.topic
            ears[topic] = self._ear(JointState, topic, _joints_problem(profile, arm), reads_stamp=False)
        return ears

    def _ear(self, kind: type, topic: str, problem: Callable[[Any], str], reads_stamp: bool) -> _Ear:
        ear, node = _Ear(), self._desk.node

        def hear(message: Any) -> None:
            ear.arrivals_ns.append(self._desk.clock.now_ns())
            ear.problem = problem(message)
            if reads_stamp:
                stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
                ear.offsets_s.append((node.get_clock().now().nanoseconds - stamp_ns) / 1e9)

        node.create_subscription(kind, topic, hear, SENSOR)
        return ear

    def _sources(self, profile: TopicProfile, ears: dict[str, _Ear]) -> Iterator[Check]:
        sources = profile.sources
        for camera in profile.cameras:
            yield self._source(camera.name, camera.topic, profile.camera_hz, ears, sources.image_age_s)
        for arm in ARMS:
            topic = profile.arm(arm).feedback.topic
            yield self._source(f"{arm} arm", topic, profile.feedback_hz, ears, sources.joint_age_s)

    def _source(self, label: str, topic: str, expected_hz: float, ears: dict[str, _Ear], age_s: float) -> Check:
        ear, publishers = ears[topic], _names(self._desk.node.get_publishers_info_by_topic(self._resolved(topic)))
        seen = (publishers, expected_hz, ear.arrivals_ns, ear.offsets_s, age_s, ear.problem)
        return judge_source(Source(label, self._resolved(topic), *seen))

    def _commands(self, profile: TopicProfile) -> Iterator[Check]:
        for arm in ARMS:
            topic = self._resolved(profile.arm(arm).command.topic)
            publishers = _names(self._desk.node.get_publishers_info_by_topic(topic))
            subscribers = _names(self._desk.node.get_subscriptions_info_by_topic(topic))
            heard_by = [name for name in subscribers if name.rpartition("/")[2] != "recorder"]
            yield judge_command(f"{arm} commands", topic, publishers, heard_by)

    def _resolved(self, topic: str) -> str:
        return str(self._desk.node.resolve_topic_name(topic))

    def _disk(self) -> Check:
        folder = Path(str(self._stack.value("recorder", "folder")))
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free_mib = shutil.disk_usage(there).free // 2**20
        least_mib = int(str(self._stack.value("recorder", "least_free_mib")))
        return judge_disk(str(folder), free_mib, least_mib, self._recorder[-1].data if self._recorder else "")


def _camera_problem(camera: CameraTopic) -> Callable[[Image], str]:
    def problem(message: Image) -> str:
        try:
            pixels_of(message, camera)
        except FineVLAError as error:
            return str(error)
        return ""

    return problem


def _joints_problem(profile: TopicProfile, arm: str) -> Callable[[JointState], str]:
    def problem(message: JointState) -> str:
        try:
            from_driver(profile, arm, message.name, message.position)
        except FineVLAError as error:
            return str(error)
        return ""

    return problem


def _names(endpoints: Sequence[TopicEndpointInfo]) -> list[str]:
    return [f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in endpoints]

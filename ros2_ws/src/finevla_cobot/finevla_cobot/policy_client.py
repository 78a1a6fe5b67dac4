"""The policy client: cameras and joints in, one question at a time to the policy server, chunks out."""

from __future__ import annotations

import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState

from finevla_cobot.conversions import ExecutionSettings, chunk_message, pixels_of, same_episode, stamp_ns
from finevla_cobot.diagnostics import Diagnostics, Level
from finevla_cobot.parameters import read_parameters
from finevla_cobot.qos import EVENT, SENSOR, STATE
from finevla_cobot.spin import STEADY, run
from finevla_interfaces.msg import ActionChunk as ChunkMessage
from finevla_interfaces.msg import ControllerStatus, PolicyStatus
from finevla_interfaces.msg import Episode as EpisodeMessage
from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.embodiment import Embodiment, load_embodiment
from finevla_runtime.contracts.errors import BodyError, FineVLAError, PolicyError, SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.policy import check_compatibility, raise_for_errors
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.executor import Phase
from finevla_runtime.motion.synchroniser import Freshness, Synchronised, Synchroniser
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.driver_units import from_driver
from finevla_runtime.robot.policy_loop import Body, Episode, Health, PolicyLoop, Question
from finevla_runtime.robot.topic_profile import ARMS, CameraTopic, TopicProfile, find_topic_profile, require_cameras
from finevla_runtime.safety.verdict import Reason
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.credentials import ClientCredentials, read_secret, read_token

LOOK_S = 0.01
STATUS_S = 0.1
UPKEEP_S = 1.0
_MOVING = (Phase.MOVING.value, Phase.APPROACHING.value)


@dataclass(frozen=True)
class PolicyClientSettings(ExecutionSettings):
    """Parameters of the policy client.

    Attributes:
        embodiment: body in ``hw_configs``.
        topic_profile: file in ``hw_configs/topics``.
        server: ``host:port`` of the policy server.
        model: served model; empty for the server's default.
        ca_file, token_file: needed beyond this machine.
        timeout_s: deadline of one question.
        connect_timeout_s: how long to wait for the server when configured.
        patience_s: how long the server may stay away within an episode.
        blind_s: how long an episode may go without a whole and fresh observation before it ends.
    """

    embodiment: str = ""
    topic_profile: str = ""
    server: str = ""
    model: str = ""
    ca_file: str = ""
    token_file: str = ""
    timeout_s: float = 1.0
    connect_timeout_s: float = 20.0
    patience_s: float = 2.0
    blind_s: float = 5.0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a question came to: a chunk or an error."""

    question: Question
    result: ActionChunk | FineVLAError


class PolicyClient(LifecycleNode):
    """Lifecycle node ``policy_client``; calls to the server run in one thread of their own."""

    def __init__(self) -> None:
        """Take the parameters; the server is called when the node is configured."""
        super().__init__("policy_client", automatically_declare_parameters_from_overrides=True)
        self._steady = SteadyClock()
        self._policy: RemotePolicy | None = None
        self._profile: TopicProfile | None = None
        self._loop: PolicyLoop | None = None
        self._synchroniser: Synchroniser | None = None
        self._sources: list[object] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._active = False
        self._problems: tuple[Reason, ...] = ()
        self._source_faults: dict[str, str] = {}
        self._problem = ""
        self._blind_since_ns: int | None = None
        self._blind_s = 0.0
        self._body = Body(None, moving=False, rows_left=0, stamp_ns=0)
        self._message = EpisodeMessage()
        self._is_fresh = False
        self._chunks = self.create_publisher(ChunkMessage, "finevla/chunk", EVENT)
        self._status = self.create_publisher(PolicyStatus, "finevla/policy_status", EVENT)
        self._diagnostics = Diagnostics(self)
        self.create_subscription(EpisodeMessage, "finevla/episode", self._on_episode, STATE)
        self.create_subscription(ControllerStatus, "finevla/status", self._on_controller, EVENT)
        self.create_timer(LOOK_S, self._look, clock=STEADY)
        self._answered = self.create_guard_condition(self._look)
        self.create_timer(STATUS_S, self._publish_status, clock=STEADY)
        self.create_timer(UPKEEP_S, self._upkeep, clock=STEADY)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the files, open a session at the server and hold its policy against the body."""
        del state
        try:
            self._configure()
        except FineVLAError as error:
            self._problem = str(error)
            self.get_logger().error(self._problem)
            return TransitionCallbackReturn.FAILURE
        self._problem = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ask from now on whenever an episode runs."""
        del state
        self._active = True
        self._begin_episode()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ask nothing more."""
        del state
        self._active = False
        if self._loop is not None:
            self._loop.end()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the session and forget the files."""
        del state
        self._forget()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the session and end."""
        del state
        self._active = False
        self._forget()
        return TransitionCallbackReturn.SUCCESS

    def stopping(self, hurry: bool) -> bool:
        """Close the session; without chunks the commander brakes by itself."""
        self._active = False
        if not hurry:
            self._forget()
        self._worker.shutdown(wait=False, cancel_futures=True)
        return True

    def _configure(self) -> None:
        settings = read_parameters(self, PolicyClientSettings)
        for name in ("embodiment", "topic_profile", "server"):
            if not getattr(settings, name):
                raise SetupError("FV-ROS-002", f"{self.get_name()}: parameter {name} is missing; set it.")
        embodiment = load_embodiment(HW_CONFIGS / f"{settings.embodiment}.yaml")
        profile = find_topic_profile(settings.topic_profile)
        require_cameras(profile, embodiment)
        execution = settings.execution()
        policy = self._connect(settings, embodiment)
        cameras = tuple(camera.name for camera in policy.spec.cameras)
        sources = profile.sources
        self._policy, self._profile, self._blind_s = policy, profile, settings.blind_s
        self._loop = PolicyLoop(execution, 1.0 / embodiment.control_hz, settings.patience_s, policy.continues)
        self._synchroniser = Synchroniser(
            cameras,
            Freshness(sources.image_age_s, sources.joint_age_s, sources.image_skew_s, sources.freeze_frames),
        )
        for camera in profile.cameras:
            if camera.name in cameras:
                self._sources.append(
                    self.create_subscription(Image, camera.topic, partial(self._on_image, camera), SENSOR)
                )
        for index, arm in enumerate(ARMS):
            topic = profile.arm(arm).feedback.topic
            self._sources.append(
                self.create_subscription(JointState, topic, partial(self._on_joints, index, arm), SENSOR)
            )

    def _connect(self, settings: PolicyClientSettings, embodiment: Embodiment) -> RemotePolicy:
        credentials = ClientCredentials(
            ca=read_secret(Path(settings.ca_file)) if settings.ca_file else b"",
            token=read_token(Path(settings.token_file)) if settings.token_file else "",
        )
        policy = RemotePolicy.connect(
            settings.server,
            model=settings.model,
            label=self.get_fully_qualified_name(),
            timeout_s=settings.timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
            credentials=credentials,
        )
        try:
            issues = check_compatibility(policy.spec, embodiment)
            raise_for_errors(issues)
        except FineVLAError:
            policy.close()
            raise
        for issue in issues:
            self.get_logger().warning(f"{issue.code}: {issue.message}")
        return policy

    def _forget(self) -> None:
        for source in self._sources:
            self.destroy_subscription(source)
        self._sources = []
        if self._policy is not None:
            self._policy.close()
        self._policy, self._profile, self._loop, self._synchroniser = None, None, None, None
        self._answers = queue.SimpleQueue()
        self._problems, self._source_faults = (), {}

    def _on_image(self, camera: CameraTopic, message: Image) -> None:
        if self._synchroniser is None:
            return
        try:
            pixels = pixels_of(message, camera)
        except BodyError as error:
            self._source_faults[camera.name] = str(error)
            return
        self._source_faults.pop(camera.name, None)
        self._synchroniser.add_image(camera.name, stamp_ns(message, camera), self._steady.now_ns(), pixels)

    def _on_joints(self, index: int, arm: str, message: JointState) -> None:
        if self._synchroniser is None or self._profile is None:
            return
        try:
            row = from_driver(self._profile, arm, message.name, message.position)
        except BodyError as error:
            self._source_faults[arm] = str(error)
            return
        self._source_faults.pop(arm, None)
        self._synchroniser.add_joints(index, self._steady.now_ns(), row)

    def _on_controller(self, message: ControllerStatus) -> None:
        ticket = Ticket(message.episode_id, message.epoch) if message.episode_id else None
        self._body = Body(ticket, message.state in _MOVING, message.rows_left, self._steady.now_ns())

    def _on_episode(self, message: EpisodeMessage) -> None:
        is_repeated = same_episode(message, self._message)
        self._message = message
        if self._active and not is_repeated:
            self._begin_episode()

    def _begin_episode(self) -> None:
        """Follow the session: an episode may have begun before this node was active."""
        loop, message = self._loop, self._message
        if loop is None:
            return
        if message.state != EpisodeMessage.RUN:
            loop.end()
            return
        ticket = Ticket(message.episode_id, message.epoch)
        is_changed = loop.episode is not None and loop.episode.ticket.episode_id == ticket.episode_id
        try:
            instruction = Instruction(message.instruction, InstructionKind(message.kind), variant_id=message.variant_id)
        except (FineVLAError, ValueError) as error:
            loop.end()
            self._problem = str(error)
            self.get_logger().error(self._problem)
            return
        self._problem = ""
        loop.begin(Episode(ticket, instruction, message.seed, message.origin_ns))
        # A changed instruction goes on in the policy's episode; a new one must leak nothing of the one before.
        self._is_fresh = self._is_fresh and is_changed

    def _look(self) -> None:
        """Take answers, and ask when a question is due."""
        loop, synchroniser = self._loop, self._synchroniser
        policy = self._policy
        if loop is None or synchroniser is None or policy is None or not self._active:
            return
        while not self._answers.empty():
            self._take(loop, self._answers.get())
        seen = synchroniser.latest(self._steady.now_ns())
        if not isinstance(seen, Synchronised):
            self._problems = seen
            self._be_blind(loop, seen)
            return
        self._problems, self._blind_since_ns = (), None
        question = loop.ask(seen, self._body)
        if question is not None and loop.episode is not None:
            seed = None if self._is_fresh else loop.episode.seed
            self._is_fresh = True
            self._worker.submit(self._infer, policy, self._answers, question, seed)

    def _be_blind(self, loop: PolicyLoop, problems: tuple[Reason, ...]) -> None:
        """End an episode that has been blind for too long: a camera that comes back must not move arms by itself."""
        now_ns = self._steady.now_ns()
        if self._blind_since_ns is None or loop.episode is None:
            self._blind_since_ns = now_ns
        if now_ns - self._blind_since_ns > self._blind_s * 1e9:
            loop.give_up(PolicyError(problems[0].code, problems[0].text))

    def _infer(
        self, policy: RemotePolicy, answers: queue.SimpleQueue[Answer], question: Question, seed: int | None
    ) -> None:
        """Call the server; runs in the worker thread, which alone uses the connection.

        Connection and place for the answer are those of the question: one that was open at a cleanup answers nobody.
        """
        try:
            if seed is not None:
                policy.reset(seed)
            result: ActionChunk | FineVLAError = policy.infer(question.observation, question.prefix)
        except FineVLAError as error:
            result = error
        except Exception as error:  # noqa: BLE001  # Whatever it is, a question without answer would block all others.
            self.get_logger().error(f"the question failed: {error!r}")
            result = SetupError("FV-ROS-021", f"the question failed in the client ({type(error).__name__}: {error}).")
        answers.put(Answer(question, result))
        self._answered.trigger()

    def _take(self, loop: PolicyLoop, answer: Answer) -> None:
        now_ns = self._steady.now_ns()
        if isinstance(answer.result, FineVLAError):
            loop.fail(answer.question, answer.result, now_ns)
            # A server that came back knows nothing of the session; asking it to reset opens one.
            self._is_fresh = False
            self.get_logger().warning(str(answer.result), throttle_duration_sec=1.0)
            return
        if loop.answer(answer.question, answer.result, now_ns):
            latency_s = (now_ns - answer.question.observation.capture_time_ns) / 1e9
            self._chunks.publish(chunk_message(answer.question.ticket, answer.result, latency_s))

    def _publish_status(self) -> None:
        loop = self._loop
        message = PolicyStatus(state=Health.IDLE.value, text=self._problem)
        if loop is not None:
            episode, error = loop.episode, loop.error
            message = PolicyStatus(
                episode_id=episode.ticket.episode_id if episode is not None else "",
                epoch=episode.ticket.epoch if episode is not None else 0,
                state=loop.health.value,
                code=error.code if error is not None else "",
                text=error.message if error is not None else self._problem,
                queries=loop.questions,
                latency_s=loop.latency.quantile_s(0.5),
                problems=self._all_problems(),
            )
        message.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)

    def _all_problems(self) -> list[str]:
        return [*self._source_faults.values(), *(str(problem) for problem in self._problems)]

    def _upkeep(self) -> None:
        loop, synchroniser = self._loop, self._synchroniser
        if loop is None or synchroniser is None:
            self._diagnostics.publish(Level.ERROR if self._problem else Level.WARN, self._problem or "not ready", {})
            return
        problems = self._all_problems()
        is_lost = loop.health in (Health.LOST, Health.FAULTY)
        level = Level.ERROR if is_lost else Level.WARN if problems or loop.error is not None else Level.OK
        text = str(loop.error) if loop.error is not None else "; ".join(problems) or loop.health.value
        steps = {f"clock_set_{name}": count for name, count in synchroniser.clock_steps.items()}
        values = {
            "health": loop.health.value,
            "questions": loop.questions,
            "latency_p50_s": f"{loop.latency.quantile_s(0.5):.3f}",
            "latency_p99_s": f"{loop.latency.quantile_s(0.99):.3f}",
            **steps,
        }
        self._diagnostics.publish(level, text, values)


def main() -> None:
    """Run the policy client until a signal ends it."""
    sys.exit(run(PolicyClient))


if __name__ == "__main__":
    main()

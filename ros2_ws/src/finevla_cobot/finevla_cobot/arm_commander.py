"""The arm commander: the only process that commands the arms, at a fixed rate and through the guard."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from rclpy.timer import Timer
from std_msgs.msg import Bool, Empty
from std_srvs.srv import Trigger

from finevla_cobot.arm_ports import ArmPort
from finevla_cobot.conversions import ExecutionSettings, chunk_of, same_episode
from finevla_cobot.diagnostics import Diagnostics, Level
from finevla_cobot.first_messages import hear
from finevla_cobot.joint_states import JointStates
from finevla_cobot.parameters import read_parameters
from finevla_cobot.qos import EVENT, STATE
from finevla_cobot.spin import STEADY, run
from finevla_interfaces.msg import ActionChunk, ControllerStatus, Episode
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.executor import Command, Phase
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.controller import Controller, ControllerState
from finevla_runtime.robot.topic_profile import ARM_DOF, ARMS, find_topic_profile
from finevla_runtime.safety.profile import load_safety_profile
from finevla_runtime.safety.verdict import Reason

STATUS_HZ = 20.0
UPKEEP_S = 1.0
# A stop from full speed takes half a second; this is how long an orderly end may wait for it.
LONGEST_STOP_S = 3.0
# Drivers that run speak within this time, discovery included.
FIRST_MESSAGES_S = 5.0
NO_SPACE = "none"
UNSTARTED = "unstarted"
FAR_START = "FV-SAF-015"


@dataclass(frozen=True)
class CommanderSettings(ExecutionSettings):
    """Parameters of the arm commander.

    Attributes:
        embodiment: body in ``hw_configs``; its safety profile has the same name.
        topic_profile: file in ``hw_configs/topics``.
        space: file in ``hw_configs/spaces``; ``none`` commands without looking where the arms are.
        control_hz: rate of the commands.
        deadman_s: longest time without a heartbeat while an episode runs; 0 asks for none.
        session_s: longest time without the session repeating the episode while it runs; 0 asks for none.
        arm_status: ``profile`` listens to the arms' own status as the profile says; ``off`` does not.
    """

    embodiment: str = ""
    topic_profile: str = ""
    space: str = ""
    control_hz: float = 200.0
    deadman_s: float = 0.0
    session_s: float = 0.0
    arm_status: str = "profile"


class ArmCommander(LifecycleNode):
    """Lifecycle node ``arm_commander``: configured it reads files, active it commands."""

    def __init__(self, *, context: Context | None = None, parameters: Sequence[Parameter] = ()) -> None:
        """Take the parameters; files are read when it is configured."""
        super().__init__(
            "arm_commander",
            context=context,
            parameter_overrides=list(parameters),
            automatically_declare_parameters_from_overrides=True,
        )
        self._steady = SteadyClock()
        self._controller: Controller | None = None
        self._ports: tuple[ArmPort, ...] = ()
        self._active = self._is_pressed = False
        self._episode = Episode()
        self._phase: Phase | None = None
        self._problem = ""
        self._wall_ahead_ns = 0
        self._joint_states: JointStates | None = None
        self._tick_timer: Timer | None = None
        self._status_publisher = self.create_publisher(ControllerStatus, "finevla/status", EVENT)
        self._diagnostics = Diagnostics(self)
        self.create_subscription(Episode, "finevla/episode", self._on_episode, STATE)
        self.create_subscription(ActionChunk, "finevla/chunk", self._on_chunk, EVENT)
        self.create_subscription(Bool, "finevla/estop", self._on_estop, EVENT)
        self.create_subscription(Empty, "finevla/heartbeat", self._on_heartbeat, EVENT)
        self.create_service(Trigger, "finevla/stop", self._on_stop)
        self.create_service(Trigger, "finevla/reset", self._on_reset)
        self.create_service(Trigger, "finevla/allow_approach", self._on_allow_approach)
        self.create_timer(1.0 / STATUS_HZ, self._publish_status, clock=STEADY)
        self.create_timer(UPKEEP_S, self._upkeep, clock=STEADY)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read and check all files; listen to the arms."""
        del state
        try:
            self._configure()
        except FineVLAError as error:
            self._forget()
            return self._refuse(str(error))
        self._problem = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to command from where the arms stand."""
        del state
        assert self._controller is not None  # noqa: S101  # Only a configured node is activated.
        sources = [source for port in self._ports for source in port.sources]
        hear(self, sources, lambda: self._missing() is None, FIRST_MESSAGES_S)
        problem = self._missing()
        if problem is None:
            refused = self._controller.start(self._steady.now_ns())
            problem = str(refused) if refused is not None else None
        if problem is not None:
            return self._refuse(problem)
        self._look_at_the_wall_clock()
        # What was made until now lives as long as the process; the collector need not look at it while arms move.
        gc.freeze()
        self._active, self._problem = True, ""
        # What was said before may come from a session that is gone; a living one repeats it.
        self._episode = Episode()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Brake, and command nothing more; the arms hold their last position."""
        del state
        self._brake(Reason("FV-SAF-023", "the arm commander was deactivated."))
        self._active = False
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the files; they are read again at the next configuration."""
        del state
        self._forget()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Brake when active, and end."""
        del state
        if self._active:
            self._brake(Reason("FV-SAF-023", "the arm commander is shutting down."))
        self._active = False
        self._forget()
        return TransitionCallbackReturn.SUCCESS

    def stopping(self, hurry: bool) -> bool:
        """Brake; a second signal does not wait: the arms hold the last command then."""
        if not self._active or self._controller is None or hurry:
            return True
        self._controller.stop(Reason("FV-SAF-023", "the arm commander got a signal to end."))
        command = self._controller.guard.command
        if command is not None and not command.is_at_rest:
            return False
        self._forget()
        gc.unfreeze()
        return True

    def _configure(self) -> None:
        settings = read_parameters(self, CommanderSettings)
        for name in ("embodiment", "topic_profile", "space"):
            if not getattr(settings, name):
                raise SetupError(
                    "FV-ROS-002", f"{self.get_name()}: parameter {name} is missing; there is no default that is safe."
                )
        if not settings.control_hz > 0.0 or not min(settings.deadman_s, settings.session_s) >= 0.0:
            raise SetupError(
                "FV-ROS-003", f"{self.get_name()}: control_hz must be above 0, deadman_s and session_s 0 or more."
            )
        embodiment = load_embodiment(HW_CONFIGS / f"{settings.embodiment}.yaml")
        safety = load_safety_profile(HW_CONFIGS / "safety" / f"{settings.embodiment}.yaml", embodiment)
        space = None
        if settings.space != NO_SPACE:
            from finevla_runtime.safety.space import load_space

            space = load_space(HW_CONFIGS / "spaces" / f"{settings.space}.yaml")
            self._joint_states = JointStates(self, space.config.finger_travel)
            if not space.config.measured:
                self.get_logger().warning(
                    f"space {settings.space} is assumed, not measured: measure where the arms and the table are, and "
                    "say `measured: true` in the file."
                )
        profile = find_topic_profile(settings.topic_profile)
        self._controller = Controller(
            safety,
            settings.execution(),
            step_s=1.0 / embodiment.control_hz,
            tick_s=1.0 / settings.control_hz,
            space=space,
            deadman_s=settings.deadman_s,
            session_s=settings.session_s,
        )
        self._controller.emergency_button(self._is_pressed)
        listens = settings.arm_status != "off"
        for arm in ARMS:
            # One by one: an arm that cannot be had must not leave the topics of the other one behind.
            self._ports += (ArmPort(self, profile, embodiment, arm, self._controller, listens),)
        unheard = [arm for arm, port in zip(ARMS, self._ports, strict=True) if not port.hears_status]
        if unheard:
            self.get_logger().warning(
                f"nobody hears of faults of the {' and the '.join(unheard)} arm: no status topic."
            )
        self._tick_timer = self.create_timer(1.0 / settings.control_hz, self._tick, clock=STEADY)

    def _forget(self) -> None:
        for port in self._ports:
            port.close()
        if self._joint_states is not None:
            self._joint_states.close()
        if self._tick_timer is not None:
            self.destroy_timer(self._tick_timer)
        self._controller, self._ports, self._joint_states, self._tick_timer = None, (), None, None

    def _missing(self) -> str | None:
        return next((problem for port in self._ports if (problem := port.not_ready())), None)

    def _refuse(self, problem: str) -> TransitionCallbackReturn:
        self._problem = problem
        self.get_logger().error(problem)
        return TransitionCallbackReturn.FAILURE

    def _tick(self) -> None:
        if not self._active or self._controller is None:
            return
        now_ns = self._steady.now_ns()
        try:
            command = self._controller.tick(now_ns)
            if command is not None:
                self._send(command, now_ns)
        except Exception as error:  # noqa: BLE001  # An arm in motion is not left to itself.
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Stop for a failure of our own; the loop goes on, and its next ticks brake."""
        self.get_logger().error(f"the commander failed: {error!r}")
        if self._controller is not None:
            self._controller.stop(Reason("FV-SAF-001", f"the commander failed ({type(error).__name__}: {error})."))

    def _send(self, command: Command, now_ns: int) -> None:
        """Publish a command, stamped with the instant that it was calculated for, however long that took."""
        stamp = Time(nanoseconds=now_ns + self._wall_ahead_ns).to_msg()
        for index, port in enumerate(self._ports):
            port.send(command.setpoint, slice(index * ARM_DOF, (index + 1) * ARM_DOF), stamp)
        if command.phase is not self._phase:
            self._phase = command.phase
            self._publish_status()
            if command.phase in (Phase.HOLDING, Phase.STOPPED):
                self.get_logger().warning(f"{command.phase.value}: {'; '.join(map(str, command.reasons))}")

    def _look_at_the_wall_clock(self) -> None:
        """Note how far the wall clock is ahead; between two looks, stamps are as even as the steady clock."""
        self._wall_ahead_ns = self.get_clock().now().nanoseconds - self._steady.now_ns()

    def _brake(self, reason: Reason) -> None:
        """Command until everything rests; a transition waits for that, so nobody else ticks meanwhile."""
        controller = self._controller
        if controller is None:
            return
        controller.stop(reason)
        begin_ns = self._steady.now_ns()
        while self._steady.now_ns() - begin_ns < LONGEST_STOP_S * 1e9:
            self._tick()
            if controller.guard.command is None or controller.guard.command.is_at_rest:
                return
            self._steady.sleep_s(controller.lateness.tick_s)

    def _on_episode(self, message: Episode) -> None:
        """Follow a new episode; one that is repeated says no more than that the session is there."""
        is_repeated = same_episode(message, self._episode)
        self._episode = message
        if is_repeated:
            if self._controller is not None:
                self._controller.session_is_there(self._steady.now_ns())
            return
        if self._active:
            self._begin_episode()

    def _begin_episode(self) -> None:
        """Follow the session: an episode may have begun before this node was active."""
        assert self._controller is not None  # noqa: S101  # An active node is configured.
        if self._episode.state != Episode.RUN:
            self._controller.end()
            return
        ticket = Ticket(self._episode.episode_id, self._episode.epoch)
        refused = self._controller.begin(ticket, self._steady.now_ns())
        if refused is not None:
            self.get_logger().warning(f"episode {ticket.episode_id} does not begin: {refused}")

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self._active or self._controller is None:
            return
        try:
            ticket, chunk = chunk_of(message)
        except FineVLAError as error:
            self._controller.executor.queue.refused[error.code] += 1
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        try:
            refused = self._controller.offer(ticket, chunk, self._steady.now_ns())
        except Exception as error:  # noqa: BLE001  # An arm in motion is not left to itself.
            self._fail(error)
            return
        if refused is not None:
            self.get_logger().warning(f"{refused.code}: {refused.text}", throttle_duration_sec=1.0)

    def _on_estop(self, message: Bool) -> None:
        self._is_pressed = message.data
        if self._controller is not None:
            self._controller.emergency_button(message.data)

    def _on_heartbeat(self, message: Empty) -> None:
        del message
        if self._controller is not None:
            self._controller.operator_is_there(self._steady.now_ns())

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        if self._controller is not None:
            self._controller.stop(Reason("FV-SAF-022", "stop was asked for."))
        response.success = self._active
        response.message = "braking and holding until reset" if self._active else "not active: nothing is commanded"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        if self._controller is None or not self._active:
            response.message = "FV-SAF-011: the arm commander is not active; activate it."
            return response
        refused = self._controller.start(self._steady.now_ns())
        response.success = refused is None
        response.message = "holding where the arms stand" if refused is None else str(refused)
        return response

    def _on_allow_approach(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        if self._controller is None or not self._active:
            response.message = "FV-SAF-011: the arm commander is not active; activate it."
            return response
        if not any(reason.code == FAR_START for reason in self._controller.state().reasons):
            response.message = f"no motion waits for this ({FAR_START}); nothing is allowed in advance."
            return response
        self._controller.allow_approach()
        response.success, response.message = True, "the next motion may begin from far away, slowly"
        return response

    def _publish_status(self) -> None:
        message = ControllerStatus(state=UNSTARTED, reasons=[self._problem] if self._problem else [])
        if self._controller is not None and self._active:
            for port in self._ports:
                port.watch()
            state = self._controller.state()
            message = status_message(state, self._episode, self._steady.now_ns(), self._controller.step_s)
            if self._joint_states is not None:
                self._joint_states.publish(state.measured)
        message.stamp = self.get_clock().now().to_msg()
        self._status_publisher.publish(message)

    def _upkeep(self) -> None:
        if self._controller is None or not self._active:
            text = self._problem or "not active"
            self._diagnostics.publish(Level.ERROR if self._problem else Level.WARN, text, {})
            return
        self._look_at_the_wall_clock()
        state = self._controller.state()
        level = {Phase.STOPPED: Level.ERROR, Phase.HOLDING: Level.WARN}.get(state.phase, Level.OK)
        text = "; ".join(str(reason) for reason in state.reasons) or state.phase.value
        self._diagnostics.publish(level, text, diagnostic_values(state))


def status_message(state: ControllerState, episode: Episode, now_ns: int, step_s: float) -> ControllerStatus:
    """Return the message of a controller's state."""
    ticket = state.ticket
    since_ns = now_ns - episode.origin_ns
    return ControllerStatus(
        episode_id=ticket.episode_id if ticket is not None else "",
        epoch=ticket.epoch if ticket is not None else 0,
        state=state.phase.value,
        outcome=state.outcome,
        reasons=[str(reason) for reason in state.reasons],
        control_step=max(0, int(since_ns / 1e9 / step_s)) if ticket is not None else 0,
        rows_left=state.rows_left,
        chunk_age_s=state.chunk_age_s,
        latency_s=state.latency_s,
        chunks_accepted=state.accepted,
        chunks_refused=sum(state.refused.values()),
        rows_late=state.rows_late,
        ticks=state.lateness.ticks,
        ticks_late=state.lateness.missed,
        lateness_p99_s=state.lateness.quantile_s(0.99),
        command=state.command,
        measured=state.measured,
    )


def diagnostic_values(state: ControllerState) -> dict[str, object]:
    """Return what tools may want to plot or to alarm on."""
    return {
        "phase": state.phase.value,
        "rows_left": state.rows_left,
        "chunk_age_s": f"{state.chunk_age_s:.3f}",
        "latency_p95_s": f"{state.latency_s:.3f}",
        "largest_seam": f"{state.largest_seam:.4f}",
        "chunks_accepted": state.accepted,
        "rows_late": state.rows_late,
        **{f"refused_{code}": count for code, count in sorted(state.refused.items())},
        **{f"limited_{code}": count for code, count in sorted(state.limited.items())},
        "ticks": state.lateness.ticks,
        "ticks_missed": state.lateness.missed,
        "lateness_p50_ms": f"{1e3 * state.lateness.quantile_s(0.5):.2f}",
        "lateness_p99_ms": f"{1e3 * state.lateness.quantile_s(0.99):.2f}",
    }


def main() -> None:
    """Run the arm commander until a signal has stopped it."""
    sys.exit(run(ArmCommander))


if __name__ == "__main__":
    main()

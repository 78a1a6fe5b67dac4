"""The session: carries out one instruction after another, and keeps the trials."""

from __future__ import annotations

import math
import sys
import uuid
from dataclasses import dataclass

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node

from finevla_cobot.diagnostics import Diagnostics, Level
from finevla_cobot.parameters import read_parameters
from finevla_cobot.qos import EVENT, STATE
from finevla_cobot.session_trials import SessionTrials
from finevla_cobot.spin import STEADY, run
from finevla_interfaces.action import ExecuteInstruction
from finevla_interfaces.msg import ControllerStatus, Episode, PolicyStatus
from finevla_interfaces.srv import ChangeInstruction
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.errors import FineVLAError, SetupError, unknown_name
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.robot.episode_watch import (
    ORDINARY,
    CommanderReport,
    Ending,
    EpisodeWatch,
    Outcome,
    PolicyReport,
    Seen,
    WatchSettings,
    not_ready,
)
from finevla_runtime.robot.trial_desk import EpisodeNote, RobotTrial, TrialDesk
from finevla_runtime.safety.feasibility import require_feasible
from finevla_runtime.safety.scene_declaration import find_scene_declaration

STEP_S = 0.02
FEEDBACK_S = 0.1
UPKEEP_S = 0.5
# Time for the last answers to leave the process after a signal.
GRACE_S = 0.3
NO_SCENE = ""


@dataclass(frozen=True)
class SessionSettings:
    """Parameters of the session.

    Attributes:
        scene: declaration in ``hw_configs/scenes`` that instructions are held against; empty: no check.
        longest_timeout_s: instructions that may take longer are refused.
        still_s: standing still this long while following the policy finishes an instruction; 0: never.
        still_tolerance: joints that move by less stand still, rad or open fraction.
        record_trials: a trial is recorded, and refused where it cannot be.
    """

    scene: str = NO_SCENE
    longest_timeout_s: float = 600.0
    still_s: float = 0.0
    still_tolerance: float = 0.02
    record_trials: bool = True


@dataclass(eq=False)
class Running:
    """The goal that is being carried out.

    Attributes:
        answered: whether its result was handed over.
        chunks_before: what the commander had accepted when it began.
        control_steps, chunks: what the commander counted since.
    """

    goal: ServerGoalHandle
    episode: Episode
    watch: EpisodeWatch
    chunks_before: int
    answered: bool = False
    control_steps: int = 0
    chunks: int = 0

    def count(self, status: ControllerStatus) -> None:
        """Take the counters of a status of this episode."""
        if status.episode_id == self.episode.episode_id:
            self.control_steps = int(status.control_step)
            self.chunks = max(0, int(status.chunks_accepted) - self.chunks_before)


class Session(Node):
    """Node ``session``; action ``finevla/execute_instruction``, services for trials and for changing an instruction.

    A goal is executed, in the words of ROS, only when it has ended: until then it is accepted, which lets one thread
    serve everybody without a coroutine that would be polled all the time.
    """

    def __init__(self) -> None:
        """Read the parameters and the scene; say that no episode runs."""
        super().__init__("session", automatically_declare_parameters_from_overrides=True)
        self.settings = read_parameters(self, SessionSettings)
        self._scene = find_scene_declaration(self.settings.scene) if self.settings.scene else None
        self._watch_settings = WatchSettings(
            still_s=self.settings.still_s, still_tolerance=self.settings.still_tolerance
        )
        self._steady = SteadyClock()
        self._running: Running | None = None
        self._desk = TrialDesk()
        self._status = ControllerStatus()
        self._policy_status = PolicyStatus()
        self._commander: CommanderReport | None = None
        self._policy: PolicyReport | None = None
        self._leaving_ns: int | None = None
        self._open_topics()
        self._say(Episode(state=Episode.IDLE))

    def stopping(self, hurry: bool) -> bool:
        """End the episode, let the arms rest, answer whoever asked; then the process may end."""
        now_ns = self._steady.now_ns()
        if self._running is not None:
            self._end(Ending(Outcome.CANCELLED, "FV-EPI-013", "the session got a signal to end."))
            if not hurry:
                return False
        if self._leaving_ns is None:
            self._leaving_ns = now_ns
            self._trials.abandon()
        return hurry or now_ns - self._leaving_ns > GRACE_S * 1e9

    def _open_topics(self) -> None:
        self._diagnostics = Diagnostics(self)
        self._episodes = self.create_publisher(Episode, "finevla/episode", STATE)
        self.create_subscription(ControllerStatus, "finevla/status", self._on_status, EVENT)
        self.create_subscription(PolicyStatus, "finevla/policy_status", self._on_policy_status, EVENT)
        self._trials = SessionTrials(self, self._desk, records=self.settings.record_trials)
        self._actions = ActionServer(
            self,
            ExecuteInstruction,
            "finevla/execute_instruction",
            self._answer,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        self.create_service(ChangeInstruction, "finevla/change_instruction", self._on_change)
        self.create_timer(STEP_S, self._step, clock=STEADY)
        self.create_timer(FEEDBACK_S, self._feedback, clock=STEADY)
        self.create_timer(UPKEEP_S, self._upkeep, clock=STEADY)

    # What others say.

    def _on_status(self, message: ControllerStatus) -> None:
        self._status = message
        if self._running is not None:
            self._running.count(message)
        self._commander = CommanderReport(
            received_ns=self._steady.now_ns(),
            episode_id=message.episode_id,
            state=message.state,
            reasons=tuple(message.reasons),
            command=message.command,
            measured=message.measured,
        )

    def _on_policy_status(self, message: PolicyStatus) -> None:
        self._policy_status = message
        now_ns = self._steady.now_ns()
        self._policy = PolicyReport(now_ns, message.episode_id, message.state, message.code, message.text)

    def _seen(self) -> Seen:
        return Seen(self._commander, self._policy, self._trials.recording())

    # One instruction.

    def _on_goal(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        """Take one goal at a time; everything else about a goal is answered in its result."""
        running = self._running
        if running is None and self._leaving_ns is None:
            return GoalResponse.ACCEPT
        why = "the session is ending" if running is None else f"{running.episode.instruction!r} is being carried out"
        self.get_logger().warning(f"FV-EPI-014: {request.instruction!r} is rejected: {why}; cancel it first.")
        return GoalResponse.REJECT

    def _on_accepted(self, goal: ServerGoalHandle) -> None:
        """Begin, or answer at once why not."""
        asked, now_ns = goal.request, self._steady.now_ns()
        episode = Episode(
            state=Episode.RUN,
            episode_id=uuid.uuid4().hex,
            instruction=asked.instruction,
            kind=asked.kind,
            trial_id=asked.trial_id,
            variant_id=asked.variant_id,
            seed=asked.seed,
            origin_ns=now_ns,
        )
        watch = EpisodeWatch(episode.episode_id, now_ns, asked.timeout_s, self._watch_settings)
        self._running = Running(goal, episode, watch, int(self._status.chunks_accepted))
        refusal = self._refusal(asked, now_ns)
        if refusal is not None:
            self.get_logger().warning(f"{asked.instruction!r} is refused: {refusal.code}: {refusal.reason}")
            watch.end(refusal, now_ns)
            self._running.answered = True
            goal.execute()
            return
        self.get_logger().info(f"episode {episode.episode_id} begins: {asked.instruction!r}")
        self._say(episode)

    def _refusal(self, asked: ExecuteInstruction.Goal, now_ns: int) -> Ending | None:
        try:
            self._require_timeout(asked.timeout_s)
            self._require_feasible(asked.instruction, asked.kind)
            self._desk.require_fits(
                RobotTrial(asked.trial_id, asked.variant_id, "", asked.instruction, asked.kind, asked.seed)
            )
        except FineVLAError as error:
            return Ending(Outcome.REFUSED, error.code, error.message)
        return not_ready(self._seen(), now_ns, self._watch_settings)

    def _require_timeout(self, timeout_s: float) -> None:
        longest_s = self.settings.longest_timeout_s
        if not (math.isfinite(timeout_s) and 0.0 < timeout_s <= longest_s):
            raise SetupError("FV-EPI-015", f"timeout_s is {timeout_s:g}; wanted above 0 and at most {longest_s:g}.")

    def _require_feasible(self, instruction: str, kind: str) -> None:
        kinds = [known.value for known in InstructionKind]
        if kind not in kinds:
            raise unknown_name("FV-EPI-016", "kind of instruction", kind, kinds)
        Instruction(instruction, InstructionKind(kind))
        if self._scene is not None:
            require_feasible(instruction, self._scene)

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        running = self._running
        if running is None or running.goal is not goal:
            return CancelResponse.REJECT
        self._end(Ending(Outcome.CANCELLED, "", "the instruction was cancelled."))
        return CancelResponse.ACCEPT

    def _end(self, ending: Ending) -> None:
        """End the running episode and tell everybody at once; the arms brake and hold."""
        running = self._running
        if running is not None and running.watch.ending is None:
            running.watch.end(ending, self._steady.now_ns())
            self._say_idle(running)

    def _say_idle(self, running: Running) -> None:
        self.get_logger().info(f"episode {running.episode.episode_id} ends: {running.watch.ending}")
        running.episode.state = Episode.IDLE
        self._say(running.episode)

    def _say(self, episode: Episode) -> None:
        self._episodes.publish(episode)

    def _step(self) -> None:
        seen = self._seen()
        if seen.recording is not None and not seen.recording.runs:
            self._desk.mark(seen.recording.state)
        running = self._running
        if running is None or running.answered:
            return
        was_running = running.watch.ending is None
        running.watch.step(seen, self._steady.now_ns())
        if was_running and running.watch.ending is not None:
            self._say_idle(running)
        if running.watch.is_over:
            running.answered = True
            running.goal.execute()

    def _answer(self, goal: ServerGoalHandle) -> ExecuteInstruction.Result:
        """Put the goal into its last state and return its result."""
        running, self._running = self._running, None
        assert running is not None  # noqa: S101  # Only a goal that ended is executed.
        ending = running.watch.ending
        assert ending is not None  # noqa: S101  # See above.
        result = ExecuteInstruction.Result(
            outcome=ending.outcome.value,
            code=ending.code,
            reason=ending.reason,
            control_steps=running.control_steps,
            chunks=running.chunks,
            duration_s=running.watch.duration_s(),
        )
        self._desk.add(_note(running.episode.episode_id, result))
        if ending.outcome in ORDINARY:
            goal.succeed()
        elif ending.outcome is Outcome.CANCELLED and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    def _on_change(
        self, request: ChangeInstruction.Request, response: ChangeInstruction.Response
    ) -> ChangeInstruction.Response:
        """Give the running episode another instruction; a refused one leaves it as it was."""
        running = self._running
        response.epoch = 0 if running is None else running.episode.epoch
        try:
            if running is None or running.watch.ending is not None:
                raise SetupError("FV-EPI-017", "no instruction is being carried out; begin one.")
            self._desk.require_changeable()
            self._require_feasible(request.instruction, request.kind)
        except FineVLAError as error:
            self.get_logger().warning(f"{request.instruction!r} is refused: {error}")
            response.code, response.reason = error.code, error.message
            return response
        episode = running.episode
        episode.epoch += 1
        episode.instruction, episode.kind = request.instruction, request.kind
        self._say(episode)
        self.get_logger().info(f"episode {episode.episode_id}, instruction {episode.epoch}: {episode.instruction!r}")
        response.accepted, response.epoch = True, episode.epoch
        return response

    def _feedback(self) -> None:
        running, status, policy = self._running, self._status, self._policy_status
        if running is None or running.answered:
            return
        error = f"{policy.code}: {policy.text}" if policy.code else ""
        reasons = [*status.reasons, *policy.problems, *([error] if error else [])]
        running.goal.publish_feedback(
            ExecuteInstruction.Feedback(
                control_step=running.control_steps,
                phase=status.state,
                chunk_age_s=status.chunk_age_s,
                latency_s=status.latency_s,
                reasons=list(dict.fromkeys(reasons)),
            )
        )

    def _upkeep(self) -> None:
        running, trial = self._running, self._desk.open
        if running is not None and running.episode.state == Episode.RUN:
            # The commander ends an episode whose session is silent.
            self._say(running.episode)
        waits = not_ready(self._seen(), self._steady.now_ns(), self._watch_settings)
        values = {
            "episode": "" if running is None else running.episode.episode_id,
            "epoch": 0 if running is None else running.episode.epoch,
            "instruction": "" if running is None else running.episode.instruction,
            "trial": "" if trial is None else trial.trial_id,
            "trial_problem": self._desk.problem,
            "scene": self.settings.scene or "none",
        }
        if self._desk.problem:
            self._diagnostics.publish(Level.ERROR, self._desk.problem, values)
        elif waits is not None:
            self._diagnostics.publish(Level.WARN, f"{waits.code}: {waits.reason}", values)
        else:
            self._diagnostics.publish(Level.OK, "ready" if running is None else "carrying out", values)


def _note(episode_id: str, result: ExecuteInstruction.Result) -> EpisodeNote:
    return EpisodeNote(
        episode_id=episode_id,
        outcome=result.outcome,
        code=result.code,
        reason=result.reason,
        control_steps=result.control_steps,
        chunks=result.chunks,
        duration_s=result.duration_s,
    )


def main() -> None:
    """Run the session until a signal ends it."""
    sys.exit(run(Session))


if __name__ == "__main__":
    main()

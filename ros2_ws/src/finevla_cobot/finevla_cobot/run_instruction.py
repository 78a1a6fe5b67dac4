"""`finevla robot run`: one instruction, with the operator's hand on Ctrl-C.

Exit codes: 0 when it finished or ran into its timeout, 1 when it was refused or something failed, 130 when it was
cancelled or stopped from here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient
from rclpy.task import Future
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from finevla_cobot.operator_desk import ANSWER_S, OperatorDesk
from finevla_cobot.qos import EVENT
from finevla_cobot.spin import STEADY, StopSignals
from finevla_interfaces.action import ExecuteInstruction
from finevla_runtime.cli.options import parse
from finevla_runtime.cli.robot import KindName
from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.robot.episode_watch import ORDINARY

HEARTBEAT_S = 0.1
# Longest time from the end of an episode to its result; the arms come to rest meanwhile.
RESULT_S = 10.0
# A session that ended may have answered just before.
LAST_WORD_S = 1.0
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
FAR_START = "FV-SAF-015"
# Between chunks that is no news.
NOTHING_TO_FOLLOW = "FV-SAF-012"


@dataclass(frozen=True)
class RunOptions:
    """Let the policy carry out one instruction.

    The first Ctrl-C cancels: the arms brake and hold. The second stops: they move again after `finevla robot reset`.
    """

    instruction: str
    """What the robot shall do."""
    kind: KindName = "fine_grained"
    """Whether the instruction is raw or fine-grained."""
    timeout_s: float = 60.0
    """Seconds after which the episode ends by itself."""
    trial_id: str = ""
    """The open trial that this episode belongs to."""
    variant_id: str = ""
    """Variant of that trial."""
    seed: int = 0
    """Seed of everything random."""
    namespace: str = ""
    """Namespace of the robot's nodes."""


def run_instruction(argv: Sequence[str]) -> int:
    """Let the policy carry out one instruction; return the exit code."""
    options = parse(RunOptions, argv, prog="finevla robot run")
    Instruction(options.instruction, InstructionKind(options.kind))
    with OperatorDesk(options.namespace) as desk:
        signals = StopSignals()
        return Hand(desk, signals).carry_out(options)


class Hand:
    """The operator's hand: it says that it is there, shows what happens, cancels and stops."""

    def __init__(self, desk: OperatorDesk, signals: StopSignals) -> None:
        """Begin to send heartbeats."""
        self._desk, self._signals = desk, signals
        self._client = ActionClient(desk.node, ExecuteInstruction, "finevla/execute_instruction")
        self._stop = desk.node.create_client(Trigger, "finevla/stop")
        self._heartbeat = desk.node.create_publisher(Empty, "finevla/heartbeat", EVENT)
        desk.node.create_timer(HEARTBEAT_S, lambda: self._heartbeat.publish(Empty()), clock=STEADY)
        self._shown: tuple[str, tuple[str, ...]] = ("", ())
        self._cancelled: Future | None = None
        self._is_stopping = False
        self._stopped: Future | None = None

    def carry_out(self, options: RunOptions) -> int:
        """Send the instruction and follow it to its end.

        Raises:
            SetupError: FV-OPR-004 without a session, FV-OPR-005 when it rejects the instruction.
            BodyError: FV-OPR-006 when the session goes away.
        """
        handle = self._send(options)
        result = handle.get_result_async()
        ending_ns: int | None = None
        while not result.done():
            self._desk.turn()
            self._obey(handle)
            if self._signals.count and ending_ns is None:
                ending_ns = self._desk.clock.now_ns()
            late = ending_ns is not None and self._desk.clock.now_ns() - ending_ns > RESULT_S * 1e9
            gone = not self._client.server_is_ready() and not self._desk.wait(result.done, LAST_WORD_S)
            if late or gone:
                raise BodyError(
                    "FV-OPR-006", "the session is gone; the arms brake when their chunks run out. `finevla robot stop`"
                )
        return self._conclude(result.result().result)

    def _send(self, options: RunOptions) -> Any:
        if not self._desk.wait(self._client.server_is_ready, ANSWER_S):
            raise SetupError(
                "FV-OPR-004",
                "no session is there; start the robot's nodes (`finevla robot up`), and look at --namespace and "
                "ROS_DOMAIN_ID.",
            )
        goal = ExecuteInstruction.Goal(
            instruction=options.instruction,
            kind=options.kind,
            trial_id=options.trial_id,
            variant_id=options.variant_id,
            seed=options.seed,
            timeout_s=options.timeout_s,
        )
        sent = self._client.send_goal_async(goal, feedback_callback=self._show)
        if not self._desk.wait(sent.done, ANSWER_S):
            raise SetupError("FV-OPR-004", f"the session gave no answer within {ANSWER_S:g} s.")
        handle = sent.result()
        if not handle.accepted:
            raise SetupError("FV-OPR-005", "the session is busy with another instruction; cancel that one first.")
        return handle

    def _obey(self, handle: Any) -> None:
        """Cancel at the first signal, stop at the second."""
        if self._signals.count >= 1 and self._cancelled is None:
            _print("cancelling: the arms brake and hold; Ctrl-C again stops them at once")
            self._cancelled = handle.cancel_goal_async()
        if self._signals.count >= 2:
            self._press_stop()

    def _press_stop(self) -> None:
        """Call the service as soon as it is there; on a busy machine it may be found only now."""
        if not self._is_stopping:
            self._is_stopping = True
            _print("stopping")
        if self._stopped is None and self._stop.service_is_ready():
            self._stopped = self._stop.call_async(Trigger.Request())

    def _is_stopped(self) -> bool:
        self._press_stop()
        return self._stopped is not None and bool(self._stopped.done())

    def _show(self, message: Any) -> None:
        """Print the phase and its reasons when either changes; numbers within the reasons alone are no change."""
        feedback = message.feedback
        reasons = [reason for reason in feedback.reasons if not reason.startswith(NOTHING_TO_FOLLOW)]
        codes = tuple(sorted(reason.partition(":")[0] for reason in reasons))
        if (feedback.phase, codes) == self._shown:
            return
        self._shown = (feedback.phase, codes)
        _print(f"step {feedback.control_step:>5}  {feedback.phase}{': ' if codes else ''}{'; '.join(reasons)}")
        if FAR_START in codes:
            _print("to allow a slow motion to where the policy begins: finevla robot approach")

    def _conclude(self, result: ExecuteInstruction.Result) -> int:
        if self._is_stopping:
            self._desk.wait(self._is_stopped, ANSWER_S)
        why = f" ({result.code}: {result.reason})" if result.code else ""
        _print(
            f"{result.outcome}{why}: {result.control_steps} control steps, {result.chunks} chunks, "
            f"{result.duration_s:.1f} s"
        )
        if self._signals.count:
            return EXIT_INTERRUPTED
        return 0 if result.outcome in [outcome.value for outcome in ORDINARY] else EXIT_FAILED


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

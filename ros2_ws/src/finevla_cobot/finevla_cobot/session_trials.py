"""The trials of a session: their services, their recordings and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from finevla_cobot.qos import STATE
from finevla_cobot.spin import STEADY
from finevla_interfaces.srv import EndTrial, StartRecording, StartTrial
from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.contracts.errors import BodyError, FineVLAError, SetupError
from finevla_runtime.robot.episode_watch import Recording
from finevla_runtime.robot.trial_desk import RobotTrial, TrialDesk, bag_name, write_log

RECORDING = "recording"
ANSWER_S = 5.0


@dataclass(frozen=True)
class Stopped:
    """What came of stopping a recording: whether it is complete, and what the recorder said."""

    complete: bool
    said: str


class SessionTrials:
    """Opens and closes trials; a trial's recording begins and ends with it.

    Callbacks that wait for the recorder are coroutines, so that the session goes on watching its episode meanwhile.
    """

    def __init__(self, node: Node, desk: TrialDesk, *, records: bool) -> None:
        """Offer the services; ``records`` False only names trials."""
        # A coroutine keeps its group busy until it is done, and the answers it waits for must be heard meanwhile.
        group = ReentrantCallbackGroup()
        self._node, self._desk, self._records = node, desk, records
        self._bag = ""
        self._state = ""
        self._busy = False
        self._start_client = node.create_client(StartRecording, "finevla/recorder/start", callback_group=group)
        self._stop_client = node.create_client(Trigger, "finevla/recorder/stop", callback_group=group)
        self._state_source = node.create_subscription(String, "finevla/recorder/state", self._on_state, STATE)
        node.create_service(StartTrial, "finevla/start_trial", self._on_start, callback_group=group)
        node.create_service(EndTrial, "finevla/end_trial", self._on_end, callback_group=group)

    def recording(self) -> Recording | None:
        """Return how the open trial's recording is; None when there is nothing to record."""
        if self._desk.open is None or not self._bag:
            return None
        here = self._node.count_publishers(self._state_source.topic_name) > 0
        state = self._state if here else "the recorder is gone"
        return Recording(here and self._state == RECORDING, state)

    def abandon(self) -> None:
        """Close the open trial because the session ends; the recorder is told, its answer is not waited for."""
        here = self._desk.open
        if here is None:
            return
        self._desk.mark("the session ended before the trial did")
        if self._bag:
            self._stop_client.call_async(Trigger.Request())
        try:
            self._close(here.trial_id, "")
        except FineVLAError as error:
            self._node.get_logger().error(str(error))

    def _on_state(self, message: String) -> None:
        self._state = message.data

    async def _on_start(self, request: StartTrial.Request, response: StartTrial.Response) -> StartTrial.Response:
        begun_utc = wall_clock_utc()
        trial = RobotTrial(
            request.trial_id, request.variant_id, request.task_id, request.instruction, request.kind, request.seed
        )
        try:
            self._desk.require_free(trial.trial_id)
            self._require_alone()
            self._busy = True
            try:
                bag = await self._record(bag_name(trial.trial_id, begun_utc)) if self._records else ""
            finally:
                self._busy = False
            self._desk.begin(trial, begun_utc)
        except FineVLAError as error:
            self._node.get_logger().error(f"trial {request.trial_id!r} is refused: {error}")
            response.code, response.reason = error.code, error.message
            return response
        self._bag = bag
        response.accepted, response.bag = True, bag
        return response

    async def _on_end(self, request: EndTrial.Request, response: EndTrial.Response) -> EndTrial.Response:
        try:
            self._desk.require_open(request.trial_id)
            self._require_alone()
            self._busy = True
            try:
                if self._bag:
                    stopped = await self._stop_recording()
                    if not stopped.complete:
                        self._desk.mark(stopped.said)
            finally:
                self._busy = False
            self._close(request.trial_id, request.note)
            response.ok = True
        except FineVLAError as error:
            self._node.get_logger().error(str(error))
            response.code, response.reason = error.code, error.message
        return response

    def _require_alone(self) -> None:
        if self._busy:
            raise SetupError("FV-TRI-008", "another trial is being started or ended; wait for its answer.")

    def _close(self, trial_id: str, note: str) -> None:
        """Close a trial and keep its log beside its recording.

        Raises:
            BodyError: FV-TRI-009 when the recording is not complete; the trial is closed all the same.
            SetupError: FV-TRI-007 when the log cannot be kept.
        """
        log = self._desk.end(trial_id, wall_clock_utc(), note)
        bag, self._bag = self._bag, ""
        if bag:
            write_log(Path(bag), log)
        if log.problem:
            raise BodyError("FV-TRI-009", f"trial {trial_id!r} is ended but not complete: {log.problem}")

    async def _record(self, name: str) -> str:
        """Start a recording and return its folder (BodyError FV-TRI-010, or the recorder's own code)."""
        if self._state == RECORDING and self._start_client.service_is_ready():
            # What an earlier session left open belongs to no trial of this one.
            await self._stop_recording()
        answer = await self._call(self._start_client, StartRecording.Request(name=name))
        if not answer.ok:
            raise BodyError(answer.code, answer.reason)
        # The state that says so may come after the answer.
        self._state = RECORDING
        return str(answer.path)

    async def _stop_recording(self) -> Stopped:
        try:
            answer = await self._call(self._stop_client, Trigger.Request())
        except BodyError as error:
            return Stopped(False, str(error))
        return Stopped(bool(answer.success), str(answer.message))

    async def _call(self, client: Client, request: object) -> StartRecording.Response | Trigger.Response:
        """Return the answer of the recorder (BodyError FV-TRI-010 when none comes)."""
        if not client.service_is_ready():
            raise BodyError("FV-TRI-010", "nobody records; start the recorder, or set record_trials to false.")
        answer = client.call_async(request)
        done: Future = Future()
        answer.add_done_callback(lambda _: None if done.done() else done.set_result(True))
        timer = self._node.create_timer(ANSWER_S, lambda: None if done.done() else done.set_result(False), clock=STEADY)
        is_answered = await done
        self._node.destroy_timer(timer)
        if not is_answered:
            client.remove_pending_request(answer)
            raise BodyError("FV-TRI-010", f"the recorder gave no answer within {ANSWER_S:g} s.")
        return answer.result()

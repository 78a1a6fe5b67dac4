"""The session on a real graph, among scripted neighbours: every ending, trials, changes and signals."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient

from finevla_interfaces.action import ExecuteInstruction
from finevla_interfaces.msg import Episode
from finevla_interfaces.srv import ChangeInstruction, EndTrial, StartTrial
from tests.ros.conftest import StartNode
from tests.ros.fakes import FakeCommander, FakePolicy, FakeRecorder, until_ready
from tests.ros.node_process import NodeProcess
from tests.ros.peer import Peer

CUBE = "pick up the red cube with the left arm"
TRIAL = {"trial_id": "arm/left/1", "variant_id": "left", "instruction": CUBE, "kind": "fine_grained", "seed": 7}
OK, CANCELED, ABORTED = GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED


class Theatre:
    """A session under test, its neighbours, and whoever gives it goals."""

    def __init__(self, peer: Peer, start_node: StartNode, folder: Path) -> None:
        self.peer, self._start_node = peer, start_node
        self.commander = FakeCommander(peer.node)
        self.policy = FakePolicy(peer.node)
        self.recorder = FakeRecorder(peer.node, folder)
        self.client = ActionClient(peer.node, ExecuteInstruction, "finevla/execute_instruction")
        self.feedback: list[Any] = []
        self.session: NodeProcess | None = None

    def open(self, **parameters: object) -> None:
        """Start the session and wait until it says that it is ready."""
        diagnostics = self.peer.heard(DiagnosticArray, "/diagnostics")
        self.session = self._start_node("session", parameters=parameters)
        self.peer.until(self.client.server_is_ready, "the session's action")
        until_ready(self.peer, diagnostics)

    def send(self, **fields: object) -> Any:
        """Give a goal and return its handle."""
        goal = ExecuteInstruction.Goal(**({"instruction": CUBE, "kind": "raw", "timeout_s": 60.0} | fields))
        future = self.client.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append(m.feedback))
        self.peer.until(future.done, "an answer to the goal")
        return future.result()

    def begin(self, **fields: object) -> Any:
        """Give a goal and return its handle when the arms move."""
        handle = self.send(**fields)
        assert handle.accepted
        self.peer.until(lambda: self.episodes() and self.episodes()[-1].state == Episode.RUN, "a running episode")
        seen = len(self.feedback)
        self.peer.until(lambda: any(f.phase == "moving" for f in self.feedback[seen:]), "arms that move")
        return handle

    def result(self, handle: Any) -> tuple[int, Any]:
        future = handle.get_result_async()
        self.peer.until(future.done, "the result")
        return future.result().status, future.result().result

    def episodes(self) -> list[Episode]:
        return self.commander.episodes

    def start_trial(self, **fields: object) -> Any:
        return self.peer.call(StartTrial, "finevla/start_trial", **(TRIAL | {"task_id": "arm"} | fields))

    def end_trial(self, name: str = "arm/left/1", note: str = "") -> Any:
        return self.peer.call(EndTrial, "finevla/end_trial", trial_id=name, note=note)


@pytest.fixture
def theatre(peer: Peer, start_node: StartNode, tmp_path: Path) -> Theatre:
    return Theatre(peer, start_node, tmp_path)


def test_an_instruction_runs_into_its_timeout_and_that_is_no_failure(theatre: Theatre) -> None:
    theatre.open()
    status, result = theatre.result(theatre.begin(timeout_s=1.0, seed=9))
    assert (status, result.outcome, result.code) == (OK, "timeout", "")
    assert result.control_steps == 7
    assert 0 < result.chunks < 40, "only the episode's own chunks count"
    assert 1.0 <= result.duration_s < 3.0
    idle, run, end = theatre.episodes()
    assert theatre.commander.repeated >= 1, "a running episode is repeated, so that a silent session is noticed"
    assert [e.state for e in (idle, run, end)] == [Episode.IDLE, Episode.RUN, Episode.IDLE]
    assert (run.instruction, run.kind, run.seed, run.epoch) == (CUBE, "raw", 9, 0)
    assert run.origin_ns > 0
    assert end.episode_id == run.episode_id != ""


def test_feedback_tells_the_phase_and_what_is_wrong(theatre: Theatre) -> None:
    theatre.open()
    handle = theatre.begin()
    theatre.commander.says = {"state": "holding", "reasons": ["FV-SAF-009: the observation is old."]}
    theatre.policy.says = {"problems": ["FV-SYN-002: cam_high is frozen."]}
    wanted = ["FV-SAF-009: the observation is old.", "FV-SYN-002: cam_high is frozen."]
    theatre.peer.until(lambda: list(theatre.feedback[-1].reasons) == wanted, "both reasons in the feedback")
    assert theatre.feedback[-1].phase == "holding"
    handle.cancel_goal_async()
    assert theatre.result(handle)[1].outcome == "cancelled"


def test_standing_still_after_a_motion_finishes(theatre: Theatre) -> None:
    theatre.open(still_s=0.5)
    handle = theatre.begin()
    here = theatre.commander.position
    theatre.peer.until(lambda: theatre.commander.position > here + 0.05, "a motion")
    theatre.commander.still = True
    status, result = theatre.result(handle)
    assert (status, result.outcome) == (OK, "finished")


def test_a_cancelled_instruction_is_idle_before_it_is_canceled(theatre: Theatre) -> None:
    theatre.open()
    handle = theatre.begin()
    handle.cancel_goal_async()
    future = handle.get_result_async()
    theatre.peer.until(lambda: theatre.episodes()[-1].state == Episode.IDLE, "an idle episode")
    assert not future.done()
    status, result = theatre.result(handle)
    assert (status, result.outcome) == (CANCELED, "cancelled")
    assert theatre.result(theatre.begin(timeout_s=0.5))[1].outcome == "timeout", "and the next one runs"


def test_a_second_goal_is_rejected_and_the_first_goes_on(theatre: Theatre) -> None:
    theatre.open()
    handle = theatre.begin(timeout_s=2.0)
    assert not theatre.send(instruction="another").accepted
    assert theatre.session is not None
    assert "FV-EPI-014" in theatre.session.output()
    assert theatre.result(handle)[1].outcome == "timeout"


STOPPED = {"state": "stopped", "episode_id": "", "reasons": ["FV-SAF-007: the arm is too fast."]}
GONE = {"state": "waiting", "episode_id": "", "reasons": ["FV-SAF-021: no sign of the operator for 0.30 s."]}


@pytest.mark.parametrize(
    ("says", "outcome", "code"), [(STOPPED, "stopped", "FV-SAF-007"), (GONE, "operator_gone", "FV-SAF-021")]
)
def test_what_the_commander_ends_ends_with_its_reason(theatre: Theatre, says: dict, outcome: str, code: str) -> None:
    theatre.open()
    handle = theatre.begin()
    theatre.commander.says = says
    status, result = theatre.result(handle)
    assert (status, result.outcome, result.code) == (ABORTED, outcome, code)
    assert theatre.episodes()[-1].state == Episode.IDLE


@pytest.mark.parametrize(("state", "outcome"), [("lost", "policy_lost"), ("faulty", "policy_fault")])
def test_a_policy_that_fails_ends_the_episode_with_its_code(theatre: Theatre, state: str, outcome: str) -> None:
    theatre.open()
    handle = theatre.begin()
    theatre.policy.says = {"state": state, "code": "FV-NET-002", "text": "nobody answers"}
    status, result = theatre.result(handle)
    assert (status, result.outcome, result.code, result.reason) == (ABORTED, outcome, "FV-NET-002", "nobody answers")


@pytest.mark.parametrize(
    ("who", "outcome", "code"), [("commander", "commander_lost", "FV-EPI-004"), ("policy", "policy_lost", "FV-EPI-009")]
)
def test_silence_ends_the_episode(theatre: Theatre, who: str, outcome: str, code: str) -> None:
    theatre.open()
    handle = theatre.begin()
    getattr(theatre, who).silent = True
    status, result = theatre.result(handle)
    assert (status, result.outcome, result.code) == (ABORTED, outcome, code)
    assert theatre.episodes()[-1].state == Episode.IDLE


@pytest.mark.parametrize(
    ("says", "code"),
    [({"state": "unstarted"}, "FV-EPI-002"), ({"state": "stopped", "reasons": ["FV-SAF-022: stop."]}, "FV-EPI-002")],
)
def test_nothing_begins_with_a_commander_that_does_not_command(theatre: Theatre, says: dict, code: str) -> None:
    theatre.open()
    theatre.commander.says = says
    handle = None
    for _ in range(2):  # The first one may come before the session has heard of it.
        handle = theatre.send(timeout_s=0.2)
        status, result = theatre.result(handle)
    assert (status, result.outcome, result.code) == (ABORTED, "refused", code)


def test_a_commander_that_does_not_take_up_the_episode_is_told(theatre: Theatre) -> None:
    theatre.open()
    theatre.commander.deaf = True
    status, result = theatre.result(theatre.send())
    assert (status, result.outcome, result.code) == (ABORTED, "refused", "FV-EPI-007")


@pytest.mark.parametrize(
    ("goal", "code"),
    [
        ({"instruction": "pick up the green banana"}, "FV-FEA-004"),
        ({"instruction": " "}, "FV-INS-001"),
        ({"kind": "poem"}, "FV-EPI-016"),
        ({"timeout_s": 0.0}, "FV-EPI-015"),
        ({"timeout_s": 1e9}, "FV-EPI-015"),
        ({"timeout_s": float("nan")}, "FV-EPI-015"),
        ({"trial_id": "unheard"}, "FV-TRI-003"),
    ],
)
def test_an_instruction_that_cannot_be_carried_out_moves_nothing(theatre: Theatre, goal: dict, code: str) -> None:
    theatre.open(scene="tabletop_arm")
    status, result = theatre.result(theatre.send(**goal))
    assert (status, result.outcome, result.code) == (ABORTED, "refused", code)
    assert all(episode.state == Episode.IDLE for episode in theatre.episodes())


def test_an_instruction_is_changed_in_motion_and_a_refused_change_leaves_it_alone(theatre: Theatre) -> None:
    theatre.open(scene="tabletop_arm")
    change = "finevla/change_instruction"
    assert theatre.peer.call(ChangeInstruction, change, instruction=CUBE, kind="raw").code == "FV-EPI-017"
    handle = theatre.begin()
    other = "pick up the red cube with the right arm"
    changed = theatre.peer.call(ChangeInstruction, change, instruction=other, kind="fine_grained")
    assert (changed.accepted, changed.epoch) == (True, 1)
    theatre.peer.until(lambda: theatre.episodes()[-1].epoch == 1, "the changed episode")
    first, second = theatre.episodes()[-2:]
    assert (second.episode_id, second.origin_ns) == (first.episode_id, first.origin_ns)
    assert (second.instruction, second.kind, second.state) == (other, "fine_grained", Episode.RUN)
    refused = theatre.peer.call(ChangeInstruction, change, instruction="grasp the blue banana", kind="raw")
    assert (refused.accepted, refused.code, refused.epoch) == (False, "FV-FEA-004", 1)
    handle.cancel_goal_async()
    assert theatre.result(handle)[1].outcome == "cancelled"
    assert len(theatre.episodes()) == 4, "idle, run, changed, idle"


def test_a_trial_is_recorded_from_its_start_to_its_end_and_leaves_a_log(theatre: Theatre, tmp_path: Path) -> None:
    theatre.open()
    started = theatre.start_trial()
    assert started.accepted, started.reason
    assert Path(started.bag).parent == tmp_path
    assert Path(started.bag).name.startswith("arm_left_1.")
    assert theatre.start_trial(trial_id="next").code == "FV-TRI-002"
    assert theatre.result(theatre.send())[1].code == "FV-TRI-003"
    assert theatre.result(theatre.send(**TRIAL | {"instruction": "else"}))[1].code == "FV-TRI-004"
    handle = theatre.begin(**TRIAL, timeout_s=0.5)
    changed = theatre.peer.call(ChangeInstruction, "finevla/change_instruction", instruction="else", kind="raw")
    assert changed.code == "FV-TRI-006"
    assert theatre.result(handle)[1].outcome == "timeout"
    run = [episode for episode in theatre.episodes() if episode.state == Episode.RUN]
    assert [(episode.trial_id, episode.variant_id) for episode in run] == [("arm/left/1", "left")]
    assert theatre.end_trial("other").code == "FV-TRI-003"
    ended = theatre.end_trial(note="the cube rolled away")
    assert ended.ok, ended.reason
    assert theatre.recorder.stopped == 1
    log = json.loads((Path(started.bag) / "trial.json").read_text())
    assert (log["problem"], log["note"]) == ("", "the cube rolled away")
    assert log["trial"]["task_id"] == "arm"
    assert [episode["outcome"] for episode in log["episodes"]] == ["refused", "refused", "timeout"]


def test_a_full_disk_ends_the_episode_and_the_trial_and_the_next_trial_is_refused(theatre: Theatre) -> None:
    theatre.open()
    bag = theatre.start_trial().bag
    handle = theatre.begin(**TRIAL)
    theatre.recorder.say("full: FV-REC-032: 9 MiB are left")
    theatre.recorder.refuses = ("FV-REC-031", "9 MiB are left")
    status, result = theatre.result(handle)
    assert (status, result.outcome, result.code) == (ABORTED, "recording_failed", "FV-REC-032")
    assert theatre.episodes()[-1].state == Episode.IDLE
    assert theatre.result(theatre.send(**TRIAL))[1].code == "FV-TRI-005"
    ended = theatre.end_trial()
    assert (ended.ok, ended.code) == (False, "FV-TRI-009")
    log = json.loads((Path(bag) / "trial.json").read_text())
    assert "9 MiB are left" in log["problem"]
    assert [episode["outcome"] for episode in log["episodes"]] == ["recording_failed", "refused"]
    assert theatre.start_trial(trial_id="next").code == "FV-REC-031"
    theatre.recorder.refuses = None
    assert theatre.start_trial(trial_id="next").accepted, "room was made"


def test_without_a_recorder_a_trial_is_refused_unless_none_is_asked_for(
    peer: Peer, start_node: StartNode, tmp_path: Path
) -> None:
    FakeCommander(peer.node), FakePolicy(peer.node)
    start_node("session", namespace="/one")
    start_node("session", namespace="/two", parameters={"record_trials": False})
    fields = TRIAL | {"task_id": "arm"}
    assert peer.call(StartTrial, "/one/finevla/start_trial", **fields).code == "FV-TRI-010"
    started = peer.call(StartTrial, "/two/finevla/start_trial", **fields)
    assert (started.accepted, started.bag) == (True, "")
    assert peer.call(EndTrial, "/two/finevla/end_trial", trial_id=TRIAL["trial_id"]).ok


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_episode_first_and_then_the_process(theatre: Theatre, number: signal.Signals) -> None:
    theatre.open()
    bag = theatre.start_trial().bag
    handle = theatre.begin(**TRIAL)
    future = handle.get_result_async()
    assert theatre.session is not None
    theatre.session.signal(number)
    theatre.peer.until(lambda: theatre.episodes()[-1].state == Episode.IDLE, "an idle episode")
    theatre.peer.until(future.done, "a result")
    assert (future.result().status, future.result().result.code) == (ABORTED, "FV-EPI-013")
    theatre.peer.until(lambda: theatre.session.process.poll() is not None, "the end of the process")
    assert theatre.session.wait() == 0, theatre.session.output()
    assert theatre.recorder.stopped == 1
    assert "the session ended" in json.loads((Path(bag) / "trial.json").read_text())["problem"]


def test_an_unknown_scene_is_refused_at_the_start(start_node: StartNode) -> None:
    node = start_node("session", parameters={"scene": "tabletop_arms"})
    assert node.wait() == 1
    assert "FV-FEA-013" in node.output()
    assert "Did you mean 'tabletop_arm'" in node.output()

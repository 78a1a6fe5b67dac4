"""Scripted neighbours of the session: a commander, a policy client and a recorder that say what a test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import Bool, Empty, String
from std_srvs.srv import Trigger

from finevla_cobot.conversions import same_episode
from finevla_cobot.qos import EVENT, STATE
from finevla_cobot.spin import STEADY
from finevla_interfaces.msg import ControllerStatus, Episode, PolicyStatus
from finevla_interfaces.srv import StartRecording
from tests.ros.peer import Peer

STATUS_S = 0.05


def until_ready(peer: Peer, diagnostics: list[DiagnosticArray]) -> None:
    """Wait until a session says that whoever it needs is there; ``diagnostics`` were heard since before its start."""

    def is_ready() -> bool:
        return any(status.name == "session" and status.message == "ready" for a in diagnostics for status in a.status)

    peer.until(is_ready, "a session that is ready")


class FakeCommander:
    """Follows episodes as the arm commander does; ``says`` overrules what it would say, ``silent`` says nothing."""

    def __init__(self, node: Node) -> None:
        self.episodes: list[Episode] = []
        self.repeated = 0
        self.heartbeats = 0
        self.called: list[str] = []
        self.says: dict[str, Any] = {}
        self.silent = False
        self.deaf = False
        self.still = False
        self.chunks = 40
        self._episode = Episode()
        self.position = 0.0
        self._publisher = node.create_publisher(ControllerStatus, "finevla/status", EVENT)
        node.create_subscription(Episode, "finevla/episode", self._on_episode, STATE)
        node.create_subscription(Empty, "finevla/heartbeat", self._on_heartbeat, EVENT)
        node.create_subscription(Bool, "finevla/estop", lambda _: None, EVENT)
        for name in ("stop", "reset", "allow_approach"):
            node.create_service(Trigger, f"finevla/{name}", self._trigger(name))
        node.create_timer(STATUS_S, self._publish, clock=STEADY)

    def _on_episode(self, message: Episode) -> None:
        if self.episodes and same_episode(message, self.episodes[-1]):
            self.repeated += 1
            return
        self.episodes.append(message)
        if not self.deaf:
            self._episode = message

    def _on_heartbeat(self, _: Empty) -> None:
        self.heartbeats += 1

    def _trigger(self, name: str) -> Any:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            self.called.append(name)
            if name == "stop":
                self.says = {"state": "stopped", "episode_id": "", "reasons": ["FV-SAF-022: stop was asked for."]}
            if name == "reset":
                self.says = {}
            response.success, response.message = True, f"did {name}"
            return response

        return answer

    def _publish(self) -> None:
        if self.silent:
            return
        runs = self._episode.state == Episode.RUN
        if runs and not self.still:
            self.position += 0.01
            self.chunks += 1
        fields = {
            "episode_id": self._episode.episode_id if runs else "",
            "epoch": self._episode.epoch,
            "state": "moving" if runs else "waiting",
            "control_step": 7 if runs else 0,
            "chunks_accepted": self.chunks,
            "command": [self.position] * 14,
            "measured": [self.position] * 14,
        }
        self._publisher.publish(ControllerStatus(**(fields | self.says)))


class FakePolicy:
    """Takes up episodes as the policy client does."""

    def __init__(self, node: Node) -> None:
        self.says: dict[str, Any] = {}
        self.silent = False
        self._episode = Episode()
        self._publisher = node.create_publisher(PolicyStatus, "finevla/policy_status", EVENT)
        node.create_subscription(Episode, "finevla/episode", self._on_episode, STATE)
        node.create_timer(STATUS_S, self._publish, clock=STEADY)

    def _on_episode(self, message: Episode) -> None:
        self._episode = message

    def _publish(self) -> None:
        if self.silent:
            return
        runs = self._episode.state == Episode.RUN
        fields = {"episode_id": self._episode.episode_id if runs else "", "state": "waiting" if runs else "idle"}
        self._publisher.publish(PolicyStatus(**(fields | self.says)))


class FakeRecorder:
    """Makes folders as the recorder does; ``refuses`` is the code and the words of a refusal."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.refuses: tuple[str, str] | None = None
        self.started: list[str] = []
        self.stopped = 0
        self._folder = folder
        self._publisher = node.create_publisher(String, "finevla/recorder/state", STATE)
        self.say("idle")
        node.create_service(StartRecording, "finevla/recorder/start", self._start)
        node.create_service(Trigger, "finevla/recorder/stop", self._stop)

    def say(self, state: str) -> None:
        self.state = state
        self._publisher.publish(String(data=state))

    def _start(self, request: StartRecording.Request, response: StartRecording.Response) -> StartRecording.Response:
        if self.refuses is not None:
            response.code, response.reason = self.refuses
            return response
        self.started.append(request.name)
        folder = self._folder / request.name
        folder.mkdir()
        response.ok, response.path = True, str(folder)
        self.say("recording")
        return response

    def _stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.stopped += 1
        response.success = self.state == "recording"
        response.message = "12 messages" if response.success else f"FV-ROS-011: {self.state}"
        if response.success:
            self.say("idle")
        return response

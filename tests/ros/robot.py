"""A robot of processes for a test: simulated arms, commander, policy client, and the test on their other side."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from finevla_cobot.qos import EVENT, SENSOR, STATE
from finevla_interfaces.msg import ActionChunk, ControllerStatus, Episode, PolicyStatus
from finevla_interfaces.srv import InjectFault, JudgeScene, ResetScene
from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.topic_profile import ARMS, find_topic_profile
from finevla_runtime.safety.profile import load_safety_profile
from tests.ros.commands import CommandRecord
from tests.ros.node_process import NodeProcess, Parameter
from tests.ros.peer import Peer

BODY = "cobot_magic_sim"
TOPICS = find_topic_profile(BODY)
EMBODIMENT = load_embodiment(HW_CONFIGS / f"{BODY}.yaml")
SAFETY = load_safety_profile(HW_CONFIGS / "safety" / f"{BODY}.yaml", EMBODIMENT)
HOME = np.array([joint.home for joint in EMBODIMENT.joints])
# Turning the hands about themselves touches nothing.
WRISTS = [JOINT_NAMES.index("left_j6"), JOINT_NAMES.index("right_j6")]
STEP_S = 1.0 / EMBODIMENT.control_hz
# The hands swing so far, further than an arm may be from its command, and count as fast at half of their top speed.
SWING, SWING_RAD_S = 0.8, 2.0
FAST = SWING * SWING_RAD_S / 2.0
COMMANDER: dict[str, Parameter] = {"embodiment": BODY, "topic_profile": BODY, "space": BODY}


class Robot:
    """The processes of one robot in the domain of this test process; one at a time, since topics have no namespace."""

    def __init__(self, folder: Path, body: str, scene: str) -> None:
        self.peer = Peer()
        self.nodes: dict[str, NodeProcess] = {}
        self.commands = CommandRecord(self.peer, TOPICS, SAFETY)
        self.statuses: list[ControllerStatus] = self.peer.heard(ControllerStatus, "finevla/status")
        self.policy: list[PolicyStatus] = self.peer.heard(PolicyStatus, "finevla/policy_status")
        self._feedback = {arm: self.peer.heard(JointState, TOPICS.arm(arm).feedback.topic, SENSOR) for arm in ARMS}
        self._episodes = self.peer.node.create_publisher(Episode, "finevla/episode", STATE)
        self._chunks = self.peer.node.create_publisher(ActionChunk, "finevla/chunk", EVENT)
        self._folder, self._scene = folder, scene
        self._clock = SteadyClock()
        self._started = self._begun = 0
        self._parameters: dict[str, Parameter] = {}
        self.episode = Episode()
        self._talk: list[object] = []
        self.start("sim_arm", topic_profile=BODY, body=body, scene=scene)

    def close(self) -> None:
        """Stop all processes; each must end by itself."""
        for node in reversed(self.nodes.values()):
            node.stop()
        self.peer.close()

    def start(self, name: str, **parameters: Parameter) -> NodeProcess:
        """Start a node."""
        self._started += 1
        self.nodes[name] = NodeProcess(name, parameters, self._folder / f"{self._started}-{name}.log")
        return self.nodes[name]

    def change(self, name: str, *transitions: int) -> None:
        """Take a node through transitions of its life, all of which must succeed."""
        for transition in transitions:
            done = self.peer.call(ChangeState, f"{name}/change_state", transition=Transition(id=transition))
            assert done.success, f"{name}: transition {transition} failed\n{self.nodes[name].output()}"

    def commander(self, **parameters: Parameter) -> NodeProcess:
        """Return a configured commander with these parameters beside the usual ones, a new one where needed."""
        wanted = {**COMMANDER, **parameters}
        node = self.nodes.get("arm_commander")
        if node is None or node.process.poll() is not None or wanted != self._parameters:
            if node is not None:
                node.stop()
                self.peer.until(
                    lambda: self.peer.node.count_publishers("finevla/status") == 0, "the end of the old one"
                )
            node = self.start("arm_commander", **wanted)
            self._parameters = wanted
            self.change("arm_commander", Transition.TRANSITION_CONFIGURE)
        return node

    def think(self, server: str) -> None:
        """Start a policy client that asks a server."""
        parameters: dict[str, Parameter] = {"embodiment": BODY, "topic_profile": BODY, "server": server}
        self.start("policy_client", **parameters)
        self.change("policy_client", Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)

    def fresh(self, scene: str = "", **parameters: Parameter) -> None:
        """Stand at home at the start of a scene, well, commanded and idle; the record of commands begins anew."""
        self.quiet()
        self.end()
        self.inject("none")
        node = self.nodes.get("arm_commander")
        if node is not None and node.process.poll() is None and self.statuses[-1].state != "unstarted":
            self.change("arm_commander", Transition.TRANSITION_DEACTIVATE)
        self.commander(**parameters)
        done = self.peer.call(ResetScene, "finevla/sim/reset_scene", scene=scene or self._scene)
        assert done.ok, done.reason
        self.peer.until(lambda: self.is_near(HOME), "the arms at home")
        self.until_feedback(20)
        self.commands.begin()
        self.change("arm_commander", Transition.TRANSITION_ACTIVATE)
        self.until_state("waiting")

    # The session's part.

    def begin(self, instruction: str = "wave", epoch: int = 0, heard: bool = True, **fields: object) -> None:
        """Begin an episode, or change the instruction of the present one by a higher epoch."""
        self._begun += epoch == 0
        origin_ns = self.episode.origin_ns if epoch else self._clock.now_ns()
        self.episode = Episode(
            state=Episode.RUN,
            episode_id=f"episode-{self._begun}",
            epoch=epoch,
            instruction=instruction,
            kind="fine_grained",
            seed=1,
            origin_ns=origin_ns,
            **fields,
        )
        self._episodes.publish(self.episode)
        if heard:
            self.peer.until(self._is_followed, "a commander that follows the episode")
            self.peer.until(self._chunks.get_subscription_count, "a commander that hears chunks")

    def end(self) -> None:
        """End the episode."""
        self._episodes.publish(Episode(state=Episode.IDLE))

    def press(self, service: str) -> Trigger.Response:
        """Call one of the commander's buttons."""
        return self.peer.call(Trigger, f"finevla/{service}")

    # The policy's part.

    def offer(self, rows: JointArray, episode: Episode | None = None) -> None:
        """Publish a chunk float64[n, 14] for the present episode or another one, seen just now."""
        told = episode or self.episode
        now_ns = self._clock.now_ns()
        self._chunks.publish(
            ActionChunk(
                chunk_id=f"chunk-{now_ns}",
                episode_id=told.episode_id,
                epoch=told.epoch,
                step_s=STEP_S,
                capture_time_ns=now_ns,
                rows=len(rows),
                positions=array("f", np.asarray(rows, np.float32).tobytes()),
            )
        )

    def swing(self) -> None:
        """Turn both hands to and fro without an end, as a policy would: a new chunk three times a second."""
        self.begin()
        begin_ns = self._clock.now_ns()

        def next_chunk() -> None:
            since_s = (self._clock.now_ns() - begin_ns) / 1e9
            rows = np.tile(HOME, (16, 1))
            for index, row in enumerate(rows):
                row[WRISTS] += SWING * math.sin(SWING_RAD_S * (since_s + (index + 1) * STEP_S))
            self.offer(rows)

        next_chunk()
        self.repeat(0.3, next_chunk)
        self.until_fast()

    def repeat(self, period_s: float, act: Callable[[], None]) -> None:
        """Do something again and again whenever the test waits, until ``quiet``."""
        self._talk.append(self.peer.node.create_timer(period_s, act))

    def quiet(self) -> None:
        """End what was repeated."""
        for timer in self._talk:
            self.peer.node.destroy_timer(timer)
        self._talk = []

    # The world's part.

    def inject(self, fault: str) -> None:
        """Give the simulated pair a fault, or take all back with ``none``."""
        done = self.peer.call(InjectFault, "finevla/sim/inject", fault=fault)
        assert done.ok, done.reason

    def judge(self, variant: str) -> JudgeScene.Response:
        """Ask the judge of the scene."""
        return self.peer.call(JudgeScene, "finevla/sim/judge_scene", variant_id=variant, kind="fine_grained")

    def measured(self) -> JointArray:
        """Return float64[14], what the arms said last."""
        return np.concatenate([self._feedback[arm][-1].position for arm in ARMS])

    def is_near(self, place: JointArray, within: float = 0.02) -> bool:
        return all(self._feedback.values()) and bool(np.abs(self.measured() - place).max() < within)

    # Waiting.

    def until_feedback(self, count: int) -> None:
        """Wait for so many more messages of the arms, the clock that the robot itself goes by."""
        first = len(self._feedback["left"])
        self.peer.until(lambda: len(self._feedback["left"]) >= first + count, f"{count} messages of the arms")

    def until_state(self, state: str, reason: str = "") -> ControllerStatus:
        """Wait for a state of the commander, and for a reason that contains a text."""

        def is_so() -> bool:
            return self.status.state == state and any(reason in text for text in [*self.status.reasons, ""])

        self.peer.until(lambda: self.statuses and is_so(), f"{state} {reason}; {self.told()}")
        return self.status

    def until_success(self, variant: str) -> None:
        """Wait until the judge of the scene says that the variant was done as told."""

        def is_done() -> bool:
            self.until_feedback(50)
            found = self.judge(variant)
            assert found.ok, found.reason
            return bool(found.success)

        self.peer.until(is_done, f"{variant} done as told; {self.told()}")

    def until_problem(self, text: str) -> PolicyStatus:
        """Wait until the policy client says that something is wrong with what it sees."""

        def is_said() -> bool:
            return any(text in problem for problem in self.policy[-1].problems)

        self.peer.until(lambda: self.policy and is_said(), f"the problem {text}")
        return self.policy[-1]

    def until_fast(self) -> None:
        """Wait for a motion that does not end at once when it must."""
        self.peer.until(lambda: self.commands.speed() > FAST, "a fast motion")

    def until_rest(self) -> None:
        """Wait for commands that stand still."""

        def rests() -> bool:
            return len(self.commands) > 30 and self.commands.speed(over=20) == 0.0

        self.peer.until(rests, "commands that stand")

    @property
    def status(self) -> ControllerStatus:
        """Return what the commander said last."""
        return self.statuses[-1]

    def told(self) -> str:
        """Return what is known when a wait began, for whoever reads a failure."""
        if not self.statuses:
            return "the commander says nothing"
        return f"before it was {self.status.state}: {'; '.join(self.status.reasons)}"

    def _is_followed(self) -> bool:
        told = self.episode
        return bool(self.statuses) and (self.status.episode_id, self.status.epoch) == (told.episode_id, told.epoch)

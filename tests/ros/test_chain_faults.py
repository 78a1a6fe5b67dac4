"""What goes wrong between cameras, policy client and server, and what the chain promises then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition

from finevla_runtime.transport.fault_proxy import FaultProxy, Line
from tests.ros.robot import Robot
from tests.ros.served import ServedPolicy

TOLD = "pick up the red cube and put it on the yellow mat"


class Chain:
    """A robot on the shipped policy, with a line between client and server that can be made bad."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._served = folder, 0
        self.robot = Robot(folder, "tabletop", "colour/3")
        self.server = self.serve()
        self.line = FaultProxy(self.server.address)
        self.robot.think(self.line.address)

    def serve(self) -> ServedPolicy:
        self._served += 1
        return ServedPolicy(self._folder / f"server-{self._served}", self.robot.peer)

    def restart(self) -> None:
        """Serve anew, elsewhere; the client finds it where the old one was."""
        self.server = self.serve()
        self.line.target = self.server.address

    def close(self) -> None:
        self.robot.close()
        self.line.close()
        self.server.stop()


@pytest.fixture(scope="module")
def kept(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    chain = Chain(tmp_path_factory.mktemp("chain"))
    yield chain
    chain.close()


@pytest.fixture
def chain(kept: Chain) -> Chain:
    """The chain in motion."""
    kept.line.heal()
    kept.robot.fresh()
    kept.robot.begin(TOLD, variant_id="red")
    kept.robot.until_fast()
    return kept


def test_server_killed_mid_chunk_brakes_to_a_hold_and_the_client_says_lost(chain: Chain) -> None:
    robot = chain.robot
    chain.server.kill()
    robot.peer.until(lambda: robot.policy[-1].state == "lost", "a client that says lost")
    assert robot.policy[-1].code == "FV-NET-001"
    robot.until_state("holding", "FV-SAF-009")
    robot.until_rest()
    robot.commands.assert_smooth()
    # The server alone moves nothing when it is back: somebody must begin again.
    chain.restart()
    robot.until_feedback(200)
    assert robot.commands.speed(over=100) == 0.0
    assert robot.policy[-1].state == "lost"
    robot.begin(TOLD, variant_id="red")
    robot.until_fast()
    robot.commands.assert_smooth()


def test_slow_server_holds_and_returns_without_a_jump(chain: Chain) -> None:
    robot = chain.robot
    # To and fro take longer than the client waits, and then longer than a motion may go on without a new look.
    chain.line.become(Line(delay_s=0.6))
    robot.until_state("holding", "FV-SAF-009")
    chain.line.heal()
    robot.until_success("red")
    robot.commands.assert_smooth()


def test_a_silent_line_is_a_lost_server_and_a_late_answer_moves_nothing(chain: Chain) -> None:
    robot = chain.robot
    chain.line.become(Line(silent=True))
    robot.peer.until(lambda: robot.policy[-1].state == "lost", "a client that says lost")
    assert robot.policy[-1].code == "FV-NET-002"
    robot.until_rest()
    accepted = robot.status.chunks_accepted
    chain.line.heal()
    robot.until_feedback(200)
    assert robot.status.chunks_accepted == accepted
    assert robot.commands.speed(over=100) == 0.0
    robot.commands.assert_smooth()


def test_a_line_that_is_cut_again_and_again_does_not_stop_the_work(chain: Chain) -> None:
    robot = chain.robot
    robot.repeat(0.5, chain.line.cut)
    robot.until_success("red")
    assert robot.policy[-1].state != "lost"
    robot.commands.assert_smooth()


def test_a_question_that_is_open_at_a_cleanup_answers_nobody(chain: Chain) -> None:
    robot = chain.robot
    chain.line.become(Line(silent=True))
    robot.peer.until(lambda: robot.policy[-1].state == "asking", "an open question")
    robot.change("policy_client", Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    chain.line.heal()
    robot.change("policy_client", Transition.TRANSITION_CONFIGURE)
    said = len(robot.policy)
    # The episode is still the same, so the old answer would fit.
    robot.change("policy_client", Transition.TRANSITION_ACTIVATE)
    robot.until_success("red")
    assert {status.code for status in robot.policy[said:]} == {""}
    robot.commands.assert_smooth()


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("frozen_camera/cam_high", "FV-SYN-003: cam_high is frozen"),
        ("frozen_stamp/cam_left_wrist", "FV-SYN-003: cam_left_wrist is frozen"),
        ("silent_camera/cam_right_wrist", "FV-SYN-002: cam_right_wrist: its image is"),
    ],
    ids=["frozen", "stuck", "silent"],
)
def test_frozen_and_stale_cameras_are_named_and_no_question_is_asked(chain: Chain, fault: str, problem: str) -> None:
    robot = chain.robot
    robot.inject(fault)
    questions = robot.until_problem(problem).queries
    robot.until_rest()
    assert robot.policy[-1].queries == questions
    assert all(fault.partition("/")[2] in text for text in robot.policy[-1].problems)
    robot.commands.assert_smooth()
    # When the camera is back, so is the motion.
    robot.inject("none")
    robot.until_fast()
    robot.commands.assert_smooth()

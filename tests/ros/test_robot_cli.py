"""`finevla robot run` and its siblings among scripted neighbours, with a hand on Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray

from finevla_interfaces.msg import Episode
from tests.ros.cli_process import CliProcess
from tests.ros.conftest import StartNode
from tests.ros.fakes import FakeCommander, FakePolicy, until_ready
from tests.ros.peer import Peer

CUBE = "pick up the red cube with the left arm"
Start = Callable[..., CliProcess]


@pytest.fixture
def cli(domain: int, tmp_path: Path) -> Iterator[Start]:
    started: list[CliProcess] = []

    def start(*arguments: str) -> CliProcess:
        started.append(CliProcess(tmp_path / f"cli-{len(started)}.log", *arguments))
        return started[-1]

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def commander(peer: Peer, start_node: StartNode) -> FakeCommander:
    """A session whose neighbours are well."""
    made = FakeCommander(peer.node)
    FakePolicy(peer.node)
    diagnostics = peer.heard(DiagnosticArray, "/diagnostics")
    start_node("session", parameters={"scene": "tabletop_arm"})
    until_ready(peer, diagnostics)
    return made


def end(peer: Peer, process: CliProcess) -> int:
    peer.until(process.ended, f"the end of the command; so far: {process.output()}")
    return process.process.returncode


def begin(peer: Peer, cli: Start, commander: FakeCommander) -> CliProcess:
    process = cli("run", "--instruction", CUBE, "--timeout-s", "60")
    peer.until(lambda: "moving" in process.output() or process.ended(), "arms that move")
    assert not process.ended(), process.output()
    assert commander.episodes[-1].instruction == CUBE
    return process


def test_run_shows_phases_and_reasons_and_ends_with_0_at_the_timeout(
    peer: Peer, cli: Start, commander: FakeCommander
) -> None:
    process = cli("run", "--instruction", CUBE, "--kind", "raw", "--timeout-s", "3", "--seed", "5")
    peer.until(lambda: "moving" in process.output() or process.ended(), "arms that move")
    assert not process.ended(), process.output()
    commander.says = {"state": "holding", "reasons": ["FV-SAF-015: left_j1 would begin 0.9 rad away."]}
    peer.until(lambda: "holding: FV-SAF-015: left_j1" in process.output(), "the reason of the hold")
    assert "finevla robot approach" in process.output()
    commander.says = {}
    assert end(peer, process) == 0, process.output()
    assert "timeout: 7 control steps" in process.output()
    run = next(episode for episode in commander.episodes if episode.state == Episode.RUN)
    assert (run.kind, run.seed) == ("raw", 5)
    assert commander.heartbeats > 10


def test_the_first_ctrl_c_cancels(peer: Peer, cli: Start, commander: FakeCommander) -> None:
    process = begin(peer, cli, commander)
    process.interrupt()
    assert end(peer, process) == 130, process.output()
    assert "cancelled" in process.output()
    assert commander.episodes[-1].state == Episode.IDLE
    assert commander.called == []


def test_the_second_ctrl_c_stops_at_once(peer: Peer, cli: Start, commander: FakeCommander) -> None:
    process = begin(peer, cli, commander)
    commander.deaf = True  # A commander that goes on in spite of the cancelling.
    process.interrupt()
    peer.until(lambda: "cancelling" in process.output(), "the cancelling")
    process.interrupt()
    peer.until(lambda: commander.called == ["stop"] or process.ended(), "the stop")
    assert commander.called == ["stop"], process.output()
    assert end(peer, process) == 130, process.output()


def test_run_fails_with_the_code_of_what_ended_it(peer: Peer, cli: Start, commander: FakeCommander) -> None:
    process = begin(peer, cli, commander)
    commander.says = {"state": "stopped", "episode_id": "", "reasons": ["FV-SAF-007: too fast."]}
    assert end(peer, process) == 1
    assert "stopped (FV-SAF-007: too fast.)" in process.output()


def test_an_infeasible_instruction_is_refused_with_its_reason(peer: Peer, cli: Start, commander: FakeCommander) -> None:
    process = cli("run", "--instruction", "pick up the green banana")
    assert end(peer, process) == 1
    assert "refused (FV-FEA-004: 'green banana' is not in scene tabletop_arm" in process.output()
    assert all(episode.state == Episode.IDLE for episode in commander.episodes)


def test_a_second_run_is_turned_away(peer: Peer, cli: Start, commander: FakeCommander) -> None:
    begin(peer, cli, commander)
    second = cli("run", "--instruction", CUBE)
    assert end(peer, second) == 1
    assert "FV-OPR-005" in second.output()


def test_without_a_session_run_says_what_to_start(peer: Peer, cli: Start) -> None:
    process = cli("run", "--instruction", CUBE)
    assert end(peer, process) == 1
    assert "FV-OPR-004" in process.output()
    assert "finevla robot up" in process.output()


def test_a_session_that_goes_away_is_told(peer: Peer, cli: Start, start_node: StartNode) -> None:
    made = FakeCommander(peer.node)
    FakePolicy(peer.node)
    diagnostics = peer.heard(DiagnosticArray, "/diagnostics")
    session = start_node("session")
    until_ready(peer, diagnostics)
    process = begin(peer, cli, made)
    session.process.kill()
    session.process.wait()
    session.process.returncode = 0  # Killed by this test, not by a fault.
    assert end(peer, process) == 1
    assert "FV-OPR-006" in process.output()


def test_stop_reset_and_approach_reach_the_commander(peer: Peer, cli: Start, commander: FakeCommander) -> None:
    for verb, service in (("stop", "stop"), ("reset", "reset"), ("approach", "allow_approach")):
        process = cli(verb)
        assert end(peer, process) == 0, process.output()
        assert commander.called[-1] == service
        assert f"did {service}" in process.output()


def test_change_reaches_the_running_episode_and_shows_a_refusal(
    peer: Peer, cli: Start, commander: FakeCommander
) -> None:
    begin(peer, cli, commander)
    changed = cli("change", "--instruction", "pick up the red cube with the right arm")
    assert end(peer, changed) == 0, changed.output()
    assert commander.episodes[-1].epoch == 1
    refused = cli("change", "--instruction", "grasp the green banana")
    assert end(peer, refused) == 1
    assert "FV-FEA-004" in refused.output()

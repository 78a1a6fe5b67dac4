"""A node's process ends in good order: on a signal, on a second one, on an error."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.ros.node_process import STOP_S

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(domain: int) -> Iterator[Start]:
    """Starts the slow node and waits until it runs."""
    started: list[subprocess.Popen[str]] = []

    def run(mode: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.ros.slow_node", mode]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert read(process) == "running"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_does_not_wait(start: Start, number: signal.Signals) -> None:
    process = start("run")
    process.send_signal(number)
    assert read(process) == "stopping"
    assert process.poll() is None
    process.send_signal(number)
    assert read(process) == "hurrying"
    assert process.wait(STOP_S) == 0


def test_a_coded_error_is_printed_without_a_traceback_after_the_node_was_stopped(start: Start) -> None:
    said, complaint = start("refuse").communicate(timeout=STOP_S)
    assert said.split() == ["hurrying"]
    assert complaint.splitlines()[-1] == "FV-ROS-999: no."
    assert "Traceback" not in complaint


def test_a_node_that_crashes_is_stopped_first_and_says_where(start: Start) -> None:
    process = start("crash")
    said, complaint = process.communicate(timeout=STOP_S)
    assert said.split() == ["hurrying"]
    assert "ZeroDivisionError" in complaint
    assert process.returncode == 1

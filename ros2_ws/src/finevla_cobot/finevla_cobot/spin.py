"""Runs a node as a process: executor, signals, errors and the exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from finevla_runtime.contracts.errors import FineVLAError

# Timers run on this: the wall clock jumps, and simulated time belongs to no robot.
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
# A signal is noticed after this long in a process where nothing else happens.
WAIT_S = 0.05
EXIT_ERROR = 1


class Stoppable(Protocol):
    """What a node does about SIGINT and SIGTERM."""

    def stopping(self, hurry: bool) -> bool:
        """Come to an end; called again and again after a signal until it returns True, when the process exits.

        Args:
            hurry: a second signal came: what remains is not waited for.
        """
        ...


class StopSignals:
    """Counts SIGINT and SIGTERM."""

    def __init__(self) -> None:
        """Take over both signals from here on."""
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1


def run(make: Callable[[], Node], arguments: list[str] | None = None, *, is_busy: bool = False) -> int:
    """Make a node (that is ``Stoppable``) and spin it until a signal has stopped it.

    The node is asked to stop, in a hurry, also when one of its callbacks raises: an arm is not left to itself.

    Args:
        make: makes the node.
        arguments: of ROS 2; None takes those of the process.
        is_busy: whether the node hears hundreds of messages per second, see ``quick_executor``.

    Returns:
        The exit code: 0 after a signal, 1 after a coded error, which is printed.
    """
    signals = StopSignals()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        _spin(make(), signals, quick_executor() if is_busy else SingleThreadedExecutor())
    except FineVLAError as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR
    finally:
        rclpy.try_shutdown()
    return 0


def quick_executor() -> Executor:
    """Return the executor for nodes that hear hundreds of messages per second.

    The one that waits for events takes about half the CPU time of the one that looks through all entities at every
    message. It knows no guard conditions, and releases of ROS 2 before Jazzy lack it.
    """
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    executor: Executor = EventsExecutor()
    return executor


def _spin(node: Node, signals: StopSignals, executor: Executor) -> None:
    executor.add_node(node)
    try:
        while signals.count == 0 or not node.stopping(hurry=signals.count > 1):
            executor.spin_once(timeout_sec=WAIT_S)
    except BaseException:
        node.stopping(hurry=True)
        raise
    finally:
        executor.shutdown()
        node.destroy_node()

"""Tests of the ROS 2 graph. They run in .venv-ros on the built workspace (`make ros`) and are never skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ros.domain import own_domain
from tests.ros.node_process import NodeProcess
from tests.ros.peer import Peer

StartNode = Callable[..., NodeProcess]


@pytest.fixture(scope="session", autouse=True)
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The DDS domain of this test process."""
    with own_domain(tmp_path_factory.mktemp("ros-logs")) as number:
        yield number


@pytest.fixture
def peer(domain: int) -> Iterator[Peer]:
    other = Peer()
    yield other
    other.close()


@pytest.fixture
def start_node(domain: int, tmp_path: Path) -> Iterator[StartNode]:
    """Starts nodes as processes; whatever still runs at the end must stop on SIGTERM."""
    started: list[NodeProcess] = []

    def start(name: str, **settings: object) -> NodeProcess:
        parameters = settings.pop("parameters", {})
        output = tmp_path / f"{name}-{len(started)}.log"
        started.append(NodeProcess(name, parameters, output, **settings))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for node in started:
        node.stop()

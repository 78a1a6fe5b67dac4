from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finevla_runtime.bundle import Bundle
from finevla_runtime.transport.client import RemotePolicy
from policy_server.engines.engine import Engine
from policy_server.server import PolicyServer, ServerOptions
from tests.serving.engines import GateEngine
from tests.serving.staged_bundle import write_staged_bundle
from tests.serving.tiny_bundle import write_tiny_bundle

StartServer = Callable[..., PolicyServer]
Connect = Callable[..., RemotePolicy]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[PolicyServer]:
    running = PolicyServer(bundle, ServerOptions())
    yield running
    running.drain(2.0)


@pytest.fixture(scope="session")
def flow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_staged_bundle(tmp_path_factory.mktemp("flow") / "b", "gr00t")


@pytest.fixture(scope="module")
def flow_server(flow_bundle: Bundle) -> Iterator[PolicyServer]:
    running = PolicyServer(flow_bundle, ServerOptions())
    yield running
    running.drain(2.0)


@pytest.fixture
def start_server(bundle: Bundle) -> Iterator[StartServer]:
    running: list[PolicyServer] = []

    def start(engine: Engine | None = None, served: Bundle | None = None, **options: object) -> PolicyServer:
        running.append(PolicyServer(served or bundle, ServerOptions(**options), engine=engine))  # type: ignore[arg-type]
        if isinstance(engine, GateEngine):
            gates.append(engine)
        return running[-1]

    gates: list[GateEngine] = []
    yield start
    for gate in gates:
        gate.gate.release(1000)
    for one in running:
        one.drain(5.0)


@pytest.fixture
def connect() -> Iterator[Connect]:
    opened: list[RemotePolicy] = []

    def open_one(server: PolicyServer, **options: object) -> RemotePolicy:
        opened.append(RemotePolicy.connect(server.address, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def policy(server: PolicyServer, connect: Connect) -> RemotePolicy:
    return connect(server)


@pytest.fixture
def flow_policy(flow_server: PolicyServer, connect: Connect) -> RemotePolicy:
    return connect(flow_server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path

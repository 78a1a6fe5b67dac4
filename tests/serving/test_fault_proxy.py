"""A bad line is bad in the way that was asked for, and a client on it gets a coded error or its answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.fault_proxy import FaultProxy, Line
from policy_server.server import PolicyServer
from tests.serving.conftest import StartServer
from tests.serving.engines import GateEngine
from tests.serving.test_service import wait_for
from tests.serving.tiny_bundle import ROWS, observation

SHORT_S = 0.2
LONG_S = 20.0


@pytest.fixture
def proxy(server: PolicyServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as line:
        yield line


def code(policy: RemotePolicy) -> str:
    with pytest.raises(FineVLAError) as caught:
        policy.infer(observation())
    return caught.value.code


def rows(policy: RemotePolicy, seed: int = 0) -> np.ndarray:
    return policy.infer(observation(seed)).positions


def test_a_good_line_changes_nothing(server: PolicyServer, proxy: FaultProxy) -> None:
    with RemotePolicy.connect(server.address) as direct, RemotePolicy.connect(proxy.address) as policy:
        for seed in range(3):
            np.testing.assert_array_equal(rows(policy, seed), rows(direct, seed))
        assert proxy.connections == 1


@pytest.mark.parametrize("bad", [Line(delay_s=LONG_S), Line(silent=True), Line(bytes_per_s=200.0)])
def test_an_answer_that_does_not_come_in_time_is_a_coded_error_and_the_next_question_gets_its_own(
    server: PolicyServer, proxy: FaultProxy, bad: Line
) -> None:
    with (
        RemotePolicy.connect(server.address) as direct,
        RemotePolicy.connect(proxy.address, timeout_s=SHORT_S) as policy,
    ):
        right = rows(direct, seed=2)
        proxy.become(bad)
        assert code(policy) == "FV-NET-002"
        proxy.heal()
        policy.client.timeout_s = LONG_S
        np.testing.assert_array_equal(rows(policy, seed=2), right)


def test_a_late_answer_comes_when_the_time_allows(proxy: FaultProxy) -> None:
    with RemotePolicy.connect(proxy.address, timeout_s=LONG_S) as policy:
        proxy.become(Line(delay_s=0.3))
        assert len(rows(policy)) == ROWS
        proxy.become(Line(bytes_per_s=200_000.0))
        assert len(rows(policy)) == ROWS


def test_a_silent_line_takes_connections_and_never_answers(proxy: FaultProxy) -> None:
    proxy.become(Line(silent=True))
    with pytest.raises(SetupError, match="FV-NET-001"):
        RemotePolicy.connect(proxy.address, connect_timeout_s=SHORT_S)
    proxy.heal()
    with RemotePolicy.connect(proxy.address) as policy:
        assert len(rows(policy)) == ROWS


def test_a_call_on_a_line_that_is_cut_is_asked_again(start_server: StartServer) -> None:
    engine = GateEngine()
    with (
        FaultProxy(start_server(engine).address) as proxy,
        RemotePolicy.connect(proxy.address) as policy,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(rows, policy)
        assert engine.entered.acquire(timeout=LONG_S)
        proxy.cut()
        engine.gate.release(10)
        assert len(answer.result(timeout=LONG_S)) == ROWS


def test_a_line_that_refuses_is_unavailable_until_it_takes_connections_at_the_same_address(proxy: FaultProxy) -> None:
    with RemotePolicy.connect(proxy.address, timeout_s=1.0) as policy:
        address = proxy.address
        proxy.become(Line(refuses=True))
        # What is connected stays so; it is the cut that makes it unavailable.
        assert len(rows(policy)) == ROWS
        proxy.cut()
        assert code(policy) == "FV-NET-001"
        proxy.heal()
        policy.client.timeout_s = LONG_S
        assert len(rows(policy)) == ROWS
        assert proxy.address == address


def test_nobody_behind_the_proxy_is_unavailable_and_another_target_answers(server: PolicyServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    with FaultProxy(nobody) as proxy:
        with pytest.raises(SetupError, match="FV-NET-001"):
            RemotePolicy.connect(proxy.address, connect_timeout_s=SHORT_S)
        proxy.target = server.address
        with RemotePolicy.connect(proxy.address) as policy:
            assert len(rows(policy)) == ROWS


def test_an_end_of_one_side_is_an_end_for_the_other(proxy: FaultProxy) -> None:
    policy = RemotePolicy.connect(proxy.address)
    policy.close()
    wait_for(lambda: proxy.connections == 0)


@pytest.mark.parametrize("values", [{"delay_s": -1.0}, {"bytes_per_s": float("nan")}, {"delay_s": float("inf")}])
def test_a_line_that_means_nothing_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(SetupError, match="FV-NET-010"):
        Line(**values)


def test_a_closed_proxy_is_gone_and_closes_twice(server: PolicyServer) -> None:
    proxy = FaultProxy(server.address)
    address = proxy.address
    proxy.close()
    proxy.close()
    with pytest.raises(SetupError, match="FV-NET-001"):
        RemotePolicy.connect(address, connect_timeout_s=SHORT_S)

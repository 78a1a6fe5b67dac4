from __future__ import annotations

import grpc
import pytest

from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.errors import FineVLAError, PolicyError, SetupError
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.channel import RETRY_WAITS_S, ServiceClient
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.refusal import STATUS_TRAILER, Reason, Refusal, status_of
from policy_server.server import PolicyServer
from tests.serving.conftest import Connect, StartServer
from tests.serving.tiny_bundle import ROWS, observation


class Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, refusal: Refusal | None = None) -> None:
        self._code = code
        self._refusal = refusal

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "details"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        if self._refusal is None:
            return ()
        return ((STATUS_TRAILER, status_of(self._refusal).SerializeToString()),)


class Stub:
    """Fails with the given errors, one for each call, then answers; remembers what it was asked and how long it had."""

    def __init__(self, *failures: Failure) -> None:
        self._failures = list(failures)
        self.asked: list[str] = []
        self.timeouts: list[float] = []

    def infer(self, data: bytes, timeout: float, metadata: object) -> pb.InferResponse:
        request = pb.InferRequest.FromString(data)
        self.asked.append(request.request_id)
        self.timeouts.append(timeout)
        if self._failures:
            raise self._failures.pop(0)
        return pb.InferResponse(request_id=request.request_id)


def ask(stub: Stub, timeout_s: float = 10.0) -> pb.InferResponse:
    client = ServiceClient("127.0.0.1:1", timeout_s=timeout_s, clock=ManualClock())
    client._infer = stub.infer
    try:
        return client.infer(pb.InferRequest(request_id="7"))
    finally:
        client.close()


DOWN = grpc.StatusCode.UNAVAILABLE


def test_an_unavailable_server_is_asked_again_with_the_same_request_id_and_the_time_that_is_left() -> None:
    stub = Stub(Failure(DOWN), Failure(DOWN))
    assert ask(stub, timeout_s=1.0).request_id == "7"
    assert stub.asked == ["7", "7", "7"]
    assert stub.timeouts == pytest.approx([1.0, 1.0 - RETRY_WAITS_S[0], 1.0 - sum(RETRY_WAITS_S[:2])])


def test_a_server_that_stays_away_is_a_policy_error_after_the_last_repetition() -> None:
    stub = Stub(*[Failure(DOWN)] * 9)
    with pytest.raises(PolicyError, match="FV-NET-001"):
        ask(stub)
    assert len(stub.asked) == len(RETRY_WAITS_S) + 1


def test_repetitions_never_outlast_the_deadline() -> None:
    stub = Stub(*[Failure(DOWN)] * 9)
    with pytest.raises(PolicyError, match="FV-NET-001"):
        ask(stub, timeout_s=0.1)
    assert len(stub.asked) == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), "FV-NET-002"),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED), "FV-NET-006"),
        (Failure(grpc.StatusCode.UNIMPLEMENTED), "FV-NET-007"),
        (Failure(grpc.StatusCode.UNKNOWN), "FV-NET-004"),
        (Failure(DOWN, Refusal(Reason.DRAINING, "bye.")), "FV-SRV-006"),
        (Failure(grpc.StatusCode.ABORTED, Refusal(Reason.STALE_EPOCH, "old.")), "FV-SES-002"),
    ],
)
def test_other_failures_are_coded_and_not_repeated(failure: Failure, code: str) -> None:
    stub = Stub(failure)
    with pytest.raises(FineVLAError) as caught:
        ask(stub)
    assert caught.value.code == code
    assert len(stub.asked) == 1


def test_a_status_trailer_that_is_none_does_not_hide_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Failure(grpc.StatusCode.UNKNOWN)
    monkeypatch.setattr(failure, "trailing_metadata", lambda: ((STATUS_TRAILER, b"\xff\xff"),))
    with pytest.raises(PolicyError, match="FV-NET-004"):
        ask(Stub(failure))


def test_no_server_is_a_setup_error_that_names_the_command() -> None:
    with pytest.raises(SetupError, match="finevla serve") as caught:
        RemotePolicy.connect("127.0.0.1:9", connect_timeout_s=0.3)
    assert caught.value.code == "FV-NET-001"


def test_an_answer_to_another_request_is_dropped(policy: RemotePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    right = policy.client.infer(policy.request(observation()))
    monkeypatch.setattr(policy.client, "infer", lambda request: right)
    with pytest.raises(PolicyError, match="FV-NET-008"):
        policy.infer(observation())


def test_after_a_restart_of_the_server_the_next_episode_goes_on(start_server: StartServer, connect: Connect) -> None:
    first = start_server()
    policy = connect(first)
    assert policy.infer(observation()).rows == ROWS
    first.drain(1.0)
    second = start_server(address=first.address)
    assert second.address == first.address
    with pytest.raises(PolicyError, match="FV-SES-001"):
        policy.infer(observation())
    policy.reset(2)
    assert policy.infer(observation()).rows == ROWS


def test_closing_twice_is_no_error_and_a_closed_connection_says_so(server: PolicyServer) -> None:
    policy = RemotePolicy.connect(server.address)
    policy.close()
    policy.close()
    with pytest.raises(PolicyError, match="FV-NET-009"):
        policy.infer(observation())

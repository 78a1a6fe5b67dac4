from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc
import pytest

from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.codec import decode_chunk
from finevla_runtime.transport.refusal import Refusal, error_of
from tests.serving.conftest import Connect, StartServer
from tests.serving.engines import GateEngine
from tests.serving.test_service import wait_for
from tests.serving.tiny_bundle import ROWS, observation


def code_of(response: pb.InferResponse) -> str:
    return error_of(response.status).code if response.status.code else ""


class Feed:
    """Requests that the test hands over one by one."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[pb.InferRequest | None] = queue.SimpleQueue()

    def send(self, request: pb.InferRequest | None) -> None:
        self._requests.put(request)

    def __iter__(self) -> Iterator[pb.InferRequest]:
        while (request := self._requests.get()) is not None:
            yield request


def test_the_newest_observation_wins_over_queued_ones_and_never_over_the_running_one(
    start_server: StartServer, connect: Connect
) -> None:
    engine = GateEngine()
    server = start_server(engine, max_batch=8)
    policy = connect(server)
    feed = Feed()
    answers = policy.client.infer_stream(feed, timeout_s=30)
    feed.send(policy.request(observation(0)))
    received: queue.SimpleQueue[pb.InferResponse] = queue.SimpleQueue()

    reader = threading.Thread(target=lambda: [received.put(answer) for answer in answers])
    reader.start()
    engine.entered.acquire(timeout=10)
    for number in (1, 2, 3):
        feed.send(policy.request(observation(number)))
    superseded = [received.get(timeout=10), received.get(timeout=10)]
    assert [code_of(answer) for answer in superseded] == ["FV-SES-003", "FV-SES-003"]
    assert [answer.request_id for answer in superseded] == ["2", "3"]
    engine.gate.release(10)
    done = [received.get(timeout=10), received.get(timeout=10)]
    assert [(answer.request_id, code_of(answer)) for answer in done] == [("1", ""), ("4", "")]
    assert decode_chunk(done[1], policy.spec).rows == ROWS
    feed.send(None)
    reader.join(timeout=10)
    assert engine.batches == [1, 1]


def test_a_bad_observation_in_a_stream_is_answered_and_the_stream_goes_on(policy: RemotePolicy) -> None:
    bad = policy.request(observation(0))
    bad.observation.images[0].camera = "nose"
    stale = policy.request(observation(1))
    stale.epoch = 77
    good = policy.request(observation(2))
    answers = {a.request_id: code_of(a) for a in policy.client.infer_stream([bad, stale, good], timeout_s=10)}
    assert answers == {bad.request_id: "FV-REQ-002", stale.request_id: "FV-SES-002", good.request_id: ""}


def test_every_request_of_a_long_stream_is_answered_exactly_once(policy: RemotePolicy) -> None:
    requests = [policy.request(observation(number % 3)) for number in range(150)]
    answers = list(policy.client.infer_stream(requests, timeout_s=30))
    assert sorted(int(a.request_id) for a in answers) == sorted(int(r.request_id) for r in requests)
    assert code_of(answers[-1]) in ("", "FV-SES-003")
    assert {code_of(answer) for answer in answers} <= {"", "FV-SES-003"}


def test_a_stream_whose_caller_leaves_frees_its_place(start_server: StartServer, connect: Connect) -> None:
    server = start_server(max_queue=1)
    policy = connect(server)
    for _ in range(3):
        feed = Feed()
        feed.send(policy.request(observation()))
        stream = policy.client.infer_stream(feed, timeout_s=30)
        assert not next(stream).status.code
        stream.close()
        feed.send(None)
        wait_for(lambda: _answers(policy))


def _answers(policy: RemotePolicy) -> bool:
    try:
        return policy.infer(observation()).rows == ROWS
    except Refusal as refusal:
        if refusal.code != "FV-SRV-004":
            raise
        return False


def test_unreadable_bytes_end_the_stream_with_a_coded_error(policy: RemotePolicy) -> None:
    call = policy.client._channel.stream_stream("/finevla.policy.v1.PolicyService/InferStream")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff\xff"]), timeout=10))
    assert policy.client.error(caught.value, 10).code == "FV-REQ-001"
    assert policy.infer(observation()).rows == ROWS

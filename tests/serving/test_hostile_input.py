from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.codec import encode_observation
from finevla_runtime.transport.refusal import STATUS_TRAILER
from policy_server.handlers import SERVICE
from policy_server.server import PolicyServer
from tests.serving.tiny_bundle import DOF, observation

METHODS = [method.name for method in SERVICE.methods]
CODED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
LEAKS = ("Traceback", 'File "', "/policy_server", ".py", "site-packages")
GOOD = pb.InferRequest(
    session_id="x" * 22, epoch=1, request_id="1", observation=encode_observation(observation())
).SerializeToString()


@pytest.fixture(scope="module")
def raw(server: PolicyServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def send(channel: grpc.Channel, method: str, data: bytes) -> grpc.StatusCode:
    """Send raw bytes to a method; whatever comes back must be an answer or a coded error without internals."""
    path = f"/{SERVICE.full_name}/{method}"
    if method == "InferStream":
        call = channel.stream_stream(path)(iter([data]), timeout=10)
        with contextlib.suppress(grpc.RpcError):
            list(call)
    else:
        call = channel.unary_unary(path).future(data, timeout=10)
    code = call.code()
    if code is not grpc.StatusCode.OK:
        assert code in CODED, (method, call.details())
        assert not any(leak in call.details() for leak in LEAKS)
        assert STATUS_TRAILER in dict(call.trailing_metadata())
    return code


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xc3\x28", GOOD[:-1]])
def test_bytes_that_are_no_message_are_invalid_arguments(raw: grpc.Channel, method: str, data: bytes) -> None:
    assert send(raw, method, data) in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK)
    if data != GOOD[:-1]:
        assert send(raw, method, b"\x0a\xff\xff\xff\xff\x0f") is grpc.StatusCode.INVALID_ARGUMENT


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=300))
def test_the_server_survives_any_bytes(raw: grpc.Channel, policy: RemotePolicy, method: str, data: bytes) -> None:
    send(raw, method, data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_server_survives_damaged_requests_of_a_live_session(
    raw: grpc.Channel, policy: RemotePolicy, data: st.DataObject
) -> None:
    message = bytearray(policy.request(observation()).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        # The head of the message holds ids, shapes and names; pixels alone would never be refused.
        message[data.draw(st.integers(0, 80))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, 50_000))
    send(raw, data.draw(st.sampled_from(["Infer", "InferStream"])), bytes(message[:cut]))
    assert policy.infer(observation()).positions.shape == (16, 14)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=300),
    number=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(0, 2**32 - 1), max_size=5),
    body=st.binary(max_size=64),
)
def test_the_server_survives_wellformed_nonsense(
    raw: grpc.Channel, policy: RemotePolicy, name: str, number: int, shape: list[int], body: bytes
) -> None:
    name = name.encode("utf-8", "ignore").decode()
    request = policy.request(observation())
    request.observation.images.add(camera=name, encoding=1, height=number, width=number, data=body)
    request.observation.state[name].CopyFrom(pb.Tensor(dtype=1, shape=shape, data=body))
    assert send(raw, "Infer", request.SerializeToString()) in CODED
    opening = pb.OpenSessionRequest(model=name, expected_spec_hash=name, client_label=name)
    send(raw, "OpenSession", opening.SerializeToString())
    send(raw, "ResetSession", pb.ResetSessionRequest(session_id=name).SerializeToString())
    send(raw, "CloseSession", pb.CloseSessionRequest(session_id=name).SerializeToString())


def continuable(prefix: pb.RtcPrefix) -> bool:
    """Say independently of the server whether the model of four rows can continue this."""
    shape, data = list(prefix.prev_actions.shape), prefix.prev_actions.data
    if prefix.prev_actions.dtype != pb.DTYPE_FLOAT32 or len(shape) != 2 or shape[1] != DOF or not 1 <= shape[0] <= 4:
        return False
    if len(data) != 4 * DOF * shape[0] or not (np.abs(np.frombuffer(data, "<f4")) <= 100).all():
        return False
    steps = prefix.inference_delay_steps <= shape[0] and prefix.execution_horizon >= 1
    return steps and len(prefix.prev_chunk_id) <= 128


SMALL, ANY = st.integers(0, 5), st.integers(0, 2**32 - 1)
ONES = st.builds(lambda rows: np.ones(DOF * rows, "<f4").tobytes(), st.integers(0, 5))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefix=st.builds(
        pb.RtcPrefix,
        prev_chunk_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
        prev_actions=st.builds(
            pb.Tensor,
            dtype=st.just(1) | st.integers(0, 3),
            shape=st.tuples(SMALL, st.just(DOF)).map(list) | st.lists(SMALL | ANY, max_size=5),
            data=ONES | st.binary(min_size=4 * DOF, max_size=4 * DOF) | st.binary(max_size=64),
        ),
        inference_delay_steps=SMALL | ANY,
        execution_horizon=SMALL | ANY,
    )
)
def test_any_prefix_is_continued_or_refused(
    flow_server: PolicyServer, flow_policy: RemotePolicy, prefix: pb.RtcPrefix
) -> None:
    request = flow_policy.request(observation())
    request.rtc.CopyFrom(prefix)
    with grpc.insecure_channel(flow_server.address) as channel:
        code = send(channel, "Infer", request.SerializeToString())
    assert (code is grpc.StatusCode.OK) == continuable(prefix)
    assert flow_policy.infer(observation()).positions.shape == (4, DOF)


def test_a_method_that_does_not_exist_is_unimplemented(raw: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw.unary_unary(f"/{SERVICE.full_name}/Kill")(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

"""gRPC on one side, the service on the other: parsing, admission, deadlines and the error border."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from finevla_runtime.contracts.clock import Clock, elapsed_s
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.refusal import STATUS_TRAILER, Reason, Refusal, status_of
from policy_server.incident import incident
from policy_server.metrics import Metrics

Request = TypeVar("Request", bound=Message)
SERVICE = pb.DESCRIPTOR.services_by_name["PolicyService"]

# gRPC reports a call without deadline as one that lies centuries ahead.
NO_DEADLINE_S = 1e8


def parse(kind: type[Request], data: bytes) -> Request:
    """Return the parsed message (Refusal MALFORMED)."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Refusal(Reason.MALFORMED, f"{len(data)} bytes are no {kind.DESCRIPTOR.name}.") from error


class GrpcCall:
    """A call of grpcio as the service sees it."""

    def __init__(self, context: grpc.ServicerContext, clock: Clock) -> None:
        """Put gRPC's remaining time on the server's clock."""
        self._context = context
        left_s = context.time_remaining()
        known = left_s is not None and left_s < NO_DEADLINE_S
        self._deadline_ns = clock.now_ns() + round(left_s * 1e9) if known else None

    @property
    def deadline_ns(self) -> int | None:
        """Return when the caller gives up; None for never."""
        return self._deadline_ns

    def on_end(self, callback: Callable[[], object]) -> None:
        """Run ``callback`` when the call ends, at once when it has ended."""
        if not self._context.add_callback(cast("Callable[[], None]", callback)):
            callback()

    def active(self) -> bool:
        """Return whether the caller still waits."""
        return bool(self._context.is_active())


class Admission:
    """Bounds the calls that may wait for the model, so that threads stay free for health and sessions."""

    def __init__(self, limit: int) -> None:
        """Allow ``limit`` calls at once."""
        self._limit = limit
        self._free = threading.BoundedSemaphore(limit)

    def __enter__(self) -> None:
        if not self._free.acquire(blocking=False):
            raise Refusal(Reason.QUEUE_FULL, f"{self._limit} calls wait already.")

    def __exit__(self, *_: object) -> None:
        self._free.release()


class Border:
    """Wraps the service's methods into gRPC handlers that never let an internal out."""

    def __init__(self, clock: Clock, metrics: Metrics, admission: Admission) -> None:
        """Measure with ``clock`` into ``metrics``; calls that wait for the model pass ``admission``."""
        self._clock = clock
        self._metrics = metrics
        self._admission = admission

    def unary(
        self, name: str, kind: type[Request], answer: Callable[[Request, GrpcCall], Message]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return the handler of a method with one request and one answer."""

        def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
            start_ns = self._clock.now_ns()
            try:
                response = answer(parse(kind, data), GrpcCall(context, self._clock)).SerializeToString()
            except Exception as error:  # noqa: BLE001 - this is the border.
                self._abort(name, error, context, start_ns)
            self._metrics.answered(name, "OK", elapsed_s(self._clock, start_ns))
            return response

        return grpc.unary_unary_rpc_method_handler(handle)

    def waiting(
        self, name: str, kind: type[Request], answer: Callable[[Request, GrpcCall], Message]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return the handler of a method that waits for the model."""

        def admitted(request: Request, call: GrpcCall) -> Message:
            with self._admission:
                return answer(request, call)

        return self.unary(name, kind, admitted)

    def stream(
        self, name: str, answers: Callable[[Iterator[bytes], GrpcCall], Iterator[Message]]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return the handler of a method with many requests and many answers."""

        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            start_ns = self._clock.now_ns()
            try:
                with self._admission:
                    for response in answers(requests, GrpcCall(context, self._clock)):
                        yield response.SerializeToString()
            except Exception as error:  # noqa: BLE001 - this is the border.
                self._abort(name, error, context, start_ns)
            self._metrics.answered(name, "OK", elapsed_s(self._clock, start_ns))

        return grpc.stream_stream_rpc_method_handler(handle)

    def _abort(self, name: str, error: Exception, context: Any, start_ns: int) -> NoReturn:
        refusal = error if isinstance(error, Refusal) else incident(error)
        self._metrics.answered(name, refusal.rule.status.name, elapsed_s(self._clock, start_ns))
        self._metrics.refused(refusal.reason.value)
        status = status_of(refusal)
        context.set_trailing_metadata(((STATUS_TRAILER, status.SerializeToString()),))
        context.abort(refusal.rule.status, status.message)
        raise AssertionError("abort() raises.")

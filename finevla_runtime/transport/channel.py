"""Calls to one policy server: deadlines, retries and errors; the messages are those of policy.proto."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError

from finevla_runtime import __version__
from finevla_runtime.contracts.clock import Clock, SteadyClock, elapsed_s
from finevla_runtime.contracts.errors import FineVLAError, PolicyError, SetupError
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.codec import MAX_REQUEST_BYTES
from finevla_runtime.transport.credentials import ClientCredentials, channel_credentials, check_client
from finevla_runtime.transport.policy_pb2_grpc import PolicyServiceStub
from finevla_runtime.transport.refusal import STATUS_TRAILER, error_of

Answer = TypeVar("Answer")

# Waits between repetitions of one request while the server is unavailable; the deadline still holds over all.
RETRY_WAITS_S = (0.05, 0.2, 0.5)

# Keepalive notices a dead network in 15 s; without it TCP would wait for many minutes (grpc/grpc#15889).
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", 2 * MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", 2 * MAX_REQUEST_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class ServiceClient:
    """One connection to a policy server. Every method raises FineVLAError with the server's code and a remedy."""

    def __init__(
        self,
        address: str,
        *,
        credentials: ClientCredentials | None = None,
        timeout_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        """Prepare the connection; nothing is sent before the first call.

        Args:
            address: ``host:port`` or ``unix:path``.
            credentials: TLS and token; plaintext is for this machine alone (FV-SEC-002).
            timeout_s: deadline of each call, repetitions included.
            clock: measures the deadline and waits between repetitions.
        """
        credentials = credentials or ClientCredentials()
        check_client(address, credentials)
        self.address = address
        self.timeout_s = timeout_s
        self._closed = False
        self._clock = clock or SteadyClock()
        self._metadata = (("authorization", f"Bearer {credentials.token}"),) if credentials.token else ()
        options: list[tuple[str, int | str]] = list(CHANNEL_OPTIONS)
        if credentials.server_name:
            options.append(("grpc.ssl_target_name_override", credentials.server_name))
        if credentials.tls:
            self._channel = grpc.secure_channel(address, channel_credentials(credentials), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._stub = PolicyServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._infer: Callable[..., pb.InferResponse] = self._channel.unary_unary(
            "/finevla.policy.v1.PolicyService/Infer",
            request_serializer=bytes,
            response_deserializer=pb.InferResponse.FromString,
        )

    def wait_until_ready(self, timeout_s: float) -> pb.ServerInfo:
        """Wait for the server and return its limits and models (SetupError FV-NET-001 when it does not come)."""
        request = pb.GetServerInfoRequest(client_name="finevla-runtime", client_version=__version__)
        try:
            info: pb.ServerInfo = self._stub.GetServerInfo(
                request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=True
            )
        except grpc.RpcError as error:
            found = self.error(error, timeout_s)
            if found.code in ("FV-NET-001", "FV-NET-002"):
                raise SetupError(
                    "FV-NET-001",
                    f"no policy server answers at {self.address} within {timeout_s:g} s; start one with "
                    "`finevla serve BUNDLE` or check address, TLS and token.",
                ) from error
            raise found from error
        return info

    def model_spec(self, model: str = "") -> pb.ModelSpec:
        """Return the contract of a model, empty for the default one."""
        answer: pb.ModelSpec = self._call(self._stub.GetModelSpec, pb.GetModelSpecRequest(model=model))
        return answer

    def open_session(self, request: pb.OpenSessionRequest) -> pb.Session:
        """Open a session; refused when ``expected_spec_hash`` is another than the model's."""
        answer: pb.Session = self._call(self._stub.OpenSession, request)
        return answer

    def reset_session(self, request: pb.ResetSessionRequest) -> pb.Session:
        """Start a new episode and return the session with its new epoch."""
        answer: pb.Session = self._call(self._stub.ResetSession, request)
        return answer

    def close_session(self, session_id: str, timeout_s: float | None = None) -> None:
        """Close a session."""
        self._call(self._stub.CloseSession, pb.CloseSessionRequest(session_id=session_id), timeout_s)

    def infer(self, request: pb.InferRequest | bytes, timeout_s: float | None = None) -> pb.InferResponse:
        """Answer one request, a message or its bytes; repeated unchanged while the server is unavailable."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return self._call(self._infer, data, timeout_s)

    def infer_batch(
        self, requests: Sequence[pb.InferRequest], timeout_s: float | None = None
    ) -> list[pb.InferResponse]:
        """Answer many requests of different sessions; every response carries its own status."""
        batch = pb.InferBatchRequest(requests=requests)
        answer: pb.InferBatchResponse = self._call(self._stub.InferBatch, batch, timeout_s)
        return list(answer.responses)

    def infer_stream(self, requests: Iterable[pb.InferRequest], timeout_s: float) -> Iterator[pb.InferResponse]:
        """Stream observations; a newer one supersedes the queued one before it. Not repeated on failure."""
        try:
            yield from self._stub.InferStream(iter(requests), timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.error(error, timeout_s) from error

    def close(self) -> None:
        """Close the connection; later calls raise PolicyError FV-NET-009."""
        self._closed = True
        self._channel.close()

    def _call(self, method: Callable[..., Answer], request: object, timeout_s: float | None = None) -> Answer:
        if self._closed:
            raise PolicyError("FV-NET-009", f"the connection to {self.address} was closed; connect again.")
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        start_ns = self._clock.now_ns()
        for wait_s in (*RETRY_WAITS_S, None):
            left_s = max(limit_s - elapsed_s(self._clock, start_ns), 0.001)
            try:
                return method(request, timeout=left_s, metadata=self._metadata)
            except grpc.RpcError as error:
                found = self.error(error, limit_s)
                left_s = limit_s - elapsed_s(self._clock, start_ns)
                if found.code != "FV-NET-001" or wait_s is None or left_s <= wait_s:
                    raise found from error
            self._clock.sleep_s(wait_s)
        raise AssertionError("the last attempt returns or raises.")

    def error(self, error: grpc.RpcError, timeout_s: float) -> FineVLAError:
        """Return the coded error for a failed call: the server's own when it sent one."""
        trailers = cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ())
        for key, value in trailers:
            if key == STATUS_TRAILER:
                with suppress(DecodeError):  # A proxy or another kind of server may send anything.
                    return error_of(pb.Status.FromString(value))
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.CANCELLED and self._closed:
            return PolicyError("FV-NET-009", f"the connection to {self.address} was closed; connect again.")
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):  # A stopping server cancels calls.
            return PolicyError("FV-NET-001", f"the policy server at {self.address} is unavailable ({details}).")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return PolicyError(
                "FV-NET-002", f"the policy server at {self.address} did not answer within {timeout_s:g} s; hold."
            )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return PolicyError("FV-NET-006", f"message too large for {self.address} ({details}); send smaller images.")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return SetupError("FV-NET-007", f"{self.address} is no policy server of this protocol version ({details}).")
        return PolicyError("FV-NET-004", f"the policy server at {self.address} failed with {code.name}: {details}.")

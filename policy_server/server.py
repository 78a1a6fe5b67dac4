"""Puts a server together: models, sessions, service, health, reflection, limits."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.clock import Clock, SteadyClock
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.codec import MAX_REQUEST_BYTES
from finevla_runtime.transport.credentials import ServerCredentials, check_server, server_credentials
from policy_server.auth import TokenGate
from policy_server.batcher import BatchQueue, BatchWorker, Rows
from policy_server.engines.engine import Engine, EngineOptions
from policy_server.handlers import SERVICE, Admission, Border, GrpcCall
from policy_server.metrics import Metrics
from policy_server.served_model import ServedModel, load_engine_checked
from policy_server.service import PolicyService
from policy_server.sessions import SessionTable
from policy_server.stream import InferStream

LOG = logging.getLogger(__name__)

# Threads beyond those that may wait for the model: health, handshake, sessions and reflection always find one.
SPARE_THREADS = 16


@dataclass(frozen=True)
class ServerOptions:
    """How one server runs.

    Attributes:
        address: ``host:port`` (port 0 picks a free one) or ``unix:path``; this machine alone unless TLS is given.
        engine, engine_options: what runs the graph.
        max_batch: observations per run of the model.
        max_queue: calls that may wait; more are refused at once.
        max_sessions, idle_timeout_s: how many sessions, and when an unused one is forgotten.
        credentials: TLS and token.
        metrics_port: Prometheus on 127.0.0.1, None for off.
    """

    address: str = "127.0.0.1:0"
    engine: str = "onnxruntime"
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    max_batch: int = 8
    max_queue: int = 64
    max_sessions: int = 256
    idle_timeout_s: float = 600.0
    credentials: ServerCredentials = field(default_factory=ServerCredentials)
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        """Refuse a server that would never answer (FV-SRV-011)."""
        for name in ("max_batch", "max_queue", "max_sessions"):
            if getattr(self, name) < 1:
                raise SetupError("FV-SRV-011", f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.engine_options.threads < 0 or not self.idle_timeout_s > 0:
            raise SetupError(
                "FV-SRV-011",
                f"threads {self.engine_options.threads}, idle_timeout_s {self.idle_timeout_s:g}; wanted 0 or more, and "
                "above 0.",
            )


class PolicyServer:
    """A running server."""

    def __init__(
        self, bundle: Bundle, options: ServerOptions, clock: Clock | None = None, engine: Engine | None = None
    ) -> None:
        """Load the model, pass its parity gate, listen, and only then report SERVING.

        Args:
            bundle: what to serve.
            options: how.
            clock: measures deadlines and idle times.
            engine: a loaded engine to use instead of ``options.engine``, for tests and measurements of the wire.

        Raises:
            SetupError: FV-SEC-* (unsafe address), FV-ENG-*, FV-PAR-* (model refused), FV-SRV-010 (cannot listen).
        """
        check_server(options.address, options.credentials)
        self._clock = clock or SteadyClock()
        self.metrics = Metrics()
        if engine is None:
            engine, difference = load_engine_checked(bundle, options.engine, options.engine_options)
            LOG.info("%s reproduces its golden batch within %.3g", bundle.spec.name, difference)
        queue = BatchQueue(options.max_batch, options.max_queue)
        self._model = ServedModel(bundle, options.engine, BatchWorker(engine, queue, self._clock, self.metrics.ran))
        sessions: SessionTable[Rows] = SessionTable(
            self._clock, lambda: secrets.token_urlsafe(16), options.max_sessions, options.idle_timeout_s
        )
        self.metrics.queue.set_function(lambda: len(queue))
        self.metrics.sessions.set_function(lambda: len(sessions))
        name = bundle.spec.name
        self.service = PolicyService({name: self._model}, name, sessions, self._clock, secrets.token_hex(8))
        self._health = health.HealthServicer()
        try:
            self.metrics_port = None if options.metrics_port is None else self.metrics.serve(options.metrics_port)
            self._server = self._build(options)
            self.address = _listen(self._server, options)
        except SetupError:
            self._model.close(0.0)
            raise
        self._server.start()
        for served in ("", SERVICE.full_name):
            self._health.set(served, health_pb2.HealthCheckResponse.SERVING)

    def drain(self, grace_s: float) -> None:
        """Report NOT_SERVING, refuse new calls, finish those in progress for at most ``grace_s``, and stop."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._model.close(grace_s)

    def _build(self, options: ServerOptions) -> grpc.Server:
        token = options.credentials.token
        server = grpc.server(
            ThreadPoolExecutor(options.max_queue + SPARE_THREADS, thread_name_prefix="call"),
            interceptors=[TokenGate(token)] if token else [],
            options=_server_options(options),
        )
        handler = grpc.method_handlers_generic_handler(SERVICE.full_name, self._handlers(options))
        server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    def _handlers(self, options: ServerOptions) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        border = Border(self._clock, self.metrics, Admission(options.max_queue))
        service = self.service

        def stream(requests: Iterator[bytes], call: GrpcCall) -> Iterator[pb.InferResponse]:
            return InferStream(service, requests, call).answers()

        return {
            "GetServerInfo": border.unary("GetServerInfo", pb.GetServerInfoRequest, service.get_server_info),
            "GetModelSpec": border.unary("GetModelSpec", pb.GetModelSpecRequest, service.get_model_spec),
            "OpenSession": border.unary("OpenSession", pb.OpenSessionRequest, service.open_session),
            "ResetSession": border.unary("ResetSession", pb.ResetSessionRequest, service.reset_session),
            "CloseSession": border.unary("CloseSession", pb.CloseSessionRequest, service.close_session),
            "Infer": border.waiting("Infer", pb.InferRequest, service.infer),
            "InferBatch": border.waiting("InferBatch", pb.InferBatchRequest, service.infer_batch),
            "InferStream": border.stream("InferStream", stream),
        }


def _listen(server: grpc.Server, options: ServerOptions) -> str:
    try:
        if options.credentials.tls:
            port = server.add_secure_port(options.address, server_credentials(options.credentials))
        else:
            port = server.add_insecure_port(options.address)
    except (RuntimeError, ValueError) as error:
        raise SetupError("FV-SRV-010", f"cannot listen on {options.address}: {error}. Choose another port.") from error
    if options.address.startswith("unix:"):
        return options.address
    return f"{options.address.rpartition(':')[0]}:{port}"


def _server_options(options: ServerOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_concurrent_streams", options.max_queue + SPARE_THREADS),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]

"""Prometheus metrics, served over HTTP on this machine only."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from finevla_runtime.contracts.errors import SetupError

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The figures of one server, in their own registry."""

    def __init__(self) -> None:
        """Create the figures."""
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "finevla_calls", "Calls by method and gRPC status.", ["method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "finevla_call_seconds",
            "Seconds of a call inside the server.",
            ["method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._refusals = Counter("finevla_refusals", "Refused calls by reason.", ["reason"], registry=self.registry)
        self._batch = Histogram(
            "finevla_batch_size", "Observations per run of the model.", buckets=BATCHES, registry=self.registry
        )
        self._model = Histogram(
            "finevla_model_seconds", "Seconds of a run of the model.", buckets=SECONDS, registry=self.registry
        )
        self.queue = Gauge("finevla_queue_length", "Observations that wait.", registry=self.registry)
        self.sessions = Gauge("finevla_sessions", "Open sessions.", registry=self.registry)

    def answered(self, method: str, status: str, seconds: float) -> None:
        """Count a finished call."""
        self._calls.labels(method, status).inc()
        self._seconds.labels(method).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refusals.labels(reason).inc()

    def ran(self, batch_size: int, seconds: float) -> None:
        """Count a run of the model."""
        self._batch.observe(batch_size)
        self._model.observe(seconds)

    def serve(self, port: int) -> int:
        """Answer scrapes on 127.0.0.1 and return the port, 0 picks one (SetupError FV-SRV-009 when it is taken)."""
        try:
            server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise SetupError("FV-SRV-009", f"cannot listen on metrics port {port}: {error.strerror}.") from error
        return int(server.server_port)

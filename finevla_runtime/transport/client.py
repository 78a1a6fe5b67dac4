"""RemotePolicy: a policy that runs in a server."""

from __future__ import annotations

from types import TracebackType

from finevla_runtime.contracts.action import ActionChunk, ChunkPrefix
from finevla_runtime.contracts.clock import Clock
from finevla_runtime.contracts.errors import FineVLAError, PolicyError, SetupError
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.channel import ServiceClient
from finevla_runtime.transport.codec import decode_chunk, decode_spec, encode_observation, encode_prefix, encode_request
from finevla_runtime.transport.credentials import ClientCredentials
from finevla_runtime.transport.refusal import RULES, Reason, Refusal

# A server that does not answer a goodbye in this time forgets the session by itself.
CLOSE_TIMEOUT_S = 0.5


class RemotePolicy:
    """One session of a policy server, as a Policy.

    Not for several threads at once; open one per robot or simulated world, they are cheap.
    """

    def __init__(self, client: ServiceClient, model: pb.ModelSpec, label: str = "") -> None:
        """Open a session on ``client`` pinned to exactly this model's spec; use connect() instead."""
        self.spec: PolicySpec = decode_spec(model)
        self.bundle_digest: str = model.bundle_digest
        self._client = client
        self._label = label
        self._requests = 0
        self._session = self._open()

    @classmethod
    def connect(
        cls,
        address: str,
        *,
        model: str = "",
        expected_spec_hash: str = "",
        label: str = "",
        timeout_s: float = 10.0,
        connect_timeout_s: float = 20.0,
        credentials: ClientCredentials | None = None,
        clock: Clock | None = None,
    ) -> RemotePolicy:
        """Wait for the server, check the spec hash and open a session.

        Args:
            address: ``host:port`` or ``unix:path``.
            model: served model, empty for the server's default.
            expected_spec_hash: refuse any other policy spec; empty accepts any.
            label: name of this client in the server's log.
            timeout_s: deadline of each call.
            connect_timeout_s: how long to wait for the server to come up.
            credentials: TLS and token, required beyond this machine.
            clock: measures deadlines; the machine's own when left out.

        Raises:
            SetupError: FV-NET-001 (no server), FV-SRV-001 (unknown model), FV-SRV-002 (other spec hash), FV-SEC-*.
        """
        client = ServiceClient(address, credentials=credentials, timeout_s=timeout_s, clock=clock)
        try:
            client.wait_until_ready(connect_timeout_s)
            found = client.model_spec(model)
            if expected_spec_hash and found.spec_hash != expected_spec_hash:
                raise SetupError(
                    "FV-SRV-002",
                    f"{address} serves {found.name} with spec {found.spec_hash[:12]}, wanted "
                    f"{expected_spec_hash[:12]}. "
                    "Serve the bundle the plan was made for, or re-plan with this one.",
                )
            return cls(client, found, label)
        except FineVLAError:
            client.close()
            raise

    def reset(self, instruction_seed: int) -> None:
        """Start a new episode; a session the server no longer knows (restart, idle) is opened again.

        Raises:
            PolicyError: when the server cannot be reached.
            SetupError: FV-SRV-002 when a restarted server serves another spec.
        """
        request = pb.ResetSessionRequest(session_id=self._session.session_id, episode_seed=instruction_seed)
        try:
            self._session = self._client.reset_session(request)
        except Refusal as refusal:
            if refusal.reason is not Reason.UNKNOWN_SESSION:
                raise
            self._session = self._open()

    @property
    def continues(self) -> bool:
        """Return whether the model can continue the rows of a chunk before (real-time chunking)."""
        return self._session.spec.rtc_supported

    def infer(self, observation: Observation, prefix: ChunkPrefix | None = None) -> ActionChunk:
        """Return one chunk for one observation.

        Args:
            observation: what the robot saw.
            prefix: rows that the answer must continue; only for models that say they can.

        Raises:
            SetupError: FV-SRV-003 for a prefix to a model that cannot continue it; nothing is sent. Asking again would
                not mend it, so it is no PolicyError.
            PolicyError: FV-NET-* when the server cannot be reached or answers late, FV-NET-008 when the answer
                belongs to another request, and the server's own refusals.
        """
        if prefix is not None and not self.continues:
            rule = RULES[Reason.RTC_UNSUPPORTED]
            raise SetupError(rule.code, f"{self.spec.name} cannot continue chunk {prefix.chunk_id!r}. {rule.remedy}")
        request = self._head(0)
        if prefix is not None:
            request.rtc.CopyFrom(encode_prefix(prefix, self.spec))
        response = self._client.infer(encode_request(request, observation))
        if (response.request_id, response.epoch) != (request.request_id, request.epoch):
            raise PolicyError(
                "FV-NET-008",
                f"got an answer to {response.request_id!r} of epoch {response.epoch}, asked {request.request_id!r} of "
                f"epoch {request.epoch}; dropped.",
            )
        return decode_chunk(response, self.spec)

    def request(self, observation: Observation, max_age_ms: int = 0) -> pb.InferRequest:
        """Return the message for one observation with a fresh request id, for infer_batch and infer_stream."""
        request = self._head(max_age_ms)
        request.observation.CopyFrom(encode_observation(observation))
        return request

    @property
    def client(self) -> ServiceClient:
        """Return the connection, for batch and stream calls."""
        return self._client

    def close(self) -> None:
        """Close session and connection; a server that is already gone is no error, closing twice neither."""
        try:
            self._client.close_session(self._session.session_id, CLOSE_TIMEOUT_S)
        except FineVLAError:
            pass
        finally:
            self._client.close()

    def _head(self, max_age_ms: int) -> pb.InferRequest:
        self._requests += 1
        return pb.InferRequest(
            session_id=self._session.session_id,
            epoch=self._session.epoch,
            request_id=str(self._requests),
            max_age_ms=max_age_ms,
        )

    def _open(self) -> pb.Session:
        request = pb.OpenSessionRequest(
            model=self.spec.name, expected_spec_hash=self.spec.spec_hash, client_label=self._label
        )
        return self._client.open_session(request)

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

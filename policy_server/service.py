"""What the server does with each message, free of gRPC: calls carry a deadline and a way to notice the caller left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Protocol

from finevla_runtime import __version__
from finevla_runtime.contracts.clock import Clock
from finevla_runtime.contracts.errors import nearest
from finevla_runtime.contracts.instruction import Instruction
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.codec import (
    MAX_ID_CHARACTERS,
    MAX_REQUEST_BYTES,
    PROTOCOL_VERSION,
    decode_instruction,
    decode_observation,
    decode_prefix,
    encode_chunk,
)
from finevla_runtime.transport.refusal import Reason, Refusal, status_of
from policy_server.batcher import Rows
from policy_server.incident import incident
from policy_server.served_model import Demand, ServedModel
from policy_server.sessions import SessionTable

MAX_BATCH_ITEMS = 64
LONGEST_WAIT_S = 600.0


class Call(Protocol):
    """One call in progress."""

    @property
    def deadline_ns(self) -> int | None:
        """Return when the caller gives up, on the server's clock; None for never."""
        ...

    def on_end(self, callback: Callable[[], object]) -> None:
        """Run ``callback`` when the caller leaves or the call ends."""
        ...

    def active(self) -> bool:
        """Return whether the caller still waits."""
        ...


@dataclass(frozen=True, eq=False)
class Pending:
    """A request on its way through the engine.

    Attributes:
        request: what was asked.
        model: who answers.
        received_ns, decoded_ns: when it came in and when its observation was processed.
        answer: the engine's rows.
    """

    request: pb.InferRequest
    model: ServedModel
    received_ns: int
    decoded_ns: int
    answer: Future[Rows]


class PolicyService:
    """The methods of PolicyService; every one raises Refusal or returns the answer."""

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        default_model: str,
        sessions: SessionTable[Rows],
        clock: Clock,
        instance_id: str,
    ) -> None:
        """Serve ``models``; ``default_model`` is used by clients that name none."""
        self.sessions = sessions
        self._models = dict(models)
        self._default_model = default_model
        self._clock = clock
        self._instance_id = instance_id

    def get_server_info(self, request: pb.GetServerInfoRequest, call: Call) -> pb.ServerInfo:
        """Return limits and models."""
        return pb.ServerInfo(
            server_version=__version__,
            protocol_version=PROTOCOL_VERSION,
            instance_id=self._instance_id,
            max_request_bytes=MAX_REQUEST_BYTES,
            max_sessions=self.sessions.max_sessions,
            max_batch_items=MAX_BATCH_ITEMS,
            image_encodings=[pb.IMAGE_ENCODING_RAW_RGB8],
            models=sorted(self._models),
            default_model=self._default_model,
        )

    def get_model_spec(self, request: pb.GetModelSpecRequest, call: Call) -> pb.ModelSpec:
        """Return the contract of a model (Refusal UNKNOWN_MODEL)."""
        return self.model(request.model).message

    def open_session(self, request: pb.OpenSessionRequest, call: Call) -> pb.Session:
        """Open a session (Refusal UNKNOWN_MODEL, SPEC_MISMATCH, TOO_MANY_SESSIONS, BAD_INSTRUCTION)."""
        model = self.model(request.model)
        wanted = request.expected_spec_hash
        if wanted and wanted != model.message.spec_hash:
            raise Refusal(
                Reason.SPEC_MISMATCH,
                f"{model.spec.name} has spec {model.message.spec_hash[:12]}, the client expects {wanted[:12]!r}.",
            )
        session = self.sessions.open(
            model.spec.name,
            _instruction(request),
            float(request.idle_timeout_s),
            request.client_label[:MAX_ID_CHARACTERS],
        )
        return pb.Session(session_id=session.session_id, epoch=session.epoch, spec=model.message)

    def reset_session(self, request: pb.ResetSessionRequest, call: Call) -> pb.Session:
        """Start a new episode (Refusal UNKNOWN_SESSION, BAD_INSTRUCTION)."""
        session = self.sessions.reset(request.session_id, _instruction(request), request.episode_seed)
        return pb.Session(session_id=session.session_id, epoch=session.epoch, spec=self._models[session.model].message)

    def close_session(self, request: pb.CloseSessionRequest, call: Call) -> pb.CloseSessionResponse:
        """Forget a session (Refusal UNKNOWN_SESSION)."""
        self.sessions.close(request.session_id)
        return pb.CloseSessionResponse()

    def infer(self, request: pb.InferRequest, call: Call) -> pb.InferResponse:
        """Answer one observation; a repetition whose first call was cancelled is computed afresh."""
        pending = self.begin(request, call)
        call.on_end(pending.answer.cancel)
        try:
            return self.finish(pending, call)
        except Refusal as refusal:
            if refusal.reason is not Reason.CANCELLED or not call.active():
                raise
        again = self.begin(request, call)
        call.on_end(again.answer.cancel)
        return self.finish(again, call)

    def infer_batch(self, request: pb.InferBatchRequest, call: Call) -> pb.InferBatchResponse:
        """Answer many observations; each response carries its own status."""
        if not 1 <= len(request.requests) <= MAX_BATCH_ITEMS:
            raise Refusal(Reason.TOO_LARGE, f"the batch has {len(request.requests)} items, 1 to {MAX_BATCH_ITEMS} fit.")
        started = [self._begin_item(item, call) for item in request.requests]
        return pb.InferBatchResponse(
            responses=[item if isinstance(item, pb.InferResponse) else self.finish_item(item, call) for item in started]
        )

    def begin(self, request: pb.InferRequest, call: Call) -> Pending:
        """Check a request and queue it.

        Raises:
            Refusal: everything that can be wrong with it; WOULD_MISS_DEADLINE before anything is decoded.
        """
        received_ns = self._clock.now_ns()
        if call.deadline_ns is not None and received_ns >= call.deadline_ns:
            raise Refusal(Reason.WOULD_MISS_DEADLINE, "the deadline passed before the request was read.")
        if not 0 < len(request.request_id) <= MAX_ID_CHARACTERS:
            raise Refusal(Reason.MALFORMED, f"request_id must have 1 to {MAX_ID_CHARACTERS} characters.")
        session = self.sessions.check(request.session_id, request.epoch)
        model = self._models[session.model]
        if request.HasField("rtc") and not model.continues:
            raise Refusal(
                Reason.RTC_UNSUPPORTED,
                f"{model.spec.name} on engine {model.message.engine} cannot continue a previous chunk.",
            )
        answer, mine = self.sessions.claim(session.session_id, session.epoch, request.request_id)
        if mine:
            try:
                observation = decode_observation(request.observation, model.spec, session.instruction)
                continuation = decode_prefix(request.rtc, model.spec) if request.HasField("rtc") else None
                demand = Demand(received_ns, call.deadline_ns, request.max_age_ms / 1e3)
                model.submit(observation, session.episode_seed, demand, answer, continuation)
            except Exception as error:
                # Whoever repeated this request meanwhile waits on the same answer and must learn of the failure.
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(error)
                raise
        return Pending(request, model, received_ns, self._clock.now_ns(), answer)

    def finish(self, pending: Pending, call: Call) -> pb.InferResponse:
        """Wait for the engine and return the answer.

        Raises:
            Refusal: WOULD_MISS_DEADLINE (waiting or before encoding), CANCELLED, STALE_EPOCH when the episode ended
                meanwhile, ACTION_NON_FINITE, and what the queue refused.
        """
        try:
            rows = pending.answer.result(self._left_s(call))
        except CancelledError as error:
            raise Refusal(Reason.CANCELLED, "the caller left before the model ran.") from error
        except FutureTimeout as error:
            pending.answer.cancel()
            raise Refusal(Reason.WOULD_MISS_DEADLINE, "the deadline passed while the request waited.") from error
        if self._left_s(call) <= 0:
            raise Refusal(Reason.WOULD_MISS_DEADLINE, "the deadline passed while the model ran.")
        return self.encode(pending, rows)

    def encode(self, pending: Pending, rows: Rows) -> pb.InferResponse:
        """Return the answer unless its episode is over (Refusal STALE_EPOCH, UNKNOWN_SESSION, ACTION_NON_FINITE)."""
        request = pending.request
        self.sessions.check(request.session_id, request.epoch)
        chunk_id = f"{request.session_id[:8]}-{request.epoch}-{request.request_id}"
        response = encode_chunk(pending.model.chunk(rows, request.observation, chunk_id))
        response.request_id = request.request_id
        response.epoch = request.epoch
        response.timing.decode_ns = pending.decoded_ns - pending.received_ns
        response.timing.queue_ns = round(rows.queue_s * 1e9)
        response.timing.model_ns = round(rows.model_s * 1e9)
        response.timing.total_ns = self._clock.now_ns() - pending.received_ns
        response.timing.batch_size = rows.batch_size
        return response

    def finish_item(self, pending: Pending, call: Call) -> pb.InferResponse:
        """Do as finish(), but return what went wrong as the status of the response."""
        try:
            return self.finish(pending, call)
        except Exception as error:  # noqa: BLE001 - one item must not take its neighbours along.
            return failed_item(pending.request, error)

    def _begin_item(self, request: pb.InferRequest, call: Call) -> Pending | pb.InferResponse:
        try:
            pending = self.begin(request, call)
        except Exception as error:  # noqa: BLE001 - one item must not take its neighbours along.
            return failed_item(request, error)
        call.on_end(pending.answer.cancel)
        return pending

    def _left_s(self, call: Call) -> float:
        if call.deadline_ns is None:
            return LONGEST_WAIT_S
        return min((call.deadline_ns - self._clock.now_ns()) / 1e9, LONGEST_WAIT_S)

    def model(self, name: str) -> ServedModel:
        """Return the named model, the default one for an empty name (Refusal UNKNOWN_MODEL)."""
        model = self._models.get(name or self._default_model)
        if model is None:
            guess = nearest(name[:MAX_ID_CHARACTERS], self._models)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise Refusal(
                Reason.UNKNOWN_MODEL,
                f"unknown model {name[:MAX_ID_CHARACTERS]!r}.{hint} Served: {', '.join(sorted(self._models))}.",
            )
        return model


def failed_item(request: pb.InferRequest, error: Exception) -> pb.InferResponse:
    """Return a response without a chunk whose status says why; internals stay in the log."""
    refusal = error if isinstance(error, Refusal) else incident(error)
    return pb.InferResponse(
        request_id=request.request_id[:MAX_ID_CHARACTERS], epoch=request.epoch, status=status_of(refusal)
    )


def _instruction(request: pb.OpenSessionRequest | pb.ResetSessionRequest) -> Instruction | None:
    return decode_instruction(request.instruction) if request.HasField("instruction") else None

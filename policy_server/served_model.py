"""One model a server offers: bundle, processing, engine and its queue."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.errors import FineVLAError, PolicyError
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.processing.continuation import Continuation, continuation_inputs
from finevla_runtime.processing.pipeline import Processor
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.codec import encode_spec
from finevla_runtime.transport.refusal import Reason, Refusal
from policy_server.batcher import BatchWorker, Job, Rows
from policy_server.engines.engine import Engine, EngineOptions
from policy_server.engines.registry import load_engine
from policy_server.parity import check_parity


@dataclass(frozen=True)
class Demand:
    """How long an answer is worth waiting for.

    Attributes:
        queued_ns: when the request came in.
        deadline_ns: when the caller gives up, None for never.
        max_age_s: longest useful wait in the queue, 0 for any.
    """

    queued_ns: int
    deadline_ns: int | None
    max_age_s: float


class ServedModel:
    """A loaded bundle that answers observations."""

    def __init__(self, bundle: Bundle, engine_name: str, worker: BatchWorker) -> None:
        """Serve a bundle whose engine ``worker`` runs; load_engine_checked() gets there through the parity gate."""
        self.bundle = bundle
        self.spec: PolicySpec = bundle.spec
        self.queue = worker.queue
        self._processor = Processor(bundle.spec, bundle.tokenizer_json)
        self._worker = worker
        self.message = encode_spec(
            bundle.spec,
            pb.ModelSpec(
                bundle_digest=bundle.digest,
                engine=engine_name,
                max_batch=worker.queue.max_batch,
                rtc_supported=worker.continues,
            ),
        )

    @property
    def continues(self) -> bool:
        """Return whether the engine can continue the rows of a chunk before."""
        return self.message.rtc_supported

    def submit(
        self,
        observation: Observation,
        episode_seed: int,
        demand: Demand,
        answer: Future[Rows],
        continuation: Continuation | None = None,
    ) -> None:
        """Process an observation and queue it; ``answer`` receives the rows or the reason there are none.

        Args:
            observation: what the robot saw.
            episode_seed: the session's; it decides the noise of policies that start from noise.
            demand: how long the answer is worth waiting for.
            answer: receives the rows.
            continuation: what the rows must continue, only where the model ``continues``.

        Raises:
            Refusal: BAD_OBSERVATION (with the cause's own code), QUEUE_FULL, DRAINING.
        """
        try:
            inputs = self._processor.inputs(observation, episode_seed)
        except FineVLAError as error:
            raise Refusal(Reason.BAD_OBSERVATION, error.message, error.code) from error
        if self.continues:
            inputs |= continuation_inputs(continuation, (self.spec.chunk_rows, self.spec.action.size))
        self.queue.submit(Job(inputs, demand.queued_ns, demand.deadline_ns, demand.max_age_s, answer))

    def chunk(self, rows: Rows, observation: pb.Observation, chunk_id: str) -> ActionChunk:
        """Return the answer in robot units (Refusal ACTION_NON_FINITE when the rows cannot be executed)."""
        try:
            positions = self._processor.positions(rows.rows)
        except PolicyError as error:
            raise Refusal(Reason.ACTION_NON_FINITE, error.message, error.code) from error
        return ActionChunk(
            chunk_id=chunk_id,
            positions=positions,
            first_control_step=observation.control_step,
            step_s=1.0 / self.spec.control_hz,
            capture_time_ns=observation.capture_time_ns,
            model_name=self.spec.name,
            model_version=self.spec.version,
            model_s=rows.model_s,
        )

    def close(self, timeout_s: float) -> None:
        """Answer what is queued and stop."""
        self._worker.close(timeout_s)


def load_engine_checked(bundle: Bundle, engine_name: str, options: EngineOptions) -> tuple[Engine, float]:
    """Load a bundle into an engine and let it through the parity gate.

    Returns:
        The engine and its largest absolute difference from the golden batch.

    Raises:
        SetupError: FV-ENG-*, FV-PAR-*.
    """
    engine = load_engine(engine_name, bundle, options)
    return engine, check_parity(engine, bundle, engine.precision)

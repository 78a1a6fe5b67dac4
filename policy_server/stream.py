"""InferStream: the newest observation wins over the queued one before it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import grpc

from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.refusal import Reason, Refusal
from policy_server.batcher import Rows
from policy_server.handlers import parse
from policy_server.incident import incident
from policy_server.service import Call, Pending, PolicyService, failed_item

# Messages of one stream that are read and not yet answered; more wait in the network, which slows the sender down.
MAX_UNANSWERED = 32


class InferStream:
    """One stream: a thread reads and queues, the caller's thread takes the answers."""

    def __init__(self, service: PolicyService, requests: Iterator[bytes], call: Call) -> None:
        """Start reading ``requests``."""
        self._service = service
        self._call = call
        self._answers: queue.SimpleQueue[pb.InferResponse | Refusal | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(MAX_UNANSWERED)
        self._ended = threading.Event()
        self._newest: Pending | None = None
        call.on_end(self._leave)
        threading.Thread(target=self._read, args=(requests,), name="infer-stream", daemon=True).start()

    def answers(self) -> Iterator[pb.InferResponse]:
        """Yield one answer for every request, in the order they become known (Refusal for an unreadable one)."""
        while True:
            answer = self._answers.get()
            if answer is None:
                return
            if isinstance(answer, Refusal):
                raise answer
            self._room.release()
            yield answer

    def _read(self, requests: Iterator[bytes]) -> None:
        try:
            for data in requests:
                self._room.acquire()
                if self._ended.is_set():
                    break
                self._take(parse(pb.InferRequest, data))
            for _ in range(MAX_UNANSWERED):  # All room back means that every request was answered.
                self._room.acquire()
            self._answers.put(None)
        except Refusal as refusal:
            self._answers.put(refusal)
        except grpc.RpcError:
            self._answers.put(None)
        except Exception as error:  # noqa: BLE001 - gRPC raises bare Exception when the caller leaves.
            self._answers.put(None if not self._call.active() else incident(error))

    def _take(self, request: pb.InferRequest) -> None:
        before = self._newest
        if before is not None and before.answer.cancel():
            self._newest = None
        try:
            pending = self._service.begin(request, self._call)
        except Exception as error:  # noqa: BLE001 - an item's failure is its own status.
            self._answers.put(failed_item(request, error))
            return
        self._newest = pending
        pending.answer.add_done_callback(lambda answer: self._answered(pending, answer))

    def _answered(self, pending: Pending, answer: Future[Rows]) -> None:
        try:
            if answer.cancelled():
                raise Refusal(Reason.SUPERSEDED, "a newer observation of this stream took its place.")
            response = self._service.encode(pending, answer.result())
        except Exception as error:  # noqa: BLE001 - an item's failure is its own status.
            response = failed_item(pending.request, error)
        self._answers.put(response)

    def _leave(self) -> None:
        self._ended.set()
        newest = self._newest
        if newest is not None:
            newest.answer.cancel()
        for _ in range(MAX_UNANSWERED):
            self._room.release()
        self._answers.put(None)

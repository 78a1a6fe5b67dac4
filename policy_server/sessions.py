"""Sessions: who may ask what, which episode they are in, and which requests were answered already."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from finevla_runtime.contracts.clock import Clock
from finevla_runtime.contracts.instruction import Instruction
from finevla_runtime.transport.refusal import Reason, Refusal

Answer = TypeVar("Answer")
REMEMBERED_REQUESTS = 8


@dataclass(frozen=True)
class Session:
    """One client's episode.

    Attributes:
        session_id: issued by the server.
        epoch: 1 for the first episode, plus one per reset.
        model: served model it is pinned to.
        instruction: used when an observation carries none.
        episode_seed: seed of the episode, for policies that draw random numbers.
        idle_timeout_s: forgotten after so long without a request.
        label: the client's own name for it.
    """

    session_id: str
    epoch: int
    model: str
    instruction: Instruction | None
    episode_seed: int
    idle_timeout_s: float
    label: str


@dataclass(eq=False)
class _Entry(Generic[Answer]):
    session: Session
    used_ns: int
    answers: OrderedDict[str, Future[Answer]] = field(default_factory=OrderedDict)


class SessionTable(Generic[Answer]):
    """All sessions of a server. Thread-safe; time comes from the clock, ids from ``new_id``."""

    def __init__(self, clock: Clock, new_id: Callable[[], str], max_sessions: int, idle_timeout_s: float) -> None:
        """Limit the number of sessions and how long an unused one is kept."""
        self.max_sessions = max_sessions
        self.idle_timeout_s = idle_timeout_s
        self._clock = clock
        self._new_id = new_id
        self._entries: dict[str, _Entry[Answer]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many sessions are open."""
        return len(self._entries)

    def open(self, model: str, instruction: Instruction | None, idle_timeout_s: float, label: str) -> Session:
        """Open a session (Refusal TOO_MANY_SESSIONS when none is free after dropping idle ones)."""
        granted_s = min(idle_timeout_s or self.idle_timeout_s, self.idle_timeout_s)
        with self._lock:
            self._drop_idle()
            if len(self._entries) >= self.max_sessions:
                raise Refusal(Reason.TOO_MANY_SESSIONS, f"{self.max_sessions} sessions are open already.")
            session = Session(self._new_id(), 1, model, instruction, 0, granted_s, label)
            self._entries[session.session_id] = _Entry(session, self._clock.now_ns())
        return session

    def reset(self, session_id: str, instruction: Instruction | None, episode_seed: int) -> Session:
        """Start a new episode: everything of the old one becomes stale (Refusal UNKNOWN_SESSION)."""
        with self._lock:
            entry = self._entry(session_id)
            entry.session = replace(
                entry.session,
                epoch=entry.session.epoch + 1,
                instruction=instruction or entry.session.instruction,
                episode_seed=episode_seed,
            )
            entry.answers.clear()
            return entry.session

    def close(self, session_id: str) -> None:
        """Forget a session (Refusal UNKNOWN_SESSION)."""
        with self._lock:
            self._entry(session_id)
            del self._entries[session_id]

    def check(self, session_id: str, epoch: int) -> Session:
        """Return the session when ``epoch`` is its current one.

        Raises:
            Refusal: UNKNOWN_SESSION, STALE_EPOCH.
        """
        with self._lock:
            return self._current(session_id, epoch).session

    def claim(self, session_id: str, epoch: int, request_id: str) -> tuple[Future[Answer], bool]:
        """Return the answer of a request and whether the caller is the one who must produce it.

        A repeated request_id of the same epoch gets the first one's answer. A first one that failed or was
        cancelled is not remembered, so the repetition is computed afresh.

        Raises:
            Refusal: UNKNOWN_SESSION, STALE_EPOCH.
        """
        with self._lock:
            answers = self._current(session_id, epoch).answers
            known = answers.get(request_id)
            if known is not None and not _failed(known):
                return known, False
            fresh: Future[Answer] = Future()
            answers[request_id] = fresh
            answers.move_to_end(request_id)
            while len(answers) > REMEMBERED_REQUESTS:
                answers.popitem(last=False)
            return fresh, True

    def _current(self, session_id: str, epoch: int) -> _Entry[Answer]:
        entry = self._entry(session_id)
        if epoch != entry.session.epoch:
            raise Refusal(
                Reason.STALE_EPOCH, f"the request is of epoch {epoch}, the session is in epoch {entry.session.epoch}."
            )
        return entry

    def _entry(self, session_id: str) -> _Entry[Answer]:
        self._drop_idle()
        entry = self._entries.get(session_id)
        if entry is None:
            raise Refusal(Reason.UNKNOWN_SESSION, "no such session; it was closed, idle too long or never opened.")
        entry.used_ns = self._clock.now_ns()
        return entry

    def _drop_idle(self) -> None:
        now_ns = self._clock.now_ns()
        idle = [key for key, e in self._entries.items() if (now_ns - e.used_ns) / 1e9 > e.session.idle_timeout_s]
        for key in idle:
            del self._entries[key]


def _failed(answer: Future[Answer]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)

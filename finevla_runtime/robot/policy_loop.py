"""When to ask the policy, and with what: pure steps, the call itself is somebody else's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from finevla_runtime.contracts.action import ActionChunk, ChunkPrefix
from finevla_runtime.contracts.errors import FineVLAError, PolicyError
from finevla_runtime.contracts.instruction import Instruction
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import OWN_FAULTS
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.latency import Latency
from finevla_runtime.motion.synchroniser import Synchronised

# A chunk on its way to the controller is not yet in what the controller says.
_DELIVERY_NS = 100_000_000
# A server that refuses at once is given a moment, and is then shown something new.
_BREATH_NS = 100_000_000
# A camera's period is no multiple of a step; this share of a step early is on time.
_EARLY = 0.25


@dataclass(frozen=True)
class Episode:
    """What the policy is asked to do.

    Attributes:
        ticket: that its chunks carry.
        instruction: for the policy.
        seed: of the policy's episode.
        origin_ns: begin of control step 0, the robot's clock.
    """

    ticket: Ticket
    instruction: Instruction
    seed: int
    origin_ns: int


@dataclass(frozen=True)
class Body:
    """What the policy loop must know of the controller.

    Attributes:
        ticket: that the controller follows.
        moving: whether a plan is being followed.
        rows_left: rows of it that are still to come.
        stamp_ns: when this was so.
    """

    ticket: Ticket | None
    moving: bool
    rows_left: int
    stamp_ns: int


@dataclass(frozen=True, eq=False)
class Question:
    """One inference to make.

    Attributes:
        ticket: for the chunk that answers it.
        observation: for the policy.
        prefix: what the answer must continue; None for policies that cannot.
    """

    ticket: Ticket
    observation: Observation
    prefix: ChunkPrefix | None


class Health(str, Enum):
    """How the policy does."""

    IDLE = "idle"
    ASKING = "asking"
    WAITING = "waiting"
    LOST = "lost"
    FAULTY = "faulty"


class PolicyLoop:
    """Asks one question at a time and gives the robot what comes back, or says that nothing will.

    Synchronous execution asks when the body rests after its rows; the other strategies ask as soon as the observation
    is one execution horizon newer than the last one, earlier where the answers take so long that rows would run out.
    """

    def __init__(self, execution: Execution, step_s: float, patience_s: float, continues: bool = False) -> None:
        """Prepare a loop.

        Args:
            execution: how chunks are executed.
            step_s: seconds between rows.
            patience_s: how long a lost server may stay away within an episode before the policy counts as lost.
            continues: whether the policy takes real-time-chunking prefixes.
        """
        self._execution = execution
        self._step_ns = round(step_s * 1e9)
        self._patience_ns = round(patience_s * 1e9)
        self._continues = continues
        self._episode: Episode | None = None
        self._asking = False
        self._chunk: ActionChunk | None = None
        self._answered_ns = 0
        self._resting_ns: int | None = None
        self._failing_since_ns: int | None = None
        self._breath_until_ns = 0
        self.latency = Latency()
        self.health = Health.IDLE
        self.error: FineVLAError | None = None
        self.questions = 0

    def begin(self, episode: Episode) -> None:
        """Ask for this episode, or for its changed instruction, from now on; answers to earlier questions are void."""
        self._episode, self._chunk = episode, None
        self._failing_since_ns, self.error = None, None
        self.latency.restart()
        self.health = Health.WAITING

    def end(self) -> None:
        """Ask nothing more."""
        self._episode, self.health = None, Health.IDLE

    @property
    def episode(self) -> Episode | None:
        """Return the episode that is asked for."""
        return self._episode

    def ask(self, seen: Synchronised, body: Body) -> Question | None:
        """Return the next question when one is due.

        Args:
            seen: the newest observation.
            body: what the controller does.
        """
        episode = self._episode
        if body.moving:
            self._resting_ns = None
        elif self._resting_ns is None:
            self._resting_ns = body.stamp_ns
        if episode is None or self._asking or self.health in (Health.LOST, Health.FAULTY):
            return None
        if body.ticket != episode.ticket or not self._is_due(seen, body):
            return None
        step = max(0, round((seen.capture_ns - episode.origin_ns) / self._step_ns))
        observation = Observation(
            images=seen.images,
            joint_position=seen.joints.astype(np.float32),
            instruction=episode.instruction,
            capture_time_ns=seen.capture_ns,
            control_step=step,
            image_time_ns=seen.image_ns,
        )
        self._asking = True
        self.health = Health.ASKING
        self.questions += 1
        return Question(episode.ticket, observation, self._prefix(step))

    def answer(self, question: Question, chunk: ActionChunk, now_ns: int) -> bool:
        """Take an answer; return whether it is still wanted."""
        self._asking = False
        if self._episode is None or question.ticket != self._episode.ticket:
            return False
        self.latency.add((now_ns - question.observation.capture_time_ns) / 1e9)
        self._chunk, self._failing_since_ns, self.error = chunk, None, None
        self._answered_ns = now_ns
        self.health = Health.WAITING
        return True

    def fail(self, question: Question, error: FineVLAError, now_ns: int) -> None:
        """Take a failure: a server that is away is asked again for a while, a policy's own fault ends the episode.

        An error that is no PolicyError means that what is served no longer fits, which asking again does not mend.
        """
        self._asking = False
        if self._episode is None or question.ticket != self._episode.ticket:
            return
        self.error = error
        self._breath_until_ns = now_ns + _BREATH_NS
        if self._failing_since_ns is None:
            self._failing_since_ns = now_ns
        if error.code in OWN_FAULTS or not isinstance(error, PolicyError):
            self.health = Health.FAULTY
        elif now_ns - self._failing_since_ns > self._patience_ns:
            self.health = Health.LOST
        else:
            self.health = Health.WAITING

    def give_up(self, error: FineVLAError) -> None:
        """End the episode's questions for a reason that lies before the policy, such as a blind camera."""
        if self._episode is not None:
            self.error, self.health = error, Health.FAULTY

    def _is_due(self, seen: Synchronised, body: Body) -> bool:
        last = self._chunk
        if seen.capture_ns < self._breath_until_ns:
            return False
        if self._resting_ns is not None:
            # Only an observation from after the body came to rest says where it is.
            delivered = last is None or body.stamp_ns >= self._answered_ns + _DELIVERY_NS
            return delivered and seen.capture_ns >= self._resting_ns
        if last is None or self._execution.strategy is Strategy.SYNCHRONOUS:
            return False
        spare = last.rows - self.latency.rows(self._step_ns / 1e9) - 1
        horizon = max(1, min(self._execution.execution_rows, spare))
        return seen.capture_ns - last.capture_time_ns >= (horizon - _EARLY) * self._step_ns

    def _prefix(self, step: int) -> ChunkPrefix | None:
        last = self._chunk
        # A body at rest has left its rows and executes none of them while the policy thinks.
        if not self._continues or last is None or self._resting_ns is not None:
            return None
        rows = last.positions[step - last.first_control_step :]
        if step < last.first_control_step or not len(rows):
            return None
        delay = min(self.latency.rows(self._step_ns / 1e9), len(rows))
        return ChunkPrefix(last.chunk_id, rows, delay, self._execution.execution_rows)

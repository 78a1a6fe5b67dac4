"""The process that runs trials: one world, one policy session, one trial at a time."""

from __future__ import annotations

import multiprocessing
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.errors import FineVLAError
from finevla_runtime.contracts.policy import Policy
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.trial import Trial, TrialRecord
from finevla_runtime.recording.film_strip import film_strip
from finevla_runtime.recording.json_lines import write_atomically
from finevla_runtime.session.manifest import RolloutSettings
from sim_eval.rollout import Rollout, World, run_trial

ARTIFACTS = "artifacts"
FILM_STRIP = "film_strip"
_FILM_COLUMNS = 6
_SERVER_CODES = ("FV-NET-", "FV-SRV-")
"""Errors of the connection and of the server itself; a resumed run may not meet them again."""


class ClosablePolicy(Policy, Protocol):
    """A policy whose connection can be closed."""

    def close(self) -> None:
        """Close the connection."""
        ...


WorldFactory = Callable[[], World]
PolicyFactory = Callable[[str], ClosablePolicy]
"""Module-level function: address of the policy server (empty for none) -> policy."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a worker needs besides trials; it travels to the new process.

    Attributes:
        run_dir: artifacts go into its ``artifacts`` folder.
        rubric: judges the trials.
        settings: of the manifest.
        address: policy server, empty when the policy needs none.
        world, policy: module-level factories, called in the worker.
    """

    run_dir: Path
    rubric: Rubric
    settings: RolloutSettings
    address: str
    world: WorldFactory
    policy: PolicyFactory


@dataclass(frozen=True, slots=True)
class Progressed:
    """The worker is alive and before this control step of its trial (-1: still setting up)."""

    control_step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The trial was run and judged; its artifacts are on disk."""

    record: TrialRecord


@dataclass(frozen=True, slots=True)
class Failed:
    """The trial could not be run to its end.

    Attributes:
        lost: whether the policy server was lost (else: an error that every other trial would meet too).
        code, message: of the coded error.
    """

    lost: bool
    code: str
    message: str


Answer = Progressed | Finished | Failed


class Worker:
    """The parent's end of one worker process."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Start the process; it answers nothing before it gets a trial."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.trial: Trial | None = None
        self._process = context.Process(target=_serve, args=(setup, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, trial: Trial) -> None:
        """Give it a trial; a worker that is already dead shows it by closing its pipe."""
        self.trial = trial
        try:
            self.pipe.send(trial)
        except OSError:
            return

    def kill(self) -> None:
        """End the process whatever it does: a hang in a native simulator listens to nothing else."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def stop(self, patience_s: float = 5.0) -> None:
        """Let an idle process end by itself, kill it when it does not."""
        self.pipe.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def artifact_path(trial: Trial, suffix: str) -> str:
    """Return the path of a trial's artifact relative to the run folder."""
    return f"{ARTIFACTS}/{re.sub(r'[^A-Za-z0-9._-]+', '_', trial.trial_id)}.{suffix}"


def _serve(setup: WorkerSetup, pipe: Connection) -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides how to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    policy: ClosablePolicy | None = None
    world: World | None = None
    try:
        while True:
            trial: Trial = pipe.recv()
            pipe.send(Progressed(-1))
            try:
                if policy is None or world is None:
                    world, policy = setup.world(), setup.policy(setup.address)
                answer: Answer = Finished(_run(setup, world, policy, trial, pipe))
            except FineVLAError as error:
                answer = Failed(error.code.startswith(_SERVER_CODES), error.code, error.message)
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent is done, or gone; either way nobody waits for an answer.
        pass
    finally:
        if policy is not None:
            policy.close()


def _run(setup: WorkerSetup, world: World, policy: Policy, trial: Trial, pipe: Connection) -> TrialRecord:
    rubric = setup.rubric.family(trial.family)
    rollout = run_trial(
        world, policy, trial, rubric, setup.settings, SteadyClock(), lambda step: pipe.send(Progressed(step))
    )
    return replace(rollout.record, artifacts=_write_artifacts(setup.run_dir, rollout))


def _write_artifacts(run_dir: Path, rollout: Rollout) -> dict[str, str]:
    if not rollout.frames:
        return {}
    trial = rollout.record.trial
    path = artifact_path(trial, "jpg")
    caption = trial.instruction.text.encode("ascii", "replace").decode()
    write_atomically(run_dir / path, film_strip(rollout.frames, _FILM_COLUMNS, caption))
    return {FILM_STRIP: path}

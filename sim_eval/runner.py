"""Runs a frozen manifest with worker processes: journaled, watched and resumable at any point.

The parent alone writes the journal, one fsynced record per trial. Workers write artifacts and answer over pipes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from finevla_runtime.contracts.clock import Clock, SteadyClock, elapsed_s
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.trial import Trial, TrialRecord
from finevla_runtime.session.journal import JOURNAL_FILE, Journal, missing_trials
from finevla_runtime.session.manifest import MANIFEST_FILE, Manifest, save_manifest
from finevla_runtime.session.record_codec import void_record
from sim_eval.trial_worker import Failed, Finished, PolicyFactory, Worker, WorkerSetup, WorldFactory

SIM_HANG = "sim_hang"
SIM_CRASH = "sim_crash"
SERVER_LOST = "server_lost"
_TRIES = 2
_POLL_S = 0.2
_START_LIMIT_S = 120.0
"""Seconds a new process gets before its first sign of life; a loaded machine imports slowly."""


@dataclass(frozen=True, slots=True)
class RunSetup:
    """How a manifest is run.

    Attributes:
        run_dir: folder of the run; resumed when it holds the same manifest.
        manifest: the frozen plan, for one policy.
        rubric: judges the trials; its digest must be the manifest's.
        workers: processes.
        world, policy: module-level factories for the workers.
        address: the one policy server all workers share, empty when the policy needs none.
    """

    run_dir: Path
    manifest: Manifest
    rubric: Rubric
    workers: int
    world: WorldFactory
    policy: PolicyFactory
    address: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to.

    Attributes:
        planned: trials of the manifest.
        scored: trials with a scored record.
        resumed: of these, how many an earlier run had done.
        voids: reason -> void records of this run.
        missing: trials that still lack a scored record (their worker hung or died twice).
    """

    planned: int
    scored: int
    resumed: int
    voids: dict[str, int]
    missing: tuple[Trial, ...]


Progress = Callable[[int, int, str], None]
"""Called with (trials scored, trials planned, a note)."""


def run_manifest(setup: RunSetup, progress: Progress, clock: Clock | None = None) -> RunResult:
    """Run every trial that has no scored record yet.

    Ctrl-C and every error leave the journal closed and complete; calling again with the same setup goes on.

    Raises:
        SetupError: FV-MAN-* and FV-JRN-* for another plan or a second run in the folder, FV-RUN-001 for a rubric that
            is not the manifest's, FV-RUN-002 for an error that every trial would meet.
        PolicyError: FV-RUN-003 when the policy server was lost.
    """
    if setup.rubric.digest != setup.manifest.settings.rubric_hash:
        raise SetupError(
            "FV-RUN-001",
            f"the manifest was made for rubric {setup.manifest.settings.rubric_hash[:12]}, this one is "
            f"{setup.rubric.digest[:12]}. Restore the rubric file, or start a new run folder.",
        )
    save_manifest(setup.manifest, setup.run_dir / MANIFEST_FILE)
    with Journal(setup.run_dir / JOURNAL_FILE, setup.manifest.hash) as journal:
        todo = missing_trials(setup.manifest, journal.records)
        run = _Run(setup, journal, todo, progress, clock or SteadyClock())
        if todo:
            run.drive()
        return run.result()


@dataclass(slots=True, eq=False)
class _Watch:
    """A worker at work: when it was last heard of, and whether it ever was."""

    worker: Worker
    heard_ns: int
    awake: bool = False


@dataclass(slots=True)
class _Run:
    setup: RunSetup
    journal: Journal
    todo: tuple[Trial, ...]
    progress: Progress
    clock: Clock
    tries: Counter[str] = field(default_factory=Counter)
    voids: Counter[str] = field(default_factory=Counter)
    scored: int = 0
    watches: list[_Watch] = field(default_factory=list)
    queue: deque[Trial] = field(default_factory=deque)

    @property
    def _resumed(self) -> int:
        return len(self.setup.manifest.trials) - len(self.todo)

    def drive(self) -> None:
        """Keep every worker busy until nothing is left."""
        self.queue = deque(self.todo)
        try:
            for _ in range(min(self.setup.workers, len(self.todo))):
                self._hire()
            while self.watches:
                self._listen()
                self._replace_hung()
            self._tell("")
        finally:
            for watch in self.watches:
                watch.worker.kill()

    def result(self) -> RunResult:
        """Return what the journal now says."""
        missing = missing_trials(self.setup.manifest, self.journal.records)
        planned = len(self.setup.manifest.trials)
        return RunResult(planned, planned - len(missing), self._resumed, dict(self.voids), missing)

    def _hire(self) -> None:
        """Start a worker on the next trial, if there is one."""
        if self.queue:
            worker = Worker(_worker_setup(self.setup))
            worker.start(self.queue.popleft())
            self.watches.append(_Watch(worker, self.clock.now_ns()))

    def _listen(self) -> None:
        """Take what the workers say; a closed pipe is a dead worker."""
        ready = wait([watch.worker.pipe for watch in self.watches], timeout=_POLL_S)
        for watch in [watch for watch in self.watches if watch.worker.pipe in ready]:
            try:
                answer = watch.worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(watch, SIM_CRASH)
                continue
            watch.heard_ns, watch.awake = self.clock.now_ns(), True
            if isinstance(answer, Finished):
                self._finish(watch, answer.record)
            elif isinstance(answer, Failed):
                self._give_up(watch, answer)

    def _finish(self, watch: _Watch, record: TrialRecord) -> None:
        self.journal.append(record)
        if record.status == "scored":
            self.scored += 1
        else:
            self.voids[record.void_reason] += 1
        self._tell(record.trial.trial_id)
        if self.queue:
            watch.worker.start(self.queue.popleft())
        else:
            self.watches.remove(watch)
            watch.worker.stop()

    def _replace_hung(self) -> None:
        limit_s = self.setup.manifest.settings.watchdog_s
        for watch in list(self.watches):
            patience_s = limit_s if watch.awake else max(limit_s, _START_LIMIT_S)
            if limit_s > 0 and elapsed_s(self.clock, watch.heard_ns) > patience_s:
                self._replace(watch, SIM_HANG)

    def _replace(self, watch: _Watch, reason: str) -> None:
        """Kill a hung or dead worker, record its trial as void, and try that trial once more at the end."""
        watch.worker.kill()
        self.watches.remove(watch)
        trial = watch.worker.trial
        if trial is not None:
            self.journal.append(void_record(trial, reason))
            self.voids[reason] += 1
            self.tries[trial.trial_id] += 1
            if self.tries[trial.trial_id] < _TRIES:
                self.queue.append(trial)
            self._tell(f"{reason}: {trial.trial_id}")
        self._hire()

    def _give_up(self, watch: _Watch, failed: Failed) -> None:
        trial = watch.worker.trial
        where = trial.trial_id if trial is not None else "no trial"
        if not failed.lost:
            raise SetupError("FV-RUN-002", f"trial {where} cannot be run: {failed.code}: {failed.message}")
        if trial is not None:
            self.journal.append(void_record(trial, SERVER_LOST, f"{failed.code}: {failed.message}"))
            self.voids[SERVER_LOST] += 1
        raise PolicyError(
            "FV-RUN-003",
            f"the policy server was lost in trial {where} ({failed.code}: {failed.message}). "
            f"{self._resumed + self.scored} of {len(self.setup.manifest.trials)} trials are recorded in "
            f"{self.setup.run_dir}; start the server and repeat the command to go on.",
        )

    def _tell(self, note: str) -> None:
        self.progress(self._resumed + self.scored, len(self.setup.manifest.trials), note)


def _worker_setup(setup: RunSetup) -> WorkerSetup:
    return WorkerSetup(
        run_dir=setup.run_dir,
        rubric=setup.rubric,
        settings=setup.manifest.settings,
        address=setup.address,
        world=setup.world,
        policy=setup.policy,
    )

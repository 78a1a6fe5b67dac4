"""The trial that is open on a robot: which instruction belongs to it, what became of its episodes and its recording."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError

LOG_NAME = "trial.json"
_LONGEST_NAME = 100
# Characters of 20260102T030405.
_STAMP = 15


@dataclass(frozen=True)
class RobotTrial:
    """What a trial asks for.

    Attributes:
        trial_id: unique in its run.
        variant_id, task_id: of the paired comparison; may be empty.
        instruction, kind: what the policy is told, and as what.
        seed: of everything random.
    """

    trial_id: str
    variant_id: str
    task_id: str
    instruction: str
    kind: str
    seed: int


@dataclass(frozen=True)
class EpisodeNote:
    """What became of one episode of a trial."""

    episode_id: str
    outcome: str
    code: str
    reason: str
    control_steps: int
    chunks: int
    duration_s: float


@dataclass(frozen=True)
class TrialLog:
    """What is kept beside a trial's recording.

    Attributes:
        trial: what was asked for.
        begun_utc, ended_utc: for people.
        problem: why the recording is not complete, empty when it is.
        episodes: in their order.
        note: of the operator.
    """

    trial: RobotTrial
    begun_utc: str
    ended_utc: str
    problem: str
    episodes: tuple[EpisodeNote, ...]
    note: str


@dataclass
class _Open:
    trial: RobotTrial
    begun_utc: str
    problem: str = ""
    episodes: list[EpisodeNote] = field(default_factory=list)


class TrialDesk:
    """One trial at a time; every refusal is a SetupError with a code FV-TRI-*."""

    def __init__(self) -> None:
        """Begin without a trial."""
        self._open: _Open | None = None

    @property
    def open(self) -> RobotTrial | None:
        """Return the open trial."""
        return None if self._open is None else self._open.trial

    @property
    def problem(self) -> str:
        """Return what is wrong with the open trial's recording; empty when nothing is."""
        return "" if self._open is None else self._open.problem

    def require_free(self, trial_id: str) -> None:
        """Refuse a trial without a name (FV-TRI-001) and one while another is open (FV-TRI-002)."""
        if not trial_id.strip():
            raise SetupError("FV-TRI-001", "the trial has no trial_id; give it one.")
        if self._open is not None:
            raise SetupError("FV-TRI-002", f"trial {self._open.trial.trial_id!r} is open; end it first.")

    def begin(self, trial: RobotTrial, begun_utc: str) -> None:
        """Open a trial (see ``require_free``)."""
        self.require_free(trial.trial_id)
        self._open = _Open(trial, begun_utc)

    def mark(self, problem: str) -> None:
        """Remember why the open trial's recording is not complete; the first problem counts."""
        if self._open is not None and not self._open.problem:
            self._open.problem = problem

    def require_fits(self, asked: RobotTrial) -> None:
        """Refuse an episode that is not the open trial's.

        Raises:
            SetupError: FV-TRI-003 for another trial, FV-TRI-004 for the trial's name with something else in it,
                FV-TRI-005 when the trial is no longer recorded.
        """
        here = self.open
        if asked.trial_id != ("" if here is None else here.trial_id):
            wanted = "no trial is open; start it first" if here is None else f"trial {here.trial_id!r} is open"
            got = f"trial {asked.trial_id!r}" if asked.trial_id else "no trial"
            raise SetupError("FV-TRI-003", f"the instruction is for {got}, but {wanted}.")
        if here is None:
            return
        for name in ("variant_id", "instruction", "kind", "seed"):
            got, wanted = getattr(asked, name), getattr(here, name)
            if got != wanted:
                raise SetupError("FV-TRI-004", f"trial {here.trial_id!r} has {name} {wanted!r}, got {got!r}.")
        if self.problem:
            raise SetupError("FV-TRI-005", f"trial {here.trial_id!r} is spoilt, end it: {self.problem}")

    def require_changeable(self) -> None:
        """Refuse another instruction within a trial, which is of one instruction (FV-TRI-006)."""
        if self._open is not None:
            raise SetupError("FV-TRI-006", f"trial {self._open.trial.trial_id!r} is of one instruction; end it first.")

    def add(self, episode: EpisodeNote) -> None:
        """Keep what became of an episode; without a trial there is nothing to keep it in."""
        if self._open is not None:
            self._open.episodes.append(episode)

    def require_open(self, trial_id: str) -> None:
        """Refuse to end a trial that is not the open one (FV-TRI-003)."""
        here = self.open
        if here is None or here.trial_id != trial_id:
            open_one = "none is open" if here is None else f"{here.trial_id!r} is open"
            raise SetupError("FV-TRI-003", f"cannot end trial {trial_id!r}: {open_one}.")

    def end(self, trial_id: str, ended_utc: str, note: str) -> TrialLog:
        """Close the open trial and return what is to be kept of it (see ``require_open``)."""
        self.require_open(trial_id)
        assert self._open is not None  # noqa: S101  # require_open has seen it.
        ended, self._open = self._open, None
        return TrialLog(ended.trial, ended.begun_utc, ended_utc, ended.problem, tuple(ended.episodes), note)


def bag_name(trial_id: str, begun_utc: str) -> str:
    """Return the name of a trial's bag; the time keeps the repetition of a trial apart from it.

    Args:
        trial_id: any text; what a folder's name cannot hold becomes ``_``.
        begun_utc: ISO-8601.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", trial_id).strip("._-")[:_LONGEST_NAME] or "trial"
    return f"{readable}.{re.sub(r'[^0-9T]', '', begun_utc)[:_STAMP]}"


def write_log(folder: Path, log: TrialLog) -> Path:
    """Write ``trial.json`` into a recording's folder, whole or not at all.

    Raises:
        SetupError: FV-TRI-007 when the folder cannot be written, for example because it is another machine's.
    """
    path = folder / LOG_NAME
    half = path.with_suffix(".half")
    try:
        with half.open("w", encoding="utf-8") as file:
            json.dump(asdict(log), file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        raise SetupError("FV-TRI-007", f"{path} cannot be written: {error.strerror}.") from error
    return path

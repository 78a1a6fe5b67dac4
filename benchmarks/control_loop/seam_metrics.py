"""What a sequence of commanded positions says about itself: steps, jumps of the speed, jerk, and how true it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.control_loop.strategies import STEP_NS, TICK_NS, JointArray, Placed

TICK_S = TICK_NS / 1e9
# Grippers open and close in steps of their whole range; smoothness is asked of the arms.
ARMS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12)
# A seam is looked at until a blend and a bridge are over.
AFTER_NS = 300_000_000
LONGEST_LAG_TICKS = 80


@dataclass(frozen=True, eq=False)
class Run:
    """One episode.

    Attributes:
        commands: float64[n, 14], the command of every tick; tick i is sent at ``i * TICK_NS``.
        placed: the chunks in the order in which they counted.
        success: whether the judge says that the task was done as told.
        limited, held: ticks in which the guard limited the motion or held it.
        stopped: why the guard stopped the motion for good; empty when it did not.
    """

    commands: JointArray
    placed: Sequence[Placed]
    success: bool
    limited: int = 0
    held: int = 0
    stopped: str = ""


@dataclass(frozen=True)
class Smoothness:
    """Largest values over the arms' joints: rad per tick, rad/s, rad/s^3."""

    step: float
    jump: float
    jerk: float


@dataclass(frozen=True)
class Figures:
    """What many runs of one strategy come to.

    Attributes:
        overall: largest values anywhere.
        seam: largest values at seams.
        seam_p50: medians of each seam's largest values.
        jerk_rms: rad/s^3, of the joint that moves most at each tick.
        error_rms: rad, between the command and the newest row when that is due.
        lag_s: delay after which the commands fit those rows best.
        lag_error_rms: rad, the error then.
        seconds: mean length of a run.
        seams: number of seams.
        successes, runs: counts.
        stops: runs that the guard stopped.
        limited, held: shares of all ticks.
    """

    overall: Smoothness
    seam: Smoothness
    seam_p50: Smoothness
    jerk_rms: float
    error_rms: float
    lag_s: float
    lag_error_rms: float
    seconds: float
    seams: int
    successes: int
    runs: int
    stops: int
    limited: float
    held: float


def differences(commands: JointArray) -> tuple[JointArray, JointArray, JointArray]:
    """Return step [n - 1], jump of the speed [n - 2] and jerk [n - 3], each the largest of the arms' joints."""
    steps = np.diff(commands[:, ARMS], axis=0)
    jumps = np.diff(steps, axis=0) / TICK_S
    jerks = np.diff(jumps, axis=0) / TICK_S**2
    return tuple(np.abs(values).max(axis=1) for values in (steps, jumps, jerks))  # type: ignore[return-value]


def seam_windows(run: Run) -> list[tuple[int, int]]:
    """Return the ticks [begin, end) of each seam: from where the old chunk ends or the new one counts."""
    windows = []
    for old, new in zip(run.placed, run.placed[1:], strict=False):
        begin = min(old.end_ns, new.from_ns) // TICK_NS - 3
        windows.append((max(0, begin), min(len(run.commands), (new.from_ns + AFTER_NS) // TICK_NS)))
    return windows


def due_rows(run: Run) -> tuple[JointArray, JointArray]:
    """Return int[m] ticks and float64[m, 12] rows: each is the newest chunk's when it is due."""
    ticks, rows = [], []
    until = [chunk.from_ns for chunk in run.placed[1:]] + [len(run.commands) * TICK_NS]
    for chunk, end_ns in zip(run.placed, until, strict=True):
        due_ns = chunk.begin_ns + STEP_NS * np.arange(1, len(chunk.rows) + 1)
        chosen = (due_ns > chunk.from_ns) & (due_ns <= end_ns) & (due_ns // TICK_NS < len(run.commands))
        ticks.append(due_ns[chosen] // TICK_NS)
        rows.append(chunk.rows[chosen][:, ARMS])
    return np.concatenate(ticks), np.vstack(rows)


def errors_by_lag(run: Run) -> JointArray:
    """Return float64[lags, m]: RMS over joints between each row and the command ``lag`` ticks after it is due."""
    ticks, rows = due_rows(run)
    last = len(run.commands) - 1
    shifted = [run.commands[np.minimum(ticks + lag, last)][:, ARMS] - rows for lag in range(LONGEST_LAG_TICKS)]
    return np.sqrt(np.mean(np.square(shifted), axis=2))


def summarise(runs: Sequence[Run]) -> Figures:
    """Return the figures of one strategy."""
    whole = [differences(run.commands) for run in runs]
    seams = [
        [values[begin:end].max() for values in parts]
        for run, parts in zip(runs, whole, strict=True)
        for begin, end in seam_windows(run)
    ]
    by_lag = np.concatenate([errors_by_lag(run) for run in runs], axis=1)
    rms = np.sqrt(np.mean(by_lag**2, axis=1))
    lag = int(rms.argmin())
    return Figures(
        overall=Smoothness(*(float(max(parts[i].max() for parts in whole)) for i in range(3))),
        seam=Smoothness(*np.max(seams, axis=0).tolist()),
        seam_p50=Smoothness(*np.median(seams, axis=0).tolist()),
        jerk_rms=float(np.sqrt(np.mean(np.concatenate([parts[2] for parts in whole]) ** 2))),
        error_rms=float(rms[0]),
        lag_s=lag * TICK_S,
        lag_error_rms=float(rms[lag]),
        seconds=float(np.mean([len(run.commands) for run in runs])) * TICK_S,
        seams=len(seams),
        successes=sum(run.success for run in runs),
        runs=len(runs),
        stops=sum(bool(run.stopped) for run in runs),
        limited=sum(run.limited for run in runs) / sum(len(run.commands) for run in runs),
        held=sum(run.held for run in runs) / sum(len(run.commands) for run in runs),
    )

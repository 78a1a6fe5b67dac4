"""Where the log of a run goes: lines of JSON, TensorBoard, the screen, and trackio or Weights & Biases by name."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from finevla_runtime.contracts.errors import SetupError, unknown_name

LOG = "training.jsonl"
TENSORBOARD = "tensorboard"
LOGGERS = ("tensorboard", "trackio", "wandb")
Entry = Mapping[str, object]
Report = Callable[[str], None]


class LogSink(Protocol):
    """Takes the log of the main process."""

    def write(self, step: int, entry: Entry) -> None:
        """Take one entry: numbers, or one level of named numbers, by key."""
        ...

    def advance(self, step: int, share: float) -> None:
        """Take how far the run is: steps done and share of the budget, 0..1; called after every step."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class JsonLines:
    """``training.jsonl`` in the run folder; a resumed run drops the lines after its checkpoint."""

    def __init__(self, out: Path, from_step: int) -> None:
        """Open the log of a run that goes on after ``from_step``."""
        self._path = out / LOG
        out.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            kept = [line for line in self._path.read_text(encoding="utf-8").splitlines() if _step(line) <= from_step]
            partial = self._path.with_name(f".{LOG}.partial")
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            os.replace(partial, self._path)

    def write(self, step: int, entry: Entry) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def advance(self, step: int, share: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: every line is flushed."""


class Screen:
    """Plain lines, for a log file or a pipe."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def write(self, step: int, entry: Entry) -> None:
        """Say the entry as one line of JSON."""
        self._report(json.dumps(entry))

    def advance(self, step: int, share: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class ProgressBar:
    """A bar with the time left, for a terminal; entries stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("step {task.fields[step]}"), BarColumn(), TextColumn("{task.percentage:>5.1f} %"))
        self._progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self._progress.add_task("", total=1.0, step=0)
        self._progress.start()

    def write(self, step: int, entry: Entry) -> None:
        """Print the numbers of an entry above the bar."""
        words = [f"{name} {value:.4g}" for name, value in flat(entry) if name != "step"]
        self._progress.console.print(f"step {step}: " + ", ".join(words), highlight=False, markup=False)

    def advance(self, step: int, share: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=min(1.0, share), step=step)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()


class TensorBoard:
    """Event files below ``tensorboard`` in the run folder."""

    def __init__(self, out: Path, from_step: int) -> None:
        """Open the events of a run that goes on after ``from_step``; later ones of a killed run are hidden."""
        found = _library("tensorboard", "torch.utils.tensorboard")
        self._writer = found.SummaryWriter(str(out / TENSORBOARD), purge_step=from_step + 1 if from_step else None)

    def write(self, step: int, entry: Entry) -> None:
        """Add every number as a scalar."""
        for name, value in flat(entry):
            if name != "step":
                self._writer.add_scalar(name, value, step)

    def advance(self, step: int, share: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


class Hosted:
    """trackio or Weights & Biases; both have the same three calls."""

    def __init__(self, library: str, name: str, config: Mapping[str, object]) -> None:
        """Start a run called ``name`` (FV-TRN-023 when the library is not installed)."""
        self._module = _library(library, library)
        self._module.init(project="finevla", name=name, config=dict(config))

    def write(self, step: int, entry: Entry) -> None:
        """Send the numbers."""
        self._module.log({name: value for name, value in flat(entry) if name != "step"}, step=step)

    def advance(self, step: int, share: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """End the run."""
        self._module.finish()


def open_sinks(
    out: Path, loggers: Sequence[str], screen: LogSink, from_step: int, name: str, config: Mapping[str, object]
) -> tuple[LogSink, ...]:
    """Open the log of a run; JSON lines and the screen are always there.

    Raises:
        SetupError: FV-TRN-023 for an unknown logger or one whose library is not installed.
    """
    sinks: list[LogSink] = [JsonLines(out, from_step), screen]
    for logger in loggers:
        if logger not in LOGGERS:
            raise unknown_name("FV-TRN-023", "logger", logger, LOGGERS)
        sinks.append(TensorBoard(out, from_step) if logger == "tensorboard" else Hosted(logger, name, config))
    return tuple(sinks)


def flat(entry: Entry) -> Iterator[tuple[str, float]]:
    """Yield the numbers of an entry; a nested one is called ``outer/inner``."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", float(v)) for inner, v in value.items() if isinstance(v, (int, float)))
        elif isinstance(value, (int, float)):
            yield name, float(value)


def _library(package: str, module: str) -> Any:  # noqa: ANN401  # A module of a library without types.
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(
            "FV-TRN-023", f"the logger {package} is not installed. Run: pip install {package}   or leave it out."
        ) from error


def _step(line: str) -> float:
    """Return the step of a line; a line torn by a kill belongs to no step and is dropped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")

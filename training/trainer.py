"""The training loop: steps a task, keeps the average, watches the choice, saves its state. There is no other loop."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

import numpy as np

from finevla_runtime.contracts.clock import Clock, elapsed_s
from finevla_runtime.contracts.errors import SetupError
from training.average import Average
from training.checkpoint import Checkpoint, Progress, load_weights, restore, state_tensors
from training.checkpoint_store import CHECKPOINT, CheckpointStore
from training.log_sinks import LOG, LogSink
from training.schedule import Schedule
from training.stepping import Stepped, Stepper
from training.task import Batch, Task

__all__ = ["CHECKPOINT", "LOG", "Budget", "Cadence", "Trainer"]
# Settings of a recipe that may differ when a run goes on: how long, how often to save, how to cut up a batch, and those
# by which a run that diverged is brought back from its last good checkpoint.
BUDGET_KEYS = (
    *("minutes", "steps", "log_steps", "check_steps", "save_steps", "keep_checkpoints"),
    *("batch_per_device", "gradient_checkpointing"),
    *("learning_rate", "learning_rate_backbone", "learning_rate_head", "clip_norm"),
    # Where a backbone lies is no property of it: words and config are compared, weights are in the checkpoint.
    "backbone",
)


@dataclass(frozen=True)
class Cadence:
    """Steps or seconds between side jobs.

    Attributes:
        log_steps: steps per line of the log.
        check_steps: steps between checks.
        save_s: seconds between checkpoints.
        save_steps: steps between checkpoints, besides; 0 for none.
    """

    log_steps: int = 100
    check_steps: int = 500
    save_s: float = 120.0
    save_steps: int = 0


@dataclass(frozen=True)
class Budget:
    """When a run is over.

    Attributes:
        steps: optimiser steps; 0 when minutes count.
        minutes: training time over all resumptions.
    """

    steps: int = 0
    minutes: float = 0.0

    def share(self, progress: Progress) -> float:
        """Return how much is used, 1 when the run is over."""
        if self.steps:
            return progress.step / self.steps
        return progress.trained_s / (60.0 * self.minutes)


class Trainer(Generic[Batch]):
    """One training run in one folder."""

    def __init__(
        self,
        task: Task[Batch],
        stepper: Stepper[Batch],
        schedule: Schedule,
        budget: Budget,
        average: Average,
        store: CheckpointStore,
        clock: Clock,
        cadence: Cadence,
    ) -> None:
        self.task, self._stepper, self._average = task, stepper, average
        self._schedule, self._budget, self._cadence = schedule, budget, cadence
        self._store, self._clock = store, clock
        self._peaks = tuple(group.learning_rate for group in task.parameter_groups())
        self._names = tuple(group.name for group in task.parameter_groups())
        self._sinks: tuple[LogSink, ...] = ()
        self.progress = Progress()
        self._stopping = False
        self._saved_step = -1

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of the same run stopped; only the budget may have changed since.

        Raises:
            SetupError: FV-TRN-012 when recipe or data changed since, FV-TRN-010 when the network did.
        """
        mine, theirs = self.meta(), checkpoint.meta
        changed = _changed(theirs.get("recipe", "{}"), mine["recipe"])
        other = f"recipe ({changed})" if changed else ""
        for key in ("data", "tokenizer", "backbone"):
            if not other and theirs.get(key) != mine.get(key):
                other = key
        if other:
            raise SetupError(
                "FV-TRN-012",
                f"the run at {self._store.path} was begun with another {other}; choose another --out, or start from "
                f"its weights with --init {self._store.path}.",
            )
        restore(checkpoint, self.task.module, self._average.tensors, self._stepper.optimizer)
        self.progress = checkpoint.progress
        self._saved_step = self.progress.step

    def warm_start(self, checkpoint: Checkpoint) -> None:
        """Begin from the averaged weights of another run with the same network and the same meaning of its inputs.

        Raises:
            SetupError: FV-TRN-010 when network, words or statistics differ.
        """
        mine = self.meta()
        for key, remedy in self.task.info.warm_keys.items():
            if checkpoint.meta.get(key) != mine[key]:
                raise SetupError(
                    "FV-TRN-010", f"the checkpoint has another {key}; its weights would mean something else. {remedy}"
                )
        load_weights(checkpoint, checkpoint.weights, self.task.module)
        self._average.reset()

    def meta(self) -> Mapping[str, str]:
        """Return the texts that travel with a checkpoint."""
        return self.task.meta(self.progress.fg_share)

    def run(self, sinks: Sequence[LogSink] = ()) -> Mapping[str, object]:
        """Train until the budget is used, save, and return the final check.

        Raises:
            SetupError: FV-TRN-013 naming episode and step when the loss is not finite.
            KeyboardInterrupt: after ``stop``, with the state saved.
        """
        self._sinks = tuple(sinks)
        started, begun_s = self._clock.now_ns(), self.progress.trained_s
        saved_s, checked_step = begun_s, -1
        window: _Window[Batch] = _Window(self.task)
        found: Mapping[str, object] = {}
        stopping = False
        while self._budget.share(self.progress) < 1 and not stopping:
            rates = self._rates()
            stepped = self._stepper.step(self.progress.step, rates)
            self._average.update(self.progress.step)
            window.add(stepped)
            trained_s, stop = self._stepper.agree((begun_s + elapsed_s(self._clock, started), float(self._stopping)))
            stopping = bool(stop)
            self._count(stepped, trained_s)
            if self.progress.step % self._cadence.log_steps == 0:
                self._log({**self._summary(window), **self._rate_entry(rates)})
                window = _Window(self.task)
            if self.progress.step % self._cadence.check_steps == 0:
                found, checked_step = self.check(), self.progress.step
                self._log(found)
            if self._save_is_due(trained_s - saved_s):
                self.save()
                saved_s = trained_s
        self.save()
        if stopping:
            raise KeyboardInterrupt
        if checked_step != self.progress.step:
            found = self.check()
            self._log(found)
        return found

    def stop(self) -> None:
        """Let ``run`` end after the step it is in; it saves and raises KeyboardInterrupt."""
        self._stopping = True

    def save(self) -> None:
        """Write a checkpoint unless the newest is of this step; every process must call it."""
        if self._saved_step == self.progress.step:
            return
        state = state_tensors(self.task.module, self._average.tensors, self._stepper.optimizer)
        if self._stepper.is_main:
            self._store.save(((name, tensor.cpu()) for name, tensor in state), self.progress, self.meta())
        else:
            for _ in state:
                # Sharded tensors are put together by all processes, also by those that do not write.
                pass
        self._stepper.wait()
        self._saved_step = self.progress.step

    def check(self) -> Mapping[str, object]:
        """Run the task's check with the averaged weights."""
        with self._average.applied():
            return self.task.check()

    def _save_is_due(self, since_s: float) -> bool:
        every = self._cadence.save_steps
        return since_s > self._cadence.save_s or bool(every and self.progress.step % every == 0)

    def _rates(self) -> tuple[float, ...]:
        step, share = self.progress.step, self._budget.share(self.progress)
        return tuple(self._schedule.rate(peak, step, share, self._budget.steps) for peak in self._peaks)

    def _rate_entry(self, rates: Sequence[float]) -> Mapping[str, object]:
        return {"lr": rates[0] if len(rates) == 1 else dict(zip(self._names, rates, strict=True))}

    def _count(self, stepped: Stepped[Batch], trained_s: float) -> None:
        self.progress = Progress(
            self.progress.step + 1,
            self.progress.samples + stepped.samples,
            self.progress.fine_grained + stepped.fine_grained,
            trained_s,
        )
        for sink in self._sinks if self._stepper.is_main else ():
            sink.advance(self.progress.step, self._budget.share(self.progress))

    def _summary(self, window: _Window[Batch]) -> Mapping[str, object]:
        return _merged(self._stepper.collect(window.sums()), self.task.info.sample_error, self.task.info.group_kind)

    def _log(self, entry: Mapping[str, object]) -> None:
        if not entry:
            return
        p = self.progress
        whole = {"step": p.step, "samples": p.samples, "trained_s": round(p.trained_s, 1), "fg_share": p.fg_share}
        for sink in self._sinks if self._stepper.is_main else ():
            sink.write(p.step, {**whole, **entry})

    def close(self) -> None:
        """Close the log, and give back threads and process groups."""
        for sink in self._sinks:
            with suppress(OSError):
                sink.close()
        self._stepper.close()


def _changed(begun: str, now: str) -> str:
    """Return what a recipe says now that it did not say when the run was begun, besides what may change."""
    old, new = (_flat(json.loads(text)) for text in (begun, now))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in BUDGET_KEYS]
    return ", ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys)


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


# (sum, count) by name: of the terms, and of the errors of each group.
_Sums = tuple[dict[str, tuple[float, int]], dict[str, tuple[float, int]]]


class _Window(Generic[Batch]):
    """What was seen between two lines of the log."""

    def __init__(self, task: Task[Batch]) -> None:
        self._task = task
        self._groups: dict[str, list[float]] = defaultdict(list)
        self._terms: dict[str, list[float]] = defaultdict(list)

    def add(self, stepped: Stepped[Batch]) -> None:
        for batch, found in stepped.parts:
            values = found.per_sample.float().cpu().numpy()
            for group, value in zip(self._task.groups(batch), values, strict=True):
                self._groups[group].append(float(value))
            self._terms[self._task.info.sample_error].append(float(values.mean()))
            self._terms["total"].append(float(found.total))
            for name, term in found.terms.items():
                self._terms[name].append(float(term))
        self._terms["grad_norm"].append(stepped.grad_norm)

    def sums(self) -> _Sums:
        def summed(listed: Mapping[str, list[float]]) -> dict[str, tuple[float, int]]:
            return {name: (float(np.sum(values)), len(values)) for name, values in listed.items()}

        return summed(self._terms), summed(self._groups)


def _merged(processes: Sequence[_Sums], error: str, kind: str) -> Mapping[str, object]:
    """Return the means over all processes."""

    def means(parts: Sequence[Mapping[str, tuple[float, int]]]) -> dict[str, float]:
        names = dict.fromkeys(name for part in parts for name in part)
        found = {}
        for name in names:
            held = [part[name] for part in parts if name in part]
            found[name] = float(f"{sum(s for s, _ in held) / sum(n for _, n in held):.6g}")
        return found

    terms, groups = means([p[0] for p in processes]), means([p[1] for p in processes])
    return {**terms, f"{error}_by_{kind}": dict(sorted(groups.items()))}

"""`finevla train tabletop-*` from a dataset to a trained checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from finevla_runtime.contracts.clock import Clock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.paths import HW_CONFIGS
from training.average import Average
from training.checkpoint_store import CheckpointStore, SingleFile
from training.data.tabletop_dataset import TabletopDataset, open_tabletop_dataset
from training.distributed import refuse_missing_gpu
from training.log_sinks import LogSink, Report, Screen, open_sinks
from training.policy_spec import fit_policy_spec
from training.recipes.tabletop import TabletopRecipe
from training.schedule import Schedule
from training.starting_point import read_starting_point
from training.stepping import LocalStepper, OptimiserSettings
from training.tabletop_task import TabletopTask
from training.tokenizer import build_tokenizer
from training.trainer import Budget, Cadence, Trainer

DEVICES = ("auto", "cpu", "cuda")
LOGGERS = ("tensorboard",)


@dataclass(frozen=True)
class Job:
    """What to train and where.

    Attributes:
        recipe: settings.
        dataset: folder of the LeRobot dataset.
        out: run folder; a checkpoint in it is resumed.
        cache: folder of decoded frames.
        init: checkpoint to take weights from, when the run folder has none.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads.
        loggers: besides JSON lines and the screen; see ``training.log_sinks``.
    """

    recipe: TabletopRecipe
    dataset: Path
    out: Path
    cache: Path
    init: Path | None = None
    device: str = "auto"
    threads: int = 2
    loggers: tuple[str, ...] = LOGGERS


def train(
    job: Job, clock: Clock, report: Report, cadence: Cadence | None = None, screen: LogSink | None = None
) -> Path:
    """Train a policy, resuming when the run folder holds a checkpoint; return the checkpoint.

    SIGTERM and Ctrl-C end the run after its current step; the state is saved, and the same command goes on.

    Args:
        job: what to train and where.
        clock: counts the minutes.
        report: takes lines for people.
        cadence: steps between side jobs.
        screen: takes the log; lines of JSON through ``report`` when None.

    Raises:
        SetupError: FV-TRN-* and FV-REC-* for bad data, settings or checkpoints.
    """
    torch.set_num_threads(job.threads)
    device = _device(job.device)
    recipe = job.recipe
    dataset = _open(job, report)
    embodiment = load_embodiment(HW_CONFIGS / f"{dataset.source.format.robot_type}.yaml")
    spec = fit_policy_spec(recipe, dataset.source.format, embodiment, dataset.store.action)
    task = TabletopTask(recipe, dataset, spec, build_tokenizer(dataset.texts()), device)
    report(task.summary())
    shards = min(job.threads, recipe.mixture.batch // 2) if device.type == "cpu" else 1
    store = SingleFile(job.out)
    trainer = Trainer(
        task,
        LocalStepper(task, OptimiserSettings(weight_decay=recipe.weight_decay), shards),
        Schedule("cosine_times_warmup", recipe.warmup_steps),
        Budget(recipe.steps, recipe.minutes),
        Average(task.module, recipe.ema),
        store,
        clock,
        cadence or Cadence(),
    )
    begin(trainer, store, job.init, report)
    screen = screen or Screen(report)
    sinks = open_sinks(job.out, job.loggers, screen, trainer.progress.step, recipe.name, asdict(recipe))
    run_until_stopped(trainer, sinks, report)
    return store.path


def begin(trainer: Trainer[Any], store: CheckpointStore, init: Path | None, report: Report) -> None:
    """Resume the run's own checkpoint, or start from the weights of another one, or afresh.

    Raises:
        SetupError: FV-TRN-009, FV-TRN-010 and FV-TRN-012 for checkpoints that do not fit.
    """
    found = store.load()
    if found is not None:
        trainer.resume(found)
        done = trainer.progress
        report(f"resumed {store.path} at step {done.step}, {done.trained_s / 60:.1f} minutes in")
    elif init is not None:
        trainer.warm_start(read_starting_point(init))
        report(f"started from the weights of {init}")


def run_until_stopped(trainer: Trainer[Any], sinks: tuple[LogSink, ...], report: Report) -> None:
    """Run a trainer; SIGTERM and Ctrl-C end it after its current step, with its state saved.

    Raises:
        KeyboardInterrupt: after a signal.
        SetupError: FV-TRN-013 when a loss is not finite.
    """
    try:
        with _signals(trainer.stop):
            trainer.run(sinks)
    except KeyboardInterrupt:
        report(f"stopped at step {trainer.progress.step}; run the same command again to go on")
        raise
    finally:
        trainer.close()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    def ask_to_stop(signum: int, frame: FrameType | None) -> None:
        stop()

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _open(job: Job, report: Report) -> TabletopDataset:
    def progress(done: int, total: int) -> None:
        if done == total or done % 160 == 0:
            report(f"decoded {done} of {total} episodes")

    return open_tabletop_dataset(
        job.dataset, job.recipe.cameras, job.recipe.frame_stride, job.cache, job.threads, progress
    )


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise unknown_name("FV-TRN-014", "device", name, DEVICES)
    refuse_missing_gpu(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)

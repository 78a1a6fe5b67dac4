"""`finevla train tabletop-oft` from a dataset to a trained checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from finevla_runtime.contracts.clock import Clock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.paths import HW_CONFIGS
from training.checkpoint import load_checkpoint
from training.data.tabletop_dataset import TabletopDataset, open_tabletop_dataset
from training.policy_spec import fit_policy_spec
from training.recipes import Recipe
from training.tokenizer import build_tokenizer
from training.trainer import CHECKPOINT, Cadence, Trainer

Report = Callable[[str], None]
DEVICES = ("auto", "cpu", "cuda")


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
    """

    recipe: Recipe
    dataset: Path
    out: Path
    cache: Path
    init: Path | None = None
    device: str = "auto"
    threads: int = 2


def train(job: Job, clock: Clock, report: Report, cadence: Cadence | None = None) -> Path:
    """Train a policy, resuming when the run folder holds a checkpoint; return the checkpoint.

    SIGTERM and Ctrl-C end the run after its current step; the state is saved, and the same command goes on.

    Raises:
        SetupError: FV-TRN-* and FV-REC-* for bad data, settings or checkpoints.
    """
    torch.set_num_threads(job.threads)
    device = _device(job.device)
    dataset = _open(job, report)
    embodiment = load_embodiment(HW_CONFIGS / f"{dataset.source.format.robot_type}.yaml")
    spec = fit_policy_spec(job.recipe, dataset.source.format, embodiment, dataset.store.action)
    tokenizer_json = build_tokenizer(dataset.texts())
    trainer = Trainer(job.recipe, dataset, spec, tokenizer_json, job.out, clock, report, device, cadence, job.threads)
    path = job.out / CHECKPOINT
    if path.exists():
        trainer.resume(load_checkpoint(path))
        report(f"resumed {path} at step {trainer.progress.step}, {trainer.progress.trained_s / 60:.1f} minutes in")
    elif job.init is not None:
        trainer.warm_start(load_checkpoint(job.init))
        report(f"started from the averaged weights of {job.init}")

    def ask_to_stop(signum: int, frame: FrameType | None) -> None:
        trainer.stop()

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        trainer.run()
    except KeyboardInterrupt:
        report(f"stopped at step {trainer.progress.step}; run the same command again to go on")
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return path


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
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)

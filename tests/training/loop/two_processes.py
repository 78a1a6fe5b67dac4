"""Program that ``torchrun`` starts twice: trains what its argument lists, one run after the other.

Each argument is ``FOLDER:TASK:STRATEGY``. ``synthetic`` runs end in an error on purpose: sample 29 is bad, and only
one of the two processes holds it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState

from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.errors import SetupError
from tests.training.loop.synthetic_task import SyntheticTask
from training.average import Average
from training.checkpoint_store import FolderRow
from training.data.vla_dataset import DataSource
from training.distributed import AccelerateStepper, Spread, open_accelerator
from training.recipes import VLARecipe, vla_recipe
from training.schedule import Schedule
from training.stepping import OptimiserSettings
from training.train_vla import VLAJob, train_vla
from training.trainer import Budget, Cadence, Trainer

STEPS = 4


def recipe(name: str, root: Path, per_device: int) -> VLARecipe:
    return replace(
        vla_recipe(name),
        backbone=str(root / "backbone"),
        image_px=32,
        steps=STEPS,
        global_batch=8,
        batch_per_device=per_device,
        ema=0.5,
        save_steps=2,
    )


def train_tiny(out: Path, name: str, strategy: str, per_device: int = 4) -> None:
    root = out.parent
    source = DataSource(root / "demos")
    settings = recipe(name, root, per_device)
    job = VLAJob(settings, (source,), out, root / "cache", device="cpu", strategy=strategy, workers=1, loggers=())
    train_vla(job, ManualClock(), lambda line: None)


def train_bad(out: Path, strategy: str) -> None:
    spread = Spread("cpu", strategy)
    accelerator = open_accelerator(spread)
    task = SyntheticTask(bad=29)
    stepper = AccelerateStepper(task, OptimiserSettings(), accelerator, spread)
    trainer = Trainer(
        task,
        stepper,
        Schedule("constant"),
        Budget(steps=9),
        Average(task.module, 0.0),
        FolderRow(out),
        ManualClock(),
        Cadence(100, 100, 1e9),
    )
    try:
        trainer.run()
    except SetupError as error:
        (out.parent / f"{out.name}.{accelerator.process_index}").write_text(str(error))
    trainer.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    # The runs share one process group, which is left when all are done.
    AccelerateStepper.close = lambda self: None
    for entry in sys.argv[1:]:
        folder, task_name, chosen = entry.split(":")
        if task_name == "synthetic":
            train_bad(Path(folder), chosen)
        else:
            train_tiny(Path(folder), task_name, chosen)
    PartialState().destroy_process_group()

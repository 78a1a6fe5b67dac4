"""`finevla train RECIPE` for policies on a vision-language backbone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finevla_runtime.cli.options import parse

if TYPE_CHECKING:
    from training.data.vla_dataset import DataSource
    from training.recipes import VLARecipe

TINY = "tiny"


@dataclass(frozen=True)
class VLAOptions:
    """Train an OFT or GR00T policy on a vision-language backbone from LeRobot datasets.

    Run the same command again to go on after an interruption. On several GPUs or machines start it with torchrun:
    torchrun --nproc-per-node 8 -m finevla_runtime.cli.main train RECIPE --dataset DIR ...
    """

    dataset: tuple[str, ...]
    """LeRobot v2.1 or v3.0 folders; FOLDER=WEIGHT draws from it more or less often. A mixture file (MIXTURE.yaml) lists
    folders with weights, cameras and gripper ranges of their own."""
    out: Path | None = None
    """Run folder: checkpoints, log, small files of the backbone; build/RECIPE when left out."""
    backbone: str | None = None
    """Local Hugging Face folder, or hub:ORGANISATION/NAME; the recipe's when left out."""
    init: Path | None = None
    """Checkpoint of another run, or a policy of `finevla import`, whose weights to start from."""
    fg_raw: str | None = None
    """FG:Raw as a ratio of samples, such as 1:2; raw or fg for one kind alone."""
    steps: int | None = None
    """Optimiser steps."""
    batch: int | None = None
    """Samples per step over all devices."""
    set: tuple[str, ...] = ()
    """KEY=VALUE, any other setting of the recipe, such as learning_rate_head=5e-5 or head.blocks=4."""
    cameras: tuple[str, ...] = ()
    """POLICY_CAMERA=DATASET_CAMERA where the dataset names its cameras otherwise."""
    gripper_open: float | None = None
    """Reading of an open gripper in the folders; 1 when left out."""
    gripper_closed: float | None = None
    """Reading of a closed gripper in the folders; 0 when left out."""
    embodiment: str = ""
    """Body that the policy will drive (file in hw_configs); that of the first dataset when left out."""
    cache: Path | None = None
    """Folder of rows and statistics; OUT/cache when left out."""
    cache_mb: int = 512
    """Memory per process for decoded frames."""
    device: str = "auto"
    """auto, cpu or cuda."""
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    """How several processes share the work."""
    workers: int = 2
    """Threads per process that prepare batches."""
    loggers: tuple[str, ...] = ("tensorboard",)
    """tensorboard, trackio, wandb; training.jsonl is always written."""


def train_recipe(name: str, argv: Sequence[str]) -> int:
    """Train a policy on a vision-language backbone."""
    options = parse(VLAOptions, argv, prog=f"finevla train {name}")
    from finevla_runtime.contracts.clock import SteadyClock
    from training.log_sinks import ProgressBar
    from training.recipes import vla_recipe
    from training.train_vla import VLAJob, train_vla

    out = options.out or Path("build") / name
    recipe = _recipe(vla_recipe(name), options, out)
    job = VLAJob(
        recipe=recipe,
        sources=_sources(options),
        out=out,
        cache=options.cache or out / "cache",
        init=options.init,
        embodiment=options.embodiment,
        device=options.device,
        strategy=options.strategy,
        workers=options.workers,
        cache_mb=options.cache_mb,
        loggers=options.loggers,
    )
    screen = ProgressBar() if sys.stderr.isatty() else None
    checkpoint = train_vla(job, SteadyClock(), _report, screen=screen)
    if int(os.environ.get("RANK", "0")):
        return 0
    # Export takes no cameras and gripper range; a dataset that needs them is named to it by a mixture file.
    plain = not options.cameras and options.gripper_open is None and options.gripper_closed is None
    golden = f" --dataset {options.dataset[0]}" if plain else ""
    sys.stdout.write(f"checkpoint {checkpoint}\nnext: finevla export {out} --out {out}/bundle{golden}\n")
    return 0


def _recipe(recipe: VLARecipe, options: VLAOptions, out: Path) -> VLARecipe:
    from training.recipes.overrides import override

    named = {
        "backbone": options.backbone,
        "fg_raw": options.fg_raw,
        "steps": options.steps,
        "global_batch": options.batch,
    }
    recipe = replace(recipe, **{key: value for key, value in named.items() if value is not None})  # type: ignore[arg-type]
    if options.batch is not None:
        recipe = replace(recipe, batch_per_device=_fitting(options.batch, recipe.batch_per_device))
    recipe = override(recipe, options.set)
    return replace(recipe, backbone=str(_tiny_backbone(out))) if recipe.backbone == TINY else recipe


def _fitting(batch: int, per_device: int) -> int:
    """Return the most samples a device may take at a time that cut ``batch`` evenly over the processes of this run."""
    share = max(1, batch // int(os.environ.get("WORLD_SIZE", "1")))
    return next(size for size in range(min(share, per_device), 0, -1) if share % size == 0)


def _tiny_backbone(out: Path) -> Path:
    """Write the tiny random backbone of the tiny recipes, which rehearse the whole path without any download."""
    from training.policies.tiny_backbone import write_tiny_backbone

    folder = out / "tiny-backbone"
    if not folder.exists():
        aside = out / f".tiny-backbone.{os.getpid()}.partial"
        write_tiny_backbone(aside)
        try:
            os.replace(aside, folder)
        except OSError:
            # Another process of this run was first; what it wrote has the same content.
            shutil.rmtree(aside)
    return folder


def _sources(options: VLAOptions) -> tuple[DataSource, ...]:
    from training.data.gripper_range import GripperRange
    from training.data.named_sources import named_sources

    cameras = dict(_pair(entry, "--cameras") for entry in options.cameras)
    grippers = None
    if options.gripper_closed is not None or options.gripper_open is not None:
        opened = 1.0 if options.gripper_open is None else options.gripper_open
        grippers = GripperRange(closed=options.gripper_closed or 0.0, open=opened)
    return named_sources(options.dataset, cameras, grippers)


def _pair(entry: str, option: str) -> tuple[str, str]:
    from finevla_runtime.contracts.errors import SetupError

    name, equals, value = entry.rpartition("=")
    if not equals or not name or not value:
        raise SetupError("FV-TRN-021", f"{option} {entry!r} is not NAME=VALUE.")
    return name, value


def _report(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

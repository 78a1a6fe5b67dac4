"""`finevla train tabletop-*`: from nothing, or from demonstrations, to a bundle."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finevla_runtime.cli.options import parse


@dataclass(frozen=True)
class TabletopOptions:
    """Train the small steerable policy of the tabletop suite and export its bundle.

    Without --dataset the demonstrations are made first. Run the same command again to go on after an interruption.
    """

    dataset: Path | None = None
    """LeRobot v2.1 dataset of `finevla sim demos`; made inside --out when left out."""
    out: Path | None = None
    """Run folder: checkpoint, log, frames decoded once; build/RECIPE when left out."""
    bundle: Path | None = None
    """Bundle to write at the end; OUT/bundle when left out."""
    init: Path | None = None
    """Checkpoint whose averaged weights to start from (same words and statistics)."""
    cache: Path | None = None
    """Folder of decoded frames; OUT/frames when left out."""
    minutes: float | None = None
    """Minutes of training."""
    steps: int | None = None
    """Training steps instead of minutes; exactly repeatable."""
    batch: int | None = None
    """Samples per step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    fg_share: float | None = None
    """Share of samples with fine-grained text; 0.5 is FG:Raw = 1:1, 0 raw only, 1 fine-grained only."""
    fg_raw: str | None = None
    """The same as a ratio such as 1:2; raw or fg for one kind alone."""
    choice_share: float | None = None
    """Share of paired slots drawn from frames where only the text tells twins apart."""
    raw_from: str | None = None
    """habitual, all or same: the demonstrations that raw texts go with."""
    family_weight: tuple[str, ...] = ()
    """FAMILY=WEIGHT, relative sampling weights; families not named have 1."""
    seed: int | None = None
    """Seed of weights and samples."""
    demo_scenes: int | None = None
    """Scenes per paired family of the demonstrations made when no dataset is given."""
    demo_scenes_unpaired: int | None = None
    """Scenes per family with a single variant."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 0
    """CPU threads; 0 means all cores."""
    workers: int = 0
    """Processes for making demonstrations; 0 means all cores."""
    set: tuple[str, ...] = ()
    """KEY=VALUE, any other setting of the recipe, such as mixture.word_dropout=0."""
    loggers: tuple[str, ...] = ("tensorboard",)
    """tensorboard, trackio, wandb; training.jsonl is always written."""


def train_tabletop(name: str, argv: Sequence[str]) -> int:
    """Train a recipe of the tabletop suite: demonstrations, training, bundle."""
    options = parse(TabletopOptions, argv, prog=f"finevla train {name}")
    from finevla_runtime.contracts.clock import SteadyClock
    from finevla_runtime.contracts.errors import SetupError
    from training.data.fg_share import parse_share
    from training.demonstrations import make_demonstrations
    from training.export.golden import golden_inputs
    from training.export.onnx import export_bundle
    from training.log_sinks import ProgressBar
    from training.recipes import tabletop_recipe
    from training.recipes.overrides import override
    from training.train import Job, train

    if options.fg_share is not None and options.fg_raw is not None:
        raise SetupError("FV-TRN-021", "--fg-share and --fg-raw say the same thing twice; give one of them.")
    if options.threads < 0 or options.workers < 0:
        raise SetupError("FV-TRN-021", "--threads and --workers must be 0 (all cores) or more.")
    cores = os.cpu_count() or 1
    recipe = tabletop_recipe(name)
    changed: dict[str, Any] = {
        "minutes": options.minutes,
        # A time asked for takes the place of the recipe's steps.
        "steps": 0 if options.minutes and options.steps is None else options.steps,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
        "demo_scenes": options.demo_scenes,
        "demo_scenes_unpaired": options.demo_scenes_unpaired,
    }
    mixed: dict[str, Any] = {
        "batch": options.batch,
        "fg_share": options.fg_share if options.fg_raw is None else parse_share(options.fg_raw),
        "choice_share": options.choice_share,
        "raw_from": options.raw_from,
    }
    mixture = replace(recipe.mixture, **{k: v for k, v in mixed.items() if v is not None})
    if options.family_weight:
        mixture = replace(mixture, family_weights=_weights(options.family_weight))
    recipe = replace(
        recipe,
        mixture=mixture,
        **{k: v for k, v in changed.items() if v is not None},
    )
    recipe = override(recipe, options.set)
    out = options.out or Path("build") / name
    dataset = options.dataset or make_demonstrations(
        out / "demos", recipe.demo_scenes, recipe.demo_scenes_unpaired, options.workers or cores
    )
    cache = options.cache or out / "frames"
    job = Job(recipe, dataset, out, cache, options.init, options.device, options.threads or cores, options.loggers)
    screen = ProgressBar() if sys.stderr.isatty() else None
    checkpoint = train(job, SteadyClock(), _report, screen=screen)
    bundle = options.bundle or out / "bundle"
    exported = export_bundle(checkpoint, bundle, golden_inputs(checkpoint, dataset))
    _report(f"graph {exported.graph_bytes / 1e6:.1f} MB, differs from torch by {exported.difference:.1e}")
    sys.stdout.write(f"bundle {bundle}\nnext: finevla serve {bundle}   or   finevla eval tabletop --bundle {bundle}\n")
    return 0


def _weights(entries: Sequence[str]) -> dict[str, float]:
    from finevla_runtime.contracts.errors import SetupError

    weights = {}
    for entry in entries:
        name, _, number = entry.partition("=")
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise SetupError("FV-TRN-007", f"--family-weight {entry!r} is not FAMILY=WEIGHT.") from error
    return weights


def _report(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

"""The verb `finevla reproduce`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finevla_runtime.cli.options import dispatch, parse


@dataclass(frozen=True)
class TabletopOptions:
    """Reproduce the paper's mixing experiment in miniature (Tables 4 and 5, Figure 6).

    Trains seven FG:Raw ratios of each framework from the same demonstrations and the same sequence of frames, evaluates
    each under raw and under fine-grained instructions on the same trials, and writes report.html and report.md. Run the
    same command again to go on after an interruption.
    """

    out: Path = Path("out/reproduce")
    """Folder of the experiment."""
    setting: Literal["cpu", "gpu", "smoke"] = "cpu"
    """cpu: about an hour per framework on two cores; gpu: larger budgets; smoke: minutes, figures mean nothing."""
    frameworks: tuple[Literal["oft", "gr00t"], ...] = ("oft",)
    """oft, gr00t or both."""
    demos: Path | None = None
    """Dataset of `finevla sim demos`; OUT/demos, made first, when left out."""
    workers: int = 0
    """Processes and training threads; 0 means all cores."""
    device: str = "auto"
    """auto, cpu or cuda, for training."""


def _tabletop(argv: Sequence[str]) -> int:
    """Train and evaluate seven FG:Raw ratios on the tabletop suite and report the mixing curve."""
    options = parse(TabletopOptions, argv, prog="finevla reproduce tabletop")
    from training.reproduce.page import write_mixing_report
    from training.reproduce.plan import Experiment, find_setting
    from training.reproduce.runner import run_experiment

    experiment = Experiment(
        out=options.out,
        setting=find_setting(options.setting),
        frameworks=tuple(options.frameworks),
        demos=options.demos or options.out / "demos",
        workers=options.workers or os.cpu_count() or 1,
        device=options.device,
    )
    run_experiment(experiment, _report)
    page, text = write_mixing_report(experiment)
    sys.stdout.write(f"{text.read_text(encoding='utf-8')}\n{page}\n{text}\n")
    first = experiment.out / "eval" / experiment.frameworks[0]
    sys.stdout.write(f"next: finevla compare {first}-1-1 {first}-raw\n")
    return 0


def reproduce(argv: Sequence[str]) -> int:
    """Reproduce an experiment of the paper: tabletop."""
    return dispatch("finevla reproduce", {"tabletop": _tabletop}, argv)


def _report(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

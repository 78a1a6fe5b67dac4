"""Verb `finevla import`."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.cli.options import parse


@dataclass(frozen=True)
class ImportOptions:
    """Import a StarVLA or FineVLA run as a checkpoint that export and training can start from.

    What the run does not say for certain is refused with the option that settles it; nothing is guessed.
    """

    run: Path
    """Run folder (config.yaml, dataset_statistics.json, checkpoints/), or one of its weight files."""
    out: Path
    """Folder to write; an older imported policy there is replaced."""
    backbone: Path | None = None
    """Hugging Face folder of the backbone the run was trained from; only its small files are read."""
    embodiment: str | None = None
    """Robot that the policy drives: a file name in hw_configs/ without its ending."""
    control_hz: float | None = None
    """Rows per second of the dataset the run was trained on."""
    step: str | None = None
    """Step number or final, when the run has several checkpoints."""
    tag: str | None = None
    """Embodiment tag, when dataset_statistics.json has several."""
    revision: str | None = None
    """finevla (clients clip to [-1, 1]) or starvla (since 7 May 2026), when the config does not tell."""
    layout: str | None = None
    """Joint order of the run's rows, project or starvla-robotwin, when its mixture is not known."""
    joints: str | None = None
    """Normalisation of joints, in actions and state, when the mixture is not known: q99, min_max or mean_std."""
    grippers: str | None = None
    """Normalisation of grippers when the mixture is not known: binary, q99, min_max or mean_std."""
    cameras: tuple[str, ...] = ()
    """The robot's cameras in the order of the run's views, when their names differ."""
    image_size: int | None = None
    """Side of the square frames the model sees, when the config contradicts the loader's 224."""
    resize: str = "area"
    """Kernel for frames of another size: area, bilinear, bicubic, or refuse."""
    chunk_rows: int | None = None
    """Rows per answer, when the config contradicts itself."""
    execution_rows: int | None = None
    """Rows to execute before the next query; all of them when left out."""
    max_tokens: int | None = None
    """Longest prompt; by default images, markup and 320 tokens of instruction."""
    fg_share: float | None = None
    """Share of fine-grained training samples, when the mixture does not say it."""
    json: bool = False
    """Print one JSON document."""


def import_run(argv: Sequence[str]) -> int:
    """Import a StarVLA or FineVLA run as a checkpoint for export and training."""
    listed = list(argv)
    if listed and not listed[0].startswith("-"):
        listed = ["--run", *listed]
    options = parse(ImportOptions, listed, prog="finevla import")
    from training.importer.action_rule import ActionOptions
    from training.importer.import_job import ImportJob, import_policy

    imported = import_policy(
        ImportJob(
            run=options.run,
            out=options.out,
            embodiment=options.embodiment,
            control_hz=options.control_hz,
            backbone=options.backbone,
            step=options.step,
            tag=options.tag,
            revision=options.revision,
            action=ActionOptions(options.layout, options.joints, options.grippers),
            cameras=options.cameras,
            image_size=options.image_size,
            resize=options.resize,
            chunk_rows=options.chunk_rows,
            execution_rows=options.execution_rows,
            max_tokens=options.max_tokens,
            fg_share=options.fg_share,
        )
    )
    if options.json:
        found = {"checkpoint": str(imported.path), "spec_hash": imported.spec.spec_hash, **imported.provenance}
        sys.stdout.write(json_text.dumps(found, indent=1) + "\n")
        return 0
    lines = [f"{name}: {value}" for name, value in imported.provenance.items()]
    sys.stdout.write("\n".join(lines) + f"\n\ncheckpoint {imported.path}\n")
    sys.stdout.write(f"next: finevla export {imported.path} --out BUNDLE\n")
    return 0

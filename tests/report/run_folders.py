"""Run folders of fake policies, with film strips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from fake_runs import FakePolicy, fake_records, make_fake_manifest

from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.recording.film_strip import film_strip
from finevla_runtime.session.journal import Journal
from finevla_runtime.session.manifest import Manifest, save_manifest

Change = Callable[[TrialRecord], TrialRecord]


def write_run(
    folder: Path,
    policies: Mapping[str, FakePolicy],
    scenes: int = 4,
    families: Sequence[str] = (),
    strips: bool = False,
    change: Change | None = None,
    manifest: Manifest | None = None,
) -> Path:
    """Write manifest, journal and (for the first two scenes) film strips; return the folder."""
    plan = manifest or make_fake_manifest(tuple(policies), scenes, families, name="tabletop run")
    save_manifest(plan, folder / "manifest.json")
    (folder / "artifacts").mkdir()
    picture = make_strip() if strips else b""
    with Journal(folder / "journal.jsonl", plan.hash) as journal:
        for record in fake_records(plan, policies):
            changed = change(record) if change else record
            if strips and changed.trial.scene_seed < 1_000_002:
                name = "artifacts/" + changed.trial.trial_id.replace("/", "-") + ".jpg"
                (folder / name).write_bytes(picture)
                changed = dataclasses.replace(changed, artifacts={"film_strip": name})
            journal.append(changed)
    return folder


def make_strip() -> bytes:
    generator = np.random.default_rng(0)
    frames = [generator.integers(90, 160, (96, 96, 3), dtype=np.uint8) for _ in range(6)]
    return film_strip(frames, 6, "a film strip")

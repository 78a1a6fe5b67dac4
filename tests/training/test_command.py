"""`finevla train tabletop-oft` alone: demonstrations, training, a bundle that loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from finevla_runtime.bundle import load_bundle


def finevla(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finevla_runtime.cli.main", *argv]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_one_command_goes_from_nothing_to_a_bundle_and_resumes_when_repeated(tmp_path: Path) -> None:
    small = ["--demo-scenes", "1", "--demo-scenes-unpaired", "1", "--steps", "2", "--batch", "8", "--workers", "1"]
    command = ["train", "tabletop-oft", "--out", str(tmp_path / "run"), *small]
    first = finevla(*command)
    assert first.returncode == 0, first.stderr[-2000:]
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.spec.name == "tabletop-oft"
    assert bundle.provenance["recipe"]
    again = finevla(*command)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "resumed" in again.stdout + again.stderr
    assert load_bundle(tmp_path / "run" / "bundle").spec == bundle.spec
    # The run folder stands for its checkpoint, and options of staged bundles are not for it.
    exported = finevla("export", str(tmp_path / "run"), "--out", str(tmp_path / "again"))
    assert exported.returncode == 0, exported.stderr[-2000:]
    assert load_bundle(tmp_path / "again").spec == bundle.spec
    assert (
        "FV-EXP-006" in finevla("export", str(tmp_path / "run"), "--out", str(tmp_path / "b"), "--no-programs").stderr
    )


def test_an_unknown_recipe_and_a_missing_dataset_are_refused(tmp_path: Path) -> None:
    assert finevla("train", "tabletop-ofr").returncode == 2
    missing = finevla("train", "tabletop-oft", "--dataset", str(tmp_path / "none"), "--out", str(tmp_path / "run"))
    assert missing.returncode == 1
    assert "FV-" in missing.stderr
    assert "Traceback" not in missing.stderr

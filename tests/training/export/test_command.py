"""From a LeRobot folder to served rows by the commands of the README, with the tiny backbone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.bundle import load_bundle
from policy_server.engines.engine import EngineOptions
from policy_server.served_model import load_engine_checked


def finevla(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finevla_runtime.cli.main", *argv]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("recipe", ["tiny-oft", "tiny-gr00t"])
def test_the_commands_go_from_a_dataset_to_a_bundle_that_serves(recipe: str, demos: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    trained = finevla("train", recipe, "--dataset", str(demos), "--out", str(run), "--steps", "2", "--fg-raw", "1:2")
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert "next: finevla export" in trained.stdout
    exported = finevla("export", str(run), "--out", str(bundle), "--dataset", str(demos), "--json", "--no-programs")
    assert exported.returncode == 0, exported.stderr[-2000:]
    told = json.loads(exported.stdout)
    assert told["difference"] < 1e-4
    loaded = load_bundle(bundle)
    assert json.loads(loaded.provenance["recipe"])["name"] == recipe
    assert loaded.provenance["training_steps"] == "2"
    engine, _ = load_engine_checked(loaded, "onnxruntime", EngineOptions(threads=1))
    rows = engine.run({name: np.asarray(value)[:1] for name, value in loaded.parity.inputs.items()})
    assert rows.shape == (1, 16, 14)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = finevla("export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle"))
    assert found.returncode == 1
    assert "FV-TRN-009" in found.stderr
    assert "Traceback" not in found.stderr

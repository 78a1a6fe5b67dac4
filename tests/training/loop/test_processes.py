"""Two processes learn what one does: real ones, started by torchrun, meeting over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import write_dataset
from tests.training.loop.two_processes import STEPS, train_tiny
from training.checkpoint import load_checkpoint
from training.log_sinks import LOG
from training.policies.tiny_backbone import write_tiny_backbone

ROOT = Path(__file__).resolve().parents[3]
RUNS = (("tiny-oft", "ddp"), ("tiny-gr00t", "ddp"), ("tiny-gr00t", "fsdp2"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train everything in two processes, and each recipe in this one with two halves added up."""
    root = tmp_path_factory.mktemp("processes")
    write_tiny_backbone(root / "backbone")
    write_dataset(root / "demos", scenes=3)
    for name in ("tiny-oft", "tiny-gr00t"):
        train_tiny(root / f"one-{name}", name, "ddp")
    runs = [f"{root / f'two-{name}-{strategy}'}:{name}:{strategy}" for name, strategy in RUNS]
    runs += [f"{root / 'bad'}:synthetic:ddp"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "tests.training.loop.two_processes", *runs]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return root


def curve(folder: Path) -> list[tuple[int, float, float]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [(line["samples"], line["total"], line["grad_norm"]) for line in lines if "total" in line]


@pytest.mark.parametrize(("name", "strategy"), RUNS)
def test_two_processes_have_the_loss_curve_of_one(name: str, strategy: str, root: Path) -> None:
    one, two = curve(root / f"one-{name}"), curve(root / f"two-{name}-{strategy}")
    assert len(one) == len(two) == STEPS
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4)


@pytest.mark.parametrize(("name", "strategy"), RUNS)
def test_their_checkpoint_is_that_of_one_process(name: str, strategy: str, root: Path) -> None:
    one, two = load_checkpoint(root / f"one-{name}"), load_checkpoint(root / f"two-{name}-{strategy}")
    assert one.progress == two.progress
    assert set(one.tensors) == set(two.tensors)
    for name_of, tensor in one.tensors.items():
        assert two.tensors[name_of].shape == tensor.shape
        if name_of.startswith("ema."):
            assert torch.allclose(two.tensors[name_of], tensor, atol=2e-3), name_of


def test_a_checkpoint_of_sharded_processes_goes_on_in_one(root: Path) -> None:
    folder = root / "two-tiny-gr00t-fsdp2"
    newest = folder / "checkpoints" / f"step_{STEPS:08d}"
    wanted, kept = load_checkpoint(newest), curve(folder)
    named = {name: tensor.clone() for name, tensor in wanted.tensors.items()}
    newest.rename(root / "aside")
    train_tiny(folder, "tiny-gr00t", "ddp")
    assert curve(folder)[2:] == [pytest.approx(line, rel=2e-4) for line in kept[2:]]
    resumed = load_checkpoint(newest)
    for name, tensor in named.items():
        if name.startswith("ema."):
            assert torch.allclose(resumed.tensors[name], tensor, atol=2e-3), name


def test_a_bad_sample_of_one_process_stops_all_with_its_place(root: Path) -> None:
    said = [(root / f"bad.{rank}").read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert "FV-TRN-013" in said[0]
    assert "step 3; first at episode 3, frame 5" in said[0]

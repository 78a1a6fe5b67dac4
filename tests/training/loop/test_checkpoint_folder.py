"""Checkpoint folders are whole or absent, whatever is killed when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from finevla_runtime.contracts.errors import SetupError
from tests.training.loop.killed_saves import save, state
from training.checkpoint import Progress, load_checkpoint, load_weights, restore, state_tensors
from training.checkpoint_folder import checkpoints, save_checkpoint_folder

ROOT = Path(__file__).resolve().parents[3]


def test_a_kill_at_any_file_operation_leaves_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.loop.killed_saves", str(tmp_path / "row")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) > 15
    for kill in kills:
        assert kill["step"] in (3, 4)
        assert kill["numbers"] == [kill["step"]]
        assert kill["tensors"] == 3
        # The next save clears what was left over and keeps the newest two.
        assert kill["after"] == ([4, 5] if kill["step"] == 4 else [3, 5])
        assert kill["left"] == [f"step_{step:08d}" for step in kill["after"]]
    assert {kill["step"] for kill in kills} == {3, 4}


def test_only_the_newest_stay_and_any_folder_above_them_finds_the_newest(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        save(tmp_path / "checkpoints", step)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step_00000020", "step_00000100"]
    for place in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "step_00000100"):
        assert load_checkpoint(place).progress.step == 100


def test_what_lost_its_state_makes_room_for_a_checkpoint_of_the_same_step(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints", 20)
    (tmp_path / "checkpoints" / "step_00000020" / "state.json").unlink()
    save(tmp_path / "checkpoints", 20)
    assert load_checkpoint(tmp_path).progress.step == 20


def test_a_module_comes_back_with_average_and_moments(tmp_path: Path) -> None:
    def made(seed: int) -> tuple[nn.Module, torch.optim.AdamW]:
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        return module, torch.optim.AdamW(module.parameters(), 1e-2)

    module, optimizer = made(1)
    for _ in range(3):
        module(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    average = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    saved = save_checkpoint_folder(
        tmp_path, state_tensors(module, average, optimizer), Progress(3), {"spec": "text\nof lines"}, keep=1
    )
    other, others = made(2)
    kept = {name: torch.zeros_like(tensor) for name, tensor in other.state_dict().items()}
    checkpoint = load_checkpoint(saved)
    restore(checkpoint, other, kept, others)
    assert checkpoint.meta == {"spec": "text\nof lines"}
    assert checkpoint.weights == "ema"
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
        assert torch.equal(tensor + 1, kept[name])
    for mine, theirs in zip(module.parameters(), other.parameters(), strict=True):
        for key, value in optimizer.state[mine].items():
            assert torch.equal(value, others.state[theirs][key])
    # The fused optimiser of a GPU wants its count of steps there too.
    elsewhere = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to("meta")
    moved = torch.optim.AdamW(elsewhere.parameters(), 1e-2)
    restore(checkpoint, elsewhere, {}, moved)
    assert {value.device.type for state in moved.state.values() for value in state.values()} == {"meta"}
    with pytest.raises(SetupError, match="another network") as caught:
        load_weights(checkpoint, "model", nn.Linear(3, 4))
    assert caught.value.code == "FV-TRN-010"
    with pytest.raises(SetupError, match="has shape"):
        load_weights(checkpoint, "model", nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)))


@pytest.mark.parametrize("damage", ["state.json", "model-00001.safetensors", "cut"])
def test_a_damaged_folder_is_refused_with_its_place(damage: str, tmp_path: Path) -> None:
    folder = save_checkpoint_folder(tmp_path, state(1), Progress(1), {}, keep=1)
    if damage == "cut":
        piece = folder / "model-00001.safetensors"
        piece.write_bytes(piece.read_bytes()[:100])
    else:
        (folder / damage).unlink()
    with pytest.raises(SetupError, match="step_00000001") as caught:
        load_checkpoint(folder)
    assert caught.value.code == "FV-TRN-009"

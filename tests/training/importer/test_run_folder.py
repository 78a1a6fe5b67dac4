"""Finding the files of a run: never the wrong one, never silently."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finevla_runtime.contracts.errors import SetupError
from tests.training.importer.foreign_run import write_run, write_weights
from training.importer.run_folder import open_run

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9000000000\n"
TENSORS = {"action_model.x": torch.zeros(2)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", TENSORS)


def refusal(path: Path, step: str | None = None) -> SetupError:
    with pytest.raises(SetupError) as caught:
        open_run(path, step)
    return caught.value


def test_the_only_checkpoint_is_taken_without_asking(run: Path) -> None:
    found = open_run(run)
    assert found.weights.name == "steps_100_pytorch_model.pt"
    assert found.step == "100"
    assert [file.name for file in found.configs] == ["config.yaml", "config.full.yaml"]


def test_a_weight_file_can_be_named_instead_of_its_run(run: Path) -> None:
    found = open_run(run / "checkpoints" / "steps_100_pytorch_model.pt")
    assert (found.path, found.step) == (run, "100")


def test_several_checkpoints_are_listed_and_none_is_picked(run: Path) -> None:
    write_weights(run / "checkpoints" / "steps_20_model.safetensors", TENSORS)
    write_weights(run / "final_model" / "pytorch_model.pt", TENSORS)
    error = refusal(run)
    assert error.code == "FV-IMP-004"
    assert "20, 100, final" in error.message
    assert open_run(run, "20").weights.suffix == ".safetensors"
    assert open_run(run, "final").weights.parent.name == "final_model"


def test_an_unknown_step_lists_the_steps_that_exist(run: Path) -> None:
    error = refusal(run, "7")
    assert error.code == "FV-IMP-004"
    assert "100" in error.message


def test_one_step_in_two_formats_is_refused_because_they_may_differ(run: Path) -> None:
    write_weights(run / "checkpoints" / "steps_100_model.safetensors", TENSORS)
    assert refusal(run).code == "FV-IMP-004"


def test_other_files_beside_the_checkpoints_are_not_taken_for_weights(run: Path) -> None:
    (run / "checkpoints" / "steps_100_optimizer.pt").write_bytes(b"x")
    assert open_run(run).step == "100"


@pytest.mark.parametrize("missing", ["dataset_statistics.json", "config.yaml"])
def test_a_folder_that_is_no_run_says_what_it_lacks(run: Path, missing: str) -> None:
    for name in ("config.full.yaml", missing):
        (run / name).unlink()
    error = refusal(run)
    assert error.code == "FV-IMP-001"
    assert missing in error.message


def test_a_run_without_weights_is_refused(run: Path) -> None:
    (run / "checkpoints" / "steps_100_pytorch_model.pt").unlink()
    assert refusal(run).code == "FV-IMP-004"


@pytest.mark.parametrize("name", ["checkpoints/steps_100_pytorch_model.pt", "dataset_statistics.json", "config.yaml"])
def test_a_git_lfs_pointer_is_recognised_and_explained(run: Path, name: str) -> None:
    (run / name).write_text(POINTER)
    error = refusal(run)
    assert error.code == "FV-IMP-003"
    assert "git lfs pull" in error.message

"""Reading foreign weights: nothing in a file runs, nothing damaged passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError
from tests.training.importer.foreign_run import write_weights
from training.importer.weight_file import read_weights

FORMATS = ("model.pt", "model.safetensors")


def refusal(path: Path) -> SetupError:
    with pytest.raises(SetupError) as caught:
        read_weights(path)
    return caught.value


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_tensors_come_back_exactly(path: Path) -> None:
    written = {"a": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "c": torch.randn(2).half()}
    write_weights(path, written)
    read = read_weights(path)
    assert set(read) == set(written)
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in written.items())


def test_a_file_in_torchs_old_format_is_read_too(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(tmp_path / "old.pt")["a"], torch.ones(3))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    write_weights(path, {"a": torch.randn(64, 64)})
    os.truncate(path, int(path.stat().st_size * kept))
    assert refusal(path).code == "FV-IMP-005"


def test_random_bytes_are_refused(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)
    assert refusal(path).code == "FV-IMP-005"


class Touch:
    """What a malicious file does: its loading would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_pt_file_is_refused_and_never_runs(tmp_path: Path) -> None:
    torch.save({"a": Touch(tmp_path / "ran")}, tmp_path / "bad.pt")
    error = refusal(tmp_path / "bad.pt")
    assert error.code == "FV-IMP-006"
    assert "mkdir" in error.message
    assert "weights_only" in error.message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [nn.Linear(2, 2), {"model": {"a": torch.ones(1)}}, {"a": torch.ones(1), "step": 7}, [torch.ones(1)]],
    ids=["module", "nested", "number", "list"],
)
def test_a_pt_file_with_anything_but_named_tensors_is_explained(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "more.pt")
    error = refusal(tmp_path / "more.pt")
    assert error.code == "FV-IMP-006"
    assert "state_dict" in error.message


@pytest.mark.parametrize("wrong", [torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.float64)])
def test_a_tensor_of_another_type_is_refused_by_name(path: Path, wrong: Tensor) -> None:
    write_weights(path, {"fine": torch.ones(1), "wrong": wrong})
    error = refusal(path)
    assert error.code == "FV-IMP-007"
    assert "wrong" in error.message


def test_weights_of_a_diverged_run_are_refused(path: Path) -> None:
    write_weights(path, {"a": torch.tensor([1.0, float("nan")])})
    assert refusal(path).code == "FV-IMP-007"

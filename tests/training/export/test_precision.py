"""A bundle may hold a half-precision backbone; its tolerance is measured, and its weights take half the room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions
from policy_server.engines.engine_record import default_precision
from policy_server.engines.tensorrt_build import build_engine
from policy_server.engines.tensorrt_library import tensorrt_library
from policy_server.served_model import load_engine_checked
from tests.training.export.conftest import make_source
from training.export.staged_bundle import StagedOptions, export_staged
from training.export.torch_operations import TorchOperations
from training.export_cli import export_checkpoint
from training.policies.image_patches import bicubic_weights

CPU = EngineOptions(threads=1)
LEAN = StagedOptions((400,), programs=False)


@pytest.mark.parametrize("framework", ["oft", "gr00t"])
def test_float16_answers_stay_within_a_measured_tolerance_of_float32(framework: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, framework, "qwen3_5", False)
    whole = export_staged(source, tmp_path / "whole", LEAN)
    half = export_staged(source, tmp_path / "half", replace(LEAN, precision="float16"))
    parity = half.bundle.parity
    assert np.array_equal(parity.outputs["actions"], whole.bundle.parity.outputs["actions"])
    assert 1e-4 < half.difference <= parity.atol / 2 + 1e-9
    assert whole.bundle.parity.atol < parity.atol <= (parity.atol_half or 0.0)
    assert {half.bundle.provenance["precision"], whole.bundle.provenance["precision"]} == {"float16", "float32"}
    _, difference = load_engine_checked(half.bundle, "onnxruntime", CPU)
    assert difference <= parity.atol
    assert {p.dtype for n, p in source.policy.named_parameters() if n.startswith("head.")} == {torch.float32}
    backbone = sum(p.numel() * 4 for p in source.policy.backbone.parameters())
    assert 0.4 * backbone < whole.weights_bytes - half.weights_bytes <= 0.5 * backbone


def test_a_policy_whose_weights_are_bfloat16_is_exported_as_what_it_is(tmp_path: Path) -> None:
    source = make_source(tmp_path, "oft", "qwen3_5", False)
    source.policy.backbone.model.to(torch.bfloat16)
    exported = export_staged(source, tmp_path / "bundle", replace(LEAN, tensorrt=False))
    assert exported.difference < 1e-4


def test_frames_are_resized_exactly_in_every_precision() -> None:
    ops, rng = TorchOperations(), np.random.default_rng(1)
    pixels = torch.from_numpy(rng.integers(0, 256, (3, 224, 224)).astype(np.float32))
    kernel = torch.from_numpy(bicubic_weights(224, 256).astype(np.float32))
    wanted = torch.from_numpy(pixels.numpy().astype(np.float64) @ kernel.numpy().astype(np.float64).T)
    with torch.autocast("cpu", torch.bfloat16):
        found = ops.exact_product(pixels, kernel.t())
    assert torch.equal(found, wanted.float())


def test_bfloat16_is_for_tensorrt_and_torch_and_says_so(tmp_path: Path) -> None:
    source = make_source(tmp_path, "oft", "qwen3_vl", False)
    exported = export_staged(source, tmp_path / "bundle", replace(LEAN, programs=True, precision="bfloat16"))
    assert "prefix" not in exported.bundle.graphs
    assert 1e-4 < exported.difference <= exported.bundle.parity.atol
    _, difference = load_engine_checked(exported.bundle, "torch", CPU)
    assert difference <= exported.bundle.parity.atol
    said: list[str] = []
    build_engine(exported.bundle, tmp_path / "engine", "bf16", 1, tensorrt_library(), said.append)
    assert len(said) == 3
    with pytest.raises(SetupError, match=r"FV-ENG-015: .* is stored in bf16"):
        build_engine(exported.bundle, tmp_path / "other", "fp16", 1, tensorrt_library(), said.append)
    assert default_precision(exported.bundle) == "bf16"
    with pytest.raises(SetupError, match=r"FV-ENG-005.*--engine torch or tensorrt"):
        load_engine_checked(exported.bundle, "onnxruntime", CPU)
    with pytest.raises(SetupError, match=r"FV-ENG-005.*runs in that, not in fp16"):
        load_engine_checked(exported.bundle, "torch", replace(CPU, precision="fp16"))
    with pytest.raises(SetupError, match="bfloat16") as caught:
        export_staged(source, tmp_path / "none", replace(LEAN, tensorrt=False, precision="bfloat16"))
    assert caught.value.code == "FV-EXP-006"
    assert not (tmp_path / "none").exists()


def test_a_static_graph_that_strays_is_found_before_the_bundle_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.export.operations import Operations

    source = make_source(tmp_path, "oft", "qwen3_5", False)
    exact = Operations.delta_rule
    # Only graphs of fixed length use the chunked rule; the graph for ONNX Runtime stays right.
    monkeypatch.setattr(Operations, "delta_rule", lambda *arguments: exact(*arguments) * 1.01)
    with pytest.raises(SetupError, match="differ from torch") as caught:
        export_staged(source, tmp_path / "bundle", LEAN)
    assert caught.value.code == "FV-EXP-005"
    assert not (tmp_path / "bundle").exists()


def test_an_unknown_precision_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="float16") as caught:
        export_staged(
            make_source(tmp_path, "oft", "qwen3_vl", False), tmp_path / "b", replace(LEAN, precision="flaot16")
        )
    assert caught.value.code == "FV-EXP-006"


def test_a_tabletop_checkpoint_takes_no_precision(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    file.touch()
    with pytest.raises(SetupError, match="tabletop policy") as caught:
        export_checkpoint([str(file), "--out", str(tmp_path / "bundle"), "--precision", "float16"])
    assert caught.value.code == "FV-EXP-006"

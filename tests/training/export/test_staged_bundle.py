"""Staged bundles say what the network says, whatever the prompt's length, the dialect, the batch and the engine."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions
from policy_server.engines.tensorrt_build import build_engine
from policy_server.engines.tensorrt_library import tensorrt_library
from policy_server.served_model import load_engine_checked
from training.export.gated_delta import block_inverse_rule, whole_sequence_rule
from training.export.onnx_graph import external_names
from training.export.policy_source import PolicySource
from training.export.staged_bundle import ExportedStages, StagedOptions, export_staged
from training.export.staged_golden import default_buckets, prompt_length
from training.export.torch_operations import TorchOperations

Case = tuple[PolicySource, ExportedStages]
CPU = EngineOptions(threads=1)


def rows_of(source: PolicySource, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return source.policy.act({name: torch.from_numpy(np.asarray(v)) for name, v in inputs.items()}).numpy()


def with_length(source: PolicySource, exported: ExportedStages, length: int, count: int) -> dict[str, np.ndarray]:
    """Golden inputs whose instruction part is filled or cut so that the prompt has exactly ``length`` tokens."""
    golden = {name: np.asarray(v)[:count] for name, v in exported.bundle.parity.inputs.items()}
    tokens, pad = golden["tokens"].copy(), source.spec.prompt.pad_id
    used = prompt_length({"tokens": tokens[0]}, pad)
    ids = tokens[0, :used]
    place = int(np.flatnonzero(ids == source.policy.backbone.image_token_id)[-1]) + 2
    grown = np.concatenate([ids[:place], np.resize(ids[place : place + 1], length - used), ids[place:]])
    tokens[:] = pad
    tokens[:, :length] = grown
    return {**golden, "tokens": tokens}


def test_the_graphs_say_what_the_network_says(case: Case) -> None:
    assert case[1].difference < 2e-5


def test_every_bucket_has_a_golden_row(case: Case) -> None:
    source, exported = case
    tokens = np.asarray(exported.bundle.parity.inputs["tokens"])
    used = {exported.bundle.plan.bucket(prompt_length({"tokens": row}, source.spec.prompt.pad_id)) for row in tokens}
    assert used == set(exported.bundle.plan.buckets)
    assert exported.bundle.plan.buckets[-1] == source.spec.prompt.max_tokens == 400


@pytest.mark.parametrize("count", [1, 3])
def test_a_prompt_of_any_length_is_answered_alike_at_the_edges_of_buckets_and_blocks(case: Case, count: int) -> None:
    source, exported = case
    engine, _ = load_engine_checked(exported.bundle, "onnxruntime", CPU)
    plan = exported.bundle.plan
    shortest = prompt_length(
        {"tokens": np.asarray(exported.bundle.parity.inputs["tokens"])[0]}, source.spec.prompt.pad_id
    )
    lengths = {shortest + 1, plan.buckets[0] - 1, plan.buckets[0], plan.buckets[0] + 1, 300, 400}
    count = min(count, len(exported.bundle.parity.inputs["tokens"]))
    for length in sorted(length for length in lengths if length > shortest):
        inputs = with_length(source, exported, length, count)
        assert np.abs(engine.run(inputs) - rows_of(source, inputs)).max() < 1e-4, length


def test_the_torch_engine_runs_the_programs_of_the_bundle(case: Case) -> None:
    source, exported = case
    if not exported.bundle.programs:
        assert "graphs/weights.json" not in exported.bundle.files
        return
    engine, difference = load_engine_checked(exported.bundle, "torch", CPU)
    assert difference < 2e-5
    inputs = with_length(source, exported, 333, 1)
    assert np.abs(engine.run(inputs) - rows_of(source, inputs)).max() < 1e-4
    _, in_half = load_engine_checked(exported.bundle, "torch", EngineOptions(threads=1, precision="bf16"))
    assert difference < in_half <= (exported.bundle.parity.atol_half or 0.0)


def test_no_operation_of_a_program_names_a_device_so_that_it_runs_on_any(case: Case) -> None:
    for name, path in case[1].bundle.programs.items():
        with zipfile.ZipFile(path) as archive:
            model = json.loads(archive.read(next(n for n in archive.namelist() if n.endswith("models/model.json"))))
        for node in model["graph_module"]["graph"]["nodes"]:
            assert not [i for i in node["inputs"] if "as_device" in i["arg"]], (name, node["target"])


def test_static_graphs_agree_with_the_graph_of_any_length(case: Case) -> None:
    import onnxruntime

    source, exported = case
    bundle = exported.bundle
    inputs = {name: np.asarray(v)[:1] for name, v in bundle.parity.inputs.items()}
    sessions = {name: onnxruntime.InferenceSession(str(path)) for name, path in bundle.graphs.items()}
    images = {value.name: inputs[value.name] for value in sessions["vision"].get_inputs()}
    embeds = sessions["vision"].run(None, images)[0]
    for bucket in bundle.plan.buckets:
        feed = {"tokens": inputs["tokens"][:, :bucket], "image_embeds": embeds}
        free = sessions["prefix"].run(None, feed)[0]
        fixed = sessions[f"prefix_static_{bucket}"].run(None, feed)[0]
        used = prompt_length({"tokens": inputs["tokens"][0]}, source.spec.prompt.pad_id)
        # What follows the prompt is padding, whose hidden states nobody reads.
        assert np.abs(free[:, :used] - fixed[:, :used]).max() < 1e-4


def test_hidden_states_are_those_of_hugging_face_for_padded_prompts_in_one_batch(case: Case) -> None:
    import onnxruntime

    source, exported = case
    backbone, pad = source.policy.backbone, source.spec.prompt.pad_id
    model = cast(Any, backbone.model).model
    lengths = (300, 127, 129)
    rows = [with_length(source, exported, length, 1) for length in lengths]
    padded = np.concatenate([row["tokens"] for row in rows])[:, :320]
    frames = {name: np.concatenate([row[name] for row in rows]) for name in rows[0] if name.startswith("image.")}
    tokens = torch.from_numpy(padded)
    patches = [cut(torch.from_numpy(frame)) for cut, frame in zip(backbone.patchify, frames.values(), strict=True)]
    with torch.inference_mode():
        wanted = model(
            input_ids=tokens,
            attention_mask=(tokens != pad).long(),
            mm_token_type_ids=(tokens == backbone.image_token_id).int(),
            pixel_values=torch.cat([view[row] for row in range(len(rows)) for view in patches]),
            image_grid_thw=torch.tensor([[1, grid.rows, grid.columns] for grid in backbone.grids] * len(rows)),
        ).last_hidden_state.numpy()
    graphs = exported.bundle.graphs
    embeds = onnxruntime.InferenceSession(str(graphs["vision"])).run(None, frames)[0]
    feed = {"tokens": padded, "image_embeds": embeds}
    found = onnxruntime.InferenceSession(str(graphs["prefix"])).run(None, feed)[0]
    for row, length in enumerate(lengths):
        assert np.abs(found[row, :length] - wanted[row, :length]).max() < 1e-4


def test_static_graphs_hold_standard_operators_alone(case: Case) -> None:
    import onnx

    for name, path in case[1].bundle.graphs.items():
        model = onnx.load(str(path), load_external_data=False)
        assert name == "prefix" or {node.domain for node in model.graph.node} <= {""}
        assert not {node.op_type for node in model.graph.node} & {"Loop", "Scan", "If"}


def test_weights_are_stored_once_whatever_reads_them(case: Case) -> None:
    import onnx

    source, exported = case
    spans = set()
    for path in exported.bundle.graphs.values():
        spans |= set(external_names(onnx.load(str(path), load_external_data=False)).values())
    stored = exported.weights_bytes
    parameters = {t.data_ptr(): t.numel() * t.element_size() for t in source.policy.parameters()}
    # Constants such as rotary tables come on top, and gaps between pages; a second copy of the weights would not fit.
    assert sum(parameters.values()) * 0.5 < stored < sum(parameters.values()) * 1.6 + 400_000
    assert sum(size for _, size in spans) <= stored


def test_nothing_of_this_machine_is_in_the_bundle(case: Case) -> None:
    here = str(Path(__file__).resolve().parents[3]).encode()
    for name, path in case[1].bundle.files.items():
        assert here not in path.read_bytes(), name


def test_noise_decides_the_answer_of_flow_matching_and_nothing_else_does(case: Case) -> None:
    source, exported = case
    engine, _ = load_engine_checked(exported.bundle, "onnxruntime", CPU)
    inputs = {name: np.asarray(v)[:2] for name, v in exported.bundle.parity.inputs.items()}
    assert np.array_equal(engine.run(inputs), engine.run(inputs))
    if source.spec.framework == "gr00t":
        moved = {**inputs, "noise": inputs["noise"] + np.float32(1.0)}
        assert np.abs(engine.run(moved) - engine.run(inputs)).max() > 1e-2


def test_tensorrt_parses_and_builds_every_graph_without_a_gpu(case: Case, tmp_path: Path) -> None:
    said: list[str] = []
    record = build_engine(case[1].bundle, tmp_path / "engine", "fp32", 2, tensorrt_library(), said.append)
    assert record.bundle == case[1].bundle.digest
    built = {line.partition(":")[0] for line in said}
    assert built == {"vision", "head", *(f"prefix_static_{size}" for size in case[1].bundle.plan.buckets)}


@pytest.mark.parametrize("buckets", [(64,), (400, 64), (128, 128, 400), (128, 500)])
def test_buckets_that_do_not_end_at_the_longest_prompt_are_refused(
    case: Case, buckets: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="400") as caught:
        export_staged(case[0], tmp_path / "bundle", StagedOptions(buckets=buckets))
    assert caught.value.code == "FV-EXP-004"
    assert not list(tmp_path.iterdir())


def test_a_network_that_the_graphs_do_not_match_is_not_written(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = case
    act = type(source.policy).act
    monkeypatch.setattr(type(source.policy), "act", lambda self, inputs: act(self, inputs) + 0.01)
    with pytest.raises(SetupError, match=r"differ from torch by 0\.01") as caught:
        export_staged(source, tmp_path / "bundle", StagedOptions(tensorrt=False, programs=False))
    assert caught.value.code == "FV-EXP-005"
    assert not list(tmp_path.iterdir())


@given(st.integers(20, 300), st.integers(301, 4000))
def test_buckets_rise_to_the_longest_prompt(shortest: int, longest: int) -> None:
    buckets = default_buckets(shortest, longest)
    assert list(buckets) == sorted(set(buckets))
    assert buckets[-1] == longest
    assert buckets[0] >= min(shortest, longest)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 200), st.sampled_from([0.0, 0.99]), st.integers(0, 99))
def test_blockwise_inverses_equal_the_recurrence_even_for_nearly_equal_keys(
    length: int, alike: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    shape = (1, length, 2, 8)
    q, k, v = (torch.randn(shape, generator=random) for _ in range(3))
    k = alike * k[:, :1] + (1.0 - alike) * k
    k, q = k / k.norm(dim=-1, keepdim=True), q / q.norm(dim=-1, keepdim=True)
    beta = torch.rand(shape[:3], generator=random) * 0.01 + 0.98
    decay = -torch.rand(shape[:3], generator=random) * 0.1
    state, said = torch.zeros(1, 2, 8, 8, dtype=torch.float64), []
    for t in range(length):
        state = state * decay[:, t].double().exp()[..., None, None]
        kept = torch.einsum("bhk,bhkv->bhv", k[:, t].double(), state)
        new = beta[:, t].double()[..., None] * (v[:, t].double() - kept)
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t].double(), new)
        said.append(torch.einsum("bhk,bhkv->bhv", q[:, t].double(), state))
    wanted = torch.stack(said, 1).float()
    whole = whole_sequence_rule(q, k, v, decay, beta)
    blocks = block_inverse_rule(TorchOperations(), q, k, v, decay, beta, length)
    assert (whole - wanted).abs().max() < 1e-4
    assert (blocks.reshape(whole.shape) - wanted).abs().max() < 1e-4


def test_an_export_replaces_an_older_bundle_whole(case: Case, tmp_path: Path) -> None:
    source, exported = case
    again = export_staged(replace(source, provenance={"seed": "4"}), tmp_path / "b", StagedOptions(programs=False))
    third = export_staged(source, tmp_path / "b", StagedOptions(tensorrt=False, programs=False))
    assert again.bundle.digest != third.bundle.digest
    assert not any(name.startswith("prefix_static") for name in third.bundle.graphs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]
    assert exported.bundle.spec == third.bundle.spec

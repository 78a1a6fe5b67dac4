"""Engines are built without a GPU, recorded with what they were built for, and refused anywhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.processing.continuation import Continuation
from policy_server.engine_cli import engine as engine_verb
from policy_server.engines.engine import EngineOptions
from policy_server.engines.engine_record import FILE, EngineRecord, check_record, read_record, verified_plans
from policy_server.engines.half_graph import to_half, write_half_graph
from policy_server.engines.onnxruntime_engine import load
from policy_server.engines.registry import load_engine
from policy_server.engines.staged import StagedEngine, stages_of
from policy_server.engines.tensorrt_build import build_engine
from policy_server.engines.tensorrt_engine import TensorRtGraphs
from policy_server.engines.tensorrt_library import PORTABLE, tensorrt_library
from policy_server.parity import check_parity
from tests.serving.fake_tensorrt import fake_library
from tests.serving.staged_bundle import BUCKETS, continued, random_inputs, reference, write_staged_bundle
from tests.serving.tiny_bundle import DOF, write_tiny_bundle

GRAPHS = ("vision", "prefix_static_12", "prefix_static_24", "head")


def quiet(line: str) -> None:
    assert line


@pytest.fixture(scope="module")
def oft(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_staged_bundle(tmp_path_factory.mktemp("bundle") / "b", "oft")


@pytest.fixture(scope="module")
def built(oft: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "e"
    build_engine(oft, folder, "fp32", 4, tensorrt_library(), quiet)
    return folder


@pytest.mark.parametrize(("framework", "precision"), [("oft", "bf16"), ("gr00t", "fp32"), ("gr00t", "fp16")])
def test_both_policies_build_without_a_gpu(tmp_path: Path, framework: str, precision: str) -> None:
    bundle = write_staged_bundle(tmp_path / "b", framework)
    lines: list[str] = []
    library = tensorrt_library()
    record = build_engine(bundle, tmp_path / "e", precision, 4, library, lines.append)
    assert read_record(bundle, tmp_path / "e") == record
    assert (record.bundle, record.precision, record.max_batch) == (bundle.digest, precision, 4)
    assert (record.flavour, record.version) == (library.flavour, library.version)
    assert record.gpu == PORTABLE or torch.cuda.is_available()
    assert set(verified_plans(record, tmp_path / "e")) == set(GRAPHS)
    assert [line.partition(":")[0] for line in lines] == list(GRAPHS)
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == sorted([FILE, *(f"{name}.plan" for name in GRAPHS)])


def test_half_precision_leaves_the_head_exact(oft: Bundle, built: Path, tmp_path: Path) -> None:
    build_engine(oft, tmp_path / "e", "bf16", 4, tensorrt_library(), quiet)
    sizes = {n: ((built / f"{n}.plan").stat().st_size, (tmp_path / "e" / f"{n}.plan").stat().st_size) for n in GRAPHS}
    assert sizes["head"][0] == sizes["head"][1]
    assert sizes["vision"][0] != sizes["vision"][1]


def test_a_single_graph_builds_too(tmp_path: Path) -> None:
    record = build_engine(write_tiny_bundle(tmp_path / "b"), tmp_path / "e", "fp32", 2, tensorrt_library(), quiet)
    assert list(record.sha256) == ["policy.plan"]


def test_the_command_builds_and_says_how_to_serve(
    oft: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(oft.path), "--out", str(tmp_path / "e"), "--precision", "fp32", "--max-batch", "2"]
    assert engine_verb(["build", *arguments]) == 0
    assert f"finevla serve {oft.path} --engine tensorrt --engine-dir {tmp_path / 'e'}" in capsys.readouterr().out
    assert json.loads((tmp_path / "e" / FILE).read_text())["max_batch"] == 2


def test_a_graph_tensorrt_cannot_parse_is_refused_with_its_words(tmp_path: Path) -> None:
    node = helper.make_node("Nonsense", ["tokens"], ["actions"])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["B", 12])
    actions = helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["B", 16, 14])
    model = helper.make_model(helper.make_graph([node], "bad", [tokens], [actions]), ir_version=10)
    bundle = write_tiny_bundle(tmp_path / "b", graph=model.SerializeToString())
    with pytest.raises(SetupError, match=r"FV-ENG-015.*cannot parse policy\.onnx.*Nonsense"):
        build_engine(bundle, tmp_path / "e", "fp32", 2, tensorrt_library(), quiet)
    assert not (tmp_path / "e" / FILE).exists()


def test_a_folder_that_is_no_engine_is_never_emptied(oft: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.plan").write_text("x")
    with pytest.raises(SetupError, match="FV-ENG-010"):
        build_engine(oft, tmp_path, "fp32", 2, tensorrt_library(), quiet)
    assert (tmp_path / "thesis.plan").exists()


def test_an_engine_of_another_bundle_is_refused_with_the_rebuild_command(built: Path, tmp_path: Path) -> None:
    other = write_staged_bundle(tmp_path / "b", "gr00t")
    with pytest.raises(SetupError, match="FV-ENG-011") as caught:
        load_engine("tensorrt", other, EngineOptions(folder=built))
    assert f"finevla engine build {other.path} --out {built} --precision fp32 --max-batch 4" in caught.value.message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": "0.1"}, "FV-ENG-012"),
        ({"flavour": "other"}, "FV-ENG-012"),
        ({"gpu": "NVIDIA B200 (compute capability 10.0)"}, "FV-ENG-013"),
    ],
)
def test_an_engine_of_another_version_or_gpu_is_refused(
    oft: Bundle, built: Path, tmp_path: Path, change: dict[str, str], code: str
) -> None:
    record = replace(read_record(oft, built), **change)
    (tmp_path / FILE).write_text(record.to_json())
    with pytest.raises(SetupError, match=f"{code}.*finevla engine build {oft.path} --out {tmp_path}"):
        load_engine("tensorrt", oft, EngineOptions(folder=tmp_path))


def test_a_portable_engine_is_for_any_gpu_and_one_for_this_gpu_for_this(oft: Bundle, tmp_path: Path) -> None:
    record = EngineRecord(oft.digest, "tensorrt", "1", "H200", "bf16", 8, {})
    check_record(record, oft, tmp_path, "tensorrt", "1", "H200")
    check_record(replace(record, gpu=PORTABLE), oft, tmp_path, "tensorrt", "1", "H200")


def test_a_damaged_plan_another_precision_and_a_missing_gpu_are_refused(
    oft: Bundle, built: Path, tmp_path: Path
) -> None:
    record = read_record(oft, built)
    for name in record.sha256:
        (tmp_path / name).write_bytes((built / name).read_bytes())
    (tmp_path / FILE).write_text(record.to_json())
    with pytest.raises(SetupError, match=r"FV-ENG-005.*--precision fp16"):
        load_engine("tensorrt", oft, EngineOptions(folder=tmp_path, precision="fp16"))
    with pytest.raises(SetupError, match=r"FV-ENG-009.*cuda:64"):
        load_engine("tensorrt", oft, EngineOptions(folder=tmp_path, device="cuda:64"))
    with (tmp_path / "head.plan").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(SetupError, match=r"FV-ENG-014.*head\.plan"):
        load_engine("tensorrt", oft, EngineOptions(folder=tmp_path))


def test_without_an_engine_the_error_says_how_to_build_one(oft: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-ENG-010.*finevla engine build"):
        load_engine("tensorrt", oft, EngineOptions())
    (tmp_path / FILE).write_text('{"bundle": "x"}')
    with pytest.raises(SetupError, match=r"FV-ENG-010.*finevla engine build"):
        load_engine("tensorrt", oft, EngineOptions(folder=tmp_path))


def plans(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Plans of the fake library: the static graphs with their weights inside."""
    found = {}
    for name in GRAPHS:
        found[name] = folder / f"{name}.plan"
        onnx.save(onnx.load(str(bundle.graphs[name])), str(found[name]))
    return found


@pytest.mark.parametrize("framework", ["oft", "gr00t"])
def test_plans_run_in_order_on_raw_pointers_and_reproduce_the_golden_batch(tmp_path: Path, framework: str) -> None:
    bundle = write_staged_bundle(tmp_path / "b", framework)
    files = plans(bundle, tmp_path)
    stages = stages_of(bundle, files, static_prefix=True)
    graphs = TensorRtGraphs(fake_library(), files, torch.device("cpu"))
    engine = StagedEngine(bundle, stages, graphs, "fp32", max_batch=2)
    assert check_parity(engine, bundle, "fp32") <= bundle.parity.atol
    short = random_inputs(framework, (9, 24, 10))
    np.testing.assert_allclose(engine.run(short), reference(framework, short), atol=1e-5)


def test_plans_of_a_flow_matching_policy_continue_a_chunk(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "gr00t")
    files = plans(bundle, tmp_path)
    graphs = TensorRtGraphs(fake_library(), files, torch.device("cpu"))
    engine = StagedEngine(bundle, stages_of(bundle, files, static_prefix=True), graphs, "fp32", max_batch=2)
    rows = np.random.default_rng(0).uniform(-1, 1, (3, DOF)).astype(np.float32)
    inputs = continued(random_inputs("gr00t", (9, 24, 10)), [None, Continuation(rows, 1, 1), None])
    answer = engine.run(inputs)
    assert engine.continues
    np.testing.assert_array_equal(answer[1, 0], rows[0])
    np.testing.assert_allclose(answer, reference("gr00t", inputs), atol=1e-5)


def test_a_missing_input_and_a_wrong_shape_are_policy_errors(oft: Bundle, tmp_path: Path) -> None:
    graphs = TensorRtGraphs(fake_library(), plans(oft, tmp_path), torch.device("cpu"))
    tokens = torch.zeros(2, BUCKETS[0], dtype=torch.int64)
    with pytest.raises(PolicyError, match=r"FV-ENG-004.*image_embeds"):
        graphs.run("prefix_static_12", {"tokens": tokens})
    with pytest.raises(PolicyError, match=r"FV-ENG-004.*tokens of shape \(2, 12\)"):
        graphs.run("prefix_static_24", {"tokens": tokens, "image_embeds": torch.zeros(2, 3, 8)})


def test_a_plan_tensorrt_does_not_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "head.plan").write_bytes(b"no plan")
    library = fake_library()
    library.trt.Runtime.deserialize_cuda_engine = lambda self, plan: None
    with pytest.raises(SetupError, match=r"FV-ENG-017.*head\.plan"):
        TensorRtGraphs(library, {"head": tmp_path / "head.plan"}, torch.device("cpu"))


@pytest.mark.parametrize("framework", ["oft", "gr00t"])
def test_half_precision_touches_only_products_with_weights(tmp_path: Path, framework: str) -> None:
    bundle = write_staged_bundle(tmp_path / "b", framework)
    graphs = {name: tmp_path / f"{name}.onnx" for name in GRAPHS}
    for name, path in graphs.items():
        write_half_graph(bundle.graphs[name], path, "fp16")
        before, after = onnxruntime.InferenceSession(str(bundle.graphs[name])), onnxruntime.InferenceSession(str(path))
        assert [(v.name, v.type) for v in before.get_inputs()] == [(v.name, v.type) for v in after.get_inputs()]
        assert [(v.name, v.type) for v in before.get_outputs()] == [(v.name, v.type) for v in after.get_outputs()]
    half = replace(bundle, graphs=graphs)
    inputs = random_inputs(framework)
    difference = np.abs(load(half, EngineOptions(1)).run(inputs) - reference(framework, inputs)).max()
    assert 1e-6 < difference < 0.02
    assert (tmp_path / "vision.weights").stat().st_size < (bundle.path / "graphs/weights.bin").stat().st_size


def test_weights_named_exact_keep_their_precision(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = ("exact.across.224x224", "layer.weight")
    weights = [numpy_helper.from_array(np.eye(4, dtype=np.float32), name) for name in names]
    nodes = [helper.make_node("MatMul", ["x", names[0]], ["y"]), helper.make_node("MatMul", ["y", names[1]], ["z"])]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xz")
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [z], weights)), str(tmp_path / "plain.onnx"))
    (tmp_path / "half").mkdir()
    write_half_graph(tmp_path / "plain.onnx", tmp_path / "half" / "plain.onnx", "fp16")
    made = onnx.load(str(tmp_path / "half" / "plain.onnx"), load_external_data=False)
    kinds = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert kinds == {names[0]: TensorProto.FLOAT, names[1]: TensorProto.FLOAT16}
    assert made.graph.node[0].input[1] == names[0]


def test_bfloat16_rounds_to_nearest_as_torch_does() -> None:
    values = np.random.default_rng(0).normal(0, 1e3, 4096).astype(np.float32)
    values[:4] = 0.0, -0.0, 1.00390625, 3.4e38
    ours = torch.from_numpy(to_half(values, "bf16").view(np.int16)).view(torch.bfloat16)
    assert torch.equal(ours, torch.from_numpy(values).to(torch.bfloat16))


def test_float16_never_becomes_infinite() -> None:
    assert np.isfinite(to_half(np.array([1e6, -1e6], np.float32), "fp16")).all()


def test_an_unknown_sub_verb_is_bad_usage() -> None:
    assert engine_verb(["--help"]) == 0
    assert engine_verb(["buidl"]) == 2

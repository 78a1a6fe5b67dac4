"""The graphs of a staged bundle together give the answer of the policy, on any bucket and in any company."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.graph_plan import GraphPlan
from finevla_runtime.transport.client import RemotePolicy
from policy_server.engines.engine import EngineOptions, Tensors
from policy_server.engines.onnxruntime_engine import last_outputs, load
from policy_server.engines.onnxruntime_graphs import OnnxRuntimeGraphs, Target
from policy_server.engines.registry import load_engine
from policy_server.engines.staged import StagedEngine, cut_tokens, stages_of
from policy_server.parity import check_parity
from policy_server.server import PolicyServer, ServerOptions
from tests.serving.staged_bundle import BUCKETS, STEPS, random_inputs, reference, write_staged_bundle
from tests.serving.tiny_bundle import observation

FRAMEWORKS = ("oft", "gr00t")


class CountingGraphs(OnnxRuntimeGraphs):
    """ONNX Runtime that writes down which graph ran on how many tokens."""

    def __init__(self, bundle: Bundle, names: tuple[str, ...]) -> None:
        super().__init__({name: bundle.graphs[name] for name in names}, Target(threads=1), last_outputs(bundle))
        self.calls: list[tuple[str, int]] = []

    def run(self, graph: str, inputs: Mapping[str, object]) -> object:
        self.calls.append((graph, inputs["tokens"].shape()[1]))  # type: ignore[attr-defined]
        return super().run(graph, inputs)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def staged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_staged_bundle(tmp_path_factory.mktemp("staged") / "b", request.param)


def counting(bundle: Bundle, max_batch: int = 0) -> tuple[StagedEngine[object], CountingGraphs]:
    stages = stages_of(bundle, bundle.graphs)
    graphs = CountingGraphs(bundle, stages.graphs)
    return StagedEngine(bundle, stages, graphs, max_batch=max_batch), graphs


def test_the_staged_graphs_reproduce_the_golden_batch(staged: Bundle) -> None:
    assert check_parity(load(staged, EngineOptions(1)), staged) <= staged.parity.atol


def test_a_short_prompt_answers_the_same_alone_and_beside_a_long_one(staged: Bundle) -> None:
    engine = load(staged, EngineOptions(1))
    mixed = random_inputs(staged.spec.framework, (24, 9))
    alone = {name: value[1:] for name, value in mixed.items()}
    np.testing.assert_allclose(engine.run(mixed)[1:], engine.run(alone), atol=1e-6)
    np.testing.assert_allclose(engine.run(alone), reference(staged.spec.framework, alone), atol=1e-5)


def test_the_prefix_runs_once_on_the_smallest_bucket_and_the_head_once_per_step(staged: Bundle) -> None:
    engine, graphs = counting(staged)
    engine.run(random_inputs(staged.spec.framework, (9, 12)))
    heads = STEPS if staged.spec.framework == "gr00t" else 1
    assert graphs.calls == [("vision", 12), ("prefix", 12), *[("head", 12)] * heads]


def test_a_batch_above_the_limit_runs_in_parts_and_answers_the_same(staged: Bundle) -> None:
    inputs = random_inputs(staged.spec.framework, (24, 9, 13, 10, 24))
    engine, graphs = counting(staged, max_batch=2)
    np.testing.assert_allclose(engine.run(inputs), reference(staged.spec.framework, inputs), atol=1e-5)
    assert [name for name, _ in graphs.calls].count("prefix") == 3


def test_without_a_prefix_of_any_length_the_static_ones_run(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "oft", without=["prefix"])
    engine, graphs = counting(bundle)
    assert check_parity(engine, bundle) <= bundle.parity.atol
    prefixes = [name for name, _ in graphs.calls if name.startswith("prefix")]
    assert prefixes == ["prefix_static_24", "prefix_static_12"]


@pytest.mark.parametrize("name", ["vision", "head"])
def test_a_missing_stage_is_named_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "gr00t", without=[name])
    with pytest.raises(SetupError, match=f"FV-ENG-001.*lacks the graphs {name} "):
        load(bundle, EngineOptions(1))


def test_a_static_prefix_that_is_missing_is_named_with_its_length(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "oft", without=[f"prefix_static_{BUCKETS[0]}"])
    with pytest.raises(SetupError, match=r"FV-ENG-001.*prefix_static_12"):
        stages_of(bundle, bundle.graphs, static_prefix=True)


def test_a_missing_input_is_a_policy_error_that_names_the_graph(tmp_path: Path) -> None:
    engine = load(write_staged_bundle(tmp_path / "b", "gr00t"), EngineOptions(1))
    inputs = random_inputs("gr00t")
    del inputs["state"]
    with pytest.raises(PolicyError, match=r"FV-ENG-004.*head failed"):
        engine.run(inputs)


def test_tokens_are_cut_to_the_longest_prompt_and_never_to_nothing() -> None:
    plan = GraphPlan("staged", BUCKETS)
    tokens = np.zeros((2, 24), np.int64)
    assert cut_tokens(tokens, plan, 0).shape == (2, 12)
    tokens[0, 11] = 5
    assert cut_tokens(tokens, plan, 0).shape == (2, 12)
    tokens[1, 12] = 5
    assert cut_tokens(tokens, plan, 0).shape == (2, 24)


def test_onnx_runtime_refuses_a_precision_it_cannot_choose(staged: Bundle) -> None:
    with pytest.raises(SetupError, match=r"FV-ENG-005.*export the bundle"):
        load_engine("onnxruntime", staged, EngineOptions(1, precision="fp16"))
    with pytest.raises(SetupError, match=r"FV-ENG-003.*Did you mean 'fp16'"):
        load_engine("onnxruntime", staged, EngineOptions(1, precision="f16"))


def test_without_a_cuda_provider_the_error_says_what_to_install(staged: Bundle) -> None:
    with pytest.raises(SetupError, match=r"FV-ENG-006.*pip install onnxruntime-gpu"):
        load_engine("onnxruntime-cuda", staged, EngineOptions(1))
    with pytest.raises(SetupError, match=r"FV-ENG-009.*'tpu'"):
        load_engine("onnxruntime-cuda", staged, EngineOptions(1, device="tpu"))


def test_a_staged_oft_bundle_is_served_from_prompt_to_joint_targets(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "oft")
    server = PolicyServer(bundle, ServerOptions())
    try:
        with RemotePolicy.connect(server.address) as policy:
            policy.reset(instruction_seed=0)
            chunk = policy.infer(observation(text="put the red block into the bowl"))
    finally:
        server.drain(2.0)
    assert chunk.positions.shape == (4, 14)


def test_the_parity_gate_runs_the_short_prompts_on_their_own_bucket_too(staged: Bundle) -> None:
    engine, graphs = counting(staged)
    check_parity(engine, staged)
    assert [length for name, length in graphs.calls if name == "prefix"] == [24, 12]


@pytest.mark.parametrize("changes", [{"folder": Path("engines")}, {"device": "cuda:0"}])
def test_options_that_an_engine_would_not_hear_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "oft")
    with pytest.raises(SetupError, match="FV-ENG-018"):
        load(bundle, replace(EngineOptions(1), **changes))  # type: ignore[arg-type]


def test_an_engine_that_is_wrong_on_one_bucket_only_is_not_served(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "oft")
    engine = load(bundle, EngineOptions(1))

    class WrongWhenShort:
        continues = False

        def run(self, inputs: Tensors) -> FloatArray:
            short = not inputs["tokens"][:, BUCKETS[0] :].any()
            return engine.run(inputs) + np.float32(short)

    with pytest.raises(SetupError, match=r"FV-PAR-001.*item [12]"):
        check_parity(WrongWhenShort(), bundle)

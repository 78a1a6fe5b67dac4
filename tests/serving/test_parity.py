from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.bundle import Bundle, load_bundle
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions
from policy_server.engines.onnxruntime_engine import load
from policy_server.engines.registry import load_engine
from policy_server.parity import check_parity
from policy_server.server import PolicyServer, ServerOptions
from tests.serving.tiny_bundle import DOF, ROWS, tiny_graph, tiny_parity, tiny_spec, write_tiny_bundle


def test_the_engine_reproduces_the_golden_batch(bundle: Bundle) -> None:
    assert check_parity(load(bundle, EngineOptions(1)), bundle) <= bundle.parity.atol


def test_a_graph_that_answers_otherwise_is_not_served(tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "b", graph=tiny_graph(bias=0.25))
    with pytest.raises(SetupError, match=r"differs by 0\.25 ") as caught:
        PolicyServer(other, ServerOptions())
    assert caught.value.code == "FV-PAR-001"


@pytest.mark.parametrize(("layout", "joint"), [("project", "left_gripper"), ("starvla_robotwin", "right_j1")])
def test_the_worst_joint_is_named_in_the_layout_of_the_model(tmp_path: Path, layout: str, joint: str) -> None:
    parity = tiny_parity(tiny_graph())
    outputs = np.array(parity.outputs["actions"])
    outputs[1, 2, 6] += 3
    shifted = write_tiny_bundle(
        tmp_path / "b", tiny_spec(layout=layout), parity=replace(parity, outputs={"actions": outputs})
    )
    with pytest.raises(SetupError, match=f"joint {joint} differs by 3 at row 2 of item 1"):
        check_parity(load(shifted, EngineOptions(1)), shifted)


def test_a_golden_batch_with_nan_is_no_pass(tmp_path: Path) -> None:
    parity = tiny_parity(tiny_graph())
    outputs = np.array(parity.outputs["actions"])
    outputs[0, 0, 0] = np.nan
    damaged = write_tiny_bundle(tmp_path / "b", parity=replace(parity, outputs={"actions": outputs}))
    with pytest.raises(SetupError, match="FV-PAR-001"):
        check_parity(load(damaged, EngineOptions(1)), damaged)


def test_a_spec_that_promises_other_rows_than_the_graph_gives_is_refused(tmp_path: Path) -> None:
    wrong = write_tiny_bundle(tmp_path / "b", replace(tiny_spec(), chunk_rows=ROWS * 2))
    with pytest.raises(SetupError, match=f"({3}, {ROWS}, {DOF})".replace("(", r"\(").replace(")", r"\)")) as caught:
        check_parity(load(wrong, EngineOptions(1)), wrong)
    assert caught.value.code == "FV-PAR-002"


@pytest.mark.parametrize("name", ["graphs/policy.onnx", "parity.npz", "tokenizer.json", "statistics.json"])
def test_a_bundle_with_one_changed_byte_is_refused_before_it_is_loaded(tmp_path: Path, name: str) -> None:
    file = write_tiny_bundle(tmp_path / "b").path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(SetupError, match="FV-BUN-004"):
        load_bundle(tmp_path / "b")


def test_a_graph_that_is_none_is_a_coded_error(tmp_path: Path) -> None:
    broken = write_tiny_bundle(tmp_path / "b", graph=b"no graph")
    with pytest.raises(SetupError, match="FV-ENG-002"):
        PolicyServer(broken, ServerOptions())


def test_an_unknown_engine_names_the_nearest_one(bundle: Bundle) -> None:
    with pytest.raises(SetupError, match="Did you mean 'onnxruntime'") as caught:
        load_engine("onnx-runtime", bundle, EngineOptions())
    assert caught.value.code == "FV-ENG-003"

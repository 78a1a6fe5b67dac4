"""A bundle is whole, unchanged and trusted by digest alone, or it is refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.bundle import Bundle, Parity, load_bundle, write_bundle
from finevla_runtime.bundle_files import PIECE_BYTES
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.graph_plan import GraphPlan
from tests.builders import make_spec, make_tokenizer_json


def write(path: Path, graph: bytes = b"graph") -> Bundle:
    parity = Parity({"tokens": np.zeros((2, 16), np.int64)}, {"actions": np.ones((2, 16, 14), np.float32)}, 1e-4)
    return write_bundle(path, make_spec(), {"policy": graph}, make_tokenizer_json(), parity, {"seed": "7"})


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b")
    assert bundle.spec == make_spec()
    assert bundle.graphs["policy"].read_bytes() == b"graph"
    assert bundle.provenance == {"seed": "7"}
    np.testing.assert_array_equal(bundle.parity.outputs["actions"], np.ones((2, 16, 14)))
    assert load_bundle(tmp_path / "b").digest == bundle.digest


def test_rewriting_replaces_the_files_and_keeps_the_card(tmp_path: Path) -> None:
    first = write(tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("card")
    second = write(tmp_path / "b", b"other")
    assert second.digest != first.digest
    assert (tmp_path / "b" / "README.md").read_text() == "card"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("name", ["graphs/policy.onnx", "tokenizer.json", "statistics.json", "parity.npz"])
def test_one_flipped_byte_in_any_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "b")
    file = tmp_path / "b" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(SetupError, match=f"FV-BUN-004.*{Path(name).name}"):
        load_bundle(tmp_path / "b")


def test_a_missing_file_an_empty_folder_and_a_foreign_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-BUN-001"):
        load_bundle(tmp_path)
    write(tmp_path / "b")
    (tmp_path / "b" / "tokenizer.json").unlink()
    with pytest.raises(SetupError, match="FV-BUN-003"):
        load_bundle(tmp_path / "b")
    head = tmp_path / "b" / "policy.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "format": "other/9"}))
    with pytest.raises(SetupError, match="FV-BUN-002"):
        load_bundle(tmp_path / "b")
    head.write_text("{")
    with pytest.raises(SetupError, match="FV-BUN-002"):
        load_bundle(tmp_path / "b")


def test_a_listed_path_outside_the_bundle_is_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "b")
    head = tmp_path / "b" / "policy.json"
    policy = json.loads(head.read_text())
    policy["sha256"]["../../secret"] = "0" * 64
    head.write_text(json.dumps(policy))
    with pytest.raises(SetupError, match=r"FV-BUN-002.*outside"):
        load_bundle(tmp_path / "b")


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(SetupError, match="FV-BUN-006"):
        write(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").exists()


def staged(path: Path, weights: Path, buckets: tuple[int, ...] = (8, 16)) -> Bundle:
    parity = Parity({"tokens": np.zeros((2, 16), np.int64)}, {"actions": np.ones((2, 16, 14), np.float32)}, 1e-4, 0.5)
    graph = path.with_name("head.onnx")
    graph.write_bytes(b"head")
    extra = {"graphs/weights.bin": weights, "programs/policy.pt2": weights_file(path.parent, 9, "policy.pt2")}
    graphs = {"vision": b"v", "head": graph}
    plan = GraphPlan("staged", buckets, 4)
    return write_bundle(path, make_spec(), graphs, make_tokenizer_json(), parity, {}, plan, extra)


def weights_file(folder: Path, size: int, name: str = "source.bin") -> Path:
    """A file of ``size`` bytes that takes no room on disk."""
    path = folder / name
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_staged_bundle_comes_back_with_its_plan_weights_programs_and_tolerances(tmp_path: Path) -> None:
    bundle = staged(tmp_path / "b", weights_file(tmp_path, 100))
    assert bundle.plan == GraphPlan("staged", (8, 16), 4)
    assert {name: path.read_bytes() for name, path in bundle.graphs.items()} == {"vision": b"v", "head": b"head"}
    assert bundle.programs == {"policy": tmp_path / "b" / "programs" / "policy.pt2"}
    assert (tmp_path / "b" / "graphs" / "weights.bin").stat().st_size == 100
    assert (bundle.parity.atol, bundle.parity.atol_half) == (1e-4, 0.5)


def test_a_bundle_without_a_plan_is_a_single_graph(tmp_path: Path) -> None:
    assert write(tmp_path / "b").plan == GraphPlan()
    assert "plan" not in json.loads((tmp_path / "b" / "policy.json").read_text())


@pytest.mark.parametrize("name", ["graphs/weights.bin", "programs/policy.pt2"])
def test_a_flipped_byte_in_the_weights_is_refused(tmp_path: Path, name: str) -> None:
    staged(tmp_path / "b", weights_file(tmp_path, 3 * PIECE_BYTES + 5))
    with (tmp_path / "b" / name).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(SetupError, match=f"FV-BUN-004.*{Path(name).name}"):
        load_bundle(tmp_path / "b")


def test_weights_are_never_held_in_memory(tmp_path: Path) -> None:
    source = weights_file(tmp_path, 64 << 20)
    tracemalloc.start()
    try:
        staged(tmp_path / "b", source)
        assert tracemalloc.get_traced_memory()[1] < 2 * PIECE_BYTES
    finally:
        tracemalloc.stop()


def test_an_impossible_plan_is_refused_on_both_ends(tmp_path: Path) -> None:
    source = weights_file(tmp_path, 10)
    with pytest.raises(SetupError, match=r"FV-BUN-011.*16"):
        staged(tmp_path / "b", source, (8, 12))
    assert not (tmp_path / "b").exists()
    staged(tmp_path / "b", source)
    head = tmp_path / "b" / "policy.json"
    policy = json.loads(head.read_text())
    head.write_text(json.dumps({**policy, "plan": {**policy["plan"], "kind": "stagd"}}))
    with pytest.raises(SetupError, match=r"FV-BUN-011.*Did you mean 'staged'"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    "name", ["weights.bin", "../weights.bin", "weights/../../x", "notes/x.bin", "graphs/policy.onnx"]
)
def test_an_extra_file_without_a_place_is_refused(tmp_path: Path, name: str) -> None:
    parity = Parity({}, {}, 1e-4)
    with pytest.raises(SetupError, match="FV-BUN-012"):
        write_bundle(
            tmp_path / "b",
            make_spec(),
            {"policy": b"g"},
            make_tokenizer_json(),
            parity,
            {},
            extra_files={name: weights_file(tmp_path, 1)},
        )

"""The torch engine reproduces the golden batch from programs alone, and opens no archive that could run code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.program_archive import check_program
from policy_server.engines.engine import EngineOptions
from policy_server.engines.registry import load_engine
from policy_server.engines.shared_weights import shared_weights
from policy_server.engines.torch_engine import load, load_program
from policy_server.parity import check_parity
from policy_server.served_model import load_engine_checked
from tests.serving.staged_bundle import random_inputs, reference, write_staged_bundle
from tests.serving.staged_programs import policy_program, stage_programs


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return policy_program("oft", tmp_path_factory.mktemp("program") / "policy.pt2")


@pytest.fixture(scope="module")
def oft(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("torch")
    return write_staged_bundle(folder / "b", "oft", programs={"policy": program}, atol_half=0.1)


def test_one_program_reproduces_the_golden_batch_on_any_bucket(oft: Bundle) -> None:
    engine = load(oft, EngineOptions())
    assert check_parity(engine, oft) <= oft.parity.atol
    short = random_inputs("oft", (9, 11))
    np.testing.assert_allclose(engine.run(short), reference("oft", short), atol=1e-5)


def test_a_program_of_fixed_length_gets_the_uncut_prompt(tmp_path: Path) -> None:
    program = policy_program("gr00t", tmp_path / "policy.pt2", any_length=False)
    assert load_program(program, {}).length == 24
    bundle = write_staged_bundle(tmp_path / "b", "gr00t", programs={"policy": program})
    short = random_inputs("gr00t", (9, 11))
    np.testing.assert_allclose(load(bundle, EngineOptions()).run(short), reference("gr00t", short), atol=1e-5)


def test_stage_programs_reproduce_the_golden_batch(tmp_path: Path) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "gr00t", programs=stage_programs(tmp_path))
    assert check_parity(load(bundle, EngineOptions()), bundle) <= bundle.parity.atol


def test_programs_without_weights_take_those_of_the_graphs(tmp_path: Path) -> None:
    programs = stage_programs(tmp_path, with_weights=False)
    bundle = write_staged_bundle(tmp_path / "b", "gr00t", programs=programs)
    with pytest.raises(SetupError, match="FV-PAR-001"):
        check_parity(load(bundle, EngineOptions()), bundle)
    shared = write_staged_bundle(tmp_path / "s", "gr00t", programs=programs, index=True)
    assert check_parity(load(shared, EngineOptions()), shared) <= shared.parity.atol


@pytest.mark.parametrize("entry", [{"offset": -4}, {"offset": 1 << 40}, {"dtype": "object"}, {"shape": [3]}])
def test_an_index_that_points_outside_the_weights_is_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    bundle = write_staged_bundle(tmp_path / "b", "gr00t", index=True)
    index = bundle.files["graphs/weights.json"]
    tensors = json.loads(index.read_text())
    tensors["policy.out"].update(entry)
    index.unlink()
    index.write_text(json.dumps(tensors))
    with pytest.raises(SetupError, match=r"FV-ENG-007.*weights\.json"):
        shared_weights(bundle)


def test_half_precision_is_held_to_its_own_tolerance(oft: Bundle, program: Path, tmp_path: Path) -> None:
    _, difference = load_engine_checked(oft, "torch", EngineOptions(precision="bf16"))
    assert oft.parity.atol < difference <= 0.1
    strict = write_staged_bundle(tmp_path / "b", "oft", programs={"policy": program})
    with pytest.raises(SetupError, match=r"FV-PAR-001.*allowed are 1e-05 in bf16 precision"):
        load_engine_checked(strict, "torch", EngineOptions(precision="bf16"))


def test_read_only_arrays_from_the_wire_are_accepted(oft: Bundle) -> None:
    inputs = random_inputs("oft")
    for value in inputs.values():
        value.flags.writeable = False
    assert load(oft, EngineOptions()).run(inputs).shape == (3, 4, 14)


def test_a_missing_input_is_a_policy_error(oft: Bundle) -> None:
    inputs = random_inputs("oft")
    del inputs["image.cam_high"]
    with pytest.raises(PolicyError, match="FV-ENG-004"):
        load(oft, EngineOptions()).run(inputs)


def test_a_bundle_without_programs_and_a_gpu_that_is_not_there_are_refused(tmp_path: Path, oft: Bundle) -> None:
    with pytest.raises(SetupError, match="FV-ENG-001"):
        load_engine("torch", write_staged_bundle(tmp_path / "b", "oft"), EngineOptions())
    with pytest.raises(SetupError, match=r"FV-ENG-009.*cuda:64"):
        load_engine("torch", oft, EngineOptions(device="cuda:64"))


def changed(program: Path, target: Path, entries: dict[str, Callable[[bytes], bytes]], extra: str = "") -> Path:
    """Copy an archive with some entries changed and perhaps one added."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w") as copy:
        for info in source.infolist():
            root, _, name = info.filename.partition("/")
            copy.writestr(info.filename, entries.get(name, bytes)(source.read(info)))
        if extra:
            copy.writestr(f"{root}/{extra}", b"x")
    return target


def model_with(change: Callable[[dict], None]) -> dict[str, Callable[[bytes], bytes]]:  # type: ignore[type-arg]
    def apply(data: bytes) -> bytes:
        model = json.loads(data)
        change(model["graph_module"])
        return json.dumps(model).encode()

    return {"models/model.json": apply}


def pickled(data: bytes) -> bytes:
    return data.replace(b'"use_pickle": false', b'"use_pickle": true')


def node(**fields: object) -> dict[str, Callable[[bytes], bytes]]:
    return model_with(lambda graph: graph["graph"]["nodes"][0].update(fields))


def size(expression: str) -> dict[str, Callable[[bytes], bytes]]:
    entry = {"as_expr": {"expr_str": expression, "hint": {"as_int": 2}}}
    return model_with(lambda g: next(iter(g["graph"]["tensor_values"].values()))["sizes"].__setitem__(0, entry))


ATTACKS = {
    "sample inputs": ({"data/sample_inputs/model.pt": lambda data: b"\x80\x04."}, "pickled sample inputs"),
    "pickled weight": ({"data/weights/model_weights_config.json": pickled}, "pickled tensor"),
    "torch function": (node(target="torch.hub.load"), r"operator 'torch\.hub\.load'"),
    "other operators": (node(target="torch.ops.profiler.x.default"), "operator"),
    "operator module": (node(target="_operator.attrgetter"), "operator"),
    "extension": (node(target="#anything.load"), "operator"),
    "code in a name": (node(name="x = print(1)"), "name"),
    "keyword as name": (node(name="import"), "name"),
    "paths": (node(metadata={"stack_trace": "File x"}), "a field 'stack_trace'"),
    "evaluated call": (size("__import__('os').system('true')"), "expression"),
    "attribute": (size("Symbol.__class__"), "expression"),
    "nested text": (size("Integer('__import__(1)')"), "expression"),
    "symbol text": (size("Symbol('x).y(')"), "expression"),
    "free name": (size("exit"), "expression"),
    "named tuple": (model_with(lambda g: g.update(treespec_namedtuple_fields={"a": 1})), "named tuples"),
    "broken": ({"models/model.json": lambda data: b"{"}, "cannot be read"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_could_run_code_is_never_opened_by_torch(program: Path, tmp_path: Path, attack: str) -> None:
    entries, reason = ATTACKS[attack]
    with pytest.raises(SetupError, match=rf"FV-BUN-013.*{reason}"):
        load_program(changed(program, tmp_path / "policy.pt2", entries), {})


@pytest.mark.parametrize("name", ["data/constants/opaque_obj_0", "data/aotinductor/model/x.so", "extra/x", "version"])
def test_an_entry_that_no_policy_needs_is_refused(program: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match=r"FV-BUN-013.*entry"):
        check_program(changed(program, tmp_path / "policy.pt2", {}, extra=name))


def test_the_copying_alone_refuses_nothing(program: Path, tmp_path: Path) -> None:
    copied = changed(program, tmp_path / "policy.pt2", size("2*Symbol('s1', positive=True, integer=True) + Max(1, 2)"))
    check_program(copied)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.pt2").write_bytes(b"no zip")
    with pytest.raises(SetupError, match=r"FV-BUN-013.*cannot be read"):
        check_program(tmp_path / "policy.pt2")

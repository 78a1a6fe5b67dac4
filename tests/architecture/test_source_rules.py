"""House rules that no linter checks, read from the syntax tree of every file of ours."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("finevla_runtime", "policy_server", "sim_eval", "training", "benchmarks", "ros2_ws/src")
CLOCK = ROOT / "finevla_runtime" / "contracts" / "clock.py"
CLOCK_READERS = {"time", "time_ns", "monotonic", "monotonic_ns"}
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
MOST_LINES = 500
NODES = ROOT / "ros2_ws/src/finevla_cobot/finevla_cobot"
# A node turns messages into arrays and calls the core; whatever else it needed would have to be installed on a robot.
NODES_MAY_IMPORT = {"ament_index_python", "finevla_cobot", "finevla_interfaces", "finevla_runtime", "numpy", "rclpy"}
MESSAGES = ("_interfaces", "_msgs", "_srvs")


def is_generated(path: Path) -> bool:
    return path.stem.endswith(("_pb2", "_pb2_grpc"))


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if not is_generated(path))


OURS = sources(*PACKAGES)
EVERYTHING = [*OURS, *sources("tests", "scripts")]


def clock_reads(tree: ast.AST) -> Iterator[int]:
    """Lines that read the clock as ``time.monotonic`` or import the function by name."""
    for node in ast.walk(tree):
        is_attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if is_attribute and node.value.id == "time" and node.attr in CLOCK_READERS:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (node.lineno for alias in node.names if alias.name in CLOCK_READERS)


def imported_roots(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Top-level names of imported packages, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0], node.lineno


def places(path: Path, lines: list[int]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line}" for line in lines]


def test_there_is_something_to_check() -> None:
    assert len(OURS) > 20
    assert NODES / "recorder.py" in OURS


def test_only_the_clock_module_reads_the_clock() -> None:
    found = [
        place
        for path in OURS
        if path != CLOCK
        for place in places(path, list(clock_reads(ast.parse(path.read_text()))))
    ]
    assert found == []


def test_nothing_imports_a_pickle() -> None:
    found = []
    for path in EVERYTHING:
        roots = imported_roots(ast.parse(path.read_text()))
        found += places(path, [line for root, line in roots if root in PICKLES])
    assert found == []


def test_nodes_import_the_core_and_ros_alone() -> None:
    found = []
    for path in NODES.rglob("*.py"):
        for root, line in imported_roots(ast.parse(path.read_text())):
            if root not in NODES_MAY_IMPORT | sys.stdlib_module_names and not root.endswith(MESSAGES):
                found += places(path, [line])
    assert found == []


def test_no_file_of_ours_has_more_than_500_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in EVERYTHING}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import time\nt = time.monotonic()", [2]),
        ("from time import time_ns", [1]),
        ("import time\ntime.sleep(1)", []),
        ("clock.monotonic()", []),
    ],
)
def test_the_clock_rule_sees_both_spellings(source: str, expected: list[int]) -> None:
    assert list(clock_reads(ast.parse(source))) == expected


def test_the_pickle_rule_sees_both_spellings() -> None:
    tree = ast.parse("import pickle\nfrom dill.source import x\nfrom . import pickle")
    assert list(imported_roots(tree)) == [("pickle", 1), ("dill", 2)]

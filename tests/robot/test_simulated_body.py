"""Bodies are found by name, say what is missing, and count time in whole substeps."""

from __future__ import annotations

from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.robot import simulated_body
from finevla_runtime.robot.kinematic_body import KinematicBody
from finevla_runtime.robot.simulated_body import GROUP, RegisteredBody, Substeps, find_body
from tests.robot.bodies import embodiment

ENTRIES = {
    "kinematic": "finevla_runtime.robot.kinematic_body:KinematicBody",
    "tabletop": "sim_eval.tabletop.body:tabletop_body [sim]",
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bodies of this checkout, whatever is installed."""
    entries = [metadata.EntryPoint(name, value, GROUP) for name, value in ENTRIES.items()]
    monkeypatch.setattr(simulated_body.metadata, "entry_points", lambda group: entries if group == GROUP else [])


@pytest.mark.usefixtures("installed")
def test_a_body_is_found_by_its_name_and_made_for_an_embodiment() -> None:
    body = find_body("kinematic").build(embodiment())
    assert isinstance(body, KinematicBody)
    assert body.embodiment == "cobot_magic_sim"


@pytest.mark.usefixtures("installed")
def test_the_extra_of_a_body_is_read_beside_its_entry() -> None:
    assert find_body("tabletop") == RegisteredBody("tabletop", "sim_eval.tabletop.body:tabletop_body", "sim")


@pytest.mark.usefixtures("installed")
def test_an_unknown_body_is_refused_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(SetupError, match=r"FV-BDY-001.*Did you mean 'tabletop'.*kinematic, tabletop"):
        find_body("table_top")


@pytest.mark.parametrize(
    ("extra", "command"), [("sim", r"'finevla-runtime\[sim\]'"), ("", r"pip install 'finevla-runtime'")]
)
def test_a_body_whose_library_is_missing_names_the_command_that_brings_it(extra: str, command: str) -> None:
    with pytest.raises(SetupError, match=f"FV-BDY-002.*no_such_library.*{command}"):
        RegisteredBody("far", "no_such_library.body:make", extra).build(embodiment())


@given(st.lists(st.floats(0.0, 0.1), max_size=200))
def test_slices_of_any_length_add_up_to_whole_substeps(slices: list[float]) -> None:
    substeps = Substeps(250.0)
    taken = sum(substeps.take(dt_s) for dt_s in slices)
    assert abs(taken - sum(slices) * 250.0) < 1.0 + 1e-6


@pytest.mark.parametrize(("dt_s", "count"), [(0.004, 1), (0.1, 25), (0.02, 5)])
def test_a_slice_of_whole_substeps_never_takes_one_too_few_or_too_many(dt_s: float, count: int) -> None:
    substeps = Substeps(250.0)
    assert {substeps.take(dt_s) for _ in range(10_000)} == {count}

"""Tables made by worker processes say what one process says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tables import agreement_rows, expert_rows
from sim_eval.tabletop.expert import expert_table
from sim_eval.tabletop.judge.agreement import agreement_report

FAMILIES = ("arm", "stack_block")


def test_expert_rows_of_two_workers_are_those_of_one_process_in_the_order_asked() -> None:
    found = [replace(row, cpu_seconds=0.0) for row in expert_rows(1, 3, 0.0, FAMILIES, workers=2)]
    assert found == [replace(row, cpu_seconds=0.0) for row in expert_table(1, 3, 0.0, FAMILIES)]


def test_agreement_rows_of_two_workers_are_those_of_one_process() -> None:
    assert agreement_rows(1, 1_000_000, FAMILIES, workers=2) == agreement_report(1, 1_000_000, FAMILIES)


def test_an_unknown_family_is_refused_before_any_worker_starts() -> None:
    with pytest.raises(SetupError, match=r"FV-SIM-001.*'colour'"):
        expert_rows(1, 0, 0.0, ("color",), workers=1)

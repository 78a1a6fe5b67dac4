"""The published averages of Tables 3 and 5 come out of our arithmetic (golden vectors)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fake_runs import shipped_rubric

from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.trial import Compliance, Outcome, Sheet, Trial, TrialRecord
from finevla_runtime.evidence.columns import average, column_score, plain_mean
from finevla_runtime.evidence.layout import columns_of

TABLES = (Path(__file__).parent / "published_tables.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(TABLES.splitlines()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['table']}-{row['row']}-{row['average']}")
def test_every_published_average_is_our_plain_mean(row: dict[str, str]) -> None:
    values = [float(value) for value in row["values"].split()]
    assert f"{plain_mean(values):.1f}" == row["value"]


def records_with_mean(family: str, mean: int) -> list[TrialRecord]:
    """Return 20 trials of five equal subgoals whose mean score is ``mean``."""
    steps = [mean // 20 + (i < mean % 20) for i in range(20)]
    assert sum(steps) * 20 == mean * 20
    instruction = Instruction("x", InstructionKind.FINE_GRAINED)
    return [
        TrialRecord(
            Trial(f"{family}/{i}", family, "v", i, "p", instruction),
            Sheet({}, {}, goal_any=False),
            Outcome(Compliance.NO_FACTOR, "none", 20.0 * done, task_done=False, success=False),
            "scored",
        )
        for i, done in enumerate(steps)
    ]


@pytest.mark.parametrize("row", [r for r in ROWS if r["table"] == "5"], ids=lambda r: f"{r['row']}-{r['average']}")
def test_a_journal_with_the_published_columns_gives_the_published_row(row: dict[str, str]) -> None:
    columns = columns_of(shipped_rubric())
    values = [int(value) for value in row["values"].split()]
    cells = [
        column_score(column.family, 20, records_with_mean(column.family, value))
        for column, value in zip(columns, values, strict=False)
    ]
    assert [cell.mean for cell in cells] == values
    found = average(cells).mean
    assert found is not None
    assert f"{found:.1f}" == row["value"]


def test_the_columns_are_those_of_table_5_and_only_the_probe_is_out_of_distribution() -> None:
    columns = columns_of(shipped_rubric())
    assert [column.family for column in columns] == [
        "clean_table",
        "stack_block",
        "colour",
        "pose",
        "approach",
        "rotate",
        "arm",
        "left_to_right",
    ]
    assert [column.ood for column in columns] == [False] * 7 + [True]
    assert [column.pair for column in columns] == [
        None,
        None,
        ("red", "blue"),
        ("standing", "lying"),
        ("above", "side"),
        ("clockwise", "counterclockwise"),
        ("left", "right"),
        None,
    ]


def test_an_average_with_an_empty_column_is_not_given() -> None:
    cells = [column_score("a", 20, records_with_mean("a", 50)), column_score("b", 20, [])]
    assert average(cells).mean is None
    assert average([]).mean is None

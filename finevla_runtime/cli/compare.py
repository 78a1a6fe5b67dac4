"""`finevla compare`: two policies on the same planned trials."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finevla_runtime.cli.options import parse
from finevla_runtime.cli.report import positional
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.evidence.compare import Comparison, RateContrast, ScoreContrast, choose_policy, compare_policies
from finevla_runtime.evidence.run import read_run
from finevla_runtime.evidence.summary import comparison_json
from finevla_runtime.paths import RUBRICS

_MEANING = """
A - B       difference with its 95 % interval: the shifts that the test does not reject (rates: Tango's interval)
p           exact two-sided sign-flip test over scenes; both variants of a scene stay together
p Holm      p adjusted over the rows of its group; the primary row is the one test that was locked beforehand
b, c        trials in which only A or only B had the event, with McNemar's exact p over trials
coverage    shared trials that are scored and clear; below 95 % no winner is named
"""


@dataclass(frozen=True)
class CompareOptions:
    """Compare two policies on the trials that both plans share: `finevla compare RUN_A RUN_B`.

    A winner is named only when both have at least 95 % coverage and the locked test on Avg (ID) rejects.
    """

    run_a: Path
    """Folder of the first run."""
    run_b: Path
    """Folder of the second run; it may be the same folder when that run holds several policies."""
    policy_a: str = ""
    """Policy in the first run; needed when it holds several."""
    policy_b: str = ""
    """Policy in the second run; needed when it holds several."""
    kind: Literal["fine_grained", "raw"] = "fine_grained"
    """Instruction kind that is compared."""
    rubric: Path = RUBRICS / "tabletop.yaml"
    """Rubric that judged both runs."""
    seed: int = 0
    """Seed of sampled sign patterns, used only where nothing exact is feasible."""
    json: bool = False
    """Print one JSON document instead of tables."""


def compare(argv: Sequence[str]) -> int:
    """Compare two policies on the same planned trials; names a winner only when the evidence allows."""
    options = parse(CompareOptions, positional(argv, "run-a", "run-b"), prog="finevla compare")
    rubric = load_rubric(options.rubric)
    first, second = read_run(options.run_a, rubric), read_run(options.run_b, rubric)
    policies = (
        choose_policy(first, options.policy_a, "--policy-a"),
        choose_policy(second, options.policy_b, "--policy-b"),
    )
    found = compare_policies(first, second, InstructionKind(options.kind), policies=policies, seed=options.seed)
    if options.json:
        text = json.dumps(comparison_json(found), indent=2, allow_nan=False)
    else:
        text = "\n".join(comparison_lines(found))
    sys.stdout.write(text + "\n")
    return 0


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Yield the tables of a comparison, line by line."""
    yield f"A = {found.first}, B = {found.second}, {found.kind.value.replace('_', '-')} instructions"
    yield (f"{found.matched} shared trials, coverage A {found.coverage_first:.1%}, B {found.coverage_second:.1%}")
    for warning in found.warnings:
        yield f"warning: {warning}"
    yield ""
    yield f"{'mean score':<18}{'A':>8}{'B':>8}{'A - B':>9}{'95 % interval':>18}{'scenes':>8}{'p':>10}{'p Holm':>10}"
    yield _score_line("Avg (ID), primary", found.primary, primary=True)
    for column in found.columns:
        yield _score_line(column.name, column, primary=False)
    yield ""
    yield (
        f"{'rate':<18}{'A':>8}{'B':>8}{'A - B':>9}{'95 % interval':>18}{'trials':>8}{'p':>10}{'p Holm':>10}"
        f"{'b':>6}{'c':>6}{'McNemar p':>11}"
    )
    for rate in found.rates:
        yield _rate_line(rate)
    yield ""
    yield found.verdict
    yield _MEANING.rstrip("\n")


def _score_line(name: str, item: ScoreContrast, primary: bool) -> str:
    """Return one row of the score table."""
    if item.first is None or item.second is None or item.difference is None:
        return f"{name:<18}{'-':>8}{'-':>8}"
    interval = f"{item.interval.low:+.1f} to {item.interval.high:+.1f}"
    adjusted = "" if primary else f"{item.p_holm:>10.3g}"
    return (
        f"{name:<18}{item.first:>8.1f}{item.second:>8.1f}{item.difference:>+9.1f}{interval:>18}{item.scenes:>8}"
        f"{item.test.p:>10.3g}{adjusted}"
    )


def _rate_line(item: RateContrast) -> str:
    """Return one row of the rate table, in per cent."""
    if not item.trials:
        return f"{item.name:<18}{'-':>8}{'-':>8}"
    first, second = 100 * item.first / item.trials, 100 * item.second / item.trials
    interval = f"{100 * item.interval.low:+.1f} to {100 * item.interval.high:+.1f}"
    return (
        f"{item.name:<18}{first:>7.1f}%{second:>7.1f}%{first - second:>+9.1f}{interval:>18}{item.trials:>8}"
        f"{item.test.p:>10.3g}{item.p_holm:>10.3g}{item.first_only:>6}{item.second_only:>6}{item.p_mcnemar:>11.3g}"
    )

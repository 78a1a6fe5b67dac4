"""Comparison: words only where coverage and the locked test earn them."""

from __future__ import annotations

import dataclasses

import pytest
from fake_runs import DEAF, STEERABLE, FakePolicy, fake_records, fake_run, make_fake_manifest, shipped_rubric

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.evidence.compare import Comparison, choose_policy, compare_policies
from finevla_runtime.evidence.run import Run, make_run

FG, RAW = InstructionKind.FINE_GRAINED, InstructionKind.RAW


def compare_runs(first: Run, second: Run, kind: InstructionKind = FG) -> Comparison:
    labels = (next(iter(first.manifest.policies)), next(iter(second.manifest.policies)))
    return compare_policies(first, second, kind, policies=labels)


def test_a_clear_difference_is_named_with_its_figures() -> None:
    found = compare_runs(fake_run({"good": STEERABLE}), fake_run({"deaf": DEAF}))
    assert found.decided
    assert found.verdict.startswith("good scores higher than deaf under fine-grained instructions")
    assert found.primary.difference is not None
    assert found.primary.interval.low > 0
    assert found.primary.interval.low <= found.primary.difference <= found.primary.interval.high
    success, violation = found.rates
    assert success.first - success.second == success.first_only - success.second_only
    assert violation.first_only < violation.second_only
    assert violation.interval.high < 0
    assert len(found.columns) == 8
    assert all(cell.p_holm >= cell.test.p for cell in found.columns)


def test_the_order_of_the_policies_turns_the_figures_and_not_the_finding() -> None:
    good, deaf = fake_run({"good": STEERABLE}), fake_run({"deaf": DEAF})
    there, back = compare_runs(good, deaf), compare_runs(deaf, good)
    assert back.verdict.startswith("good scores higher than deaf")
    assert there.primary.test.p == pytest.approx(back.primary.test.p)
    assert there.primary.difference == pytest.approx(-(back.primary.difference or 0.0))
    assert there.primary.interval.low == pytest.approx(-back.primary.interval.high, abs=0.7)


def test_a_policy_is_not_better_than_itself() -> None:
    run = fake_run({"p": STEERABLE})
    found = compare_policies(run, run, FG, policies=("p", "p"))
    assert not found.decided
    assert found.primary.difference == 0.0
    assert found.verdict == "No difference between p and p was seen under fine-grained instructions."


def test_without_coverage_there_is_no_verdict_whatever_the_figures_say() -> None:
    manifest = make_fake_manifest(["good"])
    records = fake_records(manifest, {"good": STEERABLE})
    good = make_run(manifest, [record for i, record in enumerate(records) if i % 10], shipped_rubric())
    found = compare_runs(good, fake_run({"deaf": DEAF}))
    assert found.primary.test.p < 0.001
    assert not found.decided
    assert found.verdict.startswith("No verdict: only")


def test_a_difference_that_can_be_chance_is_not_called_one() -> None:
    first = fake_run({"a": FakePolicy(obey=0.9, skill=0.90)}, scenes=3)
    second = fake_run({"b": FakePolicy(obey=0.9, skill=0.89)}, scenes=3, seed=1)
    found = compare_runs(first, second)
    assert not found.decided
    assert "better" not in found.verdict
    assert "higher" not in found.verdict
    assert "can be chance" in found.verdict


def test_null_comparisons_decide_at_most_five_percent() -> None:
    policy = FakePolicy(obey=0.7, skill=0.7)
    families = ["stack_block", "colour"]
    base = [fake_run({"p": policy}, scenes=8, families=families, kinds=[FG], seed=s) for s in range(61)]
    decided = sum(compare_runs(base[i], base[i + 1]).decided for i in range(60))
    assert decided <= 3


def test_what_makes_runs_incomparable_is_said() -> None:
    first = fake_run({"a": STEERABLE}, scenes=4)
    manifest = make_fake_manifest(["b"], scenes=3, families=["colour", "arm"])
    manifest = dataclasses.replace(manifest, settings=dataclasses.replace(manifest.settings, execution_rows=4))
    second = make_run(manifest, fake_records(manifest, {"b": STEERABLE}), shipped_rubric())
    found = compare_runs(first, second)
    assert any("execution rows differs: 8 and 4" in warning for warning in found.warnings)
    assert any("covers 2 of 7" in warning for warning in found.warnings)
    assert any("exist in one plan only" in warning for warning in found.warnings)


def test_runs_that_share_no_trial_are_refused() -> None:
    first, second = fake_run({"a": STEERABLE}, families=["colour"]), fake_run({"b": DEAF}, families=["arm"])
    with pytest.raises(SetupError, match="FV-EVD-005"):
        compare_runs(first, second)


def test_a_policy_must_be_named_when_there_is_a_choice() -> None:
    run = fake_run({"tabletop-oft": STEERABLE, "deaf": DEAF}, scenes=1, families=["colour"])
    with pytest.raises(SetupError, match=r"FV-EVD-004.*--policy-a"):
        choose_policy(run, "", "--policy-a")
    with pytest.raises(SetupError, match=r"FV-EVD-004.*Did you mean 'tabletop-oft'"):
        choose_policy(run, "tabletop_oft", "--policy-a")
    assert choose_policy(run, "deaf", "--policy-a") == "deaf"

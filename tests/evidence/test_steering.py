"""Steering: deaf, obedient, inverted and absent policies each get the figures they deserve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fake_runs import DEAF, STEERABLE, FakePolicy, fake_records, fake_run, make_fake_manifest, shipped_rubric

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import Compliance, TrialRecord
from finevla_runtime.evidence.layout import columns_of
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.probe import probe
from finevla_runtime.evidence.run import Run, make_run
from finevla_runtime.evidence.steering import PairTable, Steering, steering
from finevla_runtime.evidence.violations import factor_violation_rate
from finevla_runtime.session.record_codec import void_record

FG, RAW = InstructionKind.FINE_GRAINED, InstructionKind.RAW
COLUMNS = {column.family: column for column in columns_of(shipped_rubric())}
FACTORS = [family for family, column in COLUMNS.items() if column.pair]


def steered(run: Run, family: str = "colour", kind: InstructionKind = FG, policy: str = "p") -> Steering:
    found = steering(run, policy, kind, COLUMNS[family])
    assert found is not None
    return found


def colour_run(observed: dict[str, list[str]]) -> Run:
    """Return a run in which scene i was observed as listed, told red and told blue."""
    manifest = make_fake_manifest(["p"], scenes=len(observed["red"]), families=["colour"], kinds=[FG])
    records = fake_records(manifest, {"p": STEERABLE})
    changed = []
    for record in records:
        level = observed[record.trial.variant][record.trial.scene_seed - 1_000_000]
        if level == "missing":
            continue
        if level == "void":
            changed.append(void_record(record.trial, "worker_died"))
            continue
        compliance = {
            record.trial.variant: Compliance.COMPLIED,
            "none": Compliance.NOT_ENGAGED,
            "unclear": Compliance.UNCLEAR,
        }.get(level, Compliance.VIOLATED)
        outcome = dataclasses.replace(record.outcome, observed=level, compliance=compliance)
        changed.append(dataclasses.replace(record, outcome=outcome))
    return make_run(manifest, changed, shipped_rubric())


def test_a_policy_deaf_to_language_complies_half_the_time_and_has_no_steering() -> None:
    run = fake_run({"p": DEAF}, scenes=40)
    rate = factor_violation_rate(run, "p", FG)
    assert rate.rate == 0.5
    assert rate.engaged_share == 1.0
    for family in FACTORS:
        found = steered(run, family)
        assert found.index == 0.0
        assert found.test.p == 1.0
        assert found.table.same == found.table.pairs == 40


def test_a_steerable_policy_is_proven_so_under_fine_grained_and_deaf_under_raw_instructions() -> None:
    run = fake_run({"p": FakePolicy(obey=1.0)}, scenes=10)
    for family in FACTORS:
        assert steered(run, family).index == 1.0
        assert steered(run, family).test.p == 2**-10
        assert steered(run, family, RAW).index == 0.0
        assert steered(run, family, RAW).test.p == 1.0


def test_the_pair_table_sorts_every_pair_and_missing_trials_are_incomplete() -> None:
    run = colour_run(
        {
            "red": ["red", "red", "blue", "blue", "none", "unclear", "missing", "red"],
            "blue": ["blue", "red", "blue", "red", "blue", "blue", "blue", "void"],
        }
    )
    found = steered(run)
    assert found.table == PairTable(followed=1, same=2, swapped=1, incomplete=4)
    # Scenes with an unclear or missing side say nothing; a side that never engaged was clearly not red.
    assert found.scenes == 5
    assert found.index == pytest.approx(2 / 5 - 2 / 5)
    coverage = run.coverage()
    assert (coverage.planned, coverage.scored, coverage.unclear, coverage.voids) == (16, 14, 1, {"worker_died": 1})
    assert coverage.share == pytest.approx(13 / 16)


def test_an_inverted_policy_has_a_negative_index_and_no_evidence_of_steering() -> None:
    found = steered(colour_run({"red": ["blue"] * 6, "blue": ["red"] * 6}))
    assert found.index == -1.0
    assert found.table.swapped == 6
    assert found.test.p == 1.0


def test_freezing_under_one_instruction_shows_in_the_second_index_and_in_the_pair_table() -> None:
    found = steered(colour_run({"red": ["red"] * 6, "blue": ["none"] * 6}))
    assert found.index == 1.0
    assert found.index_second == 0.0
    assert found.table == PairTable(0, 0, 0, 6)


def test_a_policy_that_never_moves_has_no_violations_and_no_engaged_share() -> None:
    rate = factor_violation_rate(fake_run({"p": FakePolicy(obey=1.0, engage=0.0)}, scenes=5), "p", FG)
    assert (rate.rate, rate.engaged_share, rate.conditional_rate) == (0.0, 0.0, None)
    assert rate.interval.high > 0.05


def test_the_violation_rate_counts_only_single_factor_families() -> None:
    whole = factor_violation_rate(fake_run({"p": DEAF}, scenes=6), "p", FG)
    only = factor_violation_rate(fake_run({"p": DEAF}, scenes=6, families=FACTORS), "p", FG)
    assert whole == only
    assert whole.trials == 6 * 2 * 5


def test_too_few_scenes_are_said_to_prove_nothing() -> None:
    found = steered(fake_run({"p": FakePolicy(obey=1.0)}, scenes=4, families=["colour"]))
    assert found.index == 1.0
    assert found.test.smallest_p > 0.05
    assert found.detectable is None


def test_null_sessions_reject_at_most_five_percent() -> None:
    manifest = make_fake_manifest(["p"], scenes=12, families=["colour"], kinds=[FG])
    rubric = shipped_rubric()
    base = fake_records(manifest, {"p": DEAF})
    luck = np.random.default_rng(0)
    rejected = 0
    for _ in range(300):
        # A noisy deaf policy: each trial has its own habit, so pairs differ by chance alone.
        records = [behaving(record, "red" if luck.random() < 0.5 else "blue") for record in base]
        found = steering(make_run(manifest, records, rubric), "p", FG, COLUMNS["colour"])
        assert found is not None
        rejected += found.test.p <= 0.05
    assert 0 < rejected / 300 <= 0.05


def behaving(record: TrialRecord, level: str) -> TrialRecord:
    compliance = Compliance.COMPLIED if level == record.trial.variant else Compliance.VIOLATED
    return dataclasses.replace(
        record, outcome=dataclasses.replace(record.outcome, observed=level, compliance=compliance)
    )


def test_the_probe_is_reported_by_arm_and_bowl_and_never_pooled() -> None:
    run = fake_run({"p": FakePolicy(obey=1.0)}, scenes=5)
    found = probe(run, "p", FG, COLUMNS["left_to_right"])
    assert found is not None
    assert [(row.variant, row.control, row.both) for row in found.rows] == [
        ("left_to_right_bowl", False, 5),
        ("left_to_left_bowl", True, 5),
        ("right_to_right_bowl", True, 5),
    ]
    assert found.questions == ("arm", "bowl")
    assert found.seen_product == 1.0
    assert probe(run, "p", FG, COLUMNS["colour"]) is None
    assert steering(run, "p", FG, COLUMNS["left_to_right"]) is None


def test_success_under_raw_instructions_is_the_goal_and_under_fine_grained_ones_the_told_way() -> None:
    run = fake_run({"p": FakePolicy(obey=0.0)}, scenes=20, families=["colour", "stack_block"])
    raw = run.records("p", RAW, "colour")
    told = run.records("p", FG, "colour")
    assert all(succeeded(record) for record in raw)
    assert sum(succeeded(record) for record in told) == 20
    stack = dataclasses.replace(
        run.records("p", RAW, "stack_block")[0],
        outcome=dataclasses.replace(run.records("p", RAW, "stack_block")[0].outcome, success=False),
    )
    assert not succeeded(stack)


def test_a_manifest_with_families_or_variants_foreign_to_the_rubric_is_refused() -> None:
    manifest = make_fake_manifest(["p"], scenes=1, families=["colour"])
    for change in ({"family": "color"}, {"variant": "read"}):
        trials = (dataclasses.replace(manifest.trials[0], **change),)  # type: ignore[arg-type]
        with pytest.raises(SetupError, match=r"FV-EVD-001.*Did you mean '(colour|red)'"):
            make_run(dataclasses.replace(manifest, trials=trials), [], shipped_rubric())

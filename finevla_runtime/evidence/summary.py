"""summary.json: the figures of a run for machines, strict JSON without NaN.

``policies.<policy>.<raw|fine_grained>.<family>.<variant>`` holds exactly trials, successes, engaged, compliant,
violated and score_mean; everything else stands under other top-level keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.evidence.columns import Average, average, plain_mean, score_of
from finevla_runtime.evidence.compare import Comparison, RateContrast, ScoreContrast
from finevla_runtime.evidence.intervals import Interval
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.probe import Probe, probe
from finevla_runtime.evidence.run import Run
from finevla_runtime.evidence.steering import Steering, pooled, steering
from finevla_runtime.evidence.violations import ViolationRate, factor_violation_rate, violation_rate
from finevla_runtime.session.manifest import write_durably
from finevla_runtime.session.strict_json import Json

SCHEMA = 1
Cell = Callable[[Run, str, InstructionKind], Json]


def summarise(run: Run) -> dict[str, Json]:
    """Return the summary of a run."""
    manifest = run.manifest
    return {
        "schema": SCHEMA,
        "run": {
            "name": manifest.name,
            "suite": manifest.suite,
            "created": manifest.created,
            "manifest": manifest.hash,
            "rubric": manifest.settings.rubric_hash,
            "embodiment": manifest.settings.embodiment,
            "policies": dict(manifest.policies),
        },
        "coverage": {policy: _coverage(run, policy) for policy in manifest.policies},
        "policies": _table(run, _variants),
        "columns": _table(run, _columns),
        "steering": _table(run, _steering),
        "steering_pooled": _table(run, _pooled),
        "violations": _table(run, _violations),
        "probe": _table(run, _probe),
    }


def save_summary(summary: Json, path: Path) -> None:
    """Write strict JSON atomically, readable for people."""
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_durably(path, text.encode("utf-8"))


def _table(run: Run, cell: Cell) -> Json:
    """Return policy -> kind -> cell."""
    return {policy: {kind.value: cell(run, policy, kind) for kind in run.kinds} for policy in run.manifest.policies}


def _coverage(run: Run, policy: str) -> Json:
    """Return how much of the plan counts."""
    coverage = run.coverage(policy)
    return {
        "planned": coverage.planned,
        "scored": coverage.scored,
        "unclear": coverage.unclear,
        "share": coverage.share,
        "void": dict(coverage.voids),
    }


def _variants(run: Run, policy: str, kind: InstructionKind) -> Json:
    """Return family -> variant -> counts."""
    found: dict[str, Json] = {}
    for column in run.columns:
        variants = {
            variant: _variant(run, policy, kind, column, variant)
            for variant in (*column.variants, *column.controls)
            if run.trials(policy, kind, column.family, (variant,))
        }
        if variants:
            found[column.family] = variants
    return found


def _variant(run: Run, policy: str, kind: InstructionKind, column: Column, variant: str) -> Json:
    """Return the six figures of one variant."""
    records = run.records(policy, kind, column.family, (variant,))
    counts = violation_rate(records)
    return {
        "trials": len(records),
        "successes": sum(succeeded(record) for record in records),
        "engaged": counts.engaged,
        "compliant": counts.complied,
        "violated": counts.violated,
        "score_mean": plain_mean([record.outcome.score for record in records]) if records else None,
    }


def _columns(run: Run, policy: str, kind: InstructionKind) -> Json:
    """Return the Table-5-shaped figures."""
    cells = [(column, score_of(run, policy, kind, column)) for column in run.columns]
    found: dict[str, Json] = {
        column.family: {
            "planned": cell.planned,
            "trials": cell.trials,
            "scenes": len(cell.scene_means),
            "mean": cell.mean,
            "interval": _interval(cell.interval),
            "successes": cell.successes,
            "success_interval": _interval(cell.success_interval),
            "detectable": cell.detectable,
        }
        for column, cell in cells
        if cell.planned
    }
    return {
        "families": found,
        "avg_id": _average(average([cell for column, cell in cells if not column.ood])),
        "avg_all": _average(average([cell for _, cell in cells])),
    }


def _steering(run: Run, policy: str, kind: InstructionKind) -> Json:
    """Return the steering of every factor."""
    found = (steering(run, policy, kind, column) for column in run.columns)
    return {item.family: _steer(item) for item in found if item is not None}


def _pooled(run: Run, policy: str, kind: InstructionKind) -> Json:
    """Return the steering over all factors."""
    found = [item for column in run.columns if (item := steering(run, policy, kind, column))]
    total = pooled(found)
    return {"factors": len(found), "j_mean": total.index, "p": total.test.p, "method": total.test.method}


def _steer(item: Steering) -> Json:
    """Return one factor."""
    return {
        "levels": [item.first, item.second],
        "scenes": item.scenes,
        "j": item.index,
        "j_second": item.index_second,
        "interval": _interval(item.interval),
        "p": item.test.p,
        "method": item.test.method,
        "smallest_p": item.test.smallest_p,
        "detectable_j": item.detectable,
        "pairs": {
            "followed": item.table.followed,
            "same": item.table.same,
            "swapped": item.table.swapped,
            "incomplete": item.table.incomplete,
        },
    }


def _violations(run: Run, policy: str, kind: InstructionKind) -> Json:
    """Return the violation rate over the single-factor families."""
    return _violation(factor_violation_rate(run, policy, kind))


def _violation(rate: ViolationRate) -> Json:
    """Return one violation rate."""
    return {
        "trials": rate.trials,
        "violated": rate.violated,
        "complied": rate.complied,
        "not_engaged": rate.not_engaged,
        "unclear": rate.unclear,
        "rate": rate.rate,
        "interval": _interval(rate.interval),
        "engaged_share": rate.engaged_share,
        "conditional_rate": rate.conditional_rate,
        "conditional_interval": _interval(rate.conditional_interval),
        "detectable": rate.detectable,
    }


def _probe(run: Run, policy: str, kind: InstructionKind) -> Json:
    """Return the out-of-distribution probes."""
    found = (probe(run, policy, kind, column) for column in run.columns)
    return {item.family: _probe_rows(item) for item in found if item is not None}


def _probe_rows(item: Probe) -> Json:
    """Return one probe."""
    return {
        "seen_product": item.seen_product,
        "variants": {
            row.variant: {
                "control": row.control,
                "trials": row.trials,
                "complied": dict(row.complied),
                "both": row.both,
                "product": row.product,
            }
            for row in item.rows
        },
    }


def _average(value: Average) -> Json:
    """Return a plain mean of columns."""
    return {"mean": value.mean, "interval": _interval(value.interval) if value.mean is not None else None}


def _interval(interval: Interval) -> Json:
    """Return [low, high]."""
    return [interval.low, interval.high]


def comparison_json(comparison: Comparison) -> Json:
    """Return a comparison as strict JSON."""
    return {
        "schema": SCHEMA,
        "first": comparison.first,
        "second": comparison.second,
        "kind": comparison.kind.value,
        "matched": comparison.matched,
        "coverage": [comparison.coverage_first, comparison.coverage_second],
        "primary": _score_contrast(comparison.primary),
        "columns": [_score_contrast(item) for item in comparison.columns],
        "success": _score_contrast(comparison.success),
        "rates": [_rate_contrast(item) for item in comparison.rates],
        "warnings": list(comparison.warnings),
        "decided": comparison.decided,
        "verdict": comparison.verdict,
    }


def _score_contrast(item: ScoreContrast) -> Json:
    """Return one difference of mean scores."""
    return {
        "name": item.name,
        "first": item.first,
        "second": item.second,
        "difference": item.difference,
        "interval": _interval(item.interval),
        "trials": item.trials,
        "scenes": item.scenes,
        "p": item.test.p,
        "p_holm": item.p_holm,
        "method": item.test.method,
    }


def _rate_contrast(item: RateContrast) -> Json:
    """Return one difference of rates."""
    return {
        "name": item.name,
        "trials": item.trials,
        "first": item.first,
        "second": item.second,
        "b": item.first_only,
        "c": item.second_only,
        "interval": _interval(item.interval),
        "p_mcnemar": item.p_mcnemar,
        "p": item.test.p,
        "p_holm": item.p_holm,
        "method": item.test.method,
    }

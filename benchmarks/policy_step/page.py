"""The result page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.policy_step.counts import Work
from benchmarks.policy_step.rates import Rates
from benchmarks.policy_step.sides import EAGER, HUGGING_FACE, Missing, Side
from benchmarks.policy_step.train_step import TrainFigures
from finevla_runtime.contracts.clock import wall_clock_utc

HEAD = """| batch | engine | p50 ms | p99 ms | memory MB | {baseline} p50 / p50 |{floor}
|---|---|---|---|---|---|{rule}
"""


@dataclass(frozen=True, eq=False)
class Result:
    """Everything one framework's table needs.

    Attributes:
        title: what was measured.
        sides: measured rows.
        missing: rows that did not run.
        work: batch size -> floor of its step; empty where floors were not measured.
        rates: of the device, where floors were measured.
        training: the training step, where it was measured.
    """

    title: str
    sides: Sequence[Side]
    missing: Sequence[Missing]
    work: Mapping[int, Work]
    rates: Rates | None = None
    training: TrainFigures | None = None


def table(result: Result) -> str:
    """Return the table of one framework, its floors and what is missing from it."""
    names = [side.name for side in result.sides]
    baseline = next((name for name in (HUGGING_FACE, EAGER) if name in names), names[0] if names else "first")
    floors = result.rates is not None
    lines = [
        HEAD.format(baseline=baseline, floor=" p50 / floor |" if floors else "", rule="---|" if floors else "").rstrip()
    ]
    base = next((side for side in result.sides if side.name == baseline), None)
    for size in result.sides[0].seconds if result.sides else ():
        for side in result.sides:
            p50, p99 = (float(v) for v in np.percentile(side.seconds[size], [50, 99]))
            ratio = float(np.median(base.seconds[size])) / p50 if base is not None else 1.0
            line = f"| {size} | {side.name} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} "
            line += f"| {side.memory_bytes / 1e6:.0f} | {ratio:.2f} |"
            if result.rates is not None:
                line += f" {p50 / max(_floors(result, size)):.2f} |"
            lines.append(line)
    parts = [f"## {result.title}", "", "\n".join(lines), ""]
    if result.rates is not None:
        parts += [_floor_text(result, result.rates), ""]
    if result.training is not None:
        t = result.training
        parts += [
            f"Training step, batch {t.batch}, gradient checkpointing: {t.step_s * 1e3:.0f} ms forward and backward, "
            f"{t.flops / 1e12:.3g} TFLOP, {100 * t.utilisation:.0f} % of the measured matrix-product rate.",
            "",
        ]
    parts += [f"Not run: {row.name} ({row.reason})" for row in result.missing]
    return "\n".join(parts).rstrip() + "\n"


def page(results: Sequence[Result], command: str, device: str, notes: str) -> str:
    """Return the whole page."""
    head = f"""# One policy step

`{command}`, {wall_clock_utc()[:10]}, commit `{_commit()}`, {device}, Python {sys.version.split()[0]}.
One step goes from observation tensors in host memory to rows in host memory. Sides alternate within one run, and the
order turns around every round; compare rows of one table only. More than 1 in the ratio column means faster than the
baseline. Memory is what loading a side and its first run added to the memory in use: small differences are noise.
{notes}
"""
    return head + "\n" + "\n".join(table(result) for result in results)


def _floors(result: Result, size: int) -> tuple[float, float]:
    assert result.rates is not None
    work = result.work[size]
    return result.rates.floors_s(work.flops, work.bytes)


def _floor_text(result: Result, rates: Rates) -> str:
    rows = [
        f"Floors: {rates.flops_per_s / 1e12:.3g} TFLOP/s measured on a product of {rates.product}, "
        f"{rates.bytes_per_s / 1e9:.4g} GB/s measured on a copy (read plus written).",
        "",
        "| batch | GFLOP | floor by operations ms | weights MB | activations MB | floor by bytes ms |",
        "|---|---|---|---|---|---|",
    ]
    for size, work in result.work.items():
        by_flops, by_bytes = _floors(result, size)
        rows.append(
            f"| {size} | {work.flops / 1e9:.4g} | {by_flops * 1e3:.3g} | {work.weight_bytes / 1e6:.4g} "
            f"| {work.activation_bytes / 1e6:.4g} | {by_bytes * 1e3:.3g} |"
        )
    return "\n".join(rows)


def _commit() -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"

"""`finevla demo`: the shipped policy on a small paired suite, with a report, in minutes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finevla_runtime.cli.options import parse


@dataclass(frozen=True)
class DemoOptions:
    """See in minutes what the project is for.

    Two instructions that differ in one word of *how*, the same scene, and a simulated Cobot Magic that does each as
    told. Starts a policy server with the shipped bundle, runs a small paired suite and writes a report. A finished
    demo is shown again without running it; --out starts a new one elsewhere.
    """

    out: Path = field(default_factory=lambda: Path("out/demo"))
    """Run folder."""
    bundle: Path | None = None
    """Policy bundle; the shipped one when left out."""
    workers: int = 2
    """Worker processes."""


def demo(argv: Sequence[str]) -> int:
    """Run the shipped policy on a small paired suite and write a report."""
    options = parse(DemoOptions, argv, prog="finevla demo")
    from finevla_runtime.contracts.clock import SteadyClock, elapsed_s
    from finevla_runtime.contracts.errors import BodyError
    from sim_eval.cli import write_report
    from sim_eval.evaluation import Evaluation, count_cells, evaluate_suite
    from sim_eval.headline import headline, steering_indices
    from sim_eval.plan import Selection

    clock = SteadyClock()
    begin_ns = clock.now_ns()
    sys.stderr.write("Starting the policy server and two simulated robots; this takes a minute or two.\n")
    wanted = Evaluation(
        options.out,
        "demo",
        Selection(),
        options.workers,
        bundle=options.bundle,
        command=" ".join(["finevla demo", *argv]),
    )
    manifest, result = evaluate_suite(wanted)
    if not result.scored:
        raise BodyError("FV-RUN-006", "no trial could be run: the simulator hung or died in every one.")
    page, summary = write_report(options.out)
    steering = steering_indices(summary, next(iter(manifest.policies)))
    sys.stdout.write(headline(count_cells(options.out, manifest), steering) + "\n")
    repeated = " (run earlier)" if result.resumed == result.planned else ""
    sys.stdout.write(f"\n{result.scored} trials{repeated} in {elapsed_s(clock, begin_ns):.0f} s\n")
    if result.missing:
        sys.stdout.write(f"{len(result.missing)} trials are missing; repeat the command to run them.\n")
    sys.stdout.write(f"Open the report: {page.resolve()}\n")
    return 1 if result.missing else 0

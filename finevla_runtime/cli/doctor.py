"""`finevla doctor`: what works here, what is missing, and the command that brings it."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from finevla_runtime.cli.checks import RENDER_TIMEOUT_S, Check, run_checks
from finevla_runtime.cli.options import parse


@dataclass(frozen=True)
class DoctorOptions:
    """Say what works on this machine and what is missing, with the command that brings it."""

    json: bool = False
    """Print one JSON document instead of the table."""
    render_timeout_s: float = RENDER_TIMEOUT_S
    """How long the Vulkan driver may take for one small picture."""


def doctor(argv: Sequence[str]) -> int:
    """Say what works on this machine and what is missing, with the remedy."""
    options = parse(DoctorOptions, argv, prog="finevla doctor")
    checks = run_checks(options.render_timeout_s)
    failed = any(check.needed and not check.ok for check in checks)
    if options.json:
        document = {"ok": not failed, "checks": [asdict(check) for check in checks]}
        sys.stdout.write(json_format.dumps(document, indent=2) + "\n")
    else:
        _print_table(checks, failed)
    return 1 if failed else 0


def _print_table(checks: Sequence[Check], failed: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        mark, style = _mark(check)
        found = Text(check.detail)
        if check.remedy:
            found.append(f"\nRemedy: {check.remedy}", style="bold")
        table.add_row(Text(mark, style), Text(check.name), found)
    console = Console(highlight=False)
    console.print(table)
    console.print("\nSomething that the demo needs is missing." if failed else "\nReady for: finevla demo")


def _mark(check: Check) -> tuple[str, str]:
    if check.ok:
        return "ok", "green"
    return ("MISSING", "red") if check.needed else ("absent", "yellow")

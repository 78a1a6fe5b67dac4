"""The page of the control loop, from the parts that were measured."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.control_loop.lateness import BESIDE
from benchmarks.control_loop.seams import UPSTREAM

# What JSON holds; every table below knows the keys of its part.
Found = Mapping[str, Any]


def page(folder: Path) -> str:
    """Return the whole page; parts that were not measured are left out."""
    parts = [
        f"# Control loop\n\n`python -m benchmarks.control_loop`, Python {sys.version.split()[0]}. Ratios are the other "
        "way's figure over ours, so more than 1\nmeans that ours is better. Scripts of other projects were written "
        "here from descriptions, not copied and not run."
    ]
    for name, section in (("lateness", lateness_section), ("cost", cost_section), ("age", age_section)):
        path = folder / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text(encoding="utf-8"))))
    seams = {
        int(path.stem.removeprefix("seams-")): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("seams-*.json"))
    }
    if seams:
        parts.append(seam_section(seams))
    return "\n\n".join(parts) + "\n"


def lateness_section(part: Found) -> str:
    """Return the table of lateness."""
    found, lines = part["found"], []
    for name, one in found.items():
        cpu = ", ".join(f"{process} {used:.2f}" for process, used in one["cpu"].items() if used >= 0.01)
        loads = " ".join(f"{load:.1f}" for load in one["load"])
        lines.append(
            f"| {name} | {one['p50_ms']:.2f} | {one['p99_ms']:.2f} | {one['max_ms']:.1f} | {one['gap_ms']:.1f} | "
            f"{one['rate_hz']:.1f} | {cpu} | {loads} |"
        )
    ratios = "; ".join(
        f"{ours}: p99 of {peer} over ours **{found[peer]['p99_ms'] / found[ours]['p99_ms']:.2f}**, "
        f"max {found[peer]['max_ms'] / found[ours]['max_ms']:.2f}"
        for ours, peer in BESIDE.items()
    )
    return f"""## Lateness of the 200 Hz loop

{_when(part)} Milliseconds from the instant a command was due to the next command sent. Every loop stamps its commands
when it sends them; a bystander reads the stamps from the raw messages, so the way to it does not count. CPU seconds per
second by process; load average at the begin of each round.

| loop | p50 | p99 | max | longest gap | commands/s | CPU | load |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Ratios: {ratios}."""


def cost_section(part: Found) -> str:
    """Return the table of the tick's cost."""
    lines = [
        f"| {name} | {one['p50_ms']:.2f} | {one['p99_ms']:.2f} | {one['chunk_ms']:.2f} | {one['passed']:.0%} | "
        f"{one['limited']:.0%} | {one['held']:.0%} |"
        for name, one in part["found"].items()
    ]
    return f"""## Cost of a tick

{_when(part)} CPU milliseconds of `Controller.tick` (a period is 5 ms) and of taking one chunk in.

| motion | tick p50 | tick p99 | chunk | passed | limited | held |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}"""


def age_section(part: Found) -> str:
    """Return the table of ages."""
    found = part["found"]
    other = next(name for name in found if name != "ours")
    lines = [
        f"| {name} | {one['p50_ms']:.1f} | {one['p99_ms']:.1f} | {one['max_ms']:.1f} | {one['answers']} | "
        f"{found[other]['p50_ms'] / one['p50_ms']:.2f} | {found[other]['p99_ms'] / one['p99_ms']:.2f} | "
        f"{one['load']:.1f} |"
        for name, one in found.items()
    ]
    return f"""## From picture to command

{_when(part)} Milliseconds from the header stamp of the picture to the first command that answers it: simulated tabletop
with its cameras at 10 Hz, the shipped policy behind the real server, all on this machine.

| way | p50 | p99 | max | answers | p50 ratio | p99 ratio | load |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}"""


def seam_section(parts: Mapping[int, Found]) -> str:
    """Return the tables of the seams."""
    runs = next(iter(parts.values()))["found"][UPSTREAM]["runs"]
    tables = [_seam_table(latency_ms, parts[latency_ms]["found"]) for latency_ms in sorted(parts)]
    return f"""## Seams between chunks

The shipped policy in the tabletop world, {runs} episodes of each strategy over all families, the same scenes for all,
commands at 200 Hz on a simulated clock: these figures do not depend on the machine. Each strategy drives the world
itself and gets each answer after the latency given. Values are the largest over the twelve arm joints. A seam lasts
from where the old chunk ends, or the new one begins to count, until 0.3 s later. "x" is the figure of RDT's way over
that of the row. Error: RMS between the newest row and the command when that row is due; lag: the delay at which the
commands fit the rows best, and the error then. Limited: ticks that the guard changed.

{(chr(10) * 2).join(tables)}"""


def _seam_table(latency_ms: int, found: Found) -> str:
    base = found[UPSTREAM]
    lines = [_seam_row(name, one, base) for name, one in found.items()]
    return f"""Latency {latency_ms} ms:

| strategy | step, mrad/tick | x | speed jump at seams p50 / max, rad/s | x max | jerk at seams max, rad/s³ | x | \
jerk RMS | x | error, mrad | lag, ms | error at lag | s/episode | done | limited | stops |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}"""


def _seam_row(name: str, one: Found, base: Found) -> str:
    step, seam = one["overall"]["step"], one["seam"]
    cells = [
        name,
        f"{step * 1e3:.1f}",
        f"{base['overall']['step'] / step:.2f}",
        f"{one['seam_p50']['jump']:.3f} / {seam['jump']:.3f}",
        f"{base['seam']['jump'] / seam['jump']:.2f}",
        f"{seam['jerk']:.0f}",
        f"{base['seam']['jerk'] / seam['jerk']:.2f}",
        f"{one['jerk_rms']:.0f}",
        f"{base['jerk_rms'] / one['jerk_rms']:.2f}",
        _milli(one["error_rms"]),
        f"{one['lag_s'] * 1e3:.0f}",
        _milli(one["lag_error_rms"]),
        f"{one['seconds']:.1f}",
        f"{one['successes']}/{one['runs']}",
        f"{one['limited']:.0%}",
        f"{one['stops']}",
    ]
    return f"| {' | '.join(cells)} |"


def _when(part: Found) -> str:
    return f"{part['date'][:10]}, {part['cpus']} cores, load average {part['load']:.1f} over five minutes at the end."


def _milli(value: float) -> str:
    """Return a figure in thousandths; a dash where no row could be compared."""
    return "–" if math.isnan(value) else f"{1e3 * value:.1f}"

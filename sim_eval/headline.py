"""The few figures of a run that answer its question: did the robot do it the way the instruction said?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from finevla_runtime.recording.json_lines import read_object, value
from sim_eval.evaluation import CellCount
from sim_eval.tabletop.catalog import find_family

_NAMES = {"fine_grained": "fine-grained (says how)", "raw": "raw (goal only)"}


def steering_indices(summary: Path, policy: str) -> dict[str, float]:
    """Return instruction kind -> steering index J, the mean over the factors, from ``summary.json``."""
    where = str(summary)
    kinds = value(value(read_object(summary), "steering_pooled", dict, where), policy, dict, where)
    known = {kind: entry for kind, entry in kinds.items() if entry.get("j_mean") is not None}
    return {kind: value(entry, "j_mean", float, where) for kind, entry in known.items()}


def headline(cells: Sequence[CellCount], steering: Mapping[str, float]) -> str:
    """Summarise a run per instruction kind.

    The question of following is put to families with two variants only: without a factor there is nothing to follow,
    and half of the raw trials "comply" by chance, because the same behaviour is counted under both variants. The
    out-of-distribution probe stands in a line of its own and is never pooled.

    Args:
        cells: counts of the run.
        steering: instruction kind -> steering index J (1: always as told, 0: deaf to the instruction).
    """
    lines = [f"{'instruction':<26}{'success':>12}{'did as told':>14}{'did otherwise':>16}{'steering index J':>19}"]
    for kind in dict.fromkeys(cell.kind for cell in cells):
        chosen = [cell for cell in cells if cell.kind == kind and not find_family(cell.family).ood]
        paired = [cell for cell in chosen if cell.variant != "default"]
        trials, asked = sum(cell.trials for cell in chosen), sum(cell.trials for cell in paired)
        successes = f"{sum(cell.successes for cell in chosen)}/{trials}"
        complied = f"{sum(cell.complied for cell in paired)}/{asked}"
        violated = f"{sum(cell.violated for cell in paired)}/{asked}"
        j = f"{steering[kind]:+.2f}" if kind in steering else "-"
        lines.append(f"{_NAMES.get(kind, kind):<26}{successes:>12}{complied:>14}{violated:>16}{j:>19}")
    for cell in cells:
        probe = find_family(cell.family)
        if probe.ood and cell.kind == "fine_grained" and cell.variant in probe.variants:
            lines.append(
                f"unseen combination ({cell.variant.replace('_', ' ')}): "
                f"{cell.complied}/{cell.trials} as told, reported apart"
            )
    return "\n".join(lines)

"""The few figures of a run that answer its question: did the robot do it the way the instruction said?"""

from __future__ import annotations

from collections.abc import Sequence

from sim_eval.evaluation import CellCount

_NAMES = {"fine_grained": "fine-grained (says how)", "raw": "raw (goal only)"}


def headline(cells: Sequence[CellCount]) -> str:
    """Summarise a run per instruction kind.

    The question of following is put to families with two variants only: without a factor there is nothing to follow,
    and half of the raw trials "comply" by chance, because the same behaviour is counted under both variants.
    """
    lines = [f"{'instruction':<26}{'success':>12}{'did as told':>14}{'did otherwise':>16}{'score':>8}"]
    for kind in dict.fromkeys(cell.kind for cell in cells):
        chosen = [cell for cell in cells if cell.kind == kind]
        paired = [cell for cell in chosen if cell.variant != "default"]
        trials, asked = sum(cell.trials for cell in chosen), sum(cell.trials for cell in paired)
        successes = f"{sum(cell.successes for cell in chosen)}/{trials}"
        complied = f"{sum(cell.complied for cell in paired)}/{asked}"
        violated = f"{sum(cell.violated for cell in paired)}/{asked}"
        score = sum(cell.score_mean * cell.trials for cell in chosen) / max(trials, 1)
        lines.append(f"{_NAMES.get(kind, kind):<26}{successes:>12}{complied:>14}{violated:>16}{score:>8.1f}")
    return "\n".join(lines)

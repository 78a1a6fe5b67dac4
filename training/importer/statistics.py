"""``dataset_statistics.json`` of a run to our Normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import Normalisation
from finevla_runtime.processing.normalise import MODES
from finevla_runtime.session.strict_json import JsonNode, parse_json

# Statistics that give (low, high) of each mode.
_PAIRS = {"q99": ("q01", "q99"), "min_max": ("min", "max"), "mean_std": ("mean", "std")}


@dataclass(frozen=True, slots=True)
class ForeignStatistics:
    """Statistics of one embodiment tag, dimensions in the run's order.

    Attributes:
        tag: embodiment tag.
        action: ``q01``, ``q99``, ``min``, ``max``, ``mean``, ``std`` of the action rows.
        mask: False where clients threshold instead of scaling (grippers); empty when the file has none.
        state: the same statistics of the state; empty when the file has none.
    """

    tag: str
    action: Mapping[str, tuple[float, ...]]
    mask: tuple[bool, ...]
    state: Mapping[str, tuple[float, ...]]


def read_statistics(path: Path, tag: str | None) -> ForeignStatistics:
    """Read the statistics of one embodiment.

    Raises:
        SetupError: FV-IMP-015 for unreadable statistics, FV-IMP-016 for several tags and none named, or an
            unknown one.
    """
    root = parse_json(path.read_text(encoding="utf-8"), path.name, "FV-IMP-015")
    tags = {name: node for name, node in root.free_mapping().items() if name != "metadata"}
    if tag is None and len(tags) > 1:
        raise SetupError(
            "FV-IMP-016",
            f"{path.name} has statistics of {len(tags)} embodiments; choose the one to serve by --tag. "
            f"It has: {', '.join(sorted(tags))}.",
        )
    chosen = tag if tag is not None else next(iter(tags), "")
    if chosen not in tags:
        raise unknown_name("FV-IMP-016", "embodiment tag", chosen, tags, path.name)
    parts = tags[chosen].free_mapping()
    if "action" not in parts:
        raise tags[chosen].fail("no statistics of the action.")
    action = parts["action"].free_mapping()
    mask = tuple(item.flag() for item in action["mask"].elements()) if "mask" in action else ()
    return ForeignStatistics(
        chosen, _columns(action), mask, _columns(parts["state"].free_mapping()) if "state" in parts else {}
    )


def _columns(parts: Mapping[str, JsonNode]) -> dict[str, tuple[float, ...]]:
    wanted = {name for pair in _PAIRS.values() for name in pair}
    return {name: tuple(item.number() for item in node.elements()) for name, node in parts.items() if name in wanted}


def to_normalisation(columns: Mapping[str, Sequence[float]], modes: Sequence[str], clip: bool) -> Normalisation:
    """Return our Normalisation for columns in the run's order.

    A ``min_max`` dimension without spread becomes ``mean_std`` with the constant as mean and 1 as deviation: upstream
    trains on 0 there and returns the constant, and so does this. (Other modes without spread train on the raw value
    upstream and pass it unchanged here.)

    Args:
        columns: statistics by name, one number per dimension.
        modes: mode per dimension.
        clip: whether model rows are clipped to [-1, 1] before the inverse.

    Raises:
        SetupError: FV-IMP-015 for an unknown mode, or a statistic that is missing or of the wrong length.
    """
    mode, low, high = [], [], []
    for index, name in enumerate(modes):
        if name not in MODES:
            raise unknown_name("FV-IMP-015", "normalisation mode", name, MODES)
        pair = (0.0, 1.0) if name in ("binary", "identity") else _pair(columns, name, index, len(modes))
        if name == "min_max" and pair[0] == pair[1]:
            name, pair = "mean_std", (pair[0], 1.0)
        mode.append(name)
        low.append(pair[0])
        high.append(pair[1])
    return Normalisation(tuple(mode), tuple(low), tuple(high), clip)


def _pair(columns: Mapping[str, Sequence[float]], mode: str, index: int, size: int) -> tuple[float, float]:
    names = _PAIRS[mode]
    for name in names:
        got = len(columns[name]) if name in columns else "no"
        if got != size:
            raise SetupError(
                "FV-IMP-015", f"the run's statistics have {got} values of {name!r}, wanted {size}; {mode} needs them."
            )
    low, high = (float(columns[name][index]) for name in names)
    if not np.isfinite([low, high]).all() or (mode != "mean_std" and low > high):
        raise SetupError("FV-IMP-015", f"{names[0]}, {names[1]} of dimension {index} are {low}, {high}.")
    return low, high


def check_mask(mask: Sequence[bool], modes: Sequence[str], source: str) -> None:
    """Refuse modes that contradict the mask of the statistics: False stands exactly at thresholded dimensions.

    The mask is written in the order of the statistics, so it also catches a wrong joint order.

    Raises:
        SetupError: FV-IMP-015 for a mask of another length, FV-IMP-013 for a contradiction.
    """
    if not mask:
        return
    if len(mask) != len(modes):
        raise SetupError("FV-IMP-015", f"the mask of the statistics has {len(mask)} values, wanted {len(modes)}.")
    thresholded = [index for index, scaled in enumerate(mask) if not scaled]
    binary = [index for index, mode in enumerate(modes) if mode == "binary"]
    if thresholded != binary:
        raise SetupError(
            "FV-IMP-013",
            f"the statistics threshold the dimensions {thresholded}, but {source} has its binary grippers at "
            f"{binary}: the joint order or the gripper mode is not what it seems. Say both by --layout, --joints "
            "and --grippers.",
        )

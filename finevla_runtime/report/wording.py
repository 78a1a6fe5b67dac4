"""How figures are written in the report."""

from __future__ import annotations

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.evidence.intervals import Interval

DASH = "–"
KIND_NAMES = {InstructionKind.FINE_GRAINED: "fine-grained", InstructionKind.RAW: "raw"}


def percent(rate: float | None) -> str:
    """Write a rate 0..1 as per cent; one decimal only where it matters."""
    if rate is None:
        return DASH
    value = 100 * rate
    return f"{value:.1f} %" if 0 < value < 10 or 90 < value < 100 else f"{value:.0f} %"


def percent_range(interval: Interval) -> str:
    """Write an interval of a rate."""
    return f"{100 * interval.low:.0f}–{100 * interval.high:.0f} %"


def points(score: float | None) -> str:
    """Write a score 0..100."""
    return DASH if score is None else f"{score:.1f}"


def points_range(interval: Interval) -> str:
    """Write an interval of a score."""
    return f"{interval.low:.0f}–{interval.high:.0f}"


def index(value: float | None) -> str:
    """Write a steering index with a real minus sign."""
    return DASH if value is None else f"{value:.2f}".replace("-", "−")


def index_range(interval: Interval) -> str:
    """Write the interval of a steering index."""
    return f"{index(interval.low)} to {index(interval.high)}"


def p_value(value: float) -> str:
    """Write a p value; tiny ones as a bound."""
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}" if value < 0.01 else f"p = {value:.2f}"


def plain(name: str) -> str:
    """Write an identifier as words."""
    return name.replace("_", " ")

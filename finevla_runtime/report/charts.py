"""Charts of the report as inline SVG; text stays text and follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from finevla_runtime.evidence.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stands for the page's own text colour; the SVG says currentColor instead, so that dark pages stay readable.
_INK = "#010203"
_SERIES = ("#2a78b8", "#c9812b", "#5b8c3a", "#8d5aa8", "#b8455a", "#4a9b9b")


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure of a chart: value and interval, or nothing."""

    value: float | None
    interval: Interval


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart: a mark per row."""

    name: str
    marks: tuple[Mark, ...]


def dot_chart(rows: Sequence[str], series: Sequence[Series], limits: tuple[float, float], axis: str, title: str) -> str:
    """Return a chart with one row per name and one dot with its interval per series.

    Args:
        rows: row names, top to bottom.
        series: marks in row order.
        limits: ends of the value axis.
        axis: name of the value axis.
        title: what the picture shows, for readers who cannot see it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    height = 0.9 + len(rows) * max(0.30, 0.17 * len(series))
    figure = Figure(figsize=(7.4, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    _draw(axes, rows, series)
    axes.set_xlim(*limits)
    axes.set_xlabel(axis)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _plain_style(axes)
    return _svg(figure, title)


def curve_chart(
    ticks: Sequence[str], series: Sequence[Series], limits: tuple[float, float], axis: str, title: str
) -> str:
    """Return a chart with one column per name and one line with a band of intervals per series.

    Args:
        ticks: column names, left to right.
        series: marks in column order.
        limits: ends of the value axis.
        axis: name of the value axis.
        title: what the picture shows, for readers who cannot see it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for number, one in enumerate(series):
        known = [(place, mark) for place, mark in enumerate(one.marks) if mark.value is not None]
        places = [place for place, _ in known]
        colour = series_colour(number)
        lows, highs = [mark.interval.low for _, mark in known], [mark.interval.high for _, mark in known]
        axes.fill_between(places, lows, highs, color=colour, alpha=0.14, linewidth=0)
        axes.plot(places, [mark.value for _, mark in known], "o-", color=colour, markersize=6, linewidth=2.0)
    axes.set_ylim(*limits)
    axes.set_ylabel(axis)
    axes.set_xticks(range(len(ticks)), list(ticks))
    _plain_style(axes, grid="y")
    return _svg(figure, title)


def _draw(axes: Axes, rows: Sequence[str], series: Sequence[Series]) -> None:
    """Draw the marks; series are shifted so that they do not hide one another."""
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * 0.62 / max(len(series), 2)
        colour = _SERIES[number % len(_SERIES)]
        for row, mark in zip(range(len(rows)), one.marks, strict=True):
            if mark.value is None:
                continue
            low, high = mark.interval.low, mark.interval.high
            axes.plot([low, high], [row + shift] * 2, color=colour, linewidth=2.2, alpha=0.55)
            axes.plot([mark.value], [row + shift], "o", color=colour, markersize=6)


def _plain_style(axes: Axes, grid: Literal["x", "y"] = "x") -> None:
    """Quiet axes in the page's ink; names are never read as formulas."""
    axes.grid(axis=grid, color="#8a8f98", alpha=0.3, linewidth=0.7)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, length=0, labelsize=9.5)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels(), *axes.get_xticklabels()):
        text.set_parse_math(False)


def _svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element without header, fixed fonts or fixed size."""
    import matplotlib as mpl
    from markupsafe import escape

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "finevla", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"(<svg\b[^>]*?) width=\"[^\"]*\" height=\"[^\"]*\"", r"\1", text, count=1)
    text = re.sub(r"(font:[^;\"]*?)'[^;\"]*sans-serif", r"\1sans-serif", text)
    name = f'<svg role="img" aria-label="{escape(title)}"'
    return text.replace("<svg", name, 1).replace(_INK, "currentColor")


def series_colour(number: int) -> str:
    """Return the colour of one series, for the legend in the page."""
    return _SERIES[number % len(_SERIES)]

"""FG:Raw as a number: the probability that a sample carries fine-grained text.

The paper names mixtures by FG:Raw (Raw-only, 1:4, 1:2, 1:1, 2:1, 4:1, FG-only; section 4.1). Upstream's registry has
the ratio as weights per task folder, so what a run really saw depended on which folders had annotations.
"""

from __future__ import annotations

import math

from finevla_runtime.contracts.errors import SetupError

PAPER_RATIOS = ("raw", "1:4", "1:2", "1:1", "2:1", "4:1", "fg")


def parse_share(ratio: str | float) -> float:
    """Return the share of fine-grained samples, 0..1.

    Args:
        ratio: ``raw``, ``fg``, ``FG:Raw`` such as ``1:2``, or the share itself such as 0.33.

    Raises:
        SetupError: FV-DAT-008 for anything else.
    """
    if isinstance(ratio, str):
        text = ratio.strip().lower()
        if text in ("raw", "fg"):
            return float(text == "fg")
        fine, colon, raw = text.partition(":")
        try:
            numbers = (float(fine), float(raw)) if colon else (float(fine), 1.0 - float(fine))
        except ValueError:
            numbers = (math.nan, math.nan)
    else:
        numbers = (float(ratio), 1.0 - float(ratio))
    if not all(math.isfinite(number) and number >= 0 for number in numbers) or not sum(numbers) > 0:
        raise SetupError(
            "FV-DAT-008",
            f"FG:Raw is {ratio!r}; wanted 'raw', 'fg', a ratio such as '1:2' or a share from 0 to 1.",
        )
    return numbers[0] / sum(numbers)


def ratio_name(share: float) -> str:
    """Return how the paper would name a share, or the share in percent where it has no name."""
    for ratio in PAPER_RATIOS:
        if abs(parse_share(ratio) - share) < 1e-9:
            return ratio
    return f"{100 * share:g}% fg"

"""Where the files that ship with the runtime lie, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

# hw_configs/ and checkpoints/ are installed beside this package, so one rule serves both layouts.
_ROOT = Path(__file__).resolve().parent.parent

HW_CONFIGS = _ROOT / "hw_configs"
RUBRICS = HW_CONFIGS / "rubrics"
SUITES = HW_CONFIGS / "suites"
CHECKPOINTS = _ROOT / "checkpoints"
DEFAULT_BUNDLE = CHECKPOINTS / "tabletop-oft"

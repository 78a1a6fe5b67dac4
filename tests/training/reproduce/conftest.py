"""Makes the fake runs of the statistics importable here."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("evidence", "report", "training/reproduce"):
    sys.path.insert(0, str(Path(__file__).parents[2] / folder))

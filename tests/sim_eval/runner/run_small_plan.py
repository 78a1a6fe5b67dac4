"""Runs the small plan in a process of its own, so that a test can kill it: `python -m ... RUN_DIR WORKERS`."""

from __future__ import annotations

import sys
from pathlib import Path

from sim_eval.runner import run_manifest
from tests.sim_eval.runner.fakes import small_setup

if __name__ == "__main__":
    run_manifest(small_setup(Path(sys.argv[1]), int(sys.argv[2])), lambda *_: None)

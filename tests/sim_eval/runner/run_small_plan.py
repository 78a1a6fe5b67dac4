"""Runs the small plan in a process that is killed on the way: `python -m ... RUN_DIR WORKERS SIGNAL RECORDS`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from finevla_runtime.session.journal import JOURNAL_FILE
from sim_eval.runner import run_manifest
from tests.sim_eval.runner.fakes import small_setup

if __name__ == "__main__":
    # A test run in the background inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_dir, number, records = Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])

    sent: list[int] = []

    def die_on_the_way(*_: object) -> None:
        # The first line of a journal is its head.
        if not sent and len((run_dir / JOURNAL_FILE).read_bytes().splitlines()) > records:
            sent.append(number)
            os.kill(os.getpid(), number)

    run_manifest(small_setup(run_dir, int(sys.argv[2])), die_on_the_way)

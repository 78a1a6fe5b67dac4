"""Experts that need no simulator; worker processes import this module by its name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sim_eval.demos import Attempt, DemoMaker, Made
from tests.recording.episodes import small_episode

SWITCH = "FINEVLA_TEST_SWITCH"


def make(attempt: Attempt) -> Made:
    if attempt.scene_seed % 5 == 3:
        return Made(None, "dropped the cube")
    # Later attempts finish first, so that the order of the dataset cannot come from luck.
    time.sleep(0.02 if attempt.number % 2 == 0 else 0.0)
    return Made(small_episode(attempt.number, 3 + attempt.number % 4, f"task {attempt.number % 3}"))


def factory() -> DemoMaker:
    return make


def dying_factory() -> DemoMaker:
    """Dies at attempt 4 as long as the switch file exists."""

    def make_or_die(attempt: Attempt) -> Made:
        if attempt.number == 4 and Path(os.environ[SWITCH]).exists():
            os._exit(1)
        return make(attempt)

    return make_or_die


def hanging_factory() -> DemoMaker:
    """Hangs at attempt 4 as long as the switch file exists."""

    def make_or_hang(attempt: Attempt) -> Made:
        while attempt.number == 4 and Path(os.environ[SWITCH]).exists():
            time.sleep(0.05)
        return make(attempt)

    return make_or_hang

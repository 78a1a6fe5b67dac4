"""Program: trains a tiny policy and sends itself a signal after a step, as a lost machine or a scheduler would."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.training.loop.two_processes import train_tiny
from training.distributed import AccelerateStepper
from training.stepping import Stepped

STEP = 2


def main(out: Path, name: str, number: int) -> None:
    step = AccelerateStepper.step

    def stepped(self: AccelerateStepper[object], done: int, rates: Sequence[float]) -> Stepped[object]:
        found = step(self, done, rates)
        if done == STEP:
            os.kill(os.getpid(), number)
        return found

    AccelerateStepper.step = stepped  # type: ignore[method-assign]
    train_tiny(out, name, "ddp", per_device=8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], int(getattr(signal, sys.argv[3])))

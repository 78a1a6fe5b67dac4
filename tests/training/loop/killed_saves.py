"""Program: saves checkpoints in children that kill themselves at their n-th file operation, and says what is left.

Run as ``python -m tests.training.loop.killed_saves FOLDER``; prints one line of JSON per kill. One process is started
and forks, because loading torch for every kill would take minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import Progress
from training.checkpoint_folder import checkpoints, load_checkpoint_folder, save_checkpoint_folder

CALLS = ("replace", "fsync", "rmdir", "unlink", "mkdir")


def state(step: int) -> Iterator[tuple[str, Tensor]]:
    for name in ("model.a", "model.b", "adam.exp_avg.a"):
        yield name, torch.full((50,), float(step))


def save(parent: Path, step: int) -> None:
    # Pieces of one tensor each, so that a kill can fall between two of them.
    save_checkpoint_folder(parent, state(step), Progress(step), {"recipe": "{}"}, keep=2, piece_bytes=100)


def die_at(count: int) -> None:
    """Let the process kill itself at its ``count``-th file operation from now on."""
    left = [count]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return instead

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def survived(parent: Path, count: int) -> bool:
    """Save step 4 in a child that dies at operation ``count``; report what stands; return whether it lived."""
    shutil.rmtree(parent, ignore_errors=True)
    shutil.copytree(parent.with_name("begun"), parent)
    child = os.fork()
    if child == 0:
        die_at(count)
        save(parent, 4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    newest = load_checkpoint_folder(parent)
    numbers = {float(newest.tensors[name].mean()) for name in newest.tensors}
    save(parent, 5)
    left = sorted(path.name for path in parent.iterdir())
    found = [int(path.name.removeprefix("step_")) for path in checkpoints(parent)]
    report = {"step": newest.progress.step, "numbers": sorted(numbers), "tensors": len(newest.tensors)}
    sys.stdout.write(json.dumps({**report, "after": found, "left": left}) + "\n")
    sys.stdout.flush()
    return os.WIFEXITED(status)


if __name__ == "__main__":
    for number in (1, 2, 3):
        save(Path(sys.argv[1]).with_name("begun"), number)
    kills = 1
    while not survived(Path(sys.argv[1]), kills):
        kills += 1

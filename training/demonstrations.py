"""Demonstrations for a run that was given no dataset: the simulator is asked through the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError


def make_demonstrations(out: Path, scenes: int, scenes_unpaired: int, workers: int) -> Path:
    """Run ``finevla sim demos`` (it resumes by itself) and return the dataset's folder.

    Training never imports the simulator, so that it can run where no renderer is.

    Raises:
        SetupError: FV-TRN-016 when the command fails; its own message stands on stderr.
    """
    if (out / "meta" / "info.json").is_file():
        return out
    options = ["--out", str(out), "--scenes", str(scenes), "--scenes-unpaired", str(scenes_unpaired)]
    options += ["--workers", str(workers)]
    command = [sys.executable, "-m", "finevla_runtime.cli.main", "sim", "demos", *options]
    code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    if code:
        raise SetupError(
            "FV-TRN-016",
            f"`finevla sim demos {' '.join(options)}` failed with exit code {code}; see its message above, or give a "
            "dataset with --dataset.",
        )
    return out

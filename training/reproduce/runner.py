"""Carries the experiment out, command by command; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.session.manifest import write_durably
from training.reproduce.plan import Arm, Experiment

Report = Callable[[str], None]
Command = Callable[[Sequence[str]], None]
EXPERIMENT_FILE = "experiment.json"


def run_finevla(arguments: Sequence[str]) -> None:
    """Run ``finevla`` with its output on stderr.

    Training, simulation and serving never import one another, so work that crosses them runs commands.

    Raises:
        SetupError: FV-TRN-032 when the command fails; its own message stands above.
        KeyboardInterrupt: when it was interrupted.
    """
    command = [sys.executable, "-m", "finevla_runtime.cli.main", *arguments]
    code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise SetupError(
            "FV-TRN-032",
            f"`finevla {' '.join(arguments)}` failed with exit code {code}; see its message above. What is done stays "
            "done: mend the cause and repeat the command.",
        )


def run_experiment(experiment: Experiment, report: Report, command: Command = run_finevla) -> None:
    """Make demonstrations, train, export and evaluate every arm that is not finished yet.

    Raises:
        SetupError: FV-TRN-033 when the folder was begun with another setting, FV-TRN-032 when a command fails.
    """
    _claim(experiment)
    if not (experiment.demos / "meta" / "info.json").is_file():
        command(experiment.demo_command())
    _claim_data(experiment)
    arms = list(experiment.arms())
    for number, arm in enumerate(arms, start=1):
        if not (experiment.bundle(arm) / "policy.json").is_file():
            report(f"[{number}/{len(arms)}] training {arm.label}")
            command(experiment.train_command(arm))
        if not is_evaluated(experiment, arm):
            report(f"[{number}/{len(arms)}] evaluating {arm.label}")
            command(experiment.eval_command(arm))


def is_evaluated(experiment: Experiment, arm: Arm) -> bool:
    """Return whether every planned trial of an arm is scored."""
    path = experiment.evaluation(arm) / "summary.json"
    if not path.is_file():
        return False
    coverage = json.loads(path.read_text(encoding="utf-8"))["coverage"]
    return all(entry["scored"] == entry["planned"] for entry in coverage.values())


def _claim_data(experiment: Experiment) -> None:
    """Write down the demonstrations, or refuse others than those the folder was begun with (FV-TRN-033)."""
    path = experiment.out / EXPERIMENT_FILE
    found = json.loads(path.read_text(encoding="utf-8"))
    files = sorted(path for path in (experiment.demos / "meta").iterdir() if path.is_file())
    mine = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()
    if found.setdefault("demos", mine) != mine:
        raise SetupError(
            "FV-TRN-033",
            f"{experiment.out} was begun with other demonstrations than {experiment.demos}; choose another --out.",
        )
    write_durably(path, (json.dumps(found, indent=1) + "\n").encode())


def _claim(experiment: Experiment) -> None:
    """Write down what the folder is for, or refuse a folder that is for something else."""
    path: Path = experiment.out / EXPERIMENT_FILE
    mine = {"digest": experiment.digest(), "setting": experiment.setting.name}
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("digest") != mine["digest"]:
            raise SetupError(
                "FV-TRN-033",
                f"{experiment.out} holds the setting {found.get('setting')!r} with other figures than "
                f"{mine['setting']!r} has now; choose another --out.",
            )
        return
    experiment.out.mkdir(parents=True, exist_ok=True)
    write_durably(path, (json.dumps(mine, indent=1) + "\n").encode())

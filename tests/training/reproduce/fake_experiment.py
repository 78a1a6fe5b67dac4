"""A whole mixing experiment of fakes: evaluation runs and bundles without training or simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from fake_runs import FakePolicy, shipped_rubric
from run_folders import write_run

from finevla_runtime.bundle import Parity, load_bundle, write_bundle
from finevla_runtime.evidence.run import read_run
from finevla_runtime.evidence.summary import save_summary, summarise
from finevla_runtime.paths import DEFAULT_BUNDLE
from training.reproduce.plan import Arm, Experiment, find_setting

# How obedient and how skilled a fake trained at each ratio is: an inverted U with its top at 1:1.
INVERTED_U = {
    "Raw-only": FakePolicy(obey=0.0, skill=0.6),
    "1:4": FakePolicy(obey=0.6, skill=0.7),
    "1:2": FakePolicy(obey=0.9, skill=0.8),
    "1:1": FakePolicy(obey=0.99, skill=0.98),
    "2:1": FakePolicy(obey=0.99, skill=0.8),
    "4:1": FakePolicy(obey=0.99, skill=0.7),
    "FG-only": FakePolicy(obey=0.99, skill=0.5),
}


def make_experiment(out: Path, frameworks: tuple[str, ...] = ("oft",)) -> Experiment:
    return Experiment(out, find_setting("smoke"), frameworks, out / "demos", 1, "cpu")


def finish_arm(experiment: Experiment, arm: Arm, policy: FakePolicy, scenes: int = 8) -> None:
    """Leave behind what training, export and evaluation of one arm leave behind."""
    spec = replace(load_bundle(DEFAULT_BUNDLE).spec, framework=arm.framework, fg_share=arm.ratio.fg_share)
    told = {
        "training_samples": "96000",
        "training_minutes": "4.4",
        "parameters": "2288034",
        "dataset_digest": "ab" * 32,
        "git_commit": "cd" * 20,
    }
    rows = np.zeros((1, spec.chunk_rows, spec.action.size), np.float32)
    write_bundle(experiment.bundle(arm), spec, {"policy": b"graph"}, "{}", Parity({}, {"actions": rows}, 1e-4), told)
    folder = experiment.evaluation(arm)
    folder.mkdir(parents=True)
    write_run(folder, {arm.label: policy}, scenes=scenes)
    save_summary(summarise(read_run(folder, shipped_rubric())), folder / "summary.json")


def finish_all(
    experiment: Experiment, policies: Mapping[str, FakePolicy], skip: Sequence[str] = (), scenes: int = 8
) -> None:
    for arm in experiment.arms():
        if arm.ratio.name not in skip:
            finish_arm(experiment, arm, policies[arm.ratio.name], scenes)

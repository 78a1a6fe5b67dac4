"""The runner's promises: nothing recorded is lost, nothing is run twice, and workers change no result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.session.journal import JOURNAL_FILE, Journal, read_journal
from finevla_runtime.session.manifest import MANIFEST_FILE
from sim_eval.runner import RunResult, RunSetup, run_manifest
from tests.sim_eval.runner import fakes
from tests.sim_eval.runner.fakes import small_setup

ROOT = Path(__file__).resolve().parents[3]


def run(setup: RunSetup) -> RunResult:
    return run_manifest(setup, lambda *_: None)


def results(run_dir: Path) -> dict[str, TrialRecord]:
    """Everything of the scored records but the timings, which differ from run to run."""
    records = [record for record in read_journal(run_dir / JOURNAL_FILE) if record.status == "scored"]
    assert len({record.trial.trial_id for record in records}) == len(records), "a trial was run twice"
    return {record.trial.trial_id: replace(record, timings={}) for record in records}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    run(small_setup(run_dir))
    return run_dir


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "switch"
    path.touch()
    monkeypatch.setenv(fakes.SWITCH, str(path))
    return path


def test_every_trial_is_recorded_once_and_the_expert_does_as_told(whole: Path) -> None:
    found = results(whole)
    assert len(found) == 8
    assert all(record.outcome.success for record in found.values())


def test_two_workers_give_the_records_of_one(whole: Path, tmp_path: Path) -> None:
    run(small_setup(tmp_path / "run", workers=2))
    assert results(tmp_path / "run") == results(whole)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_with_only_what_is_missing(whole: Path, tmp_path: Path, kill: signal.Signals) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "tests.sim_eval.runner.run_small_plan", str(run_dir), "2", str(int(kill)), "2"]
    died = subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
    assert died.returncode != 0
    before = results(run_dir)
    assert 2 <= len(before) < 8
    result = run(small_setup(run_dir))
    assert (result.resumed, result.scored, result.missing) == (len(before), 8, ())
    assert results(run_dir) == results(whole)


def test_a_finished_run_is_left_alone(whole: Path) -> None:
    before = (whole / JOURNAL_FILE).read_bytes()
    result = run(small_setup(whole))
    assert (result.resumed, result.scored) == (8, 8)
    assert (whole / JOURNAL_FILE).read_bytes() == before


def test_two_runs_on_one_journal_are_refused(tmp_path: Path) -> None:
    setup = small_setup(tmp_path / "run")
    with (
        Journal(tmp_path / "run" / JOURNAL_FILE, setup.manifest.hash),
        pytest.raises(SetupError, match="FV-JRN-002"),
    ):
        run(setup)


def test_another_plan_in_the_same_folder_is_refused_and_loses_nothing(whole: Path) -> None:
    before = (whole / JOURNAL_FILE).read_bytes()
    setup = small_setup(whole)
    with pytest.raises(SetupError, match="FV-MAN-005"):
        run(replace(setup, manifest=replace(setup.manifest, trials=setup.manifest.trials[:3])))
    assert (whole / JOURNAL_FILE).read_bytes() == before


def test_a_manifest_that_was_edited_since_the_journal_began_is_refused(whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / JOURNAL_FILE).write_bytes((whole / JOURNAL_FILE).read_bytes())
    text = (whole / MANIFEST_FILE).read_text().replace("1000001", "1000002")
    (run_dir / MANIFEST_FILE).write_text(text)
    with pytest.raises(SetupError, match="FV-MAN-003"):
        run(small_setup(run_dir))


def test_another_rubric_than_the_plans_is_refused(tmp_path: Path) -> None:
    setup = small_setup(tmp_path / "run")
    with pytest.raises(SetupError, match="FV-RUN-001"):
        run(replace(setup, rubric=replace(setup.rubric, digest="0" * 64)))
    assert not (tmp_path / "run").exists()


def test_a_hung_worker_is_killed_and_its_trial_is_tried_again(whole: Path, tmp_path: Path, switch: Path) -> None:
    result = run(small_setup(tmp_path / "run", world=fakes.hanging_world, watchdog_s=8.0))
    assert result.voids == {"sim_hang": 1}
    assert (result.scored, result.missing) == (8, ())
    assert results(tmp_path / "run") == results(whole)


def test_a_worker_that_dies_every_time_costs_its_own_trials_only(whole: Path, tmp_path: Path, switch: Path) -> None:
    result = run(small_setup(tmp_path / "run", world=fakes.dying_world))
    assert result.voids == {"sim_crash": 4}
    assert {(t.family, t.scene_seed) for t in result.missing} == {("arm", fakes.BAD_SEED)}
    switch.unlink()
    again = run(small_setup(tmp_path / "run", world=fakes.dying_world))
    assert (again.resumed, again.scored, again.missing) == (6, 8, ())
    assert results(tmp_path / "run") == results(whole)


def test_a_lost_server_stops_the_run_and_a_resumed_one_completes_it(whole: Path, tmp_path: Path, switch: Path) -> None:
    setup = small_setup(tmp_path / "run", policy=fakes.lost_server)
    with pytest.raises(PolicyError, match=r"FV-RUN-003.*4 of 8 trials are recorded.*repeat the command"):
        run(setup)
    voids = [record for record in read_journal(tmp_path / "run" / JOURNAL_FILE) if record.status == "void"]
    assert [record.void_reason for record in voids] == ["server_lost"]
    switch.unlink()
    assert run(setup).scored == 8
    assert results(tmp_path / "run") == results(whole)


def test_a_refusal_that_every_trial_would_meet_stops_the_run_without_records(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-RUN-002.*FV-REQ-002"):
        run(small_setup(tmp_path / "run", policy=fakes.refusing))
    assert read_journal(tmp_path / "run" / JOURNAL_FILE) == []


def test_no_worker_process_is_left_behind(whole: Path) -> None:
    children = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == os.getpid() and b"spawn_main" in _command(entry)
    ]
    assert children == []


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_the_manifest_is_readable_as_plain_json(whole: Path) -> None:
    assert len(json.loads((whole / MANIFEST_FILE).read_text())["trials"]) == 8

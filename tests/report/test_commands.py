"""finevla score, compare and report as people call them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from fake_runs import DEAF, STEERABLE, fake_records, make_fake_manifest
from run_folders import write_run

from finevla_runtime.cli.compare import compare
from finevla_runtime.cli.report import report
from finevla_runtime.cli.score import score
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.session.journal import read_journal
from finevla_runtime.session.manifest import Manifest, load_manifest, save_manifest

FG = InstructionKind.FINE_GRAINED


def test_report_writes_both_files_and_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", {"p": STEERABLE}, scenes=2, families=["colour"])
    assert report([str(folder)]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "report.html"), str(folder / "summary.json")]
    assert report([str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policies"]["p"]["raw"]["colour"]["red"]["trials"] == 2


def test_report_of_a_folder_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-EVD-002.*name the folder of a run"):
        report([str(tmp_path)])


def test_compare_prints_tables_definitions_and_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_run(tmp_path / "a", {"good": STEERABLE}, scenes=8)
    deaf = write_run(tmp_path / "b", {"deaf": DEAF}, scenes=8)
    assert compare([str(good), str(deaf)]) == 0
    text = capsys.readouterr().out
    for words in ("Avg (ID), primary", "left_to_right", "McNemar p", "good scores higher than deaf", "p Holm"):
        assert words in text
    assert compare([str(good), str(deaf), "--kind", "raw", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "raw"
    assert len(found["columns"]) == 8


def sheet_text(records: list[TrialRecord], answers: bool = True) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    names = ("trial_id", "family", "variant", "kind", "scene_seed", "policy", "instruction")
    writer.writerow((*names, "observed", "subgoals", "goal", "violations", "note"))
    for record in records:
        trial, sheet = record.trial, record.sheet
        observed = " ".join(f"{name}={level}" for name, level in sheet.observed.items())
        ticks = " ".join(f"{name}={'yes' if done else 'no'}" for name, done in sheet.subgoals.items())
        filled = (observed, ticks, "yes" if sheet.goal_any else "no", " ".join(sheet.violations), sheet.note)
        writer.writerow(
            (
                trial.trial_id,
                trial.family,
                trial.variant,
                trial.instruction.kind.value,
                trial.scene_seed,
                trial.policy,
                trial.instruction.text,
                *(filled if answers else ("", "", "", "", "")),
            )
        )
    return out.getvalue()


def planned(tmp_path: Path) -> tuple[Manifest, list[TrialRecord]]:
    manifest = make_fake_manifest(["p"], scenes=3, kinds=[FG])
    save_manifest(manifest, tmp_path / "plan.json")
    return manifest, fake_records(manifest, {"p": STEERABLE})


def test_a_hand_filled_sheet_gives_the_outcomes_of_the_simulated_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, records = planned(tmp_path)
    sheet = tmp_path / "monday.csv"
    sheet.write_text(sheet_text(records))
    assert score([str(sheet), "--manifest", str(tmp_path / "plan.json"), "--out", str(tmp_path / "run")]) == 0
    assert f"{len(records)} trials added" in capsys.readouterr().out
    back = read_journal(tmp_path / "run" / "journal.jsonl", manifest.hash)
    assert [(r.trial, r.outcome) for r in back] == [(r.trial, r.outcome) for r in records]
    assert report([str(tmp_path / "run")]) == 0


def test_scoring_again_appends_only_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, records = planned(tmp_path)
    sheet, run = tmp_path / "monday.csv", tmp_path / "run"
    command = [str(sheet), "--manifest", str(tmp_path / "plan.json"), "--out", str(run)]
    sheet.write_text(sheet_text(records[:5]))
    score(command)
    sheet.write_text(sheet_text(records[:6]).replace("hold1=yes", "hold1=no", 1))
    score(command)
    assert "1 trials added, 1 corrected, 4 unchanged" in capsys.readouterr().out
    back = read_journal(run / "journal.jsonl", manifest.hash)
    assert len(back) == 7
    score(command)
    assert len(read_journal(run / "journal.jsonl")) == 7


def test_a_protocol_violation_makes_a_void_trial_that_stays_to_be_done(tmp_path: Path) -> None:
    _, records = planned(tmp_path)
    sheet, run = tmp_path / "monday.yaml", tmp_path / "run"
    record = records[0]
    sheet.write_text(
        "sheet: 1\ntrials:\n"
        f"- trial_id: {json.dumps(record.trial.trial_id)}\n  family: clean_table\n  variant: default\n"
        f"  kind: fine_grained\n  scene_seed: {record.trial.scene_seed}\n  policy: p\n"
        f"  instruction: {json.dumps(record.trial.instruction.text)}\n"
        "  subgoals: {hold1: yes, bin1: no, hold2: no, bin2: no, clear: no}\n  goal: no\n  violations: [human_touch]\n"
    )
    score([str(sheet), "--manifest", str(tmp_path / "plan.json"), "--out", str(run)])
    score([str(sheet), "--manifest", str(tmp_path / "plan.json"), "--out", str(run)])
    (void,) = read_journal(run / "journal.jsonl")
    assert (void.status, void.void_reason) == ("void", "human_touch")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["coverage"]["p"]["void"] == {"human_touch": 1}
    assert summary["policies"]["p"]["fine_grained"]["clean_table"]["default"]["trials"] == 0


def test_without_a_manifest_the_sheet_is_the_plan(tmp_path: Path) -> None:
    _, records = planned(tmp_path)
    sheet = tmp_path / "monday.csv"
    sheet.write_text(sheet_text(records))
    assert score([str(sheet)]) == 0
    plan = load_manifest(tmp_path / "monday" / "manifest.json")
    assert plan.trials == tuple(record.trial for record in records)
    assert plan.settings.embodiment == "cobot_magic"
    assert report([str(tmp_path / "monday")]) == 0
    extra = make_fake_manifest(["p"], scenes=4, kinds=[FG], families=["arm"])
    sheet.write_text(sheet_text(fake_records(extra, {"p": STEERABLE})))
    with pytest.raises(SetupError, match="FV-SCO-011"):
        score([str(sheet)])


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("colour/red/fine_grained/1000000/p", "colour/red/fine_grained/1000009/p", r"FV-SCO-011.*monday.csv:\d+.*Did"),
        ("Pick up the red cube", "Pick up the rad cube", r"FV-SCO-011.*restore those cells"),
        ("hold=yes", "hald=yes", r"FV-SHT-005.*Did you mean 'hold'"),
    ],
)
def test_a_sheet_that_is_not_of_the_plan_is_refused_before_anything_is_written(
    tmp_path: Path, old: str, new: str, code: str
) -> None:
    _, records = planned(tmp_path)
    sheet = tmp_path / "monday.csv"
    assert old in sheet_text(records)
    sheet.write_text(sheet_text(records).replace(old, new, 1))
    with pytest.raises(SetupError, match=code):
        score([str(sheet), "--manifest", str(tmp_path / "plan.json"), "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_a_template_is_written_once_and_an_unanswered_one_scores_nothing(tmp_path: Path) -> None:
    planned(tmp_path)
    for name in ("empty.csv", "empty.yaml"):
        command = [str(tmp_path / name), "--manifest", str(tmp_path / "plan.json")]
        assert score([*command, "--template"]) == 0
        with pytest.raises(SetupError, match=r"FV-SCO-013.*exists"):
            score([*command, "--template"])
        assert score([*command, "--out", str(tmp_path / name.replace(".", "-"))]) == 0
        summary = json.loads((tmp_path / name.replace(".", "-") / "summary.json").read_text())
        assert summary["coverage"]["p"]["scored"] == 0
        with pytest.raises(SetupError, match="FV-SCO-010"):
            score([str(tmp_path / name)])
    with pytest.raises(SetupError, match=r"FV-SCO-013.*--manifest"):
        score([str(tmp_path / "other.csv"), "--template"])

"""summary.json: exact keys where they are promised, strict JSON everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import DEAF, STEERABLE, fake_records, fake_run, make_fake_manifest, shipped_rubric

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.evidence.compare import compare_policies
from finevla_runtime.evidence.run import make_run, read_run
from finevla_runtime.evidence.summary import comparison_json, save_summary, summarise
from finevla_runtime.session.journal import Journal
from finevla_runtime.session.manifest import save_manifest

SIX = {"trials", "successes", "engaged", "compliant", "violated", "score_mean"}


def test_the_policies_part_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    run = fake_run({"good": STEERABLE, "deaf": DEAF}, scenes=4)
    save_summary(summarise(run), tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["policies"]) == {"good", "deaf"}
    for kinds in summary["policies"].values():
        assert set(kinds) == {"raw", "fine_grained"}
        for families in kinds.values():
            assert len(families) == 8
            for variants in families.values():
                for cell in variants.values():
                    assert set(cell) == SIX
                    assert cell["trials"] == 4
    red = summary["policies"]["good"]["fine_grained"]["colour"]["red"]
    assert red["engaged"] == red["compliant"] + red["violated"] == 4
    assert summary["policies"]["good"]["fine_grained"]["stack_block"]["default"]["engaged"] == 0
    assert summary["run"]["manifest"] == run.manifest.hash


def test_a_run_that_has_not_begun_gives_nulls_and_not_nan(tmp_path: Path) -> None:
    manifest = make_fake_manifest(["p"], scenes=2)
    summary = summarise(make_run(manifest, [], shipped_rubric()))
    save_summary(summary, tmp_path / "summary.json")
    back = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    cell = back["policies"]["p"]["raw"]["colour"]["red"]
    assert cell == {
        "trials": 0,
        "successes": 0,
        "engaged": 0,
        "compliant": 0,
        "violated": 0,
        "score_mean": None,
    }
    assert back["columns"]["p"]["raw"]["avg_id"]["mean"] is None
    assert back["steering"]["p"]["fine_grained"]["colour"]["j"] is None


def test_a_run_folder_gives_the_figures_of_its_journal(tmp_path: Path) -> None:
    manifest = make_fake_manifest(["p"], scenes=2)
    records = fake_records(manifest, {"p": STEERABLE})
    save_manifest(manifest, tmp_path / "manifest.json")
    rubric = shipped_rubric()
    assert read_run(tmp_path, rubric).coverage().scored == 0
    with Journal(tmp_path / "journal.jsonl", manifest.hash) as journal:
        for record in records:
            journal.append(record)
    assert summarise(read_run(tmp_path, rubric)) == summarise(make_run(manifest, records, rubric))


def test_a_folder_without_a_run_or_with_another_rubric_is_refused(tmp_path: Path) -> None:
    rubric = shipped_rubric()
    with pytest.raises(SetupError, match="FV-EVD-002"):
        read_run(tmp_path, rubric)
    save_manifest(make_fake_manifest(["p"], scenes=1), tmp_path / "manifest.json")
    import dataclasses

    with pytest.raises(SetupError, match=r"FV-EVD-003.*--rubric"):
        read_run(tmp_path, dataclasses.replace(rubric, digest="00" * 32))


def test_a_comparison_is_strict_json() -> None:
    run = fake_run({"good": STEERABLE, "deaf": DEAF}, scenes=2)
    found = comparison_json(compare_policies(run, run, InstructionKind.RAW, policies=("good", "deaf")))
    assert json.loads(json.dumps(found, allow_nan=False))["kind"] == "raw"

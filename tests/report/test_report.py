"""The report says what the journal says, loads nothing, runs nothing and survives hostile text."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_runs import DEAF, STEERABLE, FakePolicy, make_fake_manifest, shipped_rubric
from run_folders import make_strip, write_run

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.intervals import Interval
from finevla_runtime.report.charts import Mark, Series, dot_chart
from finevla_runtime.report.page import write_report
from finevla_runtime.report.pictures import Album, marked
from finevla_runtime.session.manifest import Manifest
from finevla_runtime.session.provenance import collect_provenance, load_provenance, save_provenance

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">&amp;\' $\\frac{1}{0}$ {{ 7*7 }} </style>'


class Page(HTMLParser):
    """Collects tags, attributes and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read_report(folder: Path) -> str:
    page, summary = write_report(folder, shipped_rubric())
    assert page == folder / "report.html"
    assert summary == folder / "summary.json"
    return page.read_text(encoding="utf-8")


def test_the_report_gives_the_figures_of_the_summary(tmp_path: Path) -> None:
    text = read_report(write_run(tmp_path / "run", {"steerable": STEERABLE, "deaf": DEAF}, scenes=8))
    page = Page(text)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    pairs = [item["pairs"] for item in summary["steering"]["steerable"]["fine_grained"].values()]
    followed = sum(pair["followed"] for pair in pairs)
    assert f"steerable followed both instructions in {followed} of 40 pairs" in page.text
    average = summary["columns"]["steerable"]["fine_grained"]["avg_id"]["mean"]
    assert f"{average:.1f}" in page.text
    assert "steerable scores higher than deaf under fine-grained instructions" in page.text
    assert summary["run"]["manifest"] in page.text
    for title in ("Clean Table", "Stack Block", "Colour", "Pose", "Approach", "Rotate", "Arm", "L→R†"):
        assert title in page.text


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    text = read_report(write_run(tmp_path / "run", {"p": STEERABLE}, strips=True))
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:")
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name, "#")
            assert target.startswith(("#", "data:image/jpeg;base64,")), (tag, target[:60])
    assert "url(http" not in text
    assert "@import" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    plan = make_fake_manifest([HOSTILE[:60]], scenes=3, families=["colour", "stack_block"], name=HOSTILE)
    trials = tuple(
        dataclasses.replace(t, instruction=dataclasses.replace(t.instruction, text=HOSTILE + t.variant))
        for t in plan.trials
    )
    plan = Manifest(HOSTILE, HOSTILE, HOSTILE, plan.policies, plan.settings, trials)

    def spoil(record: TrialRecord) -> TrialRecord:
        sheet = dataclasses.replace(record.sheet, note=HOSTILE)
        outcome = dataclasses.replace(record.outcome, success=False, task_done=False, violations=(HOSTILE,))
        return dataclasses.replace(record, sheet=sheet, outcome=outcome)

    policy = {HOSTILE[:60]: FakePolicy(obey=0.0, skill=0.0)}
    folder = write_run(tmp_path / "run", policy, manifest=plan, change=spoil, strips=True)
    save_provenance(folder, {HOSTILE: HOSTILE})
    text = read_report(folder)
    page = Page(text)
    assert not {"script"} & {tag for tag, _ in page.tags}
    assert all(a.get("src", "data:").startswith("data:") for tag, a in page.tags if tag == "img")
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert "alert(1)" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "49 " not in [word for word in page.words if "frac" in word]
    assert text.count("</style>") == 1 + text.count("<style type=")


def test_chart_names_are_escaped_and_never_formulas() -> None:
    marks = (Mark(0.5, Interval(0.2, 0.8)), Mark(None, Interval(0, 0)))
    chart = dot_chart([HOSTILE, "$x$"], [Series("a", marks)], (0, 1), "<axis>", HOSTILE)
    page = Page(chart)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert "$x$" in page.text
    assert chart == dot_chart([HOSTILE, "$x$"], [Series("a", marks)], (0, 1), "<axis>", HOSTILE)


def test_pairs_stand_side_by_side_with_their_difference_marked(tmp_path: Path) -> None:
    text = read_report(write_run(tmp_path / "run", {"p": FakePolicy(obey=1.0)}, strips=True))
    assert "<mark>red</mark>" in text
    assert "<mark>blue</mark>" in text
    assert text.count("data:image/jpeg;base64,") >= 2 * 5 + 3


def test_marked_words_rebuild_the_instruction() -> None:
    first = "Use the left arm to pick up the left cube and put it down."
    second = "Use the right arm to pick up the cube and put it gently down."
    left, right = marked(first, second)
    assert " ".join(text for text, _ in left) == first
    assert " ".join(text for text, _ in right) == second
    assert [text for text, differs in left if differs] == ["left", "left"]
    assert [text for text, differs in right if differs] == ["right", "gently"]


def test_pictures_outside_the_run_folder_or_that_are_none_are_not_embedded(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(make_strip())
    names = iter(["../secret.jpg", str(outside), "artifacts/none.jpg", "manifest.json", "artifacts"] * 20)

    def point(record: TrialRecord) -> TrialRecord:
        return dataclasses.replace(record, artifacts={"film_strip": next(names)})

    folder = write_run(tmp_path / "run", {"p": STEERABLE}, scenes=2, families=["colour"], change=point)
    assert "data:image" not in read_report(folder)


def test_pictures_stop_at_the_budget(tmp_path: Path) -> None:
    trial = make_fake_manifest(["p"], scenes=1, families=["stack_block"]).trials[0]
    (tmp_path / "a.jpg").write_bytes(make_strip())
    folder = write_run(tmp_path / "run", {"p": STEERABLE}, scenes=1, families=["stack_block"])
    record = next(iter(read_records(folder)))
    record = dataclasses.replace(record, trial=trial, artifacts={"film_strip": "a.jpg"})
    size = 4 * len(make_strip()) // 3 + 100
    album = Album(tmp_path, budget=2 * size)
    films = [album.film("x", (record,)) for _ in range(4)]
    assert [film is not None for film in films] == [True, True, False, False]


def read_records(folder: Path) -> list[TrialRecord]:
    from finevla_runtime.session.journal import read_journal

    return read_journal(folder / "journal.jsonl")


def test_an_unfinished_run_is_reported_as_such(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"p": STEERABLE}, scenes=3)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    page = Page(read_report(folder))
    assert "Incomplete:" in page.text
    assert "resume the run" in page.text
    (folder / "journal.jsonl").unlink()
    assert "0 of 90 planned trials are scored" in Page(read_report(folder)).text


@pytest.mark.parametrize("families", [["stack_block"], ["left_to_right"], ["colour"], ["arm", "left_to_right"]])
def test_a_part_of_the_suite_gives_a_report_without_averages(tmp_path: Path, families: list[str]) -> None:
    page = Page(read_report(write_run(tmp_path / "run", {"p": STEERABLE}, scenes=2, families=families)))
    assert "needs trials in all seven in-distribution families" in page.text


def test_a_run_without_trials_is_refused(tmp_path: Path) -> None:
    plan = dataclasses.replace(make_fake_manifest(["p"], scenes=1), trials=())
    with pytest.raises(SetupError, match="FV-EVD-006"):
        read_report(write_run(tmp_path / "run", {"p": STEERABLE}, manifest=plan))


def test_provenance_is_written_once_and_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"p": STEERABLE}, scenes=1, families=["colour"])
    save_provenance(folder, collect_provenance("finevla eval tabletop --out run", {"engine": "onnxruntime"}))
    save_provenance(folder, {"command": "another"})
    facts = load_provenance(folder)
    assert facts["command"] == "finevla eval tabletop --out run"
    page = Page(read_report(folder))
    for fact in facts.values():
        assert fact in page.text
    (folder / "provenance.json").write_text('{"command": 7}')
    with pytest.raises(SetupError, match="FV-MAN-006"):
        load_provenance(folder)


def test_the_report_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"p": STEERABLE}, scenes=2)
    assert read_report(folder) == read_report(folder)


def test_instruction_kinds_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = make_fake_manifest(["p"], scenes=2, families=["colour"], kinds=[InstructionKind.RAW])
    page = Page(read_report(write_run(tmp_path / "run", {"p": STEERABLE}, manifest=plan)))
    assert "p raw" in page.text
    assert "p fine-grained" not in page.text

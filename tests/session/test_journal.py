"""Nothing recorded is lost: torn tails, foreign manifests, two writers, full disks and damaged files."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from example_runs import make_manifest, make_record, make_trial
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.trial import Compliance, Outcome, Sheet, TrialRecord
from finevla_runtime.session.journal import Journal, counting_records, missing_trials, read_journal
from finevla_runtime.session.record_codec import record_from_json, record_to_json, void_record
from finevla_runtime.session.strict_json import canonical, parse_json

HASH = "12" * 32


def write_records(path: Path, records: list[TrialRecord], manifest_hash: str = HASH) -> None:
    with Journal(path, manifest_hash) as journal:
        for record in records:
            journal.append(record)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    records = [make_record(make_trial(i), note="schräg \u2028 <b>", score=40.0 + i) for i in range(3)]
    write_records(tmp_path / "run" / "journal.jsonl", records)
    assert read_journal(tmp_path / "run" / "journal.jsonl", HASH) == records
    assert list(records[0].sheet.subgoals) == list(read_journal(tmp_path / "run" / "journal.jsonl")[0].sheet.subgoals)


def test_a_journal_cut_at_every_byte_loses_at_most_the_last_record_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Thousands of syncs would take most of the time; what they promise is tested with SIGKILL below.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    manifest = make_manifest(4)
    records = [make_record(trial) for trial in manifest.trials]
    path = tmp_path / "whole.jsonl"
    write_records(path, records, manifest.hash)
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    cut = tmp_path / "cut" / "journal.jsonl"
    cut.parent.mkdir()
    for size in range(len(data) + 1):
        for old in cut.parent.iterdir():
            old.unlink()
        cut.write_bytes(data[:size])
        safe = max(sum(end <= size for end in ends) - 1, 0)
        with Journal(cut, manifest.hash) as journal:
            kept = list(journal.records)
            assert kept == records[: len(kept)]
            assert safe <= len(kept) <= safe + 1
            assert missing_trials(manifest, kept) == manifest.trials[len(kept) :]
            aside = journal.torn.read_bytes() if journal.torn else b""
            for trial in missing_trials(manifest, kept):
                journal.append(make_record(trial))
        # What was cut off is kept beside the journal, and the repaired journal is byte for byte the uncut one.
        assert data[:size].endswith(aside)
        assert cut.read_bytes() == data


def test_torn_tails_of_several_crashes_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write_records(path, [make_record(make_trial(0))])
    for tail in (b'{"chain":"aa', b"\x00\x00\x00", b'{"chain":"bb\r\x85'):
        with open(path, "ab") as file:
            file.write(tail)
        with Journal(path, HASH) as journal:
            assert len(journal.records) == 1
    assert sorted(p.read_bytes() for p in tmp_path.glob("*.torn")) == [
        b"\x00\x00\x00",
        b'{"chain":"aa',
        b'{"chain":"bb\r\x85',
    ]


def test_reading_leaves_a_torn_journal_untouched(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write_records(path, [make_record(make_trial(0)), make_record(make_trial(1))])
    path.write_bytes(path.read_bytes()[:-7])
    before = path.read_bytes()
    assert len(read_journal(path)) == 1
    assert path.read_bytes() == before


def test_a_foreign_manifest_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write_records(path, [make_record(make_trial(0))])
    before = path.read_bytes()
    with pytest.raises(SetupError, match=r"FV-JRN-003.*manifest changed.*new run folder"):
        Journal(path, "34" * 32)
    with pytest.raises(SetupError, match="FV-JRN-003"):
        read_journal(path, "34" * 32)
    assert path.read_bytes() == before
    with Journal(path, HASH) as journal:
        assert len(journal.records) == 1


def test_a_second_writer_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path, HASH)
    with pytest.raises(SetupError, match=r"FV-JRN-002.*another run"):
        Journal(path, HASH)
    first.append(make_record(make_trial(0)))
    first.close()
    first.close()
    with Journal(path, HASH) as second:
        assert len(second.records) == 1
    with pytest.raises(SetupError, match=r"FV-JRN-005.*closed"):
        second.append(make_record(make_trial(1)))


def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    ready, hold = os.pipe(), os.pipe()
    journal = Journal(path, HASH)
    child = os.fork()
    if child == 0:
        os.close(hold[1])
        os.write(ready[1], b"r")
        os.read(hold[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"r"
        journal.close()
        with Journal(path, HASH) as second:
            second.append(make_record(make_trial(0)))
    finally:
        for handle in (*ready, *hold):
            os.close(handle)
        os.waitpid(child, 0)


@pytest.mark.parametrize("damage", ["edit", "drop", "swap", "duplicate", "garbage"])
def test_damage_before_the_last_line_is_found_and_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.jsonl"
    write_records(path, [make_record(make_trial(i)) for i in range(4)])
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "edit":
        lines[2] = lines[2].replace(b'"score":100.0', b'"score":0.0')
    elif damage == "drop":
        del lines[2]
    elif damage == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif damage == "duplicate":
        lines.insert(2, lines[2])
    else:
        lines[2] = b"\xff\n"
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(SetupError, match=r"FV-JRN-004.*Nothing was changed"):
        Journal(path, HASH)
    with pytest.raises(SetupError, match=r"journal.jsonl:\d"):
        read_journal(path)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, HASH) as journal:
        journal.append(make_record(make_trial(0)))
        before, whole = path.read_bytes(), os.pwrite

        def half_then_full(handle: int, data: bytes, offset: int) -> int:
            if offset == len(before):
                return whole(handle, data[:40], offset)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", half_then_full)
        with pytest.raises(SetupError, match=r"FV-JRN-005.*No space left"):
            journal.append(make_record(make_trial(1)))
        assert path.read_bytes() == before
        monkeypatch.undo()
        journal.append(make_record(make_trial(1)))
    assert [record.trial for record in read_journal(path)] == [make_trial(0), make_trial(1)]


def test_a_record_that_could_not_be_read_back_is_refused_before_it_is_written(tmp_path: Path) -> None:
    good = make_record(make_trial(0))
    bad = [
        dataclasses.replace(good, timings={"wall": float("nan")}),
        dataclasses.replace(good, status="perhaps"),
        dataclasses.replace(good, outcome=dataclasses.replace(good.outcome, score=101.0)),
        dataclasses.replace(good, status="void"),
    ]
    with Journal(tmp_path / "journal.jsonl", HASH) as journal:
        for record in bad:
            with pytest.raises(SetupError, match="FV-JRN-006"):
                journal.append(record)
        journal.append(good)
    assert read_journal(tmp_path / "journal.jsonl") == [good]


def test_void_trials_are_repeated_and_a_later_record_corrects_an_earlier_one(tmp_path: Path) -> None:
    manifest = make_manifest(4)
    first, second, third, _ = manifest.trials
    correction = make_record(second, score=20.0)
    records = [
        void_record(first, "worker_died"),
        make_record(second),
        correction,
        make_record(third),
        void_record(third, "server_lost"),
    ]
    write_records(tmp_path / "journal.jsonl", records, manifest.hash)
    back = read_journal(tmp_path / "journal.jsonl")
    # The third was scored first and found to be void later, so it is to be repeated like the first.
    assert missing_trials(manifest, back) == (first, third, manifest.trials[3])
    assert counting_records(manifest, back)[second.trial_id] == correction
    foreign = make_record(dataclasses.replace(second, scene_seed=5))
    with pytest.raises(SetupError, match="FV-JRN-007"):
        counting_records(manifest, [foreign])


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from example_runs import make_record, make_trial
from finevla_runtime.session.journal import Journal
with Journal(Path(sys.argv[1]), "12" * 32) as journal:
    number = 0
    while True:
        journal.append(make_record(make_trial(number)))
        number += 1
        print(number, flush=True)
"""


def test_every_record_acknowledged_before_a_sigkill_is_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path), here], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged == 20:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    with Journal(path, HASH) as journal:
        assert len(journal.records) >= acknowledged
        assert [record.trial.scene_seed for record in journal.records] == [
            1_000_000 + i for i in range(len(journal.records))
        ]


words = st.text(max_size=12)
records_strategy = st.builds(
    TrialRecord,
    trial=st.builds(make_trial, st.integers(0, 9), st.sampled_from(["red", "blue"])),
    sheet=st.builds(
        Sheet,
        observed=st.dictionaries(words, words, max_size=3),
        subgoals=st.dictionaries(words, st.booleans(), max_size=4),
        goal_any=st.booleans(),
        violations=st.lists(words, max_size=3).map(tuple),
        note=words,
    ),
    outcome=st.builds(
        Outcome,
        compliance=st.sampled_from(Compliance),
        observed=words,
        score=st.floats(0, 100),
        task_done=st.booleans(),
        success=st.booleans(),
        violations=st.lists(words, max_size=3).map(tuple),
    ),
    status=st.just("scored"),
    steps=st.integers(0, 10_000),
    timings=st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    artifacts=st.dictionaries(words, words, max_size=2),
)


@given(record=records_strategy)
@settings(max_examples=60)
def test_the_codec_is_its_own_inverse(record: TrialRecord) -> None:
    text = canonical(record_to_json(record))
    back = record_from_json(parse_json(text, "memory", "FV-JRN-006"))
    assert back == record
    assert list(back.sheet.subgoals) == list(record.sheet.subgoals)
    assert canonical(record_to_json(back)) == text

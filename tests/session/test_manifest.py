"""A manifest is frozen: what is read is what was planned, or an error says what to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from example_runs import make_manifest, make_trial
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.session.manifest import Manifest, load_manifest, manifest_text, save_manifest


def test_a_manifest_survives_the_disk_unchanged(tmp_path: Path) -> None:
    manifest = make_manifest(6)
    save_manifest(manifest, tmp_path / "run" / "manifest.json")
    assert load_manifest(tmp_path / "run" / "manifest.json") == manifest
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["manifest.json"]


def test_saving_the_same_plan_again_is_fine_and_another_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    save_manifest(make_manifest(), path)
    before = path.read_bytes()
    save_manifest(dataclasses.replace(make_manifest(), created="later"), path)
    with pytest.raises(SetupError, match=r"FV-MAN-005.*frozen"):
        save_manifest(make_manifest(6), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("Pick up the red cube", "Pick up the blue cube"), ('"execution_rows":8', '"execution_rows":4'), ("1000001", "7")],
)
def test_an_edited_manifest_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = manifest_text(make_manifest())
    assert old in text
    (tmp_path / "m.json").write_text(text.replace(old, new))
    with pytest.raises(SetupError, match=r"FV-MAN-003.*new run folder"):
        load_manifest(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "FV-MAN-002"),
        ("[]", "FV-MAN-002"),
        ("{}", "FV-MAN-002"),
        ("[" * 100_000, "FV-MAN-002"),
        ('{"schema":1,"schema":1}', "FV-MAN-002"),
        (manifest_text(make_manifest()).replace('"schema":1', '"schema":9'), "FV-MAN-002"),
        (manifest_text(make_manifest()).replace('"suite"', '"sweet"'), "FV-MAN-002"),
        (manifest_text(make_manifest()).replace('"execution_rows":8', '"execution_rows":8.5'), "FV-MAN-002"),
    ],
)
def test_what_is_no_manifest_is_refused_with_a_code(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(SetupError) as caught:
        load_manifest(tmp_path / "m.json")
    assert caught.value.code == code


def test_a_missing_manifest_is_refused_with_a_code(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-MAN-001"):
        load_manifest(tmp_path / "nowhere.json")


def test_a_repeated_trial_or_an_unlisted_policy_is_refused() -> None:
    manifest = make_manifest()
    with pytest.raises(SetupError, match=r"FV-MAN-004.*twice"):
        dataclasses.replace(manifest, trials=(*manifest.trials, manifest.trials[0]))
    with pytest.raises(SetupError, match=r"FV-MAN-004.*other"):
        dataclasses.replace(manifest, trials=(dataclasses.replace(make_trial(1), policy="other"),))


def test_the_hash_covers_the_plan_and_not_the_date() -> None:
    manifest = make_manifest()
    assert dataclasses.replace(manifest, created="another day").hash == manifest.hash
    assert dataclasses.replace(manifest, trials=manifest.trials[::-1]).hash != manifest.hash
    assert dataclasses.replace(manifest, policies={"tabletop-oft": "cd" * 32}).hash != manifest.hash
    settings = dataclasses.replace(manifest.settings, seed=1)
    assert dataclasses.replace(manifest, settings=settings).hash != manifest.hash


@given(text=st.text(min_size=1, max_size=60).filter(str.strip), seed=st.integers(0, 2**53))
def test_any_instruction_text_survives(text: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    trial = dataclasses.replace(
        make_trial(0), scene_seed=seed, instruction=Instruction(text, InstructionKind.RAW, "colour", "red")
    )
    manifest = Manifest("n", "s", "", {"tabletop-oft": ""}, make_manifest().settings, (trial,))
    path = tmp_path_factory.mktemp("m") / "m.json"
    save_manifest(manifest, path)
    assert load_manifest(path) == manifest

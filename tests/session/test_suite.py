from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.session.suite import Suite, load_suite

CONFIGS = Path(__file__).resolve().parents[2] / "hw_configs"
RUBRIC = load_rubric(CONFIGS / "rubrics" / "tabletop.yaml")

SMALL = """\
suite: 1
name: small
rubric: tabletop
kinds: [raw, fine_grained]
split: heldout
first_seed: 1000000
execution_rows: 8
trials: 4
families:
- {family: colour}
- {family: left_to_right, variants: [left_to_right_bowl], trials: 2}
"""


def load(tmp_path: Path, text: str) -> Suite:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_suite(path, RUBRIC)


@pytest.mark.parametrize("name", ["tabletop", "demo"])
def test_shipped_suites_cover_every_family_and_variant_in_both_kinds(name: str) -> None:
    suite = load_suite(CONFIGS / "suites" / f"{name}.yaml", RUBRIC)
    assert suite.name == name
    assert suite.rubric == "tabletop"
    assert suite.split == "heldout"
    cells = {(cell.family, cell.variant, cell.kind) for cell in suite.cells()}
    assert cells == {
        (family.id, variant, kind)
        for family in RUBRIC.families
        for variant in family.variants
        for kind in InstructionKind
    }


def test_the_full_suite_has_at_least_fifty_trials_per_variant() -> None:
    suite = load_suite(CONFIGS / "suites" / "tabletop.yaml", RUBRIC)
    assert min(len(cell.seeds) for cell in suite.cells()) >= 50


def test_variants_share_every_scene(tmp_path: Path) -> None:
    suite = load(tmp_path, SMALL)
    scenes = {(cell.variant, cell.kind): cell.seeds for cell in suite.cells() if cell.family == "colour"}
    assert set(scenes.values()) == {range(1_000_000, 1_000_004)}
    assert len(scenes) == 4
    assert suite.trial_count == 4 * 4 + 2 * 2


MISTAKES = [
    ("suite: 1", "suite: 2", "FV-SUI-001", 1),
    ("name: small", "name: Small suite", "FV-SUI-004", 2),
    ("kinds: [raw, fine_grained]", "kinds: [raw, fine]", "FV-CFG-007", 4),
    ("kinds: [raw, fine_grained]", "kinds: [raw, raw]", "FV-SUI-005", 4),
    ("split: heldout", "split: test", "FV-CFG-007", 5),
    ("first_seed: 1000000", "first_seed: 999999", "FV-SUI-003", 6),
    ("first_seed: 1000000", "first_sed: 1000000", "FV-CFG-003", 6),
    ("execution_rows: 8", "execution_rows: 0", "FV-SUI-004", 7),
    ("trials: 4", "trials: 4.5", "FV-CFG-006", 8),
    ("family: colour", "family: color", "FV-SUI-002", 10),
    ("variants: [left_to_right_bowl]", "variants: [left_to_right]", "FV-SUI-002", 11),
    ("variants: [left_to_right_bowl]", "variants: []", "FV-SUI-004", 11),
    ("family: left_to_right,", "family: colour,", "FV-SUI-002", 11),
]


@pytest.mark.parametrize(("right", "wrong", "code", "line"), MISTAKES)
def test_a_mistake_is_refused_with_its_code_and_line(
    tmp_path: Path, right: str, wrong: str, code: str, line: int
) -> None:
    assert right in SMALL
    with pytest.raises(SetupError) as caught:
        load(tmp_path, SMALL.replace(right, wrong, 1))
    assert caught.value.code == code
    assert f"small.yaml:{line} " in str(caught.value)


def test_a_family_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-SUI-005"):
        load(tmp_path, SMALL + "- {family: colour}\n")

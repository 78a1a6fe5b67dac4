from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.rubric import NONE, UNCLEAR
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Sheet, Trial
from finevla_runtime.session.scoring import score
from finevla_runtime.session.sheet_template import csv_template, yaml_template
from finevla_runtime.session.sheets import ANSWER_COLUMNS, TRIAL_COLUMNS, FilledSheet, read_sheets

RUBRIC = load_rubric(Path(__file__).resolve().parents[2] / "hw_configs" / "rubrics" / "tabletop.yaml")
HEADER = ",".join((*TRIAL_COLUMNS, *ANSWER_COLUMNS))
RED = 't1,colour,red,fine_grained,7,A,"Pick up the red cube, put it on the mat."'
DONE = "go=yes hold=yes lift=yes mat=no leave=no"


def trial(family: str, variant: str, text: str = "do it", name: str = "") -> Trial:
    instruction = Instruction(text, InstructionKind.RAW, family, variant)
    return Trial(name or f"{family}/{variant}", family, variant, 7, "A", instruction)


EVERY = [trial(family.id, variant) for family in RUBRIC.families for variant in family.variants]


def read(tmp_path: Path, text: str, name: str = "sheet.csv") -> tuple[FilledSheet, ...]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_sheets(path, RUBRIC)


def test_a_filled_csv_row_becomes_trial_and_sheet(tmp_path: Path) -> None:
    (filled,) = read(tmp_path, f"{HEADER}\n{RED},red,{DONE},no,drop,slipped\n")
    assert filled.trial.trial_id == "t1"
    assert filled.trial.instruction.text == "Pick up the red cube, put it on the mat."
    assert filled.place == "sheet.csv:2"
    ticks = {"go": True, "hold": True, "lift": True, "mat": False, "leave": False}
    assert filled.sheet == Sheet({"colour": "red"}, ticks, False, ("drop",), "slipped")
    assert score(RUBRIC.family("colour"), "red", filled.sheet).score == 60.0


def test_a_filled_yaml_entry_means_the_same_as_the_csv_row(tmp_path: Path) -> None:
    text = """\
sheet: 1
trials:
- trial_id: t1
  family: colour
  variant: red
  kind: fine_grained
  scene_seed: 7
  policy: A
  instruction: Pick up the red cube, put it on the mat.
  observed: red
  subgoals: {go: yes, hold: yes, lift: true, mat: no, leave: no}
  goal: no
  violations: [drop]
  note: slipped
"""
    (from_yaml,) = read(tmp_path, text, "sheet.yaml")
    (from_csv,) = read(tmp_path, f"{HEADER}\n{RED},red,{DONE},no,drop,slipped\n")
    assert (from_yaml.trial, from_yaml.sheet) == (from_csv.trial, from_csv.sheet)
    assert from_yaml.place == "sheet.yaml:3"


def test_columns_may_come_in_any_order_with_a_byte_order_mark(tmp_path: Path) -> None:
    names = [*ANSWER_COLUMNS, *TRIAL_COLUMNS]
    row = f'red,{DONE},no,,,t1,colour,red,raw,7,A,"go"'
    (filled,) = read(tmp_path, "\ufeff" + ",".join(names) + "\n" + row + "\n")
    assert filled.sheet.observed == {"colour": "red"}


def test_templates_left_blank_hold_no_trial(tmp_path: Path) -> None:
    assert read(tmp_path, csv_template(EVERY, RUBRIC)) == ()
    assert read(tmp_path, yaml_template(EVERY, RUBRIC), "sheet.yaml") == ()


def test_the_yaml_template_asks_the_questions_of_the_rubric() -> None:
    text = yaml_template([trial("colour", "blue")], RUBRIC)
    assert "Which cube was held first? red | blue" in text
    assert "Was the blue cube held?" in text
    assert "{" not in text


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(
    str.strip
)


@settings(deadline=None)
@given(TEXTS, st.data())
def test_a_template_that_is_filled_reads_back_as_it_was_answered(text: str, data: st.DataObject) -> None:
    planned = data.draw(st.sampled_from(EVERY))
    planned = trial(planned.family, planned.variant, text)
    family = RUBRIC.family(planned.family)
    observed = {q.id: data.draw(st.sampled_from((*q.levels, NONE, UNCLEAR))) for q in family.observe}
    ticks = {item.id: data.draw(st.booleans()) for item in family.subgoals}
    goal = data.draw(st.booleans())
    header, cells = csv.reader(io.StringIO(csv_template([planned], RUBRIC)))
    row = dict(zip(header, cells, strict=True))
    row["observed"] = " ".join(f"{name}={level}" for name, level in observed.items())
    row["subgoals"] = " ".join(f"{name}={'yes' if done else 'no'}" for name, done in ticks.items())
    row["goal"] = "yes" if goal else "no"
    out = io.StringIO()
    csv.writer(out).writerows([header, [row[name] for name in header]])
    (filled,) = _read_text(out.getvalue())
    assert filled.trial == planned
    assert filled.sheet == Sheet(observed, ticks, goal)


def _read_text(text: str) -> tuple[FilledSheet, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.csv"
        path.write_bytes(text.encode("utf-8"))
        return read_sheets(path, RUBRIC)


MISTAKES = [
    (RED, f"red,{DONE.replace('hold', 'holt')},no,,", "FV-SHT-005", "Did you mean 'hold'"),
    (RED, f"red,{DONE.replace('mat=no', 'mat=')},no,,", "FV-SHT-006", "'mat' is not answered"),
    (RED, "red,go=yes hold=yes,no,,", "FV-SHT-006", "lift, mat, leave not answered"),
    (RED, f"red,{DONE} go=no,no,,", "FV-SHT-003", "answered twice"),
    (RED, f"red,{DONE.replace('mat=no', 'mat=perhaps')},no,,", "FV-SHT-007", "wanted yes or no"),
    (RED, f"redd,{DONE},no,,", "FV-SHT-007", "Did you mean 'red'"),
    (RED, f",{DONE},no,,", "FV-SHT-006", "observed is empty"),
    (RED, f"red,{DONE},,,", "FV-SHT-006", "goal is not answered"),
    (RED, f"red,{DONE},no,dropp,", "FV-SHT-008", "Did you mean 'drop'"),
    (RED.replace("colour", "color"), f"red,{DONE},no,,", "FV-SHT-004", "Did you mean 'colour'"),
    (RED.replace(",red,", ",green,"), f"red,{DONE},no,,", "FV-SHT-004", "unknown variant 'green'"),
    (RED.replace("fine_grained", "fine"), f"red,{DONE},no,,", "FV-SHT-007", "Did you mean 'fine_grained'"),
    (RED.replace(",7,", ",seven,"), f"red,{DONE},no,,", "FV-SHT-007", "scene_seed is 'seven'"),
    (RED, f"red,{DONE},no,", "FV-SHT-002", "11 cells, wanted 12"),
]


@pytest.mark.parametrize(("identity", "answers", "code", "hint"), MISTAKES)
def test_a_mistake_is_refused_with_code_line_and_hint(
    tmp_path: Path, identity: str, answers: str, code: str, hint: str
) -> None:
    good = f"{RED.replace('t1', 't0')},red,{DONE},no,,"
    with pytest.raises(SetupError, match=hint) as caught:
        read(tmp_path, f"{HEADER}\n{good}\n{identity},{answers}\n")
    assert caught.value.code == code
    assert "sheet.csv:3: " in caught.value.message


def test_a_trial_that_appears_twice_is_refused(tmp_path: Path) -> None:
    row = f"{RED},red,{DONE},no,,"
    with pytest.raises(SetupError, match=r"sheet\.csv:3: .*already at sheet\.csv:2") as caught:
        read(tmp_path, f"{HEADER}\n{row}\n{row}\n")
    assert caught.value.code == "FV-SHT-003"


def test_unknown_and_missing_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-SHT-002.*Did you mean 'observed'"):
        read(tmp_path, HEADER.replace("observed", "obseved") + "\n")
    with pytest.raises(SetupError, match=r"FV-SHT-002.*missing goal"):
        read(tmp_path, HEADER.replace(",goal", "") + "\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [("sheet.txt", ""), ("sheet.csv", ""), ("sheet.csv", '"open'), ("sheet.yaml", "sheet: 2\ntrials: []")],
)
def test_files_that_are_no_sheet_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SetupError) as caught:
        read(tmp_path, text, name)
    assert caught.value.code == "FV-SHT-001"


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-SHT-001"):
        read_sheets(tmp_path / "absent.csv", RUBRIC)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match="FV-SHT-001"):
        read_sheets(tmp_path / "binary.csv", RUBRIC)


def test_a_misspelt_yaml_key_names_line_and_nearest(tmp_path: Path) -> None:
    text = yaml_template([trial("colour", "blue")], RUBRIC).replace("  goal:", "  gaol:")
    with pytest.raises(SetupError, match="Did you mean 'goal'"):
        read(tmp_path, text, "sheet.yaml")


def test_a_general_family_takes_no_observation(tmp_path: Path) -> None:
    steps = "touch=y lift=y over=y stack=y stable=n"
    row = "s,stack_block,default,raw,1,A,stack"
    (filled,) = read(tmp_path, f"{HEADER}\n{row},,{steps},yes,,\n")
    assert filled.sheet.observed == {}
    with pytest.raises(SetupError, match="FV-SHT-005"):
        read(tmp_path, f"{HEADER}\n{row},red,{steps},yes,,\n")


@pytest.mark.parametrize("value", ["&loop [*loop]", "{colour: {deep: red}}", "[[red]]"])
def test_nested_and_endless_yaml_values_are_refused(tmp_path: Path, value: str) -> None:
    text = yaml_template([trial("colour", "blue")], RUBRIC).replace("  goal:", f"  goal: {value}")
    with pytest.raises(SetupError, match="wanted a single value") as caught:
        read(tmp_path, text, "sheet.yaml")
    assert caught.value.code == "FV-SHT-007"

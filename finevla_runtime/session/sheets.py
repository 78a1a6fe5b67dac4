"""Hand-filled sheets of real trials: the rubric's questions answered by people, as CSV or YAML.

One row (CSV) or entry (YAML) is one trial. It names the trial in full, so that a sheet can be scored without any
other file, and answers every question: ``observed`` (a level, ``none`` or ``unclear``; several questions as
``arm=left bowl=right_bowl``), every subgoal (``go=yes hold=no ...``), ``goal`` (yes/no), ``violations`` (codes
separated by blanks) and a free ``note``. A trial whose answers are all blank was not run and is left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from finevla_runtime.contracts.errors import SetupError, nearest
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.rubric import NONE, UNCLEAR, FamilyRubric, Rubric
from finevla_runtime.contracts.strict_yaml import Node, parse_yaml
from finevla_runtime.contracts.trial import Sheet, Trial

SHEET_VERSION = 1
TRIAL_COLUMNS = ("trial_id", "family", "variant", "kind", "scene_seed", "policy", "instruction")
ANSWER_COLUMNS = ("observed", "subgoals", "goal", "violations", "note")
YES, NO = ("yes", "y", "1", "true", "x"), ("no", "n", "0", "false")


@dataclass(frozen=True, slots=True)
class FilledSheet:
    """One trial as a person filled it in.

    Attributes:
        trial: which trial.
        sheet: the answers.
        place: ``file:line`` for messages.
    """

    trial: Trial
    sheet: Sheet
    place: str


@dataclass(frozen=True, slots=True)
class _Row:
    """One trial before checking: its texts by column, and its place."""

    texts: Mapping[str, str]
    place: str

    def fail(self, code: str, message: str) -> NoReturn:
        raise SetupError(code, f"{self.place}: {message}")

    def one_of(self, code: str, kind: str, name: str, known: Iterable[str]) -> str:
        names = list(known)
        if name not in names:
            guess = nearest(name, names)
            hint = f" Did you mean {guess!r}?" if guess else ""
            self.fail(code, f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")
        return name


def read_sheets(path: Path, rubric: Rubric) -> tuple[FilledSheet, ...]:
    """Read a ``.csv``, ``.yaml`` or ``.yml`` sheet file.

    Raises:
        SetupError: with file and line. FV-SHT-001 (file), -002 (columns), -003 (repeated trial), -004 (unknown
            family or variant), -005 (unknown subgoal or question, nearest match named), -006 (unanswered),
            -007 (answer that is none), -008 (unknown violation); FV-CFG-* for YAML that is not as expected.
    """
    readers: dict[str, Callable[[str, str], list[_Row]]] = {".csv": _csv_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SetupError("FV-SHT-001", f"{path.name} is no sheet; wanted a .csv, .yaml or .yml file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError("FV-SHT-001", f"cannot read {path}: {error}. Check the path; save as UTF-8.") from error
    filled: list[FilledSheet] = []
    seen: dict[str, str] = {}
    for row in reader(text, path.name):
        name = row.texts["trial_id"]
        if name in seen:
            row.fail("FV-SHT-003", f"trial {name!r} was already at {seen[name]}; keep one of them.")
        seen[name] = row.place
        if any(row.texts[column].strip(" ") for column in ("goal", "violations", "note")) or _answered(row):
            filled.append(_filled(row, rubric))
    return tuple(filled)


def _answered(row: _Row) -> bool:
    """Whether anything was observed or ticked; the template's ``go= hold=`` is not an answer."""
    words = [*row.texts["observed"].split(), *row.texts["subgoals"].split()]
    return any(not word.endswith("=") for word in words)


def _filled(row: _Row, rubric: Rubric) -> FilledSheet:
    names = [family.id for family in rubric.families]
    family = rubric.family(row.one_of("FV-SHT-004", "family", row.texts["family"], names))
    variant = row.one_of("FV-SHT-004", "variant", row.texts["variant"], family.variants)
    kind = row.one_of("FV-SHT-007", "kind", row.texts["kind"], [item.value for item in InstructionKind])
    seed = row.texts["scene_seed"]
    if not seed.isascii() or not seed.isdigit() or len(seed) > 18:
        row.fail("FV-SHT-007", f"scene_seed is {seed!r}, wanted a whole number.")
    if not row.texts["trial_id"].strip() or not row.texts["instruction"].strip():
        row.fail("FV-SHT-006", "trial_id and instruction may not be empty.")
    instruction = Instruction(row.texts["instruction"], InstructionKind(kind), family.id, variant)
    trial = Trial(row.texts["trial_id"], family.id, variant, int(seed), row.texts["policy"], instruction)
    return FilledSheet(trial, _sheet(row, family), row.place)


def _sheet(row: _Row, family: FamilyRubric) -> Sheet:
    codes = [item.code for item in family.violations]
    violations = row.texts["violations"].replace(";", " ").replace(",", " ").split()
    ticks = _pairs(row, row.texts["subgoals"], "subgoal", [item.id for item in family.subgoals])
    return Sheet(
        observed=_observed(row, family),
        subgoals={name: _yes(row, f"subgoal {name!r}", ticks[name]) for name in ticks},
        goal_any=_yes(row, "goal", row.texts["goal"]),
        violations=tuple(row.one_of("FV-SHT-008", "violation", code, codes) for code in violations),
        note=row.texts["note"],
    )


def _observed(row: _Row, family: FamilyRubric) -> dict[str, str]:
    text = row.texts["observed"].strip()
    questions = [item.id for item in family.observe]
    if not questions:
        if text not in ("", NONE):
            row.fail("FV-SHT-005", f"family {family.id!r} asks nothing to observe; leave the field empty.")
        return {}
    if len(questions) == 1 and "=" not in text:
        answers = {questions[0]: text}
    else:
        answers = _pairs(row, text, "question", questions)
    for item in family.observe:
        if not answers[item.id]:
            row.fail("FV-SHT-006", f"observed is empty; answer {item.id!r}, {NONE} and {UNCLEAR} are answers too.")
        row.one_of("FV-SHT-007", f"answer to {item.id!r}", answers[item.id], (*item.levels, NONE, UNCLEAR))
    return answers


def _pairs(row: _Row, text: str, kind: str, wanted: list[str]) -> dict[str, str]:
    """Read ``name=answer`` words; the result has the order of ``wanted``."""
    found: dict[str, str] = {}
    for word in text.replace(";", " ").replace(",", " ").split():
        name, equals, answer = word.partition("=")
        row.one_of("FV-SHT-005", kind, name, wanted)
        if name in found:
            row.fail("FV-SHT-003", f"{kind} {name!r} is answered twice.")
        if not equals or not answer:
            row.fail("FV-SHT-006", f"{kind} {name!r} is not answered; write {name}=... without blanks.")
        found[name] = answer
    missing = [name for name in wanted if name not in found]
    if missing:
        row.fail("FV-SHT-006", f"{kind} {', '.join(missing)} not answered; write {missing[0]}=...")
    return {name: found[name] for name in wanted}


def _yes(row: _Row, what: str, text: str) -> bool:
    answer = text.strip().lower()
    if answer in YES:
        return True
    if answer in NO:
        return False
    if not answer:
        row.fail("FV-SHT-006", f"{what} is not answered; write yes or no.")
    row.fail("FV-SHT-007", f"{what} is {text!r}, wanted yes or no.")


def _csv_rows(text: str, source: str) -> list[_Row]:
    reader = csv.reader(io.StringIO(text), strict=True)
    rows: list[_Row] = []
    columns: list[str] = []
    try:
        for cells in reader:
            # A quoted cell may span lines; the reader then counts the last of them.
            place = f"{source}:{reader.line_num}"
            if not columns:
                columns = _columns(cells, place)
            elif any(cell.strip() for cell in cells):
                if len(cells) != len(columns):
                    raise SetupError("FV-SHT-002", f"{place}: {len(cells)} cells, wanted {len(columns)}.")
                rows.append(_Row(dict(zip(columns, cells, strict=True)), place))
    except csv.Error as error:
        raise SetupError("FV-SHT-001", f"{source}:{reader.line_num}: not CSV: {error}.") from error
    if not columns:
        raise SetupError("FV-SHT-001", f"{source} is empty.")
    return rows


def _columns(cells: list[str], place: str) -> list[str]:
    wanted = (*TRIAL_COLUMNS, *ANSWER_COLUMNS)
    columns = [cell.strip() for cell in cells]
    row = _Row({}, place)
    for name in columns:
        row.one_of("FV-SHT-002", "column", name, wanted)
    missing = [name for name in wanted if name not in columns]
    if missing or len(set(columns)) != len(columns):
        row.fail("FV-SHT-002", f"wanted each column once: {', '.join(wanted)}; missing {', '.join(missing) or 'none'}.")
    return columns


def _yaml_rows(text: str, source: str) -> list[_Row]:
    keys = parse_yaml(text, source).mapping(["sheet", "trials"])
    if (version := keys["sheet"].integer()) != SHEET_VERSION:
        raise keys["sheet"].fail("FV-SHT-001", f"sheet version {version}, this program reads {SHEET_VERSION}.")
    rows = []
    for entry in keys["trials"].elements():
        fields = entry.mapping(TRIAL_COLUMNS, ANSWER_COLUMNS)
        texts = {name: _plain(fields[name]) if name in fields else "" for name in (*TRIAL_COLUMNS, *ANSWER_COLUMNS)}
        rows.append(_Row(texts, entry.place.split(" ", maxsplit=1)[0]))
    return rows


def _plain(node: Node) -> str:
    """The text of a YAML value as a CSV cell would hold it: mappings as ``name=answer``, lists with blanks."""
    if node.raw.tag.endswith(":map"):
        return " ".join(f"{name}={_written(child)}" for name, child in node.items())
    if node.raw.tag.endswith(":seq"):
        return " ".join(_written(child) for child in node.elements())
    return _written(node)


def _written(node: Node) -> str:
    """The text of a YAML scalar as it was written, whatever type YAML sees in it; empty for nothing."""
    if node.raw.tag.endswith(":null"):
        return ""
    if not isinstance(node.raw.value, str):
        raise node.fail("FV-SHT-007", "wanted a single value.")
    return node.raw.value

"""Empty sheets for planned trials, to be filled in by hand and read back by :mod:`..session.sheets`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from finevla_runtime.contracts.rubric import NONE, UNCLEAR, FamilyRubric, Rubric, question
from finevla_runtime.contracts.trial import Trial
from finevla_runtime.session.sheets import ANSWER_COLUMNS, SHEET_VERSION, TRIAL_COLUMNS


def csv_template(trials: Iterable[Trial], rubric: Rubric) -> str:
    """Return an empty CSV sheet, one row per trial in the order given.

    Raises:
        SetupError: FV-RUB-009 or FV-RUB-010 when a trial names a family or variant the rubric lacks.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*TRIAL_COLUMNS, *ANSWER_COLUMNS))
    for trial in trials:
        family = rubric.family(trial.family)
        family.requested(trial.variant)
        ticks = " ".join(f"{item.id}=" for item in family.subgoals)
        several = len(family.observe) > 1
        observed = " ".join(f"{item.id}=" for item in family.observe) if several else ""
        writer.writerow((*_identity(trial), observed, ticks, "", "", ""))
    return out.getvalue()


def yaml_template(trials: Iterable[Trial], rubric: Rubric) -> str:
    """Return an empty YAML sheet whose comments are the rubric's questions.

    Raises:
        SetupError: as :func:`csv_template`.
    """
    lines = [
        "# Answer every question of a trial that was run: yes or no, and what was observed.",
        f"# A trial left blank counts as not run. Always possible as observed: {NONE}, {UNCLEAR}.",
        f"sheet: {SHEET_VERSION}",
        "trials:",
    ]
    for trial in trials:
        lines.extend(_yaml_entry(trial, rubric.family(trial.family)))
    return "\n".join(lines) + "\n"


def _identity(trial: Trial) -> tuple[str, ...]:
    """The texts of TRIAL_COLUMNS."""
    instruction = trial.instruction
    seed = str(trial.scene_seed)
    return (
        trial.trial_id,
        trial.family,
        trial.variant,
        instruction.kind.value,
        seed,
        trial.policy,
        instruction.text,
    )


def _yaml_entry(trial: Trial, family: FamilyRubric) -> list[str]:
    bindings = family.bindings(trial.variant)
    # JSON strings are YAML strings, with every character escaped that could mean something else.
    texts = [f"{name}: {json.dumps(text)}" for name, text in zip(TRIAL_COLUMNS, _identity(trial), strict=True)]
    texts[TRIAL_COLUMNS.index("scene_seed")] = f"scene_seed: {trial.scene_seed}"
    lines = [f"- {texts[0]}", *(f"  {text}" for text in texts[1:])]
    if family.observe:
        lines.append("  observed:")
    for item in family.observe:
        lines.append(f"    {item.id}:  # {item.ask} {' | '.join(item.levels)}")
    lines.append("  subgoals:")
    for step in family.subgoals:
        lines.append(f"    {step.id}:  # {question(step.ask, bindings)}")
    lines.append(f"  goal:  # {family.goal_ask}")
    seen = [item for item in family.violations if item.ask]
    lines.append(f"  violations: []  # {', '.join(item.code for item in seen)}")
    lines.append('  note: ""')
    return lines

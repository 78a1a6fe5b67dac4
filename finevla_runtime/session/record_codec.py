"""Trials and trial records as JSON, read back strictly."""

from __future__ import annotations

from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.trial import Compliance, Outcome, Sheet, Trial, TrialRecord
from finevla_runtime.session.strict_json import Json, JsonNode

STATUSES = ("scored", "void")
_TRIAL_KEYS = ("trial_id", "family", "variant", "scene_seed", "policy", "instruction")
_INSTRUCTION_KEYS = ("text", "kind", "task_id", "variant_id")
_SHEET_KEYS = ("observed", "subgoals", "goal_any", "violations", "note")
_OUTCOME_KEYS = ("compliance", "observed", "score", "task_done", "success", "violations")
_RECORD_KEYS = (
    "trial",
    "sheet",
    "outcome",
    "status",
    "void_reason",
    "steps",
    "state_hash",
    "timings",
    "artifacts",
)


def trial_to_json(trial: Trial) -> Json:
    """Return the JSON object of a planned trial."""
    instruction = trial.instruction
    return {
        "trial_id": trial.trial_id,
        "family": trial.family,
        "variant": trial.variant,
        "scene_seed": trial.scene_seed,
        "policy": trial.policy,
        "instruction": {
            "text": instruction.text,
            "kind": instruction.kind.value,
            "task_id": instruction.task_id,
            "variant_id": instruction.variant_id,
        },
    }


def trial_from_json(node: JsonNode) -> Trial:
    """Read a planned trial; anything unexpected raises the node's SetupError."""
    fields = node.mapping(_TRIAL_KEYS)
    words = fields["instruction"].mapping(_INSTRUCTION_KEYS)
    instruction = Instruction(
        text=words["text"].text(),
        kind=InstructionKind(words["kind"].one_of(kind.value for kind in InstructionKind)),
        task_id=words["task_id"].text(),
        variant_id=words["variant_id"].text(),
    )
    return Trial(
        trial_id=fields["trial_id"].text(),
        family=fields["family"].text(),
        variant=fields["variant"].text(),
        scene_seed=fields["scene_seed"].integer(),
        policy=fields["policy"].text(),
        instruction=instruction,
    )


def record_to_json(record: TrialRecord) -> Json:
    """Return the JSON object of one finished trial."""
    return {
        "trial": trial_to_json(record.trial),
        "sheet": sheet_to_json(record.sheet),
        "outcome": outcome_to_json(record.outcome),
        "status": record.status,
        "void_reason": record.void_reason,
        "steps": record.steps,
        "state_hash": record.state_hash,
        "timings": {name: float(value) for name, value in record.timings.items()},
        "artifacts": dict(record.artifacts),
    }


def sheet_to_json(sheet: Sheet) -> Json:
    """Return the JSON object of what the judge or the rater filled in."""
    return {
        "observed": dict(sheet.observed),
        # A list keeps the rubric's order, which canonical JSON objects lose.
        "subgoals": [[name, done] for name, done in sheet.subgoals.items()],
        "goal_any": sheet.goal_any,
        "violations": list(sheet.violations),
        "note": sheet.note,
    }


def outcome_to_json(outcome: Outcome) -> Json:
    """Return the JSON object of what followed from a sheet."""
    return {
        "compliance": outcome.compliance.value,
        "observed": outcome.observed,
        "score": float(outcome.score),
        "task_done": outcome.task_done,
        "success": outcome.success,
        "violations": list(outcome.violations),
    }


def record_from_json(node: JsonNode) -> TrialRecord:
    """Read one finished trial; anything unexpected raises the node's SetupError."""
    fields = node.mapping(_RECORD_KEYS)
    record = TrialRecord(
        trial=trial_from_json(fields["trial"]),
        sheet=sheet_from_json(fields["sheet"]),
        outcome=outcome_from_json(fields["outcome"]),
        status=fields["status"].one_of(STATUSES),
        void_reason=fields["void_reason"].text(),
        steps=fields["steps"].integer(),
        state_hash=fields["state_hash"].text(),
        timings=fields["timings"].map_values(JsonNode.number),
        artifacts=fields["artifacts"].map_values(JsonNode.text),
    )
    if (record.status == "void") != bool(record.void_reason):
        raise node.fail("a void record needs a void_reason, a scored one must have none.")
    return record


def sheet_from_json(node: JsonNode) -> Sheet:
    """Read what the judge or the rater filled in; anything unexpected raises the node's SetupError."""
    fields = node.mapping(_SHEET_KEYS)
    subgoals: dict[str, bool] = {}
    for pair in fields["subgoals"].elements():
        items = pair.elements()
        if len(items) != 2:
            raise pair.fail("wanted [subgoal, done].")
        subgoals[items[0].text()] = items[1].flag()
    return Sheet(
        observed=fields["observed"].map_values(JsonNode.text),
        subgoals=subgoals,
        goal_any=fields["goal_any"].flag(),
        violations=tuple(item.text() for item in fields["violations"].elements()),
        note=fields["note"].text(),
    )


def outcome_from_json(node: JsonNode) -> Outcome:
    """Read what followed from a sheet; anything unexpected raises the node's SetupError."""
    fields = node.mapping(_OUTCOME_KEYS)
    score = fields["score"].number()
    if not 0.0 <= score <= 100.0:
        raise fields["score"].fail(f"a score is 0..100, got {score}.")
    return Outcome(
        compliance=Compliance(fields["compliance"].one_of(item.value for item in Compliance)),
        observed=fields["observed"].text(),
        score=score,
        task_done=fields["task_done"].flag(),
        success=fields["success"].flag(),
        violations=tuple(item.text() for item in fields["violations"].elements()),
    )


def void_record(trial: Trial, reason: str, note: str = "") -> TrialRecord:
    """Return the record of a trial that the infrastructure spoiled; it is repeated and never counted.

    Args:
        trial: the planned trial.
        reason: stable code, for example ``worker_died`` or the code of the error.
        note: what happened, in words.
    """
    return TrialRecord(
        trial=trial,
        sheet=Sheet(observed={}, subgoals={}, goal_any=False, note=note),
        outcome=Outcome(Compliance.UNCLEAR, "unclear", 0.0, task_done=False, success=False),
        status="void",
        void_reason=reason,
    )

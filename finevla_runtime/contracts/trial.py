"""Trials: what is planned, what was observed and what follows from it (definitions in docs/steerability.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from finevla_runtime.contracts.instruction import Instruction


class Compliance(str, Enum):
    """Whether the behaviour followed the requested level of the control factor.

    COMPLIED: observed the requested level. VIOLATED: observed another level. NOT_ENGAGED: the factor was never
    decided. UNCLEAR: the judge or rater could not tell. NO_FACTOR: the family varies no factor.
    """

    COMPLIED = "complied"
    VIOLATED = "violated"
    NOT_ENGAGED = "not_engaged"
    UNCLEAR = "unclear"
    NO_FACTOR = "no_factor"


@dataclass(frozen=True)
class Trial:
    """One planned trial of a frozen manifest.

    Attributes:
        trial_id: unique and stable, for example ``colour/red/fine_grained/1000003/tabletop-oft``.
        family: task family id.
        variant: paired variant the instruction asks for (the requested level).
        scene_seed: scene; both variants of a pair share it.
        policy: label of the policy.
        instruction: exact text given to the policy.
    """

    trial_id: str
    family: str
    variant: str
    scene_seed: int
    policy: str
    instruction: Instruction


@dataclass(frozen=True)
class Sheet:
    """What the judge or a human filled in for one trial; never asked whether the policy obeyed.

    Attributes:
        observed: observe-question id -> level, ``none`` (never decided) or ``unclear``.
        subgoals: subgoal id -> done, in rubric order.
        violations: codes from the rubric's violation list that were seen.
        goal_any: whether the goal was reached ignoring the control factor.
        note: free text.
    """

    observed: Mapping[str, str]
    subgoals: Mapping[str, bool]
    goal_any: bool
    violations: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the program derives from a Sheet.

    Attributes:
        compliance: see Compliance.
        observed: the level that counts, ``none`` or ``unclear``.
        score: 0..100, weighted ordered subgoals.
        task_done: goal reached ignoring the factor.
        success: task done as told (task_done and complied; without a factor every subgoal done).
        violations: violation codes.
    """

    compliance: Compliance
    observed: str
    score: float
    task_done: bool
    success: bool
    violations: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialRecord:
    """One journal entry of a finished trial.

    Attributes:
        trial: the planned trial.
        sheet: what was filled in.
        outcome: what followed.
        status: ``scored`` or ``void`` (infrastructure failed; repeated, never counted against the policy).
        void_reason: code of the reason when void.
        steps: control steps run.
        state_hash: sha256 of the final simulation state, empty on a real robot.
        timings: seconds by name (``wall``, ``cpu``, ``policy``).
        artifacts: name -> path relative to the run folder (film strip, video).
    """

    trial: Trial
    sheet: Sheet
    outcome: Outcome
    status: str
    void_reason: str = ""
    steps: int = 0
    state_hash: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)

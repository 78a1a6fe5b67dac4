"""One trial: what is executed, when it ends, what is judged and recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.trial import Compliance, Trial
from sim_eval.expert_policy import ExpertPolicy
from sim_eval.plan import Selection, find_suite, freeze, select, tabletop_rubric
from sim_eval.rollout import Rollout, joint_limits, run_trial, time_limit_steps
from sim_eval.tabletop.catalog import find_family
from sim_eval.tabletop.world import TabletopWorld

RUBRIC = tabletop_rubric()
SUITE = find_suite("tabletop", RUBRIC)
SETTINGS = freeze(select(SUITE, Selection(trials=1)), RUBRIC, {"p": "d"}, "").settings


def trial(family: str, variant: str, kind: str = "fine_grained", seed: int = 1_000_000) -> Trial:
    chosen = select(SUITE, Selection((kind,), (family,), 1))
    manifest = freeze(replace(chosen, first_seed=seed), RUBRIC, {"p": "d"}, "")
    return next(planned for planned in manifest.trials if planned.variant == variant)


def roll(planned: Trial, policy: ExpertPolicy, world: TabletopWorld | None = None) -> Rollout:
    world = world or TabletopWorld(render=False)
    return run_trial(world, policy, planned, RUBRIC.family(planned.family), SETTINGS, ManualClock())


class Standing(ExpertPolicy):
    """Repeats where the joints are."""

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = super().infer(observation)
        return replace(chunk, positions=np.tile(observation.joint_position, (16, 1)))


class Wild(ExpertPolicy):
    """Asks for positions far outside the joint limits, and never the same twice."""

    def infer(self, observation: Observation) -> ActionChunk:
        sign = 1.0 if observation.control_step // 8 % 2 else -1.0
        return replace(super().infer(observation), positions=np.full((16, 14), sign * 50.0, np.float32))


class Watching(ExpertPolicy):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int] = []
        self.steps: list[int] = []
        self.told: set[Instruction] = set()

    def reset(self, instruction_seed: int) -> None:
        self.seeds.append(instruction_seed)
        super().reset(instruction_seed)

    def infer(self, observation: Observation) -> ActionChunk:
        self.steps.append(observation.control_step)
        self.told.add(observation.instruction)
        return super().infer(observation)


class Failing(ExpertPolicy):
    """Fails at its third query."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self._code = code

    def infer(self, observation: Observation) -> ActionChunk:
        if observation.control_step >= 16:
            raise PolicyError(self._code, "rows are not finite.")
        return super().infer(observation)


class DropsAfterSuccess(ExpertPolicy):
    """Lifts as told and lets go of it in the end."""

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = super().infer(observation)
        if observation.control_step < 32:
            return chunk
        rows = chunk.positions.copy()
        rows[:, [6, 13]] = 1.0
        return replace(chunk, positions=rows)


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("clean_table", "default"),
        ("stack_block", "default"),
        ("colour", "blue"),
        ("pose", "lying"),
        ("approach", "side"),
        ("rotate", "counterclockwise"),
        ("arm", "left"),
        ("left_to_right", "left_to_right_bowl"),
    ],
)
def test_the_expert_scores_full_marks_through_the_chunk_interface(family: str, variant: str) -> None:
    record = roll(trial(family, variant), ExpertPolicy()).record
    assert record.status == "scored"
    assert record.outcome.success
    assert record.outcome.score == 100.0
    assert record.steps <= find_family(family).time_limit_steps


def test_told_only_the_goal_the_expert_reaches_it_and_ignores_the_variant() -> None:
    left, right = (roll(trial("arm", variant, "raw"), ExpertPolicy()).record for variant in ("left", "right"))
    assert left.outcome.task_done
    assert right.outcome.task_done
    assert left.outcome.observed == right.outcome.observed
    assert {left.outcome.compliance, right.outcome.compliance} == {Compliance.COMPLIED, Compliance.VIOLATED}


def test_the_policy_is_reset_once_asked_every_eighth_step_and_told_the_exact_text() -> None:
    policy, planned = Watching(), trial("colour", "red")
    record = roll(planned, policy).record
    assert policy.seeds == [planned.scene_seed]
    assert policy.steps == list(range(0, record.steps, 8))
    assert policy.told == {planned.instruction}
    assert record.timings["queries"] == len(policy.steps)


def test_the_same_trial_gives_the_same_record_with_and_without_cameras_and_whatever_came_before() -> None:
    planned = trial("rotate", "clockwise")
    used = TabletopWorld(render=False)
    roll(trial("clean_table", "default"), ExpertPolicy(), used)
    plain, after, seen = (
        roll(planned, ExpertPolicy(), world)
        for world in (TabletopWorld(render=False), used, TabletopWorld(render=True))
    )
    assert plain.record.state_hash == after.record.state_hash == seen.record.state_hash
    assert plain.record.sheet == after.record.sheet == seen.record.sheet
    assert plain.frames == ()
    assert len(seen.frames) == seen.record.timings["queries"]
    assert seen.frames[0].shape == (96, 96, 3)


def test_a_policy_that_stands_still_ends_early_and_never_engages() -> None:
    planned = trial("colour", "red")
    record = roll(planned, Standing()).record
    assert record.steps < time_limit_steps(planned, RUBRIC.family("colour"), SETTINGS)
    assert record.outcome.compliance is Compliance.NOT_ENGAGED
    assert not record.outcome.task_done


def test_a_policy_that_never_stops_ends_at_the_time_limit_within_the_joint_limits() -> None:
    planned = trial("colour", "red")
    world = TabletopWorld(render=False)
    record = roll(planned, Wild(), world).record
    assert record.steps == time_limit_steps(planned, RUBRIC.family("colour"), SETTINGS)
    low, high = joint_limits()
    targets = world.trace().target
    assert (targets >= low - 1e-6).all()
    assert (targets <= high + 1e-6).all()


def test_what_is_dropped_after_success_is_no_success() -> None:
    assert roll(trial("approach", "above"), ExpertPolicy()).record.outcome.success
    dropped = roll(trial("approach", "above"), DropsAfterSuccess()).record
    assert dropped.steps > 32
    assert not dropped.outcome.task_done


def test_rows_that_are_not_finite_are_the_policys_own_fault_and_are_scored() -> None:
    record = roll(trial("colour", "red"), Failing("FV-ACT-003")).record
    assert record.status == "scored"
    assert record.steps == 16
    assert "FV-ACT-003 at step 16" in record.sheet.note


def test_a_lost_server_is_not_the_policys_fault() -> None:
    with pytest.raises(PolicyError, match="FV-NET-001"):
        roll(trial("colour", "red"), Failing("FV-NET-001"))


def test_the_expert_refuses_an_instruction_that_changes_within_an_episode() -> None:
    policy = ExpertPolicy()
    policy.reset(1_000_000)
    joints = np.zeros(14, np.float32)
    told = [Instruction("put it", InstructionKind.FINE_GRAINED, "colour", variant) for variant in ("red", "blue")]
    policy.infer(Observation({}, joints, told[0], 0, 0))
    with pytest.raises(PolicyError, match="FV-EXP-001"):
        policy.infer(Observation({}, joints, told[1], 0, 8))
